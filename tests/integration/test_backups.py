# SPDX-License-Identifier: MIT
"""Going back to a backup as docs/operations.md tells: later rows are gone, and those that come instead are scored."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import make_url

from htmengine.ledger import Ledger, read_ledger
from htmengine.repository.engine import Database
from tests.support.distributed import QUICK, distributed_engine
from tests.support.engine import lines, running_engine, wait_for
from tests.support.servers import MariaDB, PostgreSQL, RabbitMQ


@pytest.mark.parametrize("server", ["mariadb", "postgresql"])
def test_a_distributed_engine_goes_back_to_a_dump(
    tmp_path: Path, rabbitmq: RabbitMQ, server: str, request: pytest.FixtureRequest
) -> None:
    database: MariaDB | PostgreSQL = request.getfixturevalue(server)
    url = database.new_database()
    name, dump = str(make_url(url).database), tmp_path / "dump.sql"
    with distributed_engine(
        tmp_path / "engine", rabbitmq_port=rabbitmq.port, database_url=url, options=QUICK
    ) as engine:
        engine.start_all()
        engine.send(lines(1, 60, metrics=3))
        engine.wait_until_scored(180)
        database.dump(name, dump)
        engine.send(lines(61, 100, metrics=3))
        engine.wait_until_scored(300)
        before = engine.scores()
        for service in ("listener", "storer", "scheduler", "anomaly"):
            assert engine.stop(service) == 0
        database.go_back(name, dump)
        shutil.rmtree(engine.folder / "checkpoints")
        assert engine.scored() == 180
        engine.start_all()
        wait_for(lambda: engine.log("listener").count("listening for Graphite lines") == 2, "the listener")
        engine.send(lines(61, 120, metrics=3))
        engine.wait_until_scored(360)
        assert [row for row in engine.scores() if row[1] <= 100] == before


def read_ledger_of(folder: Path) -> Ledger:
    database = Database(f"sqlite:///{folder / 'htmengine.db'}")
    try:
        return database.read_sync(read_ledger, None)
    finally:
        database.close()


def test_an_embedded_engine_notices_that_its_database_is_older_than_its_models(tmp_path: Path) -> None:
    """Rows get the rowids of rows that are gone, and the scores of an engine that never saw those."""
    copy = tmp_path / "copy.db"
    with running_engine(tmp_path / "data") as engine:
        engine.send(lines(1, 300, metrics=2))
        for name in ("m0", "m1"):
            engine.wait_until_scored(name, 300)
        with (
            contextlib.closing(sqlite3.connect(engine.data_dir / "htmengine.db")) as running,
            contextlib.closing(sqlite3.connect(copy)) as backup,
        ):
            running.backup(backup)
        engine.send(lines(301, 340, metrics=2))
        before = engine.wait_until_scored("m0", 340)
        engine.wait_until_scored("m1", 340)
        assert engine.stop() == 0
        shutil.copy(copy, engine.data_dir / "htmengine.db")
        engine.start()
        assert len(engine.scores("m0")) == 300
        other = [line.replace("m1 ", "m1 1") for line in lines(301, 360, metrics=2)]
        engine.send(other)
        assert engine.wait_until_scored("m0", 360)[:340] == before
        as_m1 = [line.replace("m1 ", "reference ") for line in (*lines(1, 300, metrics=2), *other) if line[:2] == "m1"]
        engine.send(as_m1)
        assert engine.wait_until_scored("m1", 360) == engine.wait_until_scored("reference", 360)
        [(trouble,)] = engine.query("SELECT message FROM trouble")
        assert trouble.startswith("checkpoints of rows that the database has no more: 1, the last of model ")
        ledger = read_ledger_of(engine.data_dir)
        assert ledger.adds_up
        assert (ledger.scored, ledger.waiting) == (3 * 360, 0)
