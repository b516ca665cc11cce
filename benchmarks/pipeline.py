# SPDX-License-Identifier: MIT
"""Rows a second from socket to stored score, and how long a single sample takes: embedded and distributed.

Real engines with real servers on this machine: the embedded one, and a process a service on RabbitMQ and MariaDB.
First every metric gets its model; then all metrics send rows as fast as the engine takes them; then samples are
sent one at a time, into the quiet engine and into one that gets half the rate that was measured.  A sample's latency
ends when its score is in the database.  Below stands the limit: the models alone, in this process, on one CPU.

    python benchmarks/pipeline.py --metrics 200 --seconds 10
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from tqdm import tqdm

from htmengine.htm.model import Model
from htmengine.htm.params import ModelParams
from tests.support.distributed import DistributedEngine, distributed_engine
from tests.support.engine import Engine, running_engine
from tests.support.servers import MariaDB, RabbitMQ

START = 1_700_000_000
PENDING = 20
OPTIONS = {"HTMENGINE__APPLICATION__METRIC_STORER__PENDING_SAMPLES": str(PENDING)}
#: How often the database is asked for a score; a latency is uncertain by this much.
POLL_S = 0.002
#: An engine that scores nothing for this long is stuck.
PATIENCE_S = 60.0


@dataclass(frozen=True)
class Target:
    """An engine of either deployment, and how its database is asked."""

    engine: Engine | DistributedEngine
    query: Callable[[str], list[tuple[Any, ...]]]

    def send(self, lines: Sequence[str]) -> None:
        self.engine.send(lines)

    def scored(self) -> int:
        """Rows with a score."""
        return int(self.query("SELECT COALESCE(SUM(scored), 0) FROM metric_score")[0][0])

    def has_score(self, name: str, rowid: int) -> bool:
        found = self.query(f"SELECT s.rowid FROM metric_score s JOIN metric m ON m.uid = s.uid WHERE m.name = '{name}'")  # noqa: S608
        return bool(found) and bool(found[0][0] >= rowid)


class Load:
    """Rows of many metrics, one after the other."""

    def __init__(self, metrics: int) -> None:
        self.metrics = metrics
        self.row = 0

    def lines(self, rows: int) -> list[str]:
        """The next rows of all metrics."""
        first, self.row = self.row + 1, self.row + rows
        return [
            f"load.m{number} {math.sin(row / 7) + number % 10:.4f} {START + 60 * row}"
            for row in range(first, self.row + 1)
            for number in range(self.metrics)
        ]


def wait_for_rows(target: Target, rows: int, description: str) -> None:
    """Until so many have a score.  Ends the benchmark when there is no progress any more."""
    began = done = target.scored()
    moved_at = time.perf_counter()
    with tqdm(total=rows - began, desc=description, unit=" rows", leave=False, disable=None) as bar:
        while done < rows:
            time.sleep(0.05)
            found = target.scored()
            if found > done:
                bar.update(found - done)
                done, moved_at = found, time.perf_counter()
            elif time.perf_counter() - moved_at > PATIENCE_S:
                raise SystemExit(
                    f"{description}: {rows - done} rows have no score, and none got one in {PATIENCE_S:g} s"
                )


def throughput(target: Target, load: Load, seconds: float) -> float:
    """Rows a second: those of a backlog that takes the engine about so long."""
    rate = of_backlog(target, load.lines(max(1, 2000 // load.metrics)))
    return of_backlog(target, load.lines(max(1, int(rate * seconds / load.metrics))))


def of_backlog(target: Target, lines: Sequence[str]) -> float:
    """Rows a second of lines that are sent at once."""
    before = target.scored()
    began = time.perf_counter()
    target.send(lines)
    wait_for_rows(target, before + len(lines), "throughput")
    return len(lines) / (time.perf_counter() - began)


def latencies(target: Target, samples: int, rowid: int, description: str, most_s: float) -> list[float]:
    """Milliseconds of single samples of a metric of their own, fewer when they take longer than ``most_s`` in all."""
    found: list[float] = []
    began = time.perf_counter()
    for number in tqdm(range(1, samples + 1), desc=description, unit=" samples", leave=False, disable=None):
        sent_at = time.perf_counter()
        target.send([f"single {number % 10} {START + 60 * (rowid + number)}"])
        while not target.has_score("single", rowid + number):
            if time.perf_counter() - sent_at > PATIENCE_S:
                raise SystemExit(f"{description}: a sample has no score after {PATIENCE_S:g} s")
            time.sleep(POLL_S)
        found.append(1000 * (time.perf_counter() - sent_at))
        if time.perf_counter() - began > most_s:
            break
        time.sleep(0.05)
    return found


class Feeder:
    """Gives the engine so many rows a second, from a thread of its own; ``with`` it is busy."""

    def __init__(self, target: Target, load: Load, rate: float) -> None:
        self._target = target
        self._load = load
        self._rate = rate
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._feed)
        self._error: OSError | None = None
        self.behind = 0  #: rows that had no score at the end

    def __enter__(self) -> Self:
        self._scored = self._target.scored()
        self._sent = self._load.row
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        sent = (self._load.row - self._sent) * self._load.metrics
        self.behind = sent - (self._target.scored() - self._scored)
        if self._error is not None:
            raise SystemExit(f"busy: the engine took no rows any more: {self._error}")

    def _feed(self) -> None:
        due = time.perf_counter()
        try:
            while not self._stop.is_set():
                self._target.send(self._load.lines(1))
                due += self._load.metrics / self._rate
                self._stop.wait(max(0.0, due - time.perf_counter()))
        except OSError as error:
            self._error = error


def measure(name: str, target: Target, options: argparse.Namespace) -> float:
    """Print a deployment's figures; its rows a second."""
    load = Load(options.metrics)
    single = [f"single {row % 10} {START + 60 * row}" for row in range(1, PENDING + 1)]
    target.send([*load.lines(PENDING), *single])
    wait_for_rows(target, PENDING * (options.metrics + 1), "models")
    rate = throughput(target, load, options.seconds)
    print(f"{name:<14}{rate:>8,.0f} rows/s", flush=True)
    quiet = latencies(target, options.samples, PENDING, "quiet", options.busy_seconds)
    print_latencies(name, "quiet", quiet)
    with Feeder(target, load, rate / 2) as feeder:
        time.sleep(2)
        found = latencies(target, options.samples, PENDING + options.samples, "busy", options.busy_seconds)
    print_latencies(name, f"busy with {rate / 2:,.0f} rows/s, {feeder.behind:,} of them behind at the end", found)
    return rate


