# SPDX-License-Identifier: MIT
"""``htmengine backtest``: the stored past with other parameters, rules or calendars, beside what happened."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

from htmengine.alerts.configuration import load_maintenance, load_rules
from htmengine.cli.common import Engine, NewFile, engine_options, example, failing_cleanly, moment, new_file, printable
from htmengine.csv_files import format_timestamp
from htmengine.errors import HtmEngineError
from htmengine.history.backtest import Backtest, Plan
from htmengine.history.backtest import backtest as run_backtest
from htmengine.history.comparison import Entry, Pair, Side
from htmengine.history.report import report
from htmengine.history.rescoring import Difference, Floats, Wholes
from htmengine.history.stored import values_between
from htmengine.incidents.trial import MOST_ROWS
from htmengine.repository.engine import Database
from htmengine.selectors import Selection

HEAD = f"{'time':<19}  happened  backtest  mark   height  rule, incident and reason"
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command(epilog=example("htmengine backtest 'web1.*' --since 90d --rules new-rules.conf --html backtest.html"))
@click.argument("selectors", nargs=-1, metavar="[METRICS]...")
@click.option(
    "--since", default="30d", show_default=True, help="From when on rows are judged: a time, or how long ago."
)
@click.option("--params", type=FILE, help="JSON: parameters of the models that are to be other than they are.")
@click.option("--rules", type=FILE, help="Rules instead of those in force: sections [alert:NAME], as for alert apply.")
@click.option("--calendar", type=FILE, help="Sections [maintenance:NAME] instead of those in force.")
@click.option("--jobs", type=click.IntRange(1, 256), default=os.cpu_count, show_default="processors", help="Processes.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.option("--html", type=NewFile(), help="Write a report with pictures, too.")
@engine_options
@failing_cleanly
def backtest(
    engine: Engine,
    selectors: tuple[str, ...],
    since: str,
    params: Path | None,
    rules: Path | None,
    calendar: Path | None,
    jobs: int,
    as_json: bool,
    html: Path | None,
) -> None:
    """Score and judge the stored rows of METRICS once more, all or those of selectors, beside what happened.

    Each line is an incident: what happened, what the backtest does, what people marked.  With the stored parameters all
    scores are compared with the stored ones, bit for bit.  Nothing is changed; the engine may run meanwhile.
    """
    plan = _plan(engine, selectors, int(moment("--since", since)), params, rules, calendar)
    with engine.database() as database, tqdm(unit="metric", disable=not sys.stderr.isatty()) as progress:
        found = run_backtest(database, plan, jobs, progress.reset, progress.update)
        if selectors and not found.metrics + found.unmodelled + len(found.failed):
            raise HtmEngineError(f"{' '.join(selectors)}: no metric with rows is selected")
        if html is not None:
            with new_file(html) as page:
                page.write(_report(database, found))
    if as_json:
        click.echo(json.dumps(document(found)))
        return
    for line in (*_table(found), *summary(found)):
        click.echo(printable(line))


def _plan(
    engine: Engine,
    selectors: tuple[str, ...],
    since: int,
    params: Path | None,
    rules: Path | None,
    calendar: Path | None,
) -> Plan:
    alerts, scoring = engine.deployment.alerts, engine.deployment.config.anomaly_likelihood
    return Plan(
        Selection.of(selectors),
        since,
        int(time.time()),
        engine.rules() if rules is None else load_rules(rules, replace(alerts, rules=())),
        {} if params is None else _changes(params),
        engine.maintenance() if calendar is None else load_maintenance(calendar, alerts),
        alerts.general.name_labels,
        scoring.evidence == "sequence",
    )


def _changes(path: Path) -> Mapping[str, Any]:
    try:
        changes = json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise HtmEngineError(f"{path} is no JSON: {error}") from None
    if not isinstance(changes, dict):
        raise HtmEngineError(
            f'{path}: an object of parameters is allowed, such as {{"temporal": {{"max_inference": 0}}}}'
        )
    return changes


def _report(database: Database, found: Backtest) -> str:
    def values(uid: str, first: int, last: int) -> tuple[Wholes, Floats]:
        return database.read_sync(values_between, uid, first, last)

    return report(found, [*_table(found), *summary(found)], values)


# --- output ---------------------------------------------------------------------------------------------


def document(found: Backtest) -> dict[str, Any]:
    """All of it as JSON; times are epoch seconds."""
    comparison = found.comparison
    return {
        "incidents": [
            {
                "happened": _entry(pair.happened),
                "replayed": _entry(pair.replayed),
                "mark": pair.mark and pair.mark.value,
            }
            for pair in comparison.pairs
        ],
        "happened": _side(comparison.happened),
        "replayed": _side(comparison.replayed),
        "right_pages_lost": comparison.lost,
        "metrics": found.metrics,
        "metrics_without_model": found.unmodelled,
        "failed": [*found.failed],
        "rows": found.rows,
        "rows_compared": found.compared,
        "rows_waiting": found.waiting,
        "rows_that_differ": found.differing,
        "differences": [asdict(each) for each in found.differences],
        "complete": found.complete,
        "silences": found.silences,
    }


def _entry(entry: Entry | None) -> dict[str, Any] | None:
    if entry is None:
        return None
    return {**asdict(entry), "uids": sorted(entry.uids), "mark": entry.mark and entry.mark.value}


def _side(side: Side) -> dict[str, Any]:
    return {**asdict(side), "precision": side.marks.precision}


def _table(found: Backtest) -> list[str]:
    pairs = found.comparison.pairs
    return [HEAD, *map(_line, pairs)] if pairs else []


def _line(pair: Pair) -> str:
    entry = pair.either
    height = "" if entry.height is None else f"{entry.height:.1f}"
    mark = "" if pair.mark is None else pair.mark.value
    both = f"{_outcome(pair.happened):<8}  {_outcome(pair.replayed):<8}  {mark:<5}"
    return f"{format_timestamp(entry.timestamp)}  {both}  {height:>6}  {entry.rule}  {entry.title}  {entry.reason}"


def _outcome(entry: Entry | None) -> str:
    if entry is None:
        return "-"
    return "paged" if entry.paged else "no page"


def summary(found: Backtest) -> Iterator[str]:
    """What it comes to, in words."""
    comparison = found.comparison
    yield f"happened: {_totals(comparison.happened)}"
    yield f"backtest: {_totals(comparison.replayed)}"
    if comparison.lost:
        yield f"{comparison.lost} pages that were marked right would be missed"
    yield from _scores(found)
    if found.unmodelled:
        yield f"{found.unmodelled} metrics without a model are left out"
    for each in found.failed:
        yield f"left out: {each}"
    if not found.complete:
        yield f"only the newest {MOST_ROWS} unusual rows were judged"
    if not found.silences:
        yield "metrics that fell silent are left out: they are too many for so long a time"


def _totals(side: Side) -> str:
    marks = side.marks
    said = f"{side.pages} pages, {side.incidents - side.pages} incidents without a page"
    if marks.precision is None:
        return said
    return f"{said}; {marks.right} of the pages marked right, {marks.fine} fine: {100 * marks.precision:.0f} % right"


def _scores(found: Backtest) -> Iterator[str]:
    rows = f"{found.rows} rows of {found.metrics} metrics"
    if found.rows and not found.compared and not found.waiting:
        yield f"scores: {rows}; none was compared with stored ones: the parameters are other ones"
        return
    equal = found.compared - found.differing
    waiting = f"; {found.waiting} wait for their model, as during a rebuild" if found.waiting else ""
    yield f"scores: {rows}; {equal} of {found.compared} equal the stored ones to the bit{waiting}"
    yield from map(_difference, found.differences)


def _difference(each: Difference) -> str:
    score = f"stored {each.stored_score!r}, now {each.score!r} (raw: {each.stored_raw!r}, {each.raw!r})"
    first = f"the first is row {each.rowid}, {format_timestamp(each.timestamp)}: {score}"
    return f"  {each.metric}: {each.rows} rows differ; {first}; {each.reason}"
