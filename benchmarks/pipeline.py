# SPDX-License-Identifier: MIT
"""Rows a second from socket to stored score beside the models alone, and how long a single sample takes.

Real engines with real servers on this machine: the embedded one, and a process a service on RabbitMQ and MariaDB.
Each metric begins with a copy of one mature model.  All get a row at a time, at most `AHEAD` rows before their scores:
what is measured is one row a metric a batch, not a backlog.  Then samples are sent one at a time, into the quiet engine
and into one that gets half the rate that was measured.  A sample's latency ends when its score is in the database.

The limit: as many copies of the same model in this process, the same rows in turn, on one CPU.  It is measured before
and after each deployment.  Rates are elapsed, so they need a machine that is idle; beside them stands the CPU time a
row, by part, and what the ratio would be if all CPUs were the engine's: (CPUs * the model's time) / all time.

    python -m benchmarks.pipeline --metrics 1000 --rows 30
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self, TypeAlias

from sqlalchemy import Connection
from tqdm import tqdm

from benchmarks.page import table, write
from htmengine.adapters.datasource import models
from htmengine.adapters.datasource.custom import ModelSpec
from htmengine.evidence.model_file import ModelFile
from htmengine.evidence.scoring import detector_for
from htmengine.htm.model import Model
from htmengine.htm.params import ModelParams, range_of
from htmengine.measure.series import SERIES, named
from htmengine.nab.runner import LabelledSeries
from htmengine.repository import migrations
from htmengine.repository.engine import Database
from htmengine.repository.queries import MetricStatus
from tests.support.distributed import DistributedEngine, distributed_engine
from tests.support.engine import Engine, running_engine
from tests.support.servers import MariaDB, RabbitMQ

#: Median and 99th percentile.
Quantiles: TypeAlias = tuple[float, float]

START = 1_700_000_000
#: Samples of the metric "single" before it has a model.
PENDING = 20
OPTIONS = {
    "HTMENGINE__APPLICATION__METRIC_STORER__PENDING_SAMPLES": str(PENDING),
    "HTMENGINE__MODEL_SWAPPER__MODEL_SCHEDULER__WORKER_MEMORY_MB": "8192",
}
#: Rows of each metric that may be on their way.
AHEAD = 2
#: Rows of each metric before anything is measured.
WARM_UP = 3
#: How often the database is asked for a score; a latency is uncertain by this much.
POLL_S = 0.002
#: An engine that scores nothing for this long is stuck.
PATIENCE_S = 180.0
#: Metrics that are made in one transaction.
MADE_AT_ONCE = 50


@dataclass(frozen=True)
class Target:
    """An engine of either deployment, how its database is asked, and its processes."""

    engine: Engine | DistributedEngine
    query: Callable[[str], list[tuple[Any, ...]]]
    processes: Callable[[], list[int]]

    def send(self, lines: Sequence[str]) -> None:
        self.engine.send(lines)

    def scored(self) -> int:
        """Rows with a score."""
        return int(self.query("SELECT COALESCE(SUM(scored), 0) FROM metric_score")[0][0])

    def models(self) -> int:
        """Metrics whose models are made."""
        return int(self.query(f"SELECT count(*) FROM metric WHERE status = {MetricStatus.ACTIVE:d}")[0][0])  # noqa: S608

    def has_score(self, name: str, rowid: int) -> bool:
        found = self.query(f"SELECT s.rowid FROM metric_score s JOIN metric m ON m.uid = s.uid WHERE m.name = '{name}'")  # noqa: S608
        return bool(found) and bool(found[0][0] >= rowid)


class Template:
    """A model that has learnt the first rows of a series; the metrics have copies of it and go on with the next."""

    def __init__(self, series: LabelledSeries, age: int) -> None:
        self.age = age
        self._series = series
        self._range = range_of(series.values)
        model = Model(ModelParams.for_range(*self._range))
        model.learn_many(series.timestamps[:age], series.values[:age])
        self.saved = model.save()

    def row(self, number: int) -> tuple[int, float]:
        """Timestamp and value of a row, from 1, after those that were learnt."""
        place = self.age + number - 1
        return int(self._series.timestamps[place]), float(self._series.values[place])

    def give_to(self, url: str, metrics: int) -> None:
        """Make the metrics in a new database; the engine makes their models when it starts."""
        migrations.upgrade(url)
        database = Database(url)
        minimum, maximum = self._range
        spec = ModelSpec.for_name("load", min=minimum, max=maximum).source
        params = ModelParams.for_range(minimum, maximum)
        file = ModelFile(dict(spec), params.to_json(), START, self.saved, detector_for(params).save())
        for first in tqdm(range(0, metrics, MADE_AT_ONCE), desc="metrics", leave=False, disable=None):
            database.run_sync(_make_metrics, file, range(first, min(first + MADE_AT_ONCE, metrics)))
        database.close()


def _make_metrics(conn: Connection, file: ModelFile, numbers: Sequence[int]) -> None:
    for number in numbers:
        models.import_model(conn, file, f"load.m{number}")


class Load:
    """Rows of many metrics, one after the other."""

    def __init__(self, template: Template, metrics: int) -> None:
        self.metrics = metrics
        self.row = 0
        self._template = template

    def lines(self) -> list[str]:
        """The next row of all metrics."""
        self.row += 1
        timestamp, value = self._template.row(self.row)
        return [f"load.m{number} {value} {timestamp}" for number in range(self.metrics)]


def wait_for_rows(target: Target, rows: int, description: str) -> None:
    """Until so many have a score."""
    wait_until(target.scored, rows, description)


def wait_until(count: Callable[[], int], rows: int, description: str) -> None:
    """Until there are so many.  Ends the benchmark when there is no progress any more."""
    began = done = count()
    moved_at = time.perf_counter()
    with tqdm(total=rows - began, desc=description, leave=False, disable=None) as bar:
        while done < rows:
            time.sleep(0.05)
            found = count()
            if found > done:
                bar.update(found - done)
                done, moved_at = found, time.perf_counter()
            elif time.perf_counter() - moved_at > PATIENCE_S:
                raise SystemExit(
                    f"{description}: {rows - done} of {rows} are not done, and none was in {PATIENCE_S:g} s"
                )


@dataclass(frozen=True)
class Rate:
    """What an engine does."""

    rows_per_s: float
    cpu_us: Mapping[str, float]  #: a row, by part of the engine
    quiet_ms: Quantiles = (math.nan, math.nan)
    busy_ms: Quantiles = (math.nan, math.nan)

    @property
    def cpu_s(self) -> float:
        """All of it, a row."""
        return sum(self.cpu_us.values()) / 1e6


def throughput(target: Target, load: Load, rows: int) -> Rate:
    """Rows of all metrics, each batch sent when the scores of the one `AHEAD` of it are there."""
    _feed(target, load, WARM_UP)
    before, began = cpu_seconds(target.processes()), time.perf_counter()
    _feed(target, load, rows)
    total = rows * load.metrics
    rate = total / (time.perf_counter() - began)
    after = cpu_seconds(target.processes())
    return Rate(rate, {part: 1e6 * (after[part] - before.get(part, 0.0)) / total for part in after})


def _feed(target: Target, load: Load, rows: int) -> None:
    before = target.scored() - load.row * load.metrics
    for _ in tqdm(range(rows), desc="throughput", unit=" rows of all", leave=False, disable=None):
        wait_for_rows(target, before + (load.row - AHEAD + 1) * load.metrics, "throughput")
        target.send(load.lines())
    wait_for_rows(target, before + load.row * load.metrics, "throughput")


def cpu_seconds(pids: Sequence[int]) -> dict[str, float]:
    """CPU time by part: main threads, other threads and workers."""
    seconds = {"main threads": 0.0, "other threads": 0.0, "workers": 0.0}
    for pid in pids:
        worker = b"model_runner" in Path(f"/proc/{pid}/cmdline").read_bytes()
        main = _ticks(Path(f"/proc/{pid}/task/{pid}/stat")) / os.sysconf("SC_CLK_TCK")
        whole = _ticks(Path(f"/proc/{pid}/stat")) / os.sysconf("SC_CLK_TCK")
        seconds["workers" if worker else "main threads"] += main
        seconds["workers" if worker else "other threads"] += whole - main
    return seconds


def _ticks(stat: Path) -> int:
    fields = stat.read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def _with_children(pids: Sequence[int]) -> list[int]:
    """Processes and those that they have started."""
    children = [Path(f"/proc/{pid}/task/{pid}/children").read_text().split() for pid in pids]
    return [*pids, *(int(pid) for each in children for pid in each)]


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
                self._target.send(self._load.lines())
                due += self._load.metrics / self._rate
                self._stop.wait(max(0.0, due - time.perf_counter()))
        except OSError as error:
            self._error = error


def measure(name: str, target: Target, template: Template, options: argparse.Namespace) -> Rate:
    """Print a deployment's figures; what it does."""
    load = Load(template, options.metrics)
    wait_until(target.models, options.metrics, "models")
    target.send([f"single {row % 10} {START + 60 * row}" for row in range(1, PENDING + 1)])
    wait_for_rows(target, PENDING, "a young model")
    rate = throughput(target, load, options.rows)
    parts = ", ".join(f"{part} {us:.0f}" for part, us in rate.cpu_us.items())
    print(f"{name:<14}{rate.rows_per_s:>8,.0f} rows/s; CPU us a row: {parts}", flush=True)
    quiet = latencies(target, options.samples, PENDING, "quiet", options.busy_seconds)
    quiet_ms = print_latencies(name, "quiet", quiet)
    half = rate.rows_per_s / 2
    with Feeder(target, load, half) as feeder:
        time.sleep(2)
        found = latencies(target, options.samples, PENDING + options.samples, "busy", options.busy_seconds)
    busy_ms = print_latencies(name, f"busy with {half:,.0f} rows/s, {feeder.behind:,} of them behind at the end", found)
    return replace(rate, quiet_ms=quiet_ms, busy_ms=busy_ms)


