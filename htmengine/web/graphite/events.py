# SPDX-License-Identifier: MIT
"""Incidents as Graphite's events, which Grafana draws as annotations.

In: a range of time and tags.  Out: an event for each incident, tagged ``incident``, ``rule:NAME`` and with its phase.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import Connection

from htmengine.incidents import queries
from htmengine.incidents.records import Incident
from htmengine.web.graphite.series import Range

MOST_EVENTS = 1000


def events_of(conn: Connection, wanted: Range, tags: Collection[str], every: bool) -> list[dict[str, Any]]:
    """The newest events of a range, oldest first; with all of the tags, or with one of them."""
    found = [_event(each) for each in queries.incidents_between(conn, wanted.start, wanted.end, MOST_EVENTS)]
    if not tags:
        return found
    hit = all if every else any
    return [each for each in found if hit(tag in each["tags"] for tag in tags)]


def _event(incident: Incident) -> dict[str, Any]:
    held = f", nobody was paged: {incident.held_back}" if incident.held_back else ""
    return {
        "id": incident.id,
        "when": incident.timestamp,
        "what": incident.title,
        "tags": ["incident", f"rule:{incident.rule}", incident.phase.value.lower()],
        "data": f"metrics: {incident.members}{held}",
    }
