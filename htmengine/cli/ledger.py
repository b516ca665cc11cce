# SPDX-License-Identifier: MIT
"""``htmengine ledger``: where every sample is."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

import click

from htmengine.cli.common import Engine, engine_options, example, failing_cleanly
from htmengine.csv_files import format_timestamp
from htmengine.ledger import Ledger, read_ledger

#: Width of the columns of names, counts and times.
_LINE = "{:<32}{:>14}  {}"


@click.command(epilog=example("htmengine ledger web1.cpu"))
@click.argument("name", required=False)
@engine_options
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@failing_cleanly
def ledger(name: str | None, engine: Engine, as_json: bool) -> None:
    """Count the samples of a metric, or of the whole engine: stored, rejected, scored, waiting.

    Status 1 if they do not add up: received = stored + rejected + held + late; stored = scored + waiting + constant +
    unmonitored + skipped + deleted + expired.
    """
    with engine.database() as database:
        found = database.read_sync(read_ledger, name)
    if as_json:
        click.echo(json.dumps(found.to_json()))
    else:
        for line in _lines(found):
            click.echo(line.rstrip())
    if not found.adds_up:
        click.echo("the ledger does not add up", err=True)
        sys.exit(1)


def _lines(found: Ledger) -> Iterator[str]:
    yield _LINE.format("", "samples", "newest")
    yield _LINE.format("received", found.received, _time(found.newest_stored))
    yield _LINE.format("  rejected", sum(found.rejected.values()), _time(found.newest_rejected))
    for reason, count in sorted(found.rejected.items()):
        yield _LINE.format(f"    {reason}", count, "")
    yield _LINE.format("  stored", found.stored, _time(found.newest_stored))
    yield _LINE.format("    scored", found.scored, _time(found.newest_scored))
    yield _LINE.format("    waiting", found.waiting, "")
    for name in ("constant", "unmonitored", "skipped", "deleted", "expired"):
        if getattr(found, name):
            yield _LINE.format(f"    {name}", getattr(found, name), "")
    for name in ("held", "late", "filled"):
        if getattr(found, name):
            yield _LINE.format(f"  {name}", getattr(found, name), "")
    if found.set_aside:
        yield _LINE.format("messages set aside", found.set_aside, "")


def _time(epoch: int | None) -> str:
    return "-" if epoch is None else format_timestamp(epoch)
