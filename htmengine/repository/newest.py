# SPDX-License-Identifier: MIT
"""The newest row of every metric, with what is known of its newest score."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from sqlalchemy import Connection, and_, func, select

from htmengine.repository.schema import metric, metric_data, metric_score, metric_text
from htmengine.repository.times import from_datetime, to_datetime

#: Rows that are in memory at a time.
_AT_ONCE = 5000


class NewestRow(NamedTuple):
    """Times are epoch seconds; score and band are of the newest row that is scored, None before there is one."""

    uid: str
    text: str  #: the metric's name with all labels
    timestamp: int
    value: float
    anomaly_score: float | None
    expected: float | None
    lower: float | None
    upper: float | None


def newest_rows(conn: Connection, since: int) -> Iterator[NewestRow]:
    """By name; of metrics whose newest row is not older than this."""
    m, d, s = metric.c, metric_data.c, metric_score.c
    query = (
        select(
            m.uid,
            func.coalesce(metric_text.c.text, m.name),
            *(d.timestamp, d.metric_value, s.anomaly_score, s.expected, s.lower_bound, s.upper_bound),
        )
        .select_from(
            metric.join(metric_data, and_(d.uid == m.uid, d.rowid == m.last_rowid))
            .outerjoin(metric_score, s.uid == m.uid)
            .outerjoin(metric_text, metric_text.c.uid == m.uid)
        )
        .where(d.timestamp >= to_datetime(since))
        .order_by(m.name)
    )
    for rows in conn.execute(query).partitions(_AT_ONCE):
        for uid, text, timestamp, *figures in rows:
            yield NewestRow(uid, text, from_datetime(timestamp), *figures)
