# SPDX-License-Identifier: MIT
"""``htmengine incidents``: what rules with a budget found, and one incident in full."""

from __future__ import annotations

from collections.abc import Iterator

import click
from sqlalchemy import Connection

from htmengine.alerts.incident_messages import beside_expected
from htmengine.alerts.notifications import utc
from htmengine.cli.common import Engine, engine_options, example, failing_cleanly, printable
from htmengine.full_texts import FULL_TEXTS
from htmengine.incidents import queries as stored
from htmengine.incidents.records import Event, Incident, Member, Phase
from htmengine.incidents.suspects import suspects


@click.command(epilog=example("htmengine incidents --open"))
@click.argument("incident", required=False)
@click.option("--open", "open_only", is_flag=True, help="Only open ones.")
@click.option("--rule", help="Only those of one rule.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, help="Incidents to show.")
@engine_options
@failing_cleanly
def incidents(engine: Engine, incident: str | None, open_only: bool, rule: str | None, limit: int) -> None:
    """List incidents, open ones first; or show INCIDENT, an id or its beginning, with its metrics."""
    with engine.database() as database:
        if incident is not None:
            lines = [*_whole(*database.read_sync(_read, incident))]
        else:
            found = database.read_sync(stored.list_incidents, open_only=open_only, rule=rule, limit=limit)
            lines = [line(each) for each in found] or ["no incidents"]
    for each in lines:
        click.echo(printable(each))


def _read(conn: Connection, incident_id: str) -> tuple[Incident, list[Member], list[Event]]:
    found = stored.find_incident(conn, incident_id)
    return found, suspects(conn, found, stored.members_of(conn, found.id)), stored.events_of(conn, found.id)


def line(each: Incident) -> str:
    """An incident in a line."""
    phase = "OPEN" if each.phase is Phase.OPEN else f"OVER, last alarm {utc(each.last_timestamp)}"
    paged = "paged" if each.paged else f"no page ({each.held_back})"
    seen = f"  acknowledged by {each.acknowledged_by}" if each.acknowledged_by else ""
    metrics = "1 metric" if each.members == 1 else f"{each.members} metrics"
    return (
        f"{each.id[:8]}  {each.rule}  {utc(each.timestamp)}  {each.title}  {metrics}  "
        f"height {each.height:.1f}  {paged}  {phase}{seen}"
    )


def _whole(found: Incident, members: list[Member], events: list[Event]) -> Iterator[str]:
    yield line(found)
    yield f"id {found.id}"
    if found.reason:
        yield f"over: {found.reason}"
    for member in members:
        facts = beside_expected(member.value, member.expected, member.lower, member.upper)
        name = FULL_TEXTS.of(member.metric)
        yield f"  {utc(member.timestamp)}  {member.height:4.1f}  {name}: {facts}{member.reason}"
    for event in events:
        yield f"  {utc(event.at)}  {event.what.value} by {event.who}" + (f": {event.note}" if event.note else "")
