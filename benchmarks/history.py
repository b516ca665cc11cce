# SPDX-License-Identifier: MIT
"""Late rows and history: what waiting costs a sender that is in order, and how fast loaded rows are scored.

    python -m benchmarks.history [--metrics 500] [--minutes 60] [--series 8] [--rows 5000]

**In order**: the Metric Storer's transactions with a row of every metric each minute, with the default late policy and
with none, in turns, each in a SQLite database of its own.  Prints microseconds of CPU a row, and how many rows were
stored in the transaction in which they came: for these the latency is what it would be without a policy.

**A load**: an embedded engine with two workers, and ``htmengine load`` of a folder with copies of the temperatures.
Prints rows a second from the start of the command to the last score, and CPU time a row of the command, the engine and
its workers, beside that of the model alone.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.page import table, write
from benchmarks.pipeline import cpu_seconds
from htmengine.htm.model import Model
from htmengine.htm.params import ModelParams
from htmengine.measure.series import named
from htmengine.messages import SampleBatch
from htmengine.repository import migrations
from htmengine.repository.engine import Database
from htmengine.runtime.late_window import LateWindow
from htmengine.runtime.sample_order import Learnt
from htmengine.runtime.storing import StorerOptions, store_batches
from htmengine.sharding import ShardQueues
from tests.support.engine import htmengine, running_engine, wait_for

START = 1_700_000_000
#: Minutes before anything is measured: by then cadences are known.
WARM_UP = 10
POLICIES = {"the default": LateWindow(), "none": LateWindow(intervals=0.0, most_s=0.0)}


class Storer:
    """Stores rows in a database of its own, and remembers cadences, as the Metric Storer does."""

    def __init__(self, url: str, window: LateWindow) -> None:
        migrations.upgrade(url)
        self._database = Database(url)
        self._options = StorerOptions(
            "samples", ShardQueues("shard.", 16), auto_monitor=True, pending_samples=1_000_000, late_window=window
        )
        self._cadences: dict[str, Learnt] = {}
        self.costs: list[float] = []  #: seconds of CPU of each transaction
        self.stored = 0

    def store(self, lines: list[str], minute: int) -> None:
        before = time.process_time()
        batch, now = SampleBatch(lines, batch_id=str(minute)), START + 60.0 * minute
        done = self._database.run_sync(store_batches, [batch], self._options, now, [], cadences=self._cadences)
        self._cadences |= done.cadences
        if minute > WARM_UP:
            self.costs.append(time.process_time() - before)
            self.stored += done.stored

    def close(self) -> None:
        self._database.close()


def in_order(folder: Path, metrics: int, minutes: int) -> list[list[str]]:
    """The lines of the table: policy, CPU a row, share of the rows that are stored at once."""
    storers = {name: Storer(f"sqlite:///{folder / name}.db", window) for name, window in POLICIES.items()}
    for minute in range(1, WARM_UP + minutes + 1):
        lines = [f"web{number}.cpu {minute % 17} {START + 60 * minute}" for number in range(metrics)]
        for storer in storers.values():
            storer.store(lines, minute)
    lines_of_table = []
    for name, storer in storers.items():
        storer.close()
        micros = 1e6 * statistics.median(storer.costs) / metrics
        at_once = 100 * storer.stored / (metrics * minutes)
        print(f"late policy {name:12} {micros:7.1f} us of CPU a row, {at_once:.1f} % stored at once", flush=True)
        lines_of_table.append([f"late policy: {name}", f"{micros:.1f} us of CPU a row", f"{at_once:.1f} % at once"])
    return lines_of_table


def load(folder: Path, series: int, rows: int) -> list[list[str]]:
    """The lines of the table: rows a second, and CPU a row."""
    history = folder / "history"
    history.mkdir()
    temperatures = named("temperatures")
    pairs = [*zip(temperatures.timestamps.tolist(), temperatures.values.tolist(), strict=True)][:rows]
    for number in range(series):
        text = "".join(f"{timestamp},{value!r}\n" for timestamp, value in pairs)
        (history / f"web{number}.cpu.csv").write_text(f"timestamp,value\n{text}")
    with running_engine(folder / "engine", "--workers", "2") as engine:
        assert engine.process is not None
        before, commands, began = cpu_seconds([engine.process.pid]), _of_children(), time.perf_counter()
        htmengine(engine, "load", str(history))
        scored = "SELECT count(*) FROM metric_data WHERE anomaly_score IS NOT NULL"
        wait_for(lambda: engine.query(scored)[0][0] == series * rows, "the scores", 300.0)
        elapsed = time.perf_counter() - began
        after = cpu_seconds([engine.process.pid, *engine.worker_pids()]) | {"command": _of_children() - commands}
    parts = {part: after[part] - before.get(part, 0.0) for part in after}
    shown = ", ".join(f"{part} {1e6 * spent / (series * rows):.0f}" for part, spent in parts.items())
    spent = sum(parts.values())
    rate, micros, alone = series * rows / elapsed, 1e6 * spent / (series * rows), _model_alone(rows)
    print(
        f"load {series} series of {rows} rows: {rate:,.0f} rows a second, {micros:.0f} us of CPU a row"
        f" ({shown}); the model alone {alone:.0f}",
        flush=True,
    )
    return [
        [f"load of {series} series of {rows:,} rows", f"{micros:.0f} us of CPU a row", f"{rate:,.0f} rows a second"],
        ["the model alone", f"{alone:.0f} us of CPU a row", ""],
    ]


def _model_alone(rows: int) -> float:
    """Microseconds of CPU a row."""
    temperatures = named("temperatures")
    times, values = temperatures.timestamps[:rows], temperatures.values[:rows]
    model, before = Model(ModelParams.for_sample(values[:288].tolist())), time.process_time()
    model.learn_many(times, values)
    return 1e6 * (time.process_time() - before) / len(values)


def _of_children() -> float:
    """CPU seconds of commands that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--metrics", type=int, default=500)
    parser.add_argument("--minutes", type=int, default=60)
    parser.add_argument("--series", type=int, default=8)
    parser.add_argument("--rows", type=int, default=5000)
    parser.add_argument("--page", type=Path, help="has a place for a table")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        lines = in_order(Path(name), options.metrics, options.minutes)
        lines += load(Path(name), options.series, options.rows)
    if options.page is not None:
        write(options.page, "history", table(["", "", ""], lines))


if __name__ == "__main__":
    main()
