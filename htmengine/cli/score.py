# SPDX-License-Identifier: MIT
"""``htmengine score``: series without an engine, from files to scores and a summary."""

from __future__ import annotations

import csv
import heapq
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, NamedTuple

import click
from tqdm import tqdm

from htmengine.cli.common import example, failing_cleanly, printable
from htmengine.cli.load import left_out, timestamp_option, value_option
from htmengine.csv_files import Columns, Notes, format_timestamp, inert, read_rows, series_files
from htmengine.errors import HtmEngineError
from htmengine.evidence.scoring import detector_for
from htmengine.htm.model import Model
from htmengine.offline import CHUNK_ROWS, Accepted, accept, params_for, score_rows

COLUMNS = ("timestamp", "value", "raw_anomaly_score", "anomaly_score")
#: Rows with at least this score count as alarms in the summary.
ALARM = 0.99999
#: Highest rows that the summary shows.
SHOWN = 5
WEEK_S = 7 * 86_400


class ScoredRow(NamedTuple):
    """A row of the output."""

    metric: str
    timestamp: int
    value: float
    raw: float
    score: float


@dataclass(frozen=True, slots=True)
class Options:
    """How series are scored."""

    minimum: float | None
    maximum: float | None
    sequence_only: bool
    pending_samples: int


@dataclass(slots=True)
class Summary:
    """What all rows together are like."""

    series: int = 0
    rows: int = 0
    alarms: int = 0
    weeks: float = 0.0  #: of all series together
    highest: list[tuple[float, ScoredRow]] = field(default_factory=list)

    def begin(self, timestamps: Sequence[int]) -> None:
        """Count a series."""
        self.series += 1
        self.weeks += (timestamps[-1] - timestamps[0]) / WEEK_S

    def add(self, row: ScoredRow) -> None:
        self.rows += 1
        self.alarms += row.score >= ALARM
        if len(self.highest) < SHOWN:
            heapq.heappush(self.highest, (row.score, row))
        elif row.score > self.highest[0][0]:
            heapq.heapreplace(self.highest, (row.score, row))

    def lines(self) -> Iterator[str]:
        """In words.

        >>> summary = Summary()
        >>> summary.begin([0, 14 * 86_400])
        >>> summary.add(ScoredRow("cpu", 60, 97.5, 1.0, 0.999995))
        >>> print(*summary.lines(), sep="\\n")
        series: 1, rows: 1, alarms (scores of 0.99999 or more): 1, 0.5 a week
        0.999995  1970-01-01 00:01:00  97.5  cpu
        """
        rate = f", {self.alarms / self.weeks:.1f} a week" if self.weeks else ""
        yield f"series: {self.series}, rows: {self.rows}, alarms (scores of {ALARM} or more): {self.alarms}{rate}"
        for score, row in sorted(self.highest, reverse=True):
            yield f"{score:.6f}  {format_timestamp(row.timestamp)}  {row.value:g}  {printable(row.metric)}"


@click.command(epilog=example("htmengine score cpu.csv --min 0 --max 100 -o scores.csv"))
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, allow_dash=True, path_type=Path))
@click.option("--min", "minimum", type=float, help="Least value to expect (with --max).")
@click.option("--max", "maximum", type=float, help="Greatest value to expect (with --min).")
@click.option(
    "--evidence",
    type=click.Choice(["all", "sequence"]),
    default="all",
    show_default=True,
    help="What scores come from; sequence: HTM Engine's scores.",
)
@click.option("--pending-samples", default=288, show_default=True, help="Samples that define the range without --min.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write here instead of standard output.")
@click.option("--format", "form", type=click.Choice(["csv", "json"]), default="csv", help="json: an object a line.")
@timestamp_option
@value_option
@failing_cleanly
def score(
    paths: Sequence[Path],
    minimum: float | None,
    maximum: float | None,
    evidence: str,
    pending_samples: int,
    output: Path | None,
    form: str,
    timestamp: str,
    value: str,
) -> None:
    """Score series without an engine, with exactly the scores of an engine.

    PATHS are CSV files, also compressed by gzip, folders of them, or - for standard input; rows may be in any order.
    Columns of the output: timestamp, value, raw_anomaly_score, anomaly_score, and before them metric if there are
    several series.  A summary goes to standard error: alarms, the highest rows, and what was left out.  Status 1 if a
    series cannot be scored; the others are.
    """
    if (minimum is None) != (maximum is None):
        raise click.UsageError("--min and --max go together")
    files = list(series_files(paths))
    options = Options(minimum, maximum, evidence == "sequence", pending_samples)
    summary, failed = Summary(), []
    with click.open_file(str(output or "-"), "w", atomic=output is not None) as out:
        write = _writer(out, form, several=len(files) > 1)
        for name, path in files:
            try:
                for row in _scored(name, path, Columns(timestamp, value), options, summary):
                    write(row)
            except (HtmEngineError, OSError) as error:
                failed.append(error)
                if len(files) == 1:
                    raise
                click.echo(f"{path}: {error}", err=True)
    for line in summary.lines():
        click.echo(line, err=True)
    if failed:
        raise HtmEngineError(f"{len(failed)} of {len(files)} series cannot be scored")


def _scored(name: str, path: Path, columns: Columns, options: Options, summary: Summary) -> Iterator[ScoredRow]:
    """The rows of a file with their scores; the summary counts them."""
    notes = Notes()
    accepted = accept(read_rows(path, columns, notes))
    for line in left_out(accepted.rejected, notes):
        click.echo(f"{path}: {line}", err=True)
    params = params_for(accepted.values, options.minimum, options.maximum, options.pending_samples)
    if params is None:
        raise HtmEngineError(
            f"{len(accepted.values)} rows; without --min and --max the first {options.pending_samples} define the range"
        )
    if not accepted.values:
        raise HtmEngineError("0 rows")
    summary.begin(accepted.timestamps)
    score_next = partial(score_rows, Model(params), detector_for(params), sequence_only=options.sequence_only)
    for row in _run(name, accepted, score_next):
        summary.add(row)
        yield row


def _run(
    name: str,
    accepted: Accepted,
    score_next: Callable[[Sequence[int], Sequence[float]], list[tuple[float, float]]],
) -> Iterator[ScoredRow]:
    total = len(accepted.timestamps)
    with tqdm(total=total, unit="row", desc=printable(name), disable=not sys.stderr.isatty()) as progress:
        for at in range(0, total, CHUNK_ROWS):
            timestamps = accepted.timestamps[at : at + CHUNK_ROWS]
            values = accepted.values[at : at + CHUNK_ROWS]
            scores = score_next(timestamps, values)
            for timestamp, value, (raw, anomaly) in zip(timestamps, values, scores, strict=True):
                yield ScoredRow(name, timestamp, value, raw, anomaly)
            progress.update(len(timestamps))


def _writer(out: IO[str], form: str, *, several: bool) -> Callable[[ScoredRow], object]:
    """What writes rows; the metric's name only if there are several."""
    columns = ("metric", *COLUMNS) if several else COLUMNS
    first = 0 if several else 1
    if form == "json":
        return lambda row: out.write(
            json.dumps(dict(zip(columns, [*_cells(row, str, float)][first:], strict=True))) + "\n"
        )
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    return lambda row: writer.writerow([*_cells(row, inert, repr)][first:])


def _cells(row: ScoredRow, text: Callable[[str], str], number: Callable[[float], object]) -> Iterable[object]:
    yield text(row.metric)
    yield format_timestamp(row.timestamp)
    yield from map(number, (row.value, row.raw, row.score))
