# SPDX-License-Identifier: MIT
"""Samples out of the order of time: those that wait for earlier ones (table held_sample), and those that came too late
(table late_sample).

Written by the Metric Storer in the transaction that stores rows; late samples are read by the next rebuild.  As in
`queries`: synchronous, ``conn`` first, in the caller's transaction.  Timestamps are epoch seconds.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, delete, func, insert, select

from htmengine.repository.queries import in_parts
from htmengine.repository.row_spans import filled_rows
from htmengine.repository.schema import held_sample, late_sample, metric, metric_data
from htmengine.repository.times import from_datetime, to_datetime

#: A late sample is compared with so many of its metric's newest rows; a rebuild compares it with all.
ROWS_COMPARED = 1000


class HeldSample(NamedTuple):
    """A sample that waits until ``due_at`` at most."""

    uid: str
    timestamp: int
    value: float
    kind: str
    started_at: float
    moment: float
    due_at: float
    id: int = 0  #: numbers them as they came; 0: not stored yet


# --- samples that wait ----------------------------------------------------------------------------------


def any_held(conn: Connection) -> bool:
    return conn.execute(select(held_sample.c.id).limit(1)).first() is not None


def held_of(conn: Connection, uids: Collection[str]) -> list[HeldSample]:
    """All that wait, in the order in which they came."""
    c = held_sample.c
    query = select(c.uid, c.timestamp, c.value, c.kind, c.started_at, c.moment, c.due_at, c.id).order_by(c.id)
    return [HeldSample(*row) for part in in_parts(sorted(uids)) for row in conn.execute(query.where(c.uid.in_(part)))]


def metrics_due(conn: Connection, now: float, most: int) -> list[str]:
    """Names of metrics with a sample that has waited long enough."""
    due = held_sample.join(metric, held_sample.c.uid == metric.c.uid)
    query = select(metric.c.name).select_from(due).where(held_sample.c.due_at <= now).distinct().limit(most)
    return list(conn.execute(query).scalars())


def hold(conn: Connection, samples: Sequence[HeldSample]) -> None:
    if samples:
        rows = [each._asdict() for each in samples]
        conn.execute(insert(held_sample), [{name: row[name] for name in row if name != "id"} for row in rows])


def release(conn: Connection, ids: Collection[int]) -> None:
    for part in in_parts(ids):
        conn.execute(delete(held_sample).where(held_sample.c.id.in_(part)))


def count_held(conn: Connection, uid: str | None = None) -> int:
    """Samples of a metric, or of all, that wait."""
    return _count(conn, held_sample.c.uid, uid)


# --- samples that came too late -------------------------------------------------------------------------


def count_late(conn: Connection, uid: str | None = None) -> int:
    """Late samples that are kept of a metric, or of all."""
    return _count(conn, late_sample.c.uid, uid)


def times_taken(conn: Connection, uid: str, last_rowid: int, first: int, last: int) -> set[int]:
    """The timestamps from ``first`` to ``last`` of late samples and of the newest rows, but those that fill gaps."""
    d, c = metric_data.c, late_sample.c
    span = d.timestamp.between(to_datetime(first), to_datetime(last))
    rows = select(d.rowid, d.timestamp).where(d.uid == uid, d.rowid > last_rowid - ROWS_COMPARED, span)
    filled = filled_rows.among(conn, uid, last_rowid - ROWS_COMPARED, last_rowid)
    late = select(c.timestamp).where(c.uid == uid, c.timestamp.between(first, last))
    stored = {from_datetime(at) for rowid, at in conn.execute(rows) if rowid not in filled}
    return {*stored, *conn.execute(late).scalars()}


def keep(conn: Connection, uid: str, samples: Mapping[int, float]) -> None:
    """Keep late samples, by their timestamps, that are not kept yet."""
    if samples:
        rows = [{"uid": uid, "timestamp": timestamp, "value": value} for timestamp, value in samples.items()]
        conn.execute(insert(late_sample), rows)


# --- the newest rows ------------------------------------------------------------------------------------


def newest_times(conn: Connection, last_rowids: Mapping[str, int], rows: int) -> dict[str, list[int]]:
    """The timestamps of so many of each metric's newest rows, the oldest first."""
    d = metric_data.c
    found: dict[str, list[int]] = {}
    for uid, last in last_rowids.items():  # SQLite would go through the whole table to find pairs out of a list
        times = conn.execute(select(d.timestamp).where(d.uid == uid, d.rowid.between(last - rows + 1, last))).scalars()
        found[uid] = sorted(map(from_datetime, times))
    return found


def _count(conn: Connection, column: ColumnElement[str], uid: str | None) -> int:
    query = select(func.count(column))
    return int(conn.execute(query if uid is None else query.where(column == uid)).scalar_one())
