# SPDX-License-Identifier: MIT
"""Servers that nothing reaches, although no connection is closed: services end at SIGTERM, and nothing is lost."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.black_hole import BlackHole
from tests.support.distributed import QUICK, DistributedEngine, distributed_engine
from tests.support.engine import lines
from tests.support.servers import RabbitMQ

SERVICES = ("listener", "storer", "scheduler", "anomaly", "web")
#: What SIGTERM may take, and what a machine under load takes beside it.
STOP_S, LOAD_S = 10.0, 10.0
#: The network is silent for so long.
SILENCE_S = 3.0
METRICS, ROWS = 2, 30


@pytest.mark.parametrize("kind", ["mariadb", "postgresql"])
def test_whatever_nothing_comes_back_from_every_service_ends_at_sigterm_and_nothing_is_lost(
    kind: str, rabbitmq: RabbitMQ, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    server = request.getfixturevalue(kind)
    with BlackHole(server.port) as database, BlackHole(rabbitmq.port) as broker:
        url = server.new_database().replace(f":{server.port}/", f":{database.port}/")
        with distributed_engine(
            tmp_path / "engine", rabbitmq_port=broker.port, database_url=url, options=QUICK
        ) as engine:
            engine.start_all(*SERVICES)
            send(engine, 1)
            engine.wait_until_scored(METRICS * ROWS)
            for part, hole in ((2, database), (3, broker)):
                with hole.swallowing():
                    send(engine, part)
                    time.sleep(SILENCE_S)
                engine.wait_until_scored(METRICS * part * ROWS)
            with database.swallowing():
                send(engine, 4)
                stop_all(engine)
            engine.start_all(*SERVICES)
            engine.wait_until_scored(METRICS * 4 * ROWS)
            with broker.swallowing():
                stop_all(engine)
            with broker.swallowing(), database.swallowing():
                engine.start_all(*SERVICES)
                time.sleep(SILENCE_S)
                stop_all(engine)
            rowids = engine.query("SELECT COUNT(*), MIN(rowid), MAX(rowid) FROM metric_data GROUP BY uid")
            assert rowids == [(4 * ROWS, 1, 4 * ROWS)] * METRICS
            assert not [name for name in SERVICES if "Traceback" in engine.log(name)]


THREAD_THAT_WAITS = """
import time
from twisted.internet import reactor
from htmengine.process import lifecycle
lifecycle.END_S = 0.5
end = lifecycle.ProcessEnd(reactor)
reactor.callWhenRunning(reactor.callInThread, time.sleep, 60)
reactor.callWhenRunning(print, "runs", flush=True)
lifecycle.run_in_foreground(lifecycle.OrderedServices([], clock=reactor, on_failure=end.fail), reactor)
"""


def test_a_thread_that_waits_for_a_name_server_does_not_hold_up_the_end() -> None:
    command = [sys.executable, "-c", THREAD_THAT_WAITS]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "runs\n"
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=STOP_S + LOAD_S)
    assert process.returncode == 0
    assert "ending although threads wait for what does not answer: PoolThread-twisted.internet.reactor-0" in log


def send(engine: DistributedEngine, part: int) -> None:
    engine.send(lines((part - 1) * ROWS + 1, part * ROWS, metrics=METRICS))


def stop_all(engine: DistributedEngine) -> None:
    """SIGTERM to every service at once, and again to those that are still there."""
    running, deadline = [engine.processes.pop(name) for name in SERVICES], time.monotonic() + STOP_S + LOAD_S
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
        for process in running:
            process.send_signal(number)
        time.sleep(0.02)
    for process in running:
        process.wait(deadline - time.monotonic())
