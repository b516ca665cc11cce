# SPDX-License-Identifier: MIT
"""The commands on metrics: list, monitor, unmonitor, delete, repair, results, follow, export, import."""

from __future__ import annotations

import csv
import json
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from sqlalchemy import Connection

from htmengine.adapters.datasource import custom
from htmengine.adapters.datasource.custom import ModelSpec
from htmengine.cli.common import (
    Engine,
    at_engine,
    engine_options,
    example,
    failing_cleanly,
    in_time,
    moment,
    printable,
    run_reactor,
)
from htmengine.csv_files import format_timestamp, inert
from htmengine.errors import HtmEngineError
from htmengine.process.twisted_types import Reactor
from htmengine.repository import counters, queries, reading
from htmengine.repository.queries import Metric, MetricStatus, Row
from htmengine.repository.reading import MetricQuery, MetricRow, PageKey
from htmengine.repository.times import from_datetime
from htmengine.selectors import Selection

FORMATS = click.Choice(["table", "csv", "json"])
#: Rows read at once.
PAGE = 1000
#: How often ``--follow`` looks for new rows.
FOLLOW_S = 0.5


# --- metrics --------------------------------------------------------------------------------------------


@click.command(epilog=example("htmengine metrics 'cpu.*{host=\"web1\"}' --sort score --limit 20"))
@click.argument("selectors", nargs=-1)
@engine_options
@click.option("--search", default="", metavar="TEXT", help="Part of the name, or a pattern with * and ? for the whole.")
@click.option("--sort", type=click.Choice(["name", "score"]), default="name", show_default=True)
@click.option("--limit", type=click.IntRange(1), help="Metrics to show; by default all.")
@click.option("--format", "form", type=FORMATS, default="table", show_default=True)
@failing_cleanly
def metrics(engine: Engine, search: str, sort: str, limit: int | None, form: str, selectors: tuple[str, ...]) -> None:
    """List metrics with status, rows, the last value with its score, and their cadence.

    All, or those of SELECTORS as in a rule.  The cadence is the time between rows, and since when if that has changed.
    CSV and JSON have each name with all labels, too: full_name.
    """
    query, selection = MetricQuery(search, by_score=sort == "score"), Selection.of(selectors)
    columns = ["name", "status", "rows", "timestamp", "value", "anomaly_score", "cadence", "message"]
    columns += [] if form == "table" else ["full_name"]
    writer = _Writer(form, columns)
    left, after = limit, None
    with engine.database() as database:
        while left is None or left > 0:
            most = PAGE if left is None or selectors else min(left, PAGE)
            shown, after = database.read_sync(_page, query, selection, after, most)
            writer.write(row[: len(columns)] for row in shown[:left])
            left = left and left - len(shown)
            if after is None:
                break


def _page(
    conn: Connection, query: MetricQuery, selection: Selection, after: PageKey | None, most: int
) -> tuple[list[list[Any]], PageKey | None]:
    """Those of the next metrics that are selected, and the key of the page after them; None: there is none."""
    rows = reading.page_of_metrics(conn, query, after, most)
    selected = [row for row in rows if selection.takes(row.text or row.name)]
    unscored = [row.uid for row in selected if row.rowid != row.last_rowid]  # of these alone metric_data knows more
    newest = queries.newest_rows(conn, unscored)
    shown = [
        [
            *(row.name, MetricStatus(row.status).name, row.last_rowid),
            *(*_last(row, newest), _cadence(row), queries.message_of(row.status, row.message), row.text or row.name),
        ]
        for row in selected
    ]
    return shown, reading.key_of(rows[-1]) if len(rows) == most else None


def _last(metric: MetricRow, newest: Mapping[str, Row]) -> tuple[str | None, float | None, float | None]:
    """Time, value and score of a metric's newest row, as far as they are known."""
    row = newest.get(metric.uid)
    if row is not None:
        return format_timestamp(row.timestamp), row.value, row.anomaly
    if metric.rowid != metric.last_rowid or metric.timestamp is None:
        return None, None, None
    return format_timestamp(from_datetime(metric.timestamp)), metric.metric_value, metric.anomaly_score


def _cadence(metric: MetricRow) -> str | None:
    """How often rows come, and since when if that has changed."""
    if metric.interval_s is None:
        return None
    since = "" if metric.interval_since is None else f" since {format_timestamp(metric.interval_since)}"
    return f"{metric.interval_s:g} s{since}"


# --- monitor, unmonitor, delete -------------------------------------------------------------------------


