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
from sqlalchemy import Connection
from tqdm import tqdm

from htmengine.alerts.configuration import Rule
from htmengine.cli.common import example, failing_cleanly
from htmengine.cli.files import send_rows
from htmengine.csv_files import format_timestamp, parse_timestamp, read_rows
from htmengine.errors import HtmEngineError
from htmengine.incidents import queries as incident_queries
from htmengine.incidents.budget import WEEK_S
from htmengine.incidents.hold_off import LEARNING_S
from htmengine.incidents.preview import PastRow, preview
from htmengine.incidents.replay import Story
from htmengine.process.lifecycle import DataFolder
from htmengine.repository import counts, queries
from htmengine.repository.engine import Database
from htmengine.repository.queries import Metric

SERIES = "machine_temperature_system_failure"
METRIC = "plant.machine.temperature"
#: What is printed is what this rule of alerts.conf would page.
RULE = Rule("demo", pages_per_week=1.0)
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
        click.echo("A rule may page once a week in the long run, and never in a metric's first 14 days.")
        click.echo("Known failures, labelled by the machine's engineers:")
        known_from = rows[0][0] + LEARNING_S
        for failure in failures:
            click.echo(f"  {failure}" + ("" if failure.last >= known_from else "  (in the first 14 days)"))
        found = _replay(engine, rows, failures)
        _summary(failures, found, (rows[-1][0] - rows[0][0]) / WEEK_S)
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


def _replay(
    engine: RunningEngine, rows: Sequence[tuple[float, float]], failures: Sequence[KnownFailure]
) -> list[Story]:
    """Send everything, watch the scores come in, and say what happened.  Returns the pages."""
    sender = threading.Thread(target=send_rows, args=(rows, METRIC, "127.0.0.1", engine.graphite_port), daemon=True)
    started = time.monotonic()
    sender.start()
    found: list[Story] = []
    with _Watch(engine.folder) as watch, tqdm(total=len(rows), unit="row", leave=False) as progress:
        moved = time.monotonic()
        while watch.seen < len(rows):
            scored, accounted = watch.look()
            if accounted:
                moved = time.monotonic()
            elif time.monotonic() - moved > STALLED_S:
                raise HtmEngineError(f"nothing was scored for {STALLED_S:.0f} s; see {engine.folder}/engine.log")
            progress.update(accounted)
            for story in watch.pages(found) if scored else ():
                found.append(story)
                for line in _described(story, failures):
                    tqdm.write(line)
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

    def look(self) -> tuple[int, int]:
        """How many rows were scored since the last look, and by how many rows `seen` has grown."""
        before, scored = self.seen, self.scored
        if self._metric is None:
            self._metric = self._database.run_sync(queries.find_metrics, [METRIC]).get(METRIC)
        if self._metric is None:
            return 0, 0
        rows = self._database.run_sync(queries.get_rows, self._metric.uid, self.scored, 5000)
        self.scored += len([row for row in rows if row.anomaly is not None])
        self.rejected = self._database.run_sync(counts.get_rejects)
        return self.scored - scored, self.seen - before

    def pages(self, known: Sequence[Story]) -> list[Story]:
        """The pages after those that are known: what the rule decides about the rows so far."""
        rows, learnt = self._database.run_sync(_past)
        return preview(RULE, rows, learnt, metrics=1).pages[len(known) :]


def _past(conn: Connection) -> tuple[list[PastRow], dict[str, float]]:
    rows = [*incident_queries.past_rows(conn, 0)]
    return rows, incident_queries.learnt_since(conn, sorted({row.uid for row in rows}))


def _described(story: Story, failures: Sequence[KnownFailure]) -> Iterator[str]:
    """A page and its reason, beside the known failure that it belongs to."""
    alarm = story.alarms[story.paged_with]
    known = [failure for failure in failures if failure.first <= alarm.timestamp <= failure.last]
    text = f"  page  {format_timestamp(alarm.timestamp)}  height {alarm.height:.1f}"
    yield f"{text}  <- known failure {known[0]}" if known else text
    yield f"        {alarm.text}"


def _summary(failures: Sequence[KnownFailure], found: Sequence[Story], weeks: float) -> None:
    paged = [story.paged_at or 0 for story in found]
    hit = [each for each in failures if any(each.first <= at <= each.last for at in paged)]
    pages = "1 page" if len(found) == 1 else f"{len(found)} pages"
    click.echo(
        f"{pages} in {weeks:.0f} weeks, of a budget of {RULE.pages_per_week:g} a week; "
        f"{len(hit)} of {len(failures)} known failures found."
    )


def _where_to_look(engine: RunningEngine) -> None:
    click.echo("\nThe engine is still running; Ctrl-C ends it and removes its folder.  Meanwhile:")
    if engine.page:
        click.echo(f"  {engine.page}")
    click.echo(f'  echo "my.metric 42 -1" | nc -N 127.0.0.1 {engine.graphite_port}')
    click.echo(f"  .venv/bin/htmengine metrics --data-dir {engine.folder}")
    click.echo(f"  .venv/bin/htmengine results {METRIC} --data-dir {engine.folder}")
    with contextlib.suppress(KeyboardInterrupt):
        threading.Event().wait()