def print_latencies(name: str, when: str, found: Sequence[float]) -> Quantiles:
    p50, p99 = (statistics.quantiles(found, n=100, method="inclusive")[at] for at in (49, 98))
    print(f"{name:<14}{p50:>8.1f} ms p50, {p99:.1f} ms p99 of {len(found)} samples, {when}", flush=True)
    return p50, p99


def models_alone(template: Template, count: int, rows: int) -> float:
    """CPU seconds a row of so many copies in turn, without anything around them."""
    copies = [Model.restore(template.saved) for _ in range(count)]
    used = []
    for number in tqdm(range(1, WARM_UP + rows + 1), desc="models alone", leave=False, disable=None):
        timestamp, value = template.row(number)
        began = time.thread_time()
        for model in copies:
            model.learn(timestamp, value)
        used.append((time.thread_time() - began) / count)
    return statistics.mean(used[WARM_UP:])


def _embedded(folder: Path, template: Template, options: argparse.Namespace) -> Rate:
    data_dir = folder / "embedded"
    data_dir.mkdir()
    template.give_to(f"sqlite:///{data_dir / 'htmengine.db'}", options.metrics)
    with running_engine(data_dir) as engine:
        assert engine.process is not None
        pid = engine.process.pid
        rate = measure("embedded", Target(engine, engine.query, lambda: _with_children([pid])), template, options)
        engine.stop()
    return rate


