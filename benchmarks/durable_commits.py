# SPDX-License-Identifier: MIT
"""What it costs that each of SQLite's commits is synced to the disk: `synchronous = FULL` beside `NORMAL`.

    python -m benchmarks.durable_commits [--metrics 1000] [--rounds 200] [--folder DIR]

Transactions of the Metric Storer, and of the embedded bus (a message is put, and one is removed), into two files each,
in turns: one row at a time, as 1,000 metrics with a sample a minute send them, and all metrics' rows at once, as a
single sender of a million rows has them stored.  Prints milliseconds a transaction, elapsed and of CPU, and the ratios.
The folder should be on the disk that is meant.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, event
from tqdm import tqdm

from htmengine.bus.interface import DEFAULT_LIMITS
from htmengine.bus.queue_file import QueueFile
from htmengine.messages import SampleBatch, encode_samples
from htmengine.repository import migrations
from htmengine.repository.engine import Database
from htmengine.runtime.storing import StorerOptions, store_batches
from htmengine.sharding import ShardQueues

LEVELS = ("FULL", "NORMAL")
QUEUE = "samples"
OPTIONS = StorerOptions(QUEUE, ShardQueues("shard.", 16), auto_monitor=True, pending_samples=1_000_000)
START = 1_700_000_000

#: Does a transaction with the rows of a minute.
Transaction = Callable[[list[str], int], Any]


@contextlib.contextmanager
def storer(folder: Path, level: str) -> Iterator[Transaction]:
    """The Metric Storer's transactions."""
    url = f"sqlite:///{folder / f'{level}.db'}"
    migrations.upgrade(url)
    database = Database(url)
    event.listen(database._engine, "connect", lambda connection, _: connection.execute(f"PRAGMA synchronous = {level}"))

    def store(conn: Connection, lines: list[str], minute: int) -> None:
        batch = SampleBatch(lines, batch_id=f"{minute}.{lines[0]}")
        store_batches(conn, [batch], OPTIONS, START + 60.0 * minute, [])

    yield lambda lines, minute: database.run_sync(store, lines, minute)
    database.close()


@contextlib.contextmanager
def bus(folder: Path, level: str) -> Iterator[Transaction]:
    """The bus's: a message comes, the one before goes."""
    file = QueueFile(folder / f"{level}.bus")
    file._db.execute(f"PRAGMA synchronous = {level}")
    with file.transaction():
        file.declare_queue(QUEUE, DEFAULT_LIMITS, 0.0)
    before: list[int] = []

    def pass_on(lines: list[str], minute: int) -> None:
        with file.transaction():
            file.remove(QUEUE, before)
            [arrival] = file.put(QUEUE, [encode_samples(SampleBatch(lines))], {}, float(minute))
        before[:] = [arrival.first]

    yield pass_on
    file.close()


def lines_of(metrics: Iterable[int], minute: int) -> list[str]:
    """A row of each."""
    return [f"metric.{number} {minute}.5 {START + 60 * minute}" for number in metrics]


def measure(name: str, transactions: dict[str, Transaction], groups: Sequence[Sequence[int]]) -> None:
    """Print a line: medians of all transactions.  A group: the metrics that have a row in one."""
    elapsed: dict[str, list[float]] = {level: [] for level in LEVELS}
    used: dict[str, list[float]] = {level: [] for level in LEVELS}
    for level in LEVELS:
        transactions[level](lines_of(range(max(map(max, groups)) + 1), 0), 0)  # in which the metrics are made
    for minute, group in enumerate(tqdm(groups, desc=name, leave=False), 1):
        lines = lines_of(group, minute)
        for level in LEVELS if minute % 2 else reversed(LEVELS):
            began, cpu = time.perf_counter(), time.process_time()
            transactions[level](lines, minute)
            elapsed[level].append(time.perf_counter() - began)
            used[level].append(time.process_time() - cpu)
    figures = [1e3 * statistics.median(each[level]) for each in (elapsed, used) for level in LEVELS]
    full, normal, full_cpu, normal_cpu = figures
    print(
        f"{name:34}{full:8.2f} ms{normal:8.2f} ms  ratio {full / normal:5.2f}"
        f"   CPU {full_cpu:8.2f} ms{normal_cpu:8.2f} ms  ratio {full_cpu / normal_cpu:5.2f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--metrics", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument(
        "--folder", type=Path, help="where the files are made; by default the system's for temporary ones"
    )
    options = parser.parse_args()
    print(f"{'':34}{LEVELS[0]:>11}{LEVELS[1]:>11}")
    alone = [[number % options.metrics] for number in range(options.rounds)]
    together = [range(options.metrics)] * max(1, options.rounds // 10)
    for part, make in (("Metric Storer", storer), ("bus", bus)):
        for groups in (alone, together):
            with tempfile.TemporaryDirectory(dir=options.folder) as folder, contextlib.ExitStack() as stack:
                transactions = {level: stack.enter_context(make(Path(folder), level)) for level in LEVELS}
                measure(f"{part}, {len(groups[0])} rows", transactions, groups)


if __name__ == "__main__":
    main()
