# SPDX-License-Identifier: MIT
"""``htmengine why``: why a row has its score, in words."""

from __future__ import annotations

import json
from collections.abc import Iterator

import click
import msgspec
from sqlalchemy import Connection

from htmengine.adapters.datasource.why import Told, why_at
from htmengine.cli.common import Engine, engine_options, example, failing_cleanly, moment
from htmengine.csv_files import format_timestamp
from htmengine.repository import queries


@click.command(epilog=example("htmengine why web1.cpu '2014-02-14 14:30:00'"))
@click.argument("name")
@click.argument("time")
@engine_options
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@failing_cleanly
def why(name: str, time: str, engine: Engine, as_json: bool) -> None:
    """Show why a row has its score: the kinds of evidence, and what was expected.

    TIME is the row's, UTC or epoch seconds, or how long ago it was, such as 30m.  What is not stored is found by replay
    of the metric's rows.
    """
    at = int(moment("TIME", time))
    with engine.database() as database:
        told = database.run_sync(_why, name, at)
    if as_json:
        click.echo(json.dumps({**told._asdict(), "why": msgspec.to_builtins(told.why)}))
    else:
        for line in lines(told):
            click.echo(line)


def _why(conn: Connection, name: str, timestamp: int) -> Told:
    return why_at(conn, queries.find_metric(conn, name), timestamp)


def lines(told: Told) -> Iterator[str]:
    """The row, what was expected of it, and a line a kind."""
    why = told.why
    yield f"{format_timestamp(told.timestamp)}  value {told.value:g}, anomaly score {told.anomaly_score:.6g}"
    if why.expected is not None:
        yield f"expected {why.expected:g}, mostly {why.lower:g} to {why.upper:g}"
    for reason in why.evidence:
        yield f"  {reason.decades:4.1f}  {reason.text} ({reason.kind})"
    if not why.evidence:
        yield "no kind of evidence finds it unusual"
