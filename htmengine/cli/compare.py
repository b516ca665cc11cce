# SPDX-License-Identifier: MIT
"""``htmengine compare``: the engine's model and NuPIC's on the same rows."""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from tqdm import tqdm

from htmengine.cli.common import (
    Engine,
    NewFile,
    engine_options,
    example,
    failing_cleanly,
    new_file,
    printable,
    refuse_to_overwrite,
    run_reactor,
)
from htmengine.cli.series import columns_options, left_out, params_of, range_options, read_series
from htmengine.csv_files import Columns, Notes
from htmengine.errors import HtmEngineError
from htmengine.history.agreement import FIRST_ROW, Agreement, Alarms, agreement, scores_of
from htmengine.history.agreement_report import Series, alarm_lines, lines, report
from htmengine.history.rescoring import Past, raw_scores
from htmengine.history.stored import past_of
from htmengine.htm.params import ModelParams
from htmengine.measure.worker_scores import WorkerScores
from htmengine.messages import InputRow
from htmengine.offline.scores import ValueRange
from htmengine.process.twisted_types import Reactor
from htmengine.repository import queries

#: The companion's worker; nothing is imported from the working folder.
_WORKER = """import sys; sys.path.pop(0)
try:
    from htmengine_nupic.worker import main
    import nupic
except ImportError as error:
    sys.exit("%s: %s; it needs NuPIC and htmengine-nupic (docs/nupic.md)" % (sys.executable, error))
main()
"""


@click.command(epilog=example("htmengine compare web1.cpu --nupic-python /opt/nupic/bin/python --html compare.html"))
@click.argument("what", metavar="NAME|CSV", type=click.Path())
@click.option(
    "--nupic-python",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    required=True,
    help="The Python 2.7 that has NuPIC and htmengine-nupic.",
)
@click.option("--rows", type=click.IntRange(min=1), help="Only the first rows.")
@range_options
@columns_options
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.option("--html", type=NewFile(), help="Write a report with pictures, too.")
@engine_options
@failing_cleanly
def compare(
    what: str,
    nupic_python: Path,
    engine: Engine,
    rows: int | None,
    as_json: bool,
    html: Path | None,
    values_range: ValueRange,
    columns: Columns,
) -> None:
    """Run the engine's model and NuPIC's on the rows of a metric, or of a CSV file, and show how far they agree.

    Raw scores, HTM Engine's likelihoods, and alarms: by the likelihood alone, and by all the engine's evidence.
    Nothing is changed; the engine may run meanwhile.  NuPIC scores some 100 rows a second.
    """
    refuse_to_overwrite([Path(what)], [html])
    past = _of_csv(Path(what), values_range, columns) if Path(what).is_file() else _of_metric(engine, what)
    series = _scored(_long_enough(_first(past, rows)), [str(nupic_python), "-c", _WORKER])
    found = agreement(series.ours, series.theirs)
    if html is not None:
        with new_file(html) as page:
            page.write(report(series, found))
    if as_json:
        click.echo(json.dumps(document(series, found)))
        return
    for line in (*lines(series, found), "", *alarm_lines(series, found.likelihood_alarms)):
        click.echo(printable(line))


def _of_metric(engine: Engine, name: str) -> Past:
    with engine.database() as database:
        metric = database.read_sync(queries.find_metric, name)
        past = database.read_sync(past_of, metric.uid, {})
    if past is None:
        raise HtmEngineError(f"{name}: the metric has no model, or no rows")
    if past.start is not None:
        raise HtmEngineError(f"{name}: its model starts from a snapshot, which NuPIC cannot read")
    return past


def _of_csv(path: Path, values_range: ValueRange, columns: Columns) -> Past:
    notes = Notes()
    accepted = read_series(path, columns, notes)
    for line in left_out(accepted.rejected, notes):
        click.echo(f"{path}: {line}", err=True)
    return _past(path.name, params_of(accepted.values, values_range), accepted.timestamps, accepted.values)


def _past(name: str, params: ModelParams, timestamps: list[int], values: list[float]) -> Past:
    unknown = np.full(len(values), np.nan)
    return Past(
        uid=name,
        name=name,
        params=params,
        rowids=np.arange(1, len(values) + 1, dtype=np.int64),
        timestamps=np.array(timestamps, dtype=np.int64),
        values=np.array(values, dtype=np.float64),
        raws=unknown,
        scores=unknown,
    )


def _first(past: Past, rows: int | None) -> Past:
    """Only so many of its rows."""
    columns = ("rowids", "timestamps", "values", "raws", "scores")
    return replace(past, **{name: getattr(past, name)[:rows] for name in columns})


def _long_enough(past: Past) -> Past:
    """A new model is surprised by everything: its first rows say nothing.  Raises `HtmEngineError` without others."""
    if len(past.values) <= FIRST_ROW:
        raise HtmEngineError(
            f"{past.name}: {len(past.values)} rows; the first {FIRST_ROW} are left out, so more are needed"
        )
    return past


def _scored(past: Past, command: list[str]) -> Series:
    raws = raw_scores(past)
    rows = [
        InputRow(place + 1, timestamp, value, rowid not in past.unlearnt)
        for place, (rowid, timestamp, value) in enumerate(
            zip(past.rowids.tolist(), past.timestamps.tolist(), past.values.tolist(), strict=True)
        )
    ]
    with (
        tempfile.TemporaryDirectory(prefix="htmengine-compare-") as folder,
        tqdm(total=len(rows), unit="row", disable=not sys.stderr.isatty()) as progress,
    ):

        async def start(reactor: Reactor) -> Any:
            return await WorkerScores(reactor, command, Path(folder), past.params, rows, progress.update).run()

        theirs = run_reactor(start)
    columns = (past.params, past.timestamps, past.values)
    return Series(past.name, "NuPIC", *columns[1:], scores_of(*columns, raws), scores_of(*columns, theirs))


def document(series: Series, found: Agreement) -> dict[str, Any]:
    """All of it as JSON; alarms by their times, epoch seconds."""
    return {
        "name": series.name,
        "rows": found.rows,
        "first_row": found.first_row + 1,
        "raw": asdict(found.raw),
        "likelihood": asdict(found.likelihood),
        "likelihood_alarms": _alarms(series, found.likelihood_alarms),
        "alarms": _alarms(series, found.alarms),
    }


def _alarms(series: Series, alarms: Alarms) -> dict[str, Any]:
    times = {name: [int(series.timestamps[row]) for row in rows] for name, rows in asdict(alarms).items()}
    return {**times, "agreement": alarms.agreement}
