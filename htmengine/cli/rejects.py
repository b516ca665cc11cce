# SPDX-License-Identifier: MIT
"""``htmengine rejects``: the last samples that were rejected, and who sent them."""

from __future__ import annotations

import click

from htmengine.cli.common import Engine, engine_options, example, failing_cleanly, printable
from htmengine.csv_files import format_timestamp
from htmengine.repository import rejects as stored
from htmengine.repository.rejects import RejectedSample


@click.command(epilog=example("htmengine rejects timestamp_old"))
@click.argument("reason", required=False)
@engine_options
@failing_cleanly
def rejects(engine: Engine, reason: str | None) -> None:
    """List the last rejected samples of each reason, or of REASON: when, why, from where, and what was sent.

    `htmengine ledger` has the counts.
    """
    with engine.database() as database:
        found = database.read_sync(stored.list_of, reason)
    for each in found:
        click.echo(reject_line(each))
    if not found:
        click.echo("no rejects")


def reject_line(reject: RejectedSample) -> str:
    """One reject for a terminal.

    >>> reject_line(RejectedSample("value_not_a_number", "10.0.0.7", "ohm.disk.w 2,25 1700000000", 1700000000))
    '2023-11-14 22:13:20  value_not_a_number  10.0.0.7  ohm.disk.w 2,25 1700000000'
    """
    parts = (format_timestamp(reject.rejected_at), reject.reason, reject.sender, reject.line)
    return "  ".join(map(printable, parts))
