# SPDX-License-Identifier: MIT
"""``htmengine load`` and ``htmengine rebuild``: history and late samples become rows, and models start again."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

import click
from tqdm import tqdm

from htmengine.adapters.datasource.custom import Rebuild
from htmengine.cli.common import Engine, engine_options, example, failing_cleanly, moment, printable, run_reactor, span
from htmengine.cli.series import columns_options, left_out
from htmengine.csv_files import STDIN, Columns, Notes, read_rows, series_files
from htmengine.errors import HtmEngineError, InvalidModelSpec
from htmengine.offline.scores import Accepted, accept
from htmengine.operations import Operations
from htmengine.process.twisted_types import Reactor
from htmengine.sources import Piece, ReadPieces, influx
from htmengine.sources.graphite import render
from htmengine.sources.http_json import Server
from htmengine.sources.prometheus import query_range
from htmengine.sources.sql import query as sql_query

#: Rows in one transaction.
ROWS_AT_ONCE = 5000


@click.command(epilog=example("htmengine load history/ --value load"))
@click.argument("paths", nargs=-1, type=click.Path(exists=True, allow_dash=True, path_type=Path))
@click.option("--metric", help="The metric's name; by default each file's, after its folders' (a/b.csv: a.b).")
@columns_options
@click.option("--prometheus", metavar="URL", help="Load what --query gives in PromQL.")
@click.option("--graphite", metavar="URL", help="Load the series of the target --query.")
@click.option("--sql", metavar="URL", help="Load the rows of the statement --query: name, time, value.")
@click.option("--query", help="What to ask Prometheus, Graphite or the database for.")
@click.option("--since", default="30d", show_default=True, help="The first time to ask for, or how long ago it was.")
@click.option("--until", help="The last time to ask for; by default now.")
@click.option("--step", default="60s", show_default=True, help="The time between Prometheus' rows.")
@click.option("--token-file", type=click.File(), help="A file with the bearer token for Prometheus or Graphite.")
@engine_options
@failing_cleanly
def load(
    paths: Sequence[Path],
    engine: Engine,
    metric: str | None,
    columns: Columns,
    **asked: Any,
) -> None:
    """Load CSV files, folders of them, standard input (-), or what another system has, as history of metrics.

    Rows go before, between or after those that are there, whatever their order.  Each metric's model then starts again
    from its first row.  The engine may run meanwhile.  A row whose time is there already changes nothing, so a load
    that was interrupted is started once more.  Status 1 if a file cannot be loaded; the others are.
    """
    sources = [*of_files(paths, metric, columns), *_asked(metric or "", **asked)]
    if not sources:
        raise click.UsageError("nothing to load: name files or folders, or --prometheus, --graphite or --sql")
    engine.make()

    async def start(reactor: Reactor) -> None:
        async with engine.client(reactor) as client:
            await load_sources(client.operations, sources, monitor=_monitors(engine))

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
            late = names or await client.operations.late_metrics()
            for name in late:
                click.echo(_told(await client.operations.rebuild(name)))
            if not late:
                click.echo("no metric has late samples")

    run_reactor(start)


def _monitors(engine: Engine) -> bool:
    return engine.deployment.config.metric_storer.auto_monitor


@dataclass(frozen=True, slots=True)
class Source:
    """Where rows come from: its name for people, and how it is read."""

    shown: str
    read: ReadPieces


def of_files(paths: Sequence[Path], metric: str | None, columns: Columns) -> Iterator[Source]:
    """Files, and all in folders."""
    if metric is None and STDIN in paths:
        raise click.UsageError("standard input needs --metric")
    for name, path in series_files(paths):
        yield Source(str(path), partial(_file, metric or name, path, columns))


def _file(name: str, path: Path, columns: Columns, notes: Notes) -> Iterator[Piece]:
    return influx.read(path, notes) if influx.is_export(path) else iter([Piece(name, read_rows(path, columns, notes))])


def _asked(
    metric: str,
    prometheus: str | None,
    graphite: str | None,
    sql: str | None,
    query: str | None,
    since: str,
    until: str | None,
    step: str,
    token_file: IO[str] | None,
) -> Iterator[Source]:
    """What is asked of other systems."""
    if not (prometheus or graphite or sql):
        return
    if not query:
        raise click.UsageError("--query is missing: what to ask for")
    asked_for = (int(moment("--since", since)), int(moment("--until", until) if until else time.time()))
    token = token_file.read().strip() if token_file else ""
    if prometheus:
        server = Server(prometheus, token)
        yield Source(server.shown, query_range(server, query, asked_for, span("--step", step), metric))
    if graphite:
        if metric:
            raise click.UsageError("--metric does not go with --graphite: name the series by alias()")
        server = Server(graphite, token)
        yield Source(server.shown, render(server, query, asked_for))
    if sql:
        yield Source("the database", sql_query(sql, query, metric))


async def load_sources(operations: Operations, sources: Sequence[Source], *, monitor: bool) -> None:
    """Load each source.  Raises `HtmEngineError` at the end if any could not be loaded; each is told."""
    failed = 0
    for source in sources:
        try:
            await _load_source(operations, source, monitor)
        except (HtmEngineError, OSError) as error:
            if len(sources) == 1:
                raise
            failed += 1
            click.echo(f"{source.shown}: left out: {error}", err=True)
    if failed:
        raise HtmEngineError(f"{failed} of {len(sources)} sources cannot be loaded")


async def _load_source(operations: Operations, source: Source, monitor: bool) -> None:
    """Keep all of its pieces, then make them rows of their metrics."""
    notes, rejected, seen, new = Notes(), Counter[str](), Counter[str](), Counter[str]()
    with tqdm(unit="row", desc=printable(source.shown), disable=not sys.stderr.isatty()) as progress:
        for piece in source.read(notes):
            accepted = accept(piece.rows, time.time(), operations.max_future_s)
            rejected += accepted.rejected
            try:
                new[piece.name] += await _keep(operations, piece.name, accepted, monitor)
            except InvalidModelSpec as refused:  # no name of a metric: the other series go on
                notes.leave_out(str(refused), len(accepted.timestamps))
                continue
            seen[piece.name] += len(accepted.timestamps)
            progress.update(len(accepted.timestamps))
    notes.check(seen.total() + rejected.total())
    for line in left_out(rejected, notes):
        click.echo(f"{source.shown}: {line}", err=True)
    if not seen:
        click.echo(f"{source.shown}: no rows")
    for name in seen:
        if new[name]:
            click.echo(_told(await operations.rebuild(name)))
        else:
            click.echo(f"{printable(name)}: nothing new in {seen[name]} rows")


async def _keep(operations: Operations, name: str, accepted: Accepted, monitor: bool) -> int:
    """Keep rows for the rebuild; how many of them are new."""
    rows = list(zip(accepted.timestamps, accepted.values, strict=True))
    parts = [rows[at : at + ROWS_AT_ONCE] for at in range(0, len(rows), ROWS_AT_ONCE)]
    return sum([await operations.load(name, part, monitor=monitor) for part in parts])


def _told(done: Rebuild) -> str:
    known = f", {done.duplicates} were there already" if done.duplicates else ""
    return f"{printable(done.name)}: {done.joined} new rows{known}; {done.status.name}"
