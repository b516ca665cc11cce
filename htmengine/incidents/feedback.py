# SPDX-License-Identifier: MIT
"""What people say of an incident, and what follows from it.

In: an incident's id and a mark.  Out: the audit's event; for "fine" a span of rows of each metric that is not learnt,
and whose like pages nobody; "right" takes that back.  Both count from each metric's next row on, so that a replay
finds the same.  Called by the command line and the API.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection

from htmengine.evidence.kinds import KINDS
from htmengine.incidents import queries
from htmengine.incidents.grouping import Alarm
from htmengine.incidents.hold_off import MARGIN
from htmengine.incidents.records import Did, Event, Incident, Member
from htmengine.repository import fine_spans, reading
from htmengine.repository.fine_spans import FineSpan
from htmengine.repository.queries import Metric, find_metrics

_KINDS = frozenset(kind.name for kind in KINDS)


def mark(conn: Connection, incident_id: str, what: Did, who: str, now: float, note: str = "") -> Incident:
    """Somebody calls an incident right or fine; the last mark counts.  Raises `IncidentNotFound`."""
    found = queries.find_incident(conn, incident_id)
    queries.add_event(conn, Event(found.id, found.rule, now, who, what, note))
    members = [each for each in queries.members_of(conn, found.id) if each.kind in _KINDS]
    metrics = {each.uid: each for each in find_metrics(conn, [each.metric for each in members], lock=True).values()}
    known = [(each, metrics[each.uid]) for each in members if each.uid in metrics]
    if what is Did.FINE:
        fine_spans.put(conn, [_span(conn, metric, member) for member, metric in known])
    else:
        for member, metric in known:
            fine_spans.end(conn, member.uid, found.id, metric.last_rowid)
    return found


def _span(conn: Connection, metric: Metric, member: Member) -> FineSpan:
    """The rows of a member's alarms.  The metric is locked: no row comes between."""
    first, last = member.rowid, reading.span_of(conn, metric.uid, member.timestamp, member.last_timestamp).last
    if not fine_spans.replays(conn, metric):
        first, last = 1, 0
    about = (metric.uid, member.incident_id, first, last, metric.last_rowid)
    return FineSpan(*about, direction=member.direction, height=member.height)


def is_like(spans: Iterable[FineSpan], alarm: Alarm) -> bool:
    """Whether an alarm is like one of its metric's that was called fine: in the same direction, and not much higher.

    >>> alarm = Alarm("u", "db1.cpu", 10, 0, 6.5, "level 6", "", "up")
    >>> [is_like([FineSpan("u", "i", 5, 7, 9, None, way, 5.0)], alarm) for way in ("up", "down")]
    [True, False]
    """
    return alarm.kind in _KINDS and any(_like(each, alarm) for each in spans)


def _like(span: FineSpan, alarm: Alarm) -> bool:
    if span.height is None or not span.counts_at(alarm.rowid):
        return False
    return span.direction == alarm.direction and alarm.height <= span.height + MARGIN
