# SPDX-License-Identifier: MIT
"""Who may have begun an incident: its members, and metrics that moved beside them without an alarm.

In: a stored incident, its members, and the rows that are listed around its first alarm.  Out: the suspects, the
likeliest first.  They are read from rows whenever somebody asks, and nothing of them is stored: they are the same after
a crash, and change no page and no incident.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from msgspec import UNSET
from sqlalchemy import Connection

from htmengine.incidents import queries
from htmengine.incidents.candidates import Candidate, alarm_of, with_row
from htmengine.incidents.preview import PastRow
from htmengine.incidents.records import Incident, Member
from htmengine.incidents.roots import AROUND_S, beside, lasting, ranked
from htmengine.messages import ScoredRow


def suspects(conn: Connection, incident: Incident, members: Sequence[Member]) -> list[Member]:
    """The likeliest root of an incident first."""
    rows = queries.unusual_between(conn, incident.timestamp - AROUND_S, incident.timestamp + AROUND_S)
    uids = {member.uid for member in members}
    moved = _moved(incident, (row for row in rows if row.uid not in uids))
    return ranked([*members, *beside(members, moved)])


def _moved(incident: Incident, rows: Iterable[PastRow]) -> Iterator[Member]:
    """The metrics that moved with it.  ``rows``: by metric, in order."""
    for (uid, metric), these in groupby(rows, key=lambda each: (each.uid, each.metric)):
        run = lasting([each.row for each in these], incident.timestamp)
        if run:
            yield _member(incident.id, uid, metric, run)


def _member(incident_id: str, uid: str, metric: str, run: Sequence[ScoredRow]) -> Member:
    """As if the highest row had alarmed."""
    row = max(run, key=_height)
    alarm = alarm_of(Candidate(uid, metric, row, _height(row)))
    about = (uid, metric, row.rowid, row.timestamp, run[-1].timestamp, alarm.height, alarm.kind, alarm.direction)
    member = Member(incident_id, *about, f"{alarm.text} (no alarm)", since=run[0].timestamp)
    return with_row(member, row)


def _height(row: ScoredRow) -> float:
    return 0.0 if row.why is UNSET else row.why.height
