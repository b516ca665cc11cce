# SPDX-License-Identifier: MIT
"""How long rows wait for their score while another metric has a backlog: a whole engine, with and without it.

    python -m benchmarks.fairness [--others 100] [--seconds 30] [--backlog 1000000] [--sent]

An embedded engine gets a row of each of the others every second, over TCP as any client would send them.  Then a metric
with a backlog in the database is given a model, while the others go on; with ``--sent``, another client sends the
backlog instead, as fast as the engine takes it.  Prints the time from sending a row to
its message on the results exchange: median, 99th percentile, worst; and how much of the backlog was scored meanwhile.
"""

from __future__ import annotations

import argparse
import contextlib
import socket
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from htmengine.adapters.datasource.custom import ModelSpec
from htmengine.cli.common import run_reactor
from htmengine.client import AsyncClient, Results
from htmengine.deployment import engine_deployment
from htmengine.errors import BusClosed
from htmengine.repository import queries
from htmengine.repository.engine import Database
from tests.support.engine import running_engine

_START = 1_400_000_000
_BACKLOG = "backlog"
#: Rows that are still under way at the end of a phase get this long.
_PATIENCE_S = 60.0


class Watch:
    """The rows under way, and how long each took."""

    def __init__(self) -> None:
        self.sent_at: dict[tuple[str, int], float] = {}
        self.latencies: list[float] = []
        self.backlog_scored = 0

    async def follow(self, results: Results) -> None:
        """Note what is broadcast, until the bus is closed."""
        with contextlib.suppress(BusClosed):
            async for message in results:
                self._heard(message, time.perf_counter())

    def _heard(self, message: dict[str, Any], now: float) -> None:
        if "metric" not in message:  # the end of a command
            return
        name = message["metric"]["name"]
        if name == _BACKLOG:
            self.backlog_scored += len(message["results"])
        for row in message["results"]:
            sent_at = self.sent_at.pop((name, row["ts"]), None)
            if sent_at is not None:
                self.latencies.append(now - sent_at)

    def line(self, title: str) -> str:
        """The figures since the last line; rows that never came count as they stand."""
        now = time.perf_counter()
        ordered = sorted(self.latencies + [now - sent_at for sent_at in self.sent_at.values()])
        self.latencies = []
        at = [ordered[len(ordered) // 2], ordered[len(ordered) * 99 // 100], ordered[-1]]
        figures = "".join(f"{1000 * each:>10,.0f} ms" for each in at)
        return f"{title:20}{len(ordered):>8} rows{figures}{len(self.sent_at):>8} missing"


def send_backlog(port: int, rows: int, stop: threading.Event) -> None:
    """One metric's rows, as fast as the engine reads them."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        for first in range(0, rows, 1000):
            if stop.is_set():
                return
            lines = [f"{_BACKLOG} {row % 89} {_START + row}\n" for row in range(first, min(first + 1000, rows))]
            try:
                connection.sendall("".join(lines).encode())
            except ConnectionError:
                return  # the engine is gone: the measurement is over


async def send_others(
    reactor: Any, connection: socket.socket, names: Sequence[str], seconds: int, first: int, watch: Watch
) -> None:
    """A row of each every second."""
    started = time.perf_counter()
    for second in tqdm(range(seconds), unit="s"):
        timestamp = _START + first + second
        for name in names:
            watch.sent_at[name, timestamp] = time.perf_counter()
        connection.sendall("".join(f"{name} {timestamp % 83} {timestamp}\n" for name in names).encode())
        await _sleep(reactor, started + second + 1 - time.perf_counter())
    patience = time.perf_counter() + _PATIENCE_S
    while watch.sent_at and time.perf_counter() < patience:
        await _sleep(reactor, 0.1)


async def _sleep(reactor: Any, seconds: float) -> None:
    pause: Deferred[None] = deferLater(reactor, max(0.0, seconds), lambda: None)
    await pause


def store_backlog(database: Database, uid: str, rows: int) -> None:
    """The rows of a metric that has no model yet."""
    for first in tqdm(range(1, rows + 1, 20_000), desc="storing the backlog"):
        numbers = range(first, min(first + 20_000, rows + 1))
        stored = [(uid, row, _START + row, row % 89) for row in numbers]
        database.run_sync(queries.insert_samples, stored)
        database.run_sync(queries.update_tails, [(uid, numbers[-1], _START + numbers[-1])])


async def measure(reactor: Any, data_dir: Path, port: int, others: int, seconds: int, backlog: int, sent: bool) -> None:
    """Both phases on a running engine."""
    deployment = engine_deployment(data_dir=data_dir, config_dir=None)
    names = [f"other.{number}" for number in range(others)]
    async with AsyncClient(reactor, deployment) as client:
        operations = client.operations
        for name in names:
            await operations.monitor(ModelSpec.for_name(name, min=0, max=100))
        late = ModelSpec.for_name(_BACKLOG, min=0, max=100)
        if sent:
            await operations.monitor(late)
        else:
            metric = await operations.create(late)
            store_backlog(operations.database, metric.uid, backlog)
    watch, stop = Watch(), threading.Event()
    sender = threading.Thread(target=send_backlog, args=(port, backlog, stop), daemon=True)
    async with AsyncClient(reactor, deployment) as client:
        operations = client.operations
        Deferred.fromCoroutine(watch.follow(await client.results()))
        with socket.create_connection(("127.0.0.1", port)) as connection:
            await send_others(reactor, connection, names, seconds, 0, watch)
            print(f"{'':33}{'median':>13}{'p99':>13}{'worst':>13}")
            print(watch.line("without a backlog"))
            if sent:
                sender.start()
            else:
                await operations.monitor(late)
            await send_others(reactor, connection, names, seconds, seconds, watch)
            print(watch.line("with a backlog"))
            print(f"{watch.backlog_scored:,} of its {backlog:,} rows were scored meanwhile")
    stop.set()


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--others", type=int, default=100)
    parser.add_argument("--seconds", type=int, default=30)
    parser.add_argument("--backlog", type=int, default=1_000_000)
    parser.add_argument("--sent", action="store_true", help="send the backlog instead of storing it before")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, running_engine(Path(folder) / "data") as engine:
        run_reactor(
            lambda reactor: measure(
                reactor, engine.data_dir, engine.port, options.others, options.seconds, options.backlog, options.sent
            )
        )
        engine.stop()


if __name__ == "__main__":
    main()