def _distributed(folder: Path, template: Template, options: argparse.Namespace) -> Rate:
    with RabbitMQ() as rabbitmq, MariaDB() as mariadb:
        url = mariadb.new_database()
        template.give_to(url, options.metrics)
        with distributed_engine(folder / "distributed", rabbitmq_port=rabbitmq.port, database_url=url) as made:
            made.start_all()
            pids = [process.pid for process in made.processes.values()]
            return measure("distributed", Target(made, made.query, lambda: _with_children(pids)), template, options)


DEPLOYMENTS = {"embedded": _embedded, "distributed": _distributed}


def main() -> None:
    """Print the figures of both deployments, and the models' own."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--metrics", type=int, default=1000)
    parser.add_argument("--rows", type=int, default=30, help="of each metric")
    parser.add_argument("--series", choices=SERIES, default="load")
    parser.add_argument("--age", type=int, default=5000, help="rows that the models have learnt")
    parser.add_argument("--samples", type=int, default=100, help="single samples")
    parser.add_argument("--busy-seconds", type=float, default=60.0, help="at most, for these samples")
    parser.add_argument("--only", choices=DEPLOYMENTS)
    parser.add_argument("--page", type=Path, help="has a place for a table")
    options = parser.parse_args()
    os.environ.update(OPTIONS)
    template = Template(named(options.series), options.age)
    cpus = len(os.sched_getaffinity(0))
    alone = models_alone(template, options.metrics, options.rows)
    lines = []
    for name, run in DEPLOYMENTS.items():
        if options.only in (None, name):
            with tempfile.TemporaryDirectory() as folder:
                rate = run(Path(folder), template, options)
            before, alone = alone, models_alone(template, options.metrics, options.rows)
            limit = (before + alone) / 2
            print(f"{'models alone':<14}{1 / limit:>8,.0f} rows/s on one CPU; CPU us a row: {1e6 * limit:.0f}")
            print(
                f"{name:<14}{rate.rows_per_s * limit:>8.2f} of the models alone;"
                f" {cpus * limit / rate.cpu_s:.2f} by CPU time on {cpus} CPUs",
                flush=True,
            )
            lines.append([name, *_cells(rate, limit, cpus)])
    if options.page is not None:
        write(options.page, "pipeline", table(HEADS, lines))


HEADS = (
    *("", "rows/s", "models alone", "ratio", "ratio by CPU time", "us of CPU a row: main threads / others / workers"),
    *("a quiet sample, p50 / p99", "a busy one's"),
)


def _cells(rate: Rate, limit: float, cpus: int) -> list[str]:
    """What the table says beside the deployment's name."""
    return [
        *(f"{rate.rows_per_s:,.0f}", f"{1 / limit:,.0f}", f"{rate.rows_per_s * limit:.2f}"),
        f"{cpus * limit / rate.cpu_s:.2f}",
        " / ".join(f"{us:.0f}" for us in rate.cpu_us.values()),
        *(f"{p50:.0f} / {p99:.0f} ms" for p50, p99 in (rate.quiet_ms, rate.busy_ms)),
    ]


if __name__ == "__main__":
    main()
