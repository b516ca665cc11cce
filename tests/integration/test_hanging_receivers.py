# SPDX-License-Identifier: MIT
"""Receivers of alerts that hang: each is a trouble, the others get their messages, and the process ends when asked."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from htmengine.alerts import queries as alert_queries
from htmengine.process.lifecycle import DataFolder
from htmengine.repository import migrations
from htmengine.repository.engine import Database
from tests.support.distributed import DistributedEngine, distributed_engine
from tests.support.engine import Engine, running_engine, wait_for
from tests.support.notifications import FIRING
from tests.support.processes import Process
from tests.support.receivers import HttpReceiver, full_server, hanging_server, http_receiver
from tests.support.servers import MariaDB, RabbitMQ

GREETING = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"
WELCOME = b"220 mail.example.com good day to everybody who has come here\r\n"
#: What stopping may take, and what a machine under load takes beside it.
STOP_S, LOAD_S = 10.0, 10.0


@pytest.fixture
def good() -> Iterator[HttpReceiver]:
    with http_receiver() as receiver:
        yield receiver


@pytest.fixture
def hanging() -> Iterator[dict[str, str]]:
    """Receivers by name: their lines in alerts.conf but for the time limit."""
    with contextlib.ExitStack() as stack:
        silent, full = stack.enter_context(hanging_server()), stack.enter_context(full_server())
        slow_http = stack.enter_context(hanging_server(GREETING))
        slow_mail = stack.enter_context(hanging_server(WELCOME))
        mail = "type = email\nsender = a@example.com\nto = b@example.com\nhost = 127.0.0.1\nport ="
        yield {
            "hook-silent": f"type = webhook\nurl = http://127.0.0.1:{silent}/",
            "hook-slow": f"type = webhook\nurl = http://127.0.0.1:{slow_http}/",
            "hook-full": f"type = webhook\nurl = http://127.0.0.1:{full}/",
            "hook-tls": f"type = webhook\nurl = https://127.0.0.1:{silent}/",
            "mail-silent": f"{mail} {silent}\ntls = no",
            "mail-slow": f"{mail} {slow_mail}\ntls = no",
            "mail-full": f"{mail} {full}\ntls = no",
            "mail-starttls": f"{mail} {silent}\ntls = starttls",
            "mail-tls": f"{mail} {silent}\ntls = implicit",
        }


def configure(folder: Path, hanging: dict[str, str], good: HttpReceiver, timeout_s: float) -> None:
    """An alerts.conf whose receivers have these time limits."""
    sections = [f"[receiver:{name}]\n{text}\ntimeout_s = {timeout_s}\n" for name, text in hanging.items()]
    folder.mkdir(exist_ok=True)
    rule = f"[alert:load]\nreceivers = {', '.join([*hanging, 'good'])}\nthreshold = 0.9999\n"
    (folder / "alerts.conf").write_text(f"{rule}{''.join(sections)}[receiver:good]\ntype = webhook\nurl = {good.url}\n")


def queue(url: str, receivers: list[str]) -> None:
    """Three messages for each, as if a rule had fired three times."""
    database = Database(url)
    for number in range(3):
        message = replace(FIRING, alert_id=f"alert-{number}", created=time.time())
        database.run_sync(alert_queries.add_deliveries, message, receivers)
    database.close()


def assert_ends(process: Process, *signals: signal.Signals) -> None:
    """Within its time, however often it is told to."""
    began = time.monotonic()
    for each in signals:
        process.send_signal(each)
        time.sleep(0.02)
    process.wait(STOP_S + LOAD_S)
    assert time.monotonic() - began < STOP_S + LOAD_S


def test_an_engine_whose_receivers_hang_tells_it_serves_the_others_and_ends(
    tmp_path: Path, hanging: dict[str, str], good: HttpReceiver
) -> None:
    folder = DataFolder(tmp_path / "data")
    folder.make()
    migrations.upgrade(folder.database_url)
    configure(tmp_path / "conf", hanging, good, timeout_s=2.0)
    queue(folder.database_url, [*hanging, "good"])
    with running_engine(folder.path, "--config", str(tmp_path / "conf")) as engine:
        wait_for(lambda: len(good.requests) == 3, "the receiver that does not hang")
        wait_for(lambda: told(engine) == set(hanging), "a trouble of each that hangs")
        configure(tmp_path / "conf", hanging, good, timeout_s=60.0)
        assert engine.process is not None
        assert_ends(engine.process, signal.SIGTERM)
        queue_again(folder.database_url)
        engine.start()
        time.sleep(1.0)  # all attempts are under way
        assert_ends(engine.process, signal.SIGTERM, signal.SIGINT, signal.SIGTERM)
        log = engine.log_path.read_text()
        assert "Traceback" not in log
        assert "has not stopped" not in log


def told(engine: Engine) -> set[str]:
    """The receivers of which there is a trouble."""
    troubles = engine.query("SELECT message FROM trouble WHERE source = 'alerts'")
    return {message.split("'")[1] for (message,) in troubles if message.endswith("no answer within 2 s")}


def queue_again(url: str) -> None:
    """All that waits is due."""
    database = Database(url)
    database.run_sync(lambda conn: conn.exec_driver_sql("UPDATE alert_delivery SET next_at = 0"))
    database.close()


def test_an_alert_service_whose_receivers_hang_serves_the_others_and_ends(
    tmp_path: Path, hanging: dict[str, str], good: HttpReceiver, rabbitmq: RabbitMQ, mariadb: MariaDB
) -> None:
    url = mariadb.new_database()
    with distributed_engine(tmp_path / "engine", rabbitmq_port=rabbitmq.port, database_url=url) as engine:
        configure(engine.config_dir, hanging, good, timeout_s=60.0)
        queue(url, [*hanging, "good"])
        engine.start("alerts")
        wait_for(lambda: len(good.requests) == 3, "the receiver that does not hang")
        wait_for(lambda: attempts(engine) == [(name,) for name in sorted(hanging)], "attempts at all that hang")
        assert_ends(engine.processes["alerts"], signal.SIGTERM, signal.SIGINT, signal.SIGTERM)
        assert "Traceback" not in engine.log("alerts")
        assert "has not stopped" not in engine.log("alerts")


def attempts(engine: DistributedEngine) -> list[tuple[object, ...]]:
    """The receivers with a message on its way."""
    return engine.query(
        "SELECT DISTINCT receiver FROM alert_delivery WHERE state = 'WAITING' AND attempts > 0 ORDER BY receiver"
    )
