# SPDX-License-Identifier: MIT
"""``htmengine audit``: who changed what."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from htmengine.alerts.notifications import utc
from htmengine.cli.common import Engine, engine_options, example, failing_cleanly, printable
from htmengine.repository import audit as entries


@click.command(epilog=example("htmengine audit --limit 20"))
@click.option("--limit", type=click.IntRange(1, 100_000), default=100, show_default=True, help="Entries to show.")
@click.option("--json", "as_json", is_flag=True, help="An object a line.")
@engine_options
@failing_cleanly
def audit(engine: Engine, limit: int, as_json: bool) -> None:
    """Show who changed what, the newest last: rules, silences, acknowledgements, marks, metrics and models."""
    with engine.database() as database:
        found = database.read_sync(entries.newest, limit)
    for each in reversed(found):
        note = f"  {each.note}" if each.note else ""
        line = f"{utc(each.at)}  {each.who}  {each.what}: {each.about}{note}"
        click.echo(json.dumps(asdict(each)) if as_json else printable(line))
