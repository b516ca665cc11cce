# SPDX-License-Identifier: MIT
"""``htmengine maintenance``: windows of time in which nobody is paged, listed and made."""

from __future__ import annotations

import time
from typing import Any

import click

from htmengine.alerts import maintenance_queries
from htmengine.alerts.calendars import upcoming
from htmengine.alerts.maintenance import KnownMaintenance, maintenance_of, options_of
from htmengine.alerts.notifications import utc
from htmengine.cli.common import Engine, engine_options, example, failing_cleanly, printable, span, who_option

#: Windows of each that are shown.
SHOWN = 3


@click.group()
def maintenance() -> None:
    """Maintenance: windows of time in which some metrics page nobody."""


@maintenance.command("list", epilog=example("htmengine maintenance list"))
@engine_options
@failing_cleanly
def list_(engine: Engine) -> None:
    """List maintenance with its next windows: that of alerts.conf, then the stored."""
    with engine.database() as database:
        found = database.read_sync(maintenance_queries.known, engine.deployment.alerts)
    for each in found:
        click.echo(printable(_line(each)))
        for window in upcoming(each.maintenance.windows, time.time(), SHOWN):
            click.echo(f"    {utc(window.start)} until {utc(window.end)}")
    if not found:
        click.echo("no maintenance")


def _line(each: KnownMaintenance) -> str:
    stored = "" if each.changed_at is None else f" by {each.changed_by} at {utc(each.changed_at)}"
    options = ", ".join(f"{name} {_shown(value)}" for name, value in options_of(each.maintenance).items())
    return f"{each.maintenance.name}  {each.source}{stored}  {options}"


def _shown(value: Any) -> str:
    return ", ".join(value) if isinstance(value, list) else "no" if value is False else str(value)


@maintenance.command(
    "set", epilog=example("htmengine maintenance set backup 'db*.io.*' --cron '30 2 * * sun' --for 90m")
)
@click.argument("name")
@click.argument("metrics", nargs=-1, required=True)
@click.option("--cron", help="When windows begin: minute, hour, day of the month, month, day of the week.")
@click.option("--at", help="When the only window begins: '2026-03-01 22:00'.")
@click.option("--for", "seconds", default="1h", show_default=True, help="How long a window is: 30m, 2h, 7d.")
@click.option("--timezone", default="UTC", show_default=True, help="Of --cron and --at, such as Europe/Berlin.")
@click.option("--no-learning", is_flag=True, help="Neither the models nor the evidence learn the rows of a window.")
@who_option
@engine_options
@failing_cleanly
def set_(
    engine: Engine,
    name: str,
    metrics: tuple[str, ...],
    cron: str | None,
    at: str | None,
    seconds: str,
    timezone: str,
    no_learning: bool,
    who: str,
) -> None:
    """Store the maintenance NAME of METRICS, by globs and labels as in a rule, in place of the stored of that name."""
    given = {"cron": cron, "at": at, "for_s": span("--for", seconds), "timezone": timezone, "learning": not no_learning}
    options = {"metrics": metrics, **{option: value for option, value in given.items() if value is not None}}
    config = engine.deployment.alerts
    if name in {each.name for each in config.maintenance}:
        raise click.ClickException(f"maintenance {name} stands in alerts.conf; change it there")
    made = maintenance_of(name, options, config.general.name_labels)
    with engine.database() as database:
        database.run_sync(maintenance_queries.put_maintenance, made, who, time.time())
    windows = [f"{utc(each.start)} until {utc(each.end)}" for each in upcoming(made.windows, time.time(), 1)]
    click.echo(printable(f"maintenance {name}: {', '.join(metrics)}; next {windows[0] if windows else 'never'}"))


@maintenance.command("delete", epilog=example("htmengine maintenance delete backup"))
@click.argument("name")
@who_option
@engine_options
@failing_cleanly
def delete(engine: Engine, name: str, who: str) -> None:
    """Remove the stored maintenance NAME.  A window that is open ends."""
    with engine.database() as database:
        database.run_sync(maintenance_queries.delete_maintenance, name, who, time.time())
    click.echo(f"maintenance {printable(name)} is removed")
