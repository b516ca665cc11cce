# SPDX-License-Identifier: MIT
"""The audit: who changed what, and when.

As `queries`: synchronous, ``conn`` first, in the transaction of the change itself, so that there is no change without
its entry.  Times are epoch seconds.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from sqlalchemy import Connection, delete, insert, select

from htmengine.repository.schema import audit

#: Characters of the column ``who``.
LONGEST_WHO = 100


@dataclass(frozen=True, slots=True)
class Act:
    """Somebody did something.  ``about``: the rule, the metric, the incident."""

    at: float
    who: str  #: a token's name, or a user of the command line
    what: str
    about: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Entry(Act):
    """An act as it is kept."""

    id: int = 0


def record(conn: Connection, act: Act) -> None:
    """Keep an act."""
    conn.execute(insert(audit), {**asdict(act), "who": act.who[:LONGEST_WHO]})


def newest(conn: Connection, limit: int, before: int | None = None) -> list[Entry]:
    """The newest acts first; ``before``: an entry's id, where the page before ended."""
    query = select(audit).order_by(audit.c.id.desc()).limit(limit)
    if before is not None:
        query = query.where(audit.c.id < before)
    return [Entry(**row._asdict()) for row in conn.execute(query)]


def forget(conn: Connection, before: float) -> None:
    """Remove what was done before."""
    conn.execute(delete(audit).where(audit.c.at < before))
