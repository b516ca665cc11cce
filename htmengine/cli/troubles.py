# SPDX-License-Identifier: MIT
"""``htmengine troubles``: what is wrong now."""

from __future__ import annotations

import sys

import click

from htmengine.cli.common import Engine, engine_options, example, failing_cleanly, printable
from htmengine.csv_files import format_timestamp
from htmengine.repository import set_aside
from htmengine.repository import troubles as stored


@click.command(epilog=example("htmengine troubles"))
@engine_options
@click.option("--dismiss", is_flag=True, help="Remove the messages set aside from the list.")
@failing_cleanly
def troubles(engine: Engine, dismiss: bool) -> None:
    """List troubles that do not stop the engine: checkpoints that cannot be written, messages set aside.

    An embedded engine that hangs is one, too, and so is a disk that takes nothing.

    Status 1 if there are any.
    """
    with engine.database() as database:
        if dismiss:
            database.run_sync(set_aside.dismiss)
        found = database.read_sync(stored.list_of)
    for each in found:
        click.echo(trouble_line(each))
    untold = engine.untold()
    for line in untold:
        click.echo(line)
    if found or untold:
        sys.exit(1)
    click.echo("no troubles")


def trouble_line(trouble: stored.Trouble) -> str:
    """As the commands show it."""
    return f"{format_timestamp(trouble.since)}  {printable(trouble.source)}: {printable(trouble.message)}"
