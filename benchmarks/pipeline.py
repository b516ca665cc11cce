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
import contextlib
import math
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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


def wait(condition: Callable[[], bool], poll_s: float = 0.05, patience_s: float = 300.0) -> None:
    deadline = time.perf_counter() + patience_s
    while not condition():
        if time.perf_counter() > deadline:
            raise SystemExit("the engine does not come to an end")
        time.sleep(poll_s)


def throughput(target: Target, load: Load, seconds: float) -> float:
    """Rows a second: those of a backlog that takes the engine about so long."""
    before = target.scored()
    began = time.perf_counter()
    probe = load.lines(max(1, 2000 // load.metrics))
    target.send(probe)
    wait(lambda: target.scored() >= before + len(probe))
    rate = len(probe) / (time.perf_counter() - began)
    lines = load.lines(max(1, int(rate * seconds / load.metrics)))
    before = target.scored()
    began = time.perf_counter()
    target.send(lines)
    wait(lambda: target.scored() >= before + len(lines))
    return len(lines) / (time.perf_counter() - began)


def latencies(target: Target, samples: int, rowid: int) -> list[float]:
    """Milliseconds of single samples of a metric of their own."""
    found = []
    for number in tqdm(range(1, samples + 1), desc="samples", leave=False, disable=None):
        began = time.perf_counter()
        target.send([f"single {number % 10} {START + 60 * (rowid + number)}"])
        wait(lambda row=rowid + number: target.has_score("single", row), POLL_S)  # type: ignore[misc]
        found.append(1000 * (time.perf_counter() - began))
        time.sleep(0.05)
    return found


@contextlib.contextmanager
def busy(target: Target, load: Load, rate: float) -> Iterator[None]:
    """Meanwhile the engine gets so many rows a second."""
    stop = threading.Event()

    def feed() -> None:
        due = time.perf_counter()
        while not stop.is_set():
            target.send(load.lines(1))
            due += load.metrics / rate
            stop.wait(max(0.0, due - time.perf_counter()))

    feeder = threading.Thread(target=feed)
    feeder.start()
    try:
        yield
    finally:
        stop.set()
        feeder.join()


def measure(name: str, target: Target, options: argparse.Namespace) -> float:
    """Print a deployment's figures; its rows a second."""
    load = Load(options.metrics)
    single = [f"single {row % 10} {START + 60 * row}" for row in range(1, PENDING + 1)]
    target.send([*load.lines(PENDING), *single])
    wait(lambda: target.scored() >= PENDING * (options.metrics + 1))
    rate = throughput(target, load, options.seconds)
    print(f"{name:<14}{rate:>8,.0f} rows/s", flush=True)
    quiet = latencies(target, options.samples, PENDING)
    print_latencies(name, "quiet", quiet)
    with busy(target, load, rate / 2):
        time.sleep(2)
        print_latencies(name, "busy", latencies(target, options.samples, PENDING + options.samples))
    return rate


def print_latencies(name: str, when: str, found: Sequence[float]) -> None:
    p99 = statistics.quantiles(found, n=100)[98]
    print(f"{name:<14}{statistics.median(found):>8.1f} ms p50, {p99:.1f} ms p99, {when}", flush=True)


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