@click.command(epilog=example("htmengine monitor web1.cpu --min 0 --max 100"))
@click.argument("name")
@engine_options
@click.option("--min", "minimum", type=float, help="Least value to expect (with --max).")
@click.option("--max", "maximum", type=float, help="Greatest value to expect (with --min).")
@click.option("--min-resolution", type=float, help="The model does not distinguish values closer than this.")
@click.option("--classifier", is_flag=True, help="Predict the next value too.")
@failing_cleanly
def monitor(
    name: str,
    engine: Engine,
    minimum: float | None,
    maximum: float | None,
    min_resolution: float | None,
    classifier: bool,
) -> None:
    """Give a metric a model; create the metric if it does not exist.

    Without --min and --max the range is that of the first samples.  A metric that has a model gets a new one.
    """
    spec = ModelSpec.for_name(
        name, min=minimum, max=maximum, minResolution=min_resolution, enableClassifier=classifier or None
    )
    metric = at_engine(engine.make(), lambda operations: operations.monitor(spec))
    click.echo(f"{metric.name}: {metric.status.name}")


@click.command(epilog=example("htmengine unmonitor web1.cpu"))
@click.argument("name")
@engine_options
@failing_cleanly
def unmonitor(name: str, engine: Engine) -> None:
    """Stop a metric's model.  Its rows and scores stay."""
    metric = at_engine(engine, lambda operations: operations.unmonitor(name))
    click.echo(f"{metric.name}: UNMONITORED")


@click.command(epilog=example("htmengine delete web1.cpu --yes"))
@click.argument("name")
@engine_options
@click.option("--yes", is_flag=True, help="Do not ask.")
@failing_cleanly
def delete(name: str, engine: Engine, yes: bool) -> None:
    """Remove a metric with its rows, scores and model."""
    if not yes:
        click.confirm(f"Remove {name} with all its rows and scores?", abort=True)
    metric = at_engine(engine, lambda operations: operations.delete(name))
    click.echo(f"{metric.name}: deleted, {metric.last_rowid} rows")


@click.command(epilog=example("htmengine repair web1.cpu"))
@click.argument("name")
@engine_options
@failing_cleanly
def repair(name: str, engine: Engine) -> None:
    """Free a metric that a sample from the future silences: remove its rows that are ahead of the clock.

    A model that has run them is made again from the rows that are left.
    """
    done = at_engine(engine, lambda operations: operations.repair(name))
    if not done.removed:
        click.echo(f"{printable(done.name)}: no row is ahead of the clock")
        return
    last = done.last_timestamp
    newest = "none is left" if last is None else f"the newest is of {format_timestamp(last)}"
    click.echo(f"{printable(done.name)}: rows ahead of the clock removed: {done.removed}; {newest}")


# --- results --------------------------------------------------------------------------------------------

RESULT_COLUMNS = ["timestamp", "value", "raw_anomaly_score", "anomaly_score"]


@click.command(epilog=example("htmengine results web1.cpu --since 1h --follow"))
@click.argument("name")
@engine_options
@click.option("--since", help="A timestamp (ISO 8601 or epoch seconds), or how long ago: 90s, 30m, 6h, 7d.")
@click.option("--follow", is_flag=True, help="Continue with new rows as they are scored.")
@click.option("--format", "form", type=FORMATS, default="table", show_default=True)
@failing_cleanly
def results(name: str, engine: Engine, since: str | None, follow: bool, form: str) -> None:
    """Print a metric's rows with their scores."""
    first = float("-inf") if since is None else moment("--since", since)
    with engine.database() as database:
        metric = database.read_sync(queries.find_metric, name)
        writer = _Writer(form, RESULT_COLUMNS)
        after = 0
        while True:
            rows = database.read_sync(queries.get_rows, metric.uid, after, PAGE)
            ready = _settled_rows(metric, rows, follow=follow)
            writer.write(_result_row(row) for row in ready if row.timestamp >= first)
            if ready:
                after = ready[-1].rowid
            if len(rows) < PAGE:
                if not follow:
                    break
                writer.flush()
                time.sleep(FOLLOW_S)
        writer.flush()


def _settled_rows(metric: Metric, rows: Sequence[Row], *, follow: bool) -> list[Row]:
    """With ``follow``: up to the first row that waits for its score; else all rows."""
    if not follow:
        return list(rows)
    settled = []
    for row in rows:
        if row.anomaly is None:
            break
        settled.append(row)
    return settled


def _result_row(row: Row) -> list[Any]:
    return [format_timestamp(row.timestamp), row.value, row.raw, row.anomaly]


# --- follow ---------------------------------------------------------------------------------------------