def print_latencies(name: str, when: str, found: Sequence[float]) -> None:
    p50, p99 = (statistics.quantiles(found, n=100, method="inclusive")[at] for at in (49, 98))
    print(f"{name:<14}{p50:>8.1f} ms p50, {p99:.1f} ms p99 of {len(found)} samples, {when}", flush=True)


def models_alone(metrics: int) -> float:
    """Rows a second of the models, row after row in turn, without anything around them."""
    models = [Model(ModelParams.for_range(-2.0, 12.0)) for _ in range(metrics)]
    rows = 60
    began = time.perf_counter()
    for row in range(rows):
        for number, model in enumerate(models):
            model.learn_many(np.array([START + 60 * row], dtype=np.int64), np.array([math.sin(row / 7) + number % 10]))
    return rows * metrics / (time.perf_counter() - began)


def main() -> None:
    """Print the figures of both deployments, and the models' own."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--metrics", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=10.0, help="of the load, about")
    parser.add_argument("--samples", type=int, default=100, help="single samples")
    parser.add_argument("--busy-seconds", type=float, default=60.0, help="at most, for these samples")
    parser.add_argument("--only", choices=["embedded", "distributed"])
    options = parser.parse_args()
    os.environ.update(OPTIONS)
    rates: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        if options.only != "distributed":
            with running_engine(Path(folder) / "embedded") as engine:
                rates["embedded"] = measure("embedded", Target(engine, engine.query), options)
                engine.stop()
        if options.only != "embedded":
            with (
                RabbitMQ() as rabbitmq,
                MariaDB() as mariadb,
                distributed_engine(
                    Path(folder) / "distributed", rabbitmq_port=rabbitmq.port, database_url=mariadb.new_database()
                ) as made,
            ):
                made.start_all()
                rates["distributed"] = measure("distributed", Target(made, made.query), options)
    limit = models_alone(min(options.metrics, 100))
    print(f"{'models alone':<14}{limit:>8,.0f} rows/s on one CPU")
    for name, rate in rates.items():
        print(f"{name:<14}{rate / limit:>8.2f} of the models alone")


if __name__ == "__main__":
    main()
