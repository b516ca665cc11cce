# SPDX-License-Identifier: MIT
"""A database server that hangs rather than dies: it is given up after a bound, and cut off when the process stops."""

from __future__ import annotations

import contextlib
import signal
import threading
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from htmengine.errors import DatabaseFailed
from htmengine.repository import connections
from htmengine.repository.engine import Database
from tests.support.distributed import QUICK, distributed_engine
from tests.support.engine import START, wait_for
from tests.support.servers import MariaDB, PostgreSQL, RabbitMQ

SERVERS: dict[str, type[MariaDB] | type[PostgreSQL]] = {"mariadb": MariaDB, "postgresql": PostgreSQL}
SLEEP = {"mariadb": "SELECT SLEEP(50)", "postgresql": "SELECT pg_sleep(50)"}
KINDS = pytest.mark.parametrize("kind", ["mariadb", "postgresql"])


@KINDS
def test_an_answer_that_does_not_come_is_given_up_and_the_next_one_comes(
    kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "ANSWER_TIMEOUT_S", 2)
    database = Database(request.getfixturevalue(kind).new_database())
    try:
        with pytest.raises(DatabaseFailed, match="is the server running"):
            database.read_sync(lambda conn: conn.execute(text(SLEEP[kind])).scalar())
        assert database.read_sync(lambda conn: conn.execute(text("SELECT 7")).scalar()) == 7
    finally:
        database.close()


@KINDS
def test_hanging_up_ends_what_waits_for_an_answer(kind: str, request: pytest.FixtureRequest) -> None:
    engine = connections.make_engine(request.getfixturevalue(kind).new_database())
    opened = connections.OpenConnections(engine)
    asking, failed = threading.Event(), threading.Event()

    def ask() -> None:
        with contextlib.suppress(DBAPIError), engine.connect() as conn:
            asking.set()
            conn.execute(text(SLEEP[kind]))
        failed.set()

    thread = threading.Thread(target=ask)
    thread.start()
    assert asking.wait(10)
    while not failed.wait(0.2):
        opened.hang_up()
    thread.join()
    engine.dispose()


@KINDS
def test_a_service_whose_database_hangs_ends_at_sigterm_and_nothing_accepted_is_lost(
    kind: str, rabbitmq: RabbitMQ, tmp_path: Path
) -> None:
    with (
        SERVERS[kind]() as server,
        distributed_engine(
            tmp_path / "engine", rabbitmq_port=rabbitmq.port, database_url=server.new_database(), options=QUICK
        ) as engine,
    ):
        engine.start_all("listener", "storer")
        engine.send(f"web1.example.org.cpu-0.cpu-user {row} {START + 60 * row}" for row in range(100))
        wait_for(lambda: engine.query("SELECT COUNT(*) FROM metric_data")[0][0] == 100, "the first rows")
        with server.suspended():
            engine.send(f"web1.example.org.cpu-0.cpu-user {row} {START + 60 * row}" for row in range(100, 400))
            storer = engine.processes.pop("storer")
            storer.send_signal(signal.SIGTERM)
            storer.wait(15)
        engine.start("storer")
        wait_for(lambda: engine.query("SELECT COUNT(*) FROM metric_data")[0][0] == 400, "all rows")