@click.command(epilog=example("htmengine follow --threshold 0.999"))
@engine_options
@click.option("--threshold", default=0.99999, show_default=True, help="Least score of an anomaly.")
@click.option("--format", "form", type=FORMATS, default="table", show_default=True)
@click.option("--count", type=click.IntRange(min=1), help="End after this many.")
@failing_cleanly
def follow(engine: Engine, threshold: float, form: str, count: int | None) -> None:
    """Print new anomalies of all metrics."""
    writer = _Writer(form, ["timestamp", "metric", "value", "anomaly_score"])

    def show(message: dict[str, Any]) -> int:
        found = [row for row in message.get("results", []) if row["anomaly"] >= threshold]
        if found:
            name = message["metric"]["name"]
            writer.write([format_timestamp(row["ts"]), name, row["value"], row["anomaly"]] for row in found)
            writer.flush()
        return len(found)

    run_reactor(lambda reactor: _follow(engine, reactor, show, count))


async def _follow(engine: Engine, reactor: Reactor, show: Callable[[dict[str, Any]], int], count: int | None) -> None:
    async with engine.client(reactor) as client:
        results = await client.results()
        engine.tell_whether_it_runs()
        seen = 0
        async for message in results:
            seen += show(message)
            if count is not None and seen >= count:
                break
        await results.close()


# --- export, import -------------------------------------------------------------------------------------


@click.command("export", epilog=example("htmengine export > metrics.json"))
@click.argument("names", nargs=-1)
@engine_options
@failing_cleanly
def export(names: Sequence[str], engine: Engine) -> None:
    """Write the specifications of all metrics, or of NAMES, as JSON."""
    with engine.database() as database:
        if names:
            chosen = [database.read_sync(queries.find_metric, name) for name in names]
        else:
            chosen = database.read_sync(queries.list_metrics)
        database.read_sync(counters.learn_texts, [metric.name for metric in chosen])
    exported = [
        {"spec": custom.export_spec(metric), "monitored": metric.status.name != "UNMONITORED"} for metric in chosen
    ]
    click.echo(json.dumps(exported, indent=2, sort_keys=True))


@click.command("import", epilog=example("htmengine import metrics.json"))
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@engine_options
@failing_cleanly
def import_(file: Path, engine: Engine) -> None:
    """Create and monitor the metrics of an export."""
    try:
        entries = json.loads(file.read_text())
        specs = [(ModelSpec.parse(entry["spec"]), bool(entry["monitored"])) for entry in entries]
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise HtmEngineError(f"{file} is no export of `htmengine export`: {str(error)[:200]!r}") from None
    engine.make()
    run_reactor(lambda reactor: _import(engine, reactor, specs))


async def _import(engine: Engine, reactor: Reactor, specs: Sequence[tuple[ModelSpec, bool]]) -> None:
    async with engine.client(reactor) as client:
        operations = client.operations
        for spec, monitored in specs:
            metric = await in_time(operations.monitor(spec) if monitored else operations.create(spec), reactor)
            click.echo(f"{printable(metric.name)}: {metric.status.name}")


# --- output ---------------------------------------------------------------------------------------------


class _Writer:
    """Rows as they come, in one of the formats."""

    def __init__(self, form: str, columns: Sequence[str]) -> None:
        self._form = form
        self._columns = columns
        self._csv = csv.writer(sys.stdout, lineterminator="\n")
        self._widths: list[int] = []  #: of the table's columns, once its head is printed
        if form == "csv":
            self._csv.writerow(columns)

    def write(self, rows: Iterable[Sequence[Any]]) -> None:
        if self._form == "csv":
            self._csv.writerows(["" if value is None else _exact(value) for value in row] for row in rows)
        elif self._form == "json":
            for row in rows:
                click.echo(json.dumps(dict(zip(self._columns, row, strict=True))))
        else:
            self._write_table([[_short(value) for value in row] for row in rows])

    def _write_table(self, lines: list[list[str]]) -> None:
        """The columns are as wide as the first rows need."""
        if not self._widths:
            lines.insert(0, list(self._columns))
            self._widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        for line in lines:
            cells = (f"{cell:<{width}}" for cell, width in zip(line, self._widths, strict=True))
            click.echo("  ".join(cells).rstrip())

    def flush(self) -> None:
        sys.stdout.flush()


def _exact(value: Any) -> Any:
    if isinstance(value, str):
        return inert(value)
    return repr(value) if isinstance(value, float) else value


def _short(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.6g}" if isinstance(value, float) else printable(str(value))
