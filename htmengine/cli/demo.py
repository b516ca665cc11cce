# SPDX-License-Identifier: MIT
"""``htmengine demo``: the whole engine on real data, with the known failures beside what it finds."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import click
from tqdm import tqdm

from htmengine.adapters.datasource.why import why_at
from htmengine.cli.common import example, failing_cleanly
from htmengine.cli.files import send_rows
from htmengine.csv_files import format_timestamp, parse_timestamp, read_rows
from htmengine.errors import HtmEngineError
from htmengine.process.lifecycle import DataFolder
from htmengine.repository import counts, queries
from htmengine.repository.engine import Database
from htmengine.repository.queries import Metric, Row

SERIES = "machine_temperature_system_failure"
METRIC = "plant.machine.temperature"
#: A row from here on is printed as an anomaly.
THRESHOLD = 0.99999
#: After an anomaly was printed, others of the same metric are not for this long.
QUIET_S = 12 * 3600
#: The engine starts, and stops, within this.
START_S = 30.0
#: Nothing was scored for this long: something is wrong.
STALLED_S = 60.0


@dataclass(frozen=True, slots=True)
class KnownFailure:
    """A labelled window: first and last timestamp."""

    first: int
    last: int

    def __str__(self) -> str:
        return f"{format_timestamp(self.first)} to {format_timestamp(self.last)}"


@dataclass(frozen=True, slots=True)
class RunningEngine:
    """The demo's engine."""

    folder: Path
    graphite_port: int
    page: str | None


@click.command(epilog=example("htmengine demo --once"))
@click.option("--once", is_flag=True, help="End after the replay.")
@failing_cleanly
def demo(once: bool) -> None:
    """Run an engine in a temporary folder on a real series: a machine's temperatures, with its known failures."""
    data = Path(str(resources.files("htmengine"))) / "data"
    rows = list(read_rows(data / f"{SERIES}.csv"))
    failures = _known_failures(data / "windows.json")
    with tempfile.TemporaryDirectory(prefix="htmengine-demo-") as folder, _engine(Path(folder)) as engine:
        click.echo(f"An engine runs on {folder}, Graphite port {engine.graphite_port}.")
        click.echo(f"It gets {len(rows)} temperatures of a real machine, one every 5 minutes, as {METRIC}.")
        click.echo("Known failures, labelled by the machine's engineers:")
        for failure in failures:
            click.echo(f"  {failure}")
        found = _replay(engine, rows, failures)
        _summary(failures, found)
        if not once:
            _where_to_look(engine)


@contextlib.contextmanager
def _engine(folder: Path) -> Iterator[RunningEngine]:
    """An engine as a process of its own, as ``htmengine run`` starts it; stopped at the end."""
    log = folder / "engine.log"
    command = [sys.executable, "-P", "-m", "htmengine.cli.main", "run", "--data-dir", str(folder)]
    with log.open("wb") as out:
        process = subprocess.Popen([*command, "--graphite-port", "0", "--http-port", "0"], stdout=out, stderr=out)
    try:
        yield _started(process, folder, log)
    finally:
        process.terminate()
        process.wait(START_S)


def _started(process: subprocess.Popen[bytes], folder: Path, log: Path) -> RunningEngine:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        text = log.read_text()
        port = re.search(r"Graphite lines on \S+:(\d+)", text)
        if port and "HTM Engine runs" in text:
            page = re.search(r"http://\S+", text)
            return RunningEngine(folder, int(port.group(1)), page and page.group(0))
        time.sleep(0.05)
    raise HtmEngineError(f"the engine did not start:\n{log.read_text()}")


def _known_failures(path: Path) -> list[KnownFailure]:
    windows: dict[str, list[tuple[str, str]]] = json.loads(path.read_text())
    [mine] = [value for name, value in windows.items() if SERIES in name]
    return [KnownFailure(int(parse_timestamp(first)), int(parse_timestamp(last))) for first, last in mine]


# --- the replay -----------------------------------------------------------------------------------------


