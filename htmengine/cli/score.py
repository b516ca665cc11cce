# SPDX-License-Identifier: MIT
"""``htmengine score``: series without an engine, from files to scores and a summary."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
from tqdm import tqdm

from htmengine.cli.common import NewFile, example, failing_cleanly, new_file, printable, refuse_to_overwrite
from htmengine.cli.score_output import FORMATS, ScoredRow, format_of, writing
from htmengine.cli.score_report import report
from htmengine.cli.score_summary import Summary
from htmengine.cli.series import columns_options, params_of, range_options, read_series
from htmengine.csv_files import Columns, Notes, series_files
from htmengine.errors import HtmEngineError, InvalidRule
from htmengine.evidence.scoring import detector_for
from htmengine.gaps import SKIP, Filling, parse_filling
from htmengine.htm.model import Model
from htmengine.htm.params import ModelParams
from htmengine.offline.scores import CHUNK_ROWS, TOLD_SCORE, Accepted, Rows, ValueRange, scored_rows


def _filling(_ctx: click.Context, _param: click.Parameter, text: str) -> Filling | None:
    try:
        return parse_filling(text)
    except InvalidRule as error:
        raise click.BadParameter(str(error)) from None


@click.command(epilog=example("htmengine score metrics/ -o scores.csv --html report.html"))
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, allow_dash=True, path_type=Path))
@click.option(
    "--evidence",
    type=click.Choice(["all", "sequence"]),
    default="all",
    show_default=True,
    help="What scores come from; sequence: HTM Engine's scores.",
)
@range_options
@click.option("-o", "--output", type=NewFile(), help="Write here instead of standard output.")
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    help="json: an object a line; parquet: with the extra parquet.  By default what the end of -o says, or csv.",
)
@click.option("--html", type=NewFile(), help="Write a report with pictures, too.")
@click.option(
    "--fill-gaps",
    "filling",
    callback=_filling,
    default=SKIP,
    show_default=True,
    metavar="FILLING",
    help="hold ROWS or linear ROWS, as [metric_storer] fill_gaps; the rows that fill gaps are not written.",
)
@columns_options
@failing_cleanly
def score(
    paths: Sequence[Path],
    evidence: str,
    values_range: ValueRange,
    output: Path | None,
    form: str | None,
    html: Path | None,
    filling: Filling | None,
    columns: Columns,
) -> None:
    """Score series without an engine, with exactly the scores of an engine.

    PATHS are CSV files, also compressed by gzip, folders of them, or - for standard input; rows may be in any order.
    Columns of the output: timestamp, value, raw_anomaly_score, anomaly_score, and before them metric if there are
    several series.  A summary goes to standard error: alarms a week, what a rule would page and why, the highest
    scores, and what was left out.  Status 1 if a series cannot be scored; the others are.
    """
    files = list(series_files(paths))
    refuse_to_overwrite([path for _, path in files], (output, html))
    sequence_only = evidence == "sequence"
    summary, failed = Summary(series=None if html is None else {}), []
    with writing(output, format_of(form, output), several=len(files) > 1) as write:
        for name, path in files:
            try:
                accepted = _read(path, columns, summary)
                rows = accepted.filled(filling)
                params = params_of(rows.values, values_range)
                summary.begin(name, accepted.timestamps, accepted.values)
                for row in _scored(name, rows, params, sequence_only=sequence_only):
                    summary.add(row)
                    write(row)
            except (HtmEngineError, OSError) as error:
                failed.append(error)
                if len(files) == 1:
                    raise
                click.echo(f"{path}: {error}", err=True)
        if failed and len(failed) == len(files):
            raise HtmEngineError(f"none of {len(files)} series can be scored")
    lines = [*summary.lines()]
    for line in lines:
        click.echo(line, err=True)
    if html is not None:
        with new_file(html) as page:
            page.write(report(summary, lines))
    if failed:
        raise HtmEngineError(f"{len(failed)} of {len(files)} series cannot be scored")


def _read(path: Path, columns: Columns, summary: Summary) -> Accepted:
    """A file's rows; the summary counts what is left out."""
    notes = Notes()
    accepted = read_series(path, columns, notes)
    summary.notes.add(notes)
    summary.rejected += accepted.rejected
    return accepted


def _scored(name: str, rows: Rows, params: ModelParams, *, sequence_only: bool) -> Iterator[ScoredRow]:
    model, detector = Model(params), detector_for(params)
    total = len(rows.timestamps)
    with tqdm(total=total, unit="row", desc=printable(name), disable=not sys.stderr.isatty()) as progress:
        for at in range(0, total, CHUNK_ROWS):
            part = slice(at, at + CHUNK_ROWS)
            times, values = rows.timestamps[part], rows.values[part]
            scored = scored_rows(model, detector, times, values, sequence_only=sequence_only, floor=TOLD_SCORE)
            for timestamp, value, is_measured, found in zip(times, values, rows.measured[part], scored, strict=True):
                if is_measured:
                    yield ScoredRow(name, timestamp, value, *found)
            progress.update(len(times))
