# SPDX-License-Identifier: MIT
"""The last sample of each metric that is a counter, from which the next one's rate is made; and whole texts of metrics.

As `queries`: synchronous, ``conn`` first, in the caller's transaction.  Times are epoch seconds.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from sqlalchemy import Connection, delete, insert, select

from htmengine.repository.queries import in_parts
from htmengine.repository.schema import metric_counter, metric_text


class LastCount(NamedTuple):
    """A counter's newest sample."""

    value: float
    timestamp: float
    started_at: float


def last_counts(conn: Connection, uids: Collection[str]) -> dict[str, LastCount]:
    """By uid, as far as there are any."""
    c = metric_counter.c
    query = select(c.uid, c.value, c.timestamp, c.started_at)
    return {
        uid: LastCount(*rest)
        for part in in_parts(sorted(uids))
        for uid, *rest in conn.execute(query.where(c.uid.in_(part)))
    }


def save_counts(conn: Connection, changed: Mapping[str, LastCount]) -> None:
    """Store them, whether they are new or not.  The metrics' rows are locked by the caller."""
    for part in in_parts(sorted(changed)):
        conn.execute(delete(metric_counter).where(metric_counter.c.uid.in_(part)))
        conn.execute(insert(metric_counter), [{"uid": uid, **changed[uid]._asdict()} for uid in part])


def add_texts(conn: Connection, texts: Mapping[str, str]) -> None:
    """Keep the whole texts of metrics, by uid, that are new."""
    if texts:
        conn.execute(insert(metric_text), [{"uid": uid, "text": text} for uid, text in texts.items()])


def long_texts(conn: Connection) -> dict[str, str]:
    """The whole texts of metrics whose names are short identities, by uid."""
    return {row.uid: row.text for row in conn.execute(select(metric_text))}