def _replay(engine: RunningEngine, rows: Sequence[tuple[float, float]], failures: Sequence[KnownFailure]) -> list[Row]:
    """Send everything, watch the scores come in, and say what happened.  Returns the anomalies."""
    sender = threading.Thread(target=send_rows, args=(rows, METRIC, "127.0.0.1", engine.graphite_port), daemon=True)
    started = time.monotonic()
    sender.start()
    found: list[Row] = []
    with _Watch(engine.folder) as watch, tqdm(total=len(rows), unit="row", leave=False) as progress:
        moved = time.monotonic()
        while watch.seen < len(rows):
            scored, accounted = watch.look()
            if accounted:
                moved = time.monotonic()
            elif time.monotonic() - moved > STALLED_S:
                raise HtmEngineError(f"nothing was scored for {STALLED_S:.0f} s; see {engine.folder}/engine.log")
            progress.update(accounted)
            for row in scored:
                if _is_new_anomaly(row, found):
                    found.append(row)
                    tqdm.write(_describe(row, failures))
                    tqdm.write(f"           {watch.reason(row)}")
            time.sleep(0.1)
        took = time.monotonic() - started
        click.echo(f"{len(rows)} rows in, {watch.scored} scored, {watch.scored / took:.0f} rows/s; rejected:")
        for reason, count in sorted(watch.rejected.items()):
            click.echo(f"  {count} {reason}")
    return found


class _Watch:
    """What the engine has done so far, read from its database as any program may."""

    def __init__(self, folder: Path) -> None:
        self._database = Database(DataFolder(folder).database_url)
        self._metric: Metric | None = None
        self.scored = 0
        self.rejected: dict[str, int] = {}

    def __enter__(self) -> _Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    @property
    def seen(self) -> int:
        """Rows that are scored or rejected."""
        return self.scored + sum(self.rejected.values())

    def look(self) -> tuple[list[Row], int]:
        """The rows scored since the last look, and by how many rows `seen` has grown."""
        before = self.seen
        if self._metric is None:
            self._metric = self._database.run_sync(queries.find_metrics, [METRIC]).get(METRIC)
        if self._metric is None:
            return [], 0
        rows = self._database.run_sync(queries.get_rows, self._metric.uid, self.scored, 5000)
        scored = [row for row in rows if row.anomaly is not None]
        self.scored += len(scored)
        self.rejected = self._database.run_sync(counts.get_rejects)
        return scored, self.seen - before

    def reason(self, row: Row) -> str:
        """What the strongest evidence says of a row of the metric."""
        if self._metric is None:
            return ""
        told = self._database.run_sync(why_at, self._metric, row.timestamp)
        return next((reason.text for reason in told.why.evidence), "")


def _is_new_anomaly(row: Row, found: Sequence[Row]) -> bool:
    if row.anomaly is None or row.anomaly < THRESHOLD:
        return False
    return not found or row.timestamp - found[-1].timestamp > QUIET_S


def _describe(row: Row, failures: Sequence[KnownFailure]) -> str:
    known = [failure for failure in failures if failure.first <= row.timestamp <= failure.last]
    text = f"  anomaly  {format_timestamp(row.timestamp)}  value {row.value:7.2f}  score {row.anomaly:.5f}"
    return f"{text}  <- known failure {known[0]}" if known else text


def _summary(failures: Sequence[KnownFailure], found: Sequence[Row]) -> None:
    hit = [each for each in failures if any(each.first <= row.timestamp <= each.last for row in found)]
    click.echo(f"{len(found)} anomalies; {len(hit)} of {len(failures)} known failures found.")


def _where_to_look(engine: RunningEngine) -> None:
    click.echo("\nThe engine is still running; Ctrl-C ends it and removes its folder.  Meanwhile:")
    if engine.page:
        click.echo(f"  {engine.page}")
    click.echo(f'  echo "my.metric 42 -1" | nc -N 127.0.0.1 {engine.graphite_port}')
    click.echo(f"  .venv/bin/htmengine metrics --data-dir {engine.folder}")
    click.echo(f"  .venv/bin/htmengine results {METRIC} --data-dir {engine.folder}")
    with contextlib.suppress(KeyboardInterrupt):
        threading.Event().wait()
