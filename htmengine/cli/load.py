# SPDX-License-Identifier: MIT
"""``htmengine load`` and ``htmengine rebuild``: history and late samples become rows, and models start again."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import click
from tqdm import tqdm

from htmengine.adapters.datasource.custom import Rebuild
from htmengine.cli.common import Engine, engine_options, example, failing_cleanly, printable, run_reactor
from htmengine.csv_files import Columns, Notes, read_rows, series_files
from htmengine.errors import HtmEngineError
from htmengine.offline import Accepted, accept
from htmengine.operations import Operations
from htmengine.process.twisted_types import Reactor

#: Rows in one transaction.
ROWS_AT_ONCE = 5000
#: Why rows of files are rejected as a rule.
CAUSES = {
    "timestamp_duplicate": "several series in one file?",
    "timestamp_future": "another unit, or the clock?",
    "timestamp_out_of_range": "another column?",
}

timestamp_option = click.option("--timestamp", default="timestamp", show_default=True, help="Column of the times.")
value_option = click.option("--value", default="value", show_default=True, help="Column of the values.")


@click.command(epilog=example("htmengine load history/ --value load"))
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, allow_dash=True, path_type=Path))
@click.option("--metric", help="The metric's name; by default each file's, after its folders' (a/b.csv: a.b).")
@timestamp_option
@value_option
@engine_options
@failing_cleanly
def load(paths: Sequence[Path], engine: Engine, metric: str | None, timestamp: str, value: str) -> None:
    """Load CSV files, folders of them, or standard input (-), as history of metrics.

    Rows go before, between or after those that are there, whatever their order in the files.  Each metric's model then
    starts again from its first row.  The engine may run meanwhile.  A row whose time is there already changes nothing,
    so a load that was interrupted is started once more.  Status 1 if a file cannot be loaded; the others are.
    """
    files = list(series_files(paths))
    if metric is None and Path("-") in paths:
        raise click.UsageError("standard input needs --metric")
    columns = Columns(timestamp, value)
    engine.make()

    async def start(reactor: Reactor) -> None:
        async with engine.client(reactor) as client:
            named = [(metric or name, path) for name, path in files]
            await load_files(client.operations, named, columns, monitor=_monitors(engine))

    run_reactor(start)


@click.command(epilog=example("htmengine rebuild web1.cpu"))
@click.argument("names", nargs=-1)
@engine_options
@failing_cleanly
def rebuild(names: Sequence[str], engine: Engine) -> None:
    """Make rows of the late samples of NAMES, or of all metrics that have some, and start their models again.

    Rows that come after a late sample get new rowids.  The engine may run meanwhile.
    """

    async def start(reactor: Reactor) -> None:
        async with engine.client(reactor) as client:
            for name in names or await client.operations.late_metrics():
                click.echo(_told(await client.operations.rebuild(name)))

    run_reactor(start)


def _monitors(engine: Engine) -> bool:
    return engine.deployment.config.metric_storer.auto_monitor


async def load_files(
    operations: Operations, files: Sequence[tuple[str, Path]], columns: Columns, *, monitor: bool
) -> None:
    """Load each (metric, file).  Raises `HtmEngineError` at the end if any could not be loaded; each is told."""
    failed = 0
    for name, path in files:
        try:
            await _load_file(operations, name, path, columns, monitor)
        except (HtmEngineError, OSError) as error:
            if len(files) == 1:
                raise
            failed += 1
            click.echo(f"{path}: left out: {error}", err=True)
    if failed:
        raise HtmEngineError(f"{failed} of {len(files)} files cannot be loaded")


async def _load_file(operations: Operations, name: str, path: Path, columns: Columns, monitor: bool) -> None:
    notes = Notes()
    accepted = accept(read_rows(path, columns, notes), time.time(), operations.max_future_s)
    known = set(await operations.times_of(name))
    rows = list(zip(accepted.timestamps, accepted.values, strict=True))
    new = [row for row in rows if row[0] not in known]
    with tqdm(total=len(new), unit="row", desc=printable(name), disable=not sys.stderr.isatty()) as progress:
        for at in range(0, len(new), ROWS_AT_ONCE):
            await operations.load(name, new[at : at + ROWS_AT_ONCE], monitor=monitor)
            progress.update(len(new[at : at + ROWS_AT_ONCE]))
    for line in left_out(accepted, notes):
        click.echo(f"{path}: {line}", err=True)
    if new:
        click.echo(_told(await operations.rebuild(name)))
    else:
        click.echo(f"{printable(name)}: nothing new in {len(rows)} rows")


def _told(done: Rebuild) -> str:
    known = f", {done.duplicates} were there already" if done.duplicates else ""
    return f"{printable(done.name)}: {done.joined} new rows{known}; {done.status.name}"


def left_out(accepted: Accepted, notes: Notes) -> Iterable[str]:
    """What a file had beside good rows, in words."""
    for unit, count in notes.units.items():
        yield f"{count} timestamps taken as {unit}"
    if notes.empty:
        yield f"left out: {notes.empty} rows without a value"
    for reason, count in sorted(accepted.rejected.items()):
        cause = f" ({CAUSES[reason]})" if reason in CAUSES else ""
        yield f"rejected: {count} {reason}{cause}"
