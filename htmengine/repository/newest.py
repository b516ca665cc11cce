# SPDX-License-Identifier: MIT
"""Rows with what is known of their scores: the newest of every metric, and those of results."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from sqlalchemy import Connection, and_, func, select

from htmengine.repository.queries import in_parts
from htmengine.repository.results import Result
from htmengine.repository.schema import metric, metric_data, metric_score, metric_text
from htmengine.repository.times import from_datetime, to_datetime

#: Rows that are in memory at a time.
_AT_ONCE = 5000


class MetricRow(NamedTuple):
    """Times are epoch seconds.

    Of a metric's newest row, score and band are those of the newest row that is scored, None before there is one.
    """

    uid: str
    text: str  #: the metric's name with all labels
    timestamp: int
    value: float
    anomaly_score: float | None
    expected: float | None
    lower: float | None
    upper: float | None


def newest_rows(conn: Connection, since: int) -> Iterator[MetricRow]:
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
            yield MetricRow(uid, text, from_datetime(timestamp), *figures)


def rows_of(conn: Connection, found: Sequence[Result]) -> list[MetricRow]:
    """The rows of results; the band is known of a metric's newest scored row alone."""
    m, s = metric.c, metric_score.c
    query = (
        select(m.uid, func.coalesce(metric_text.c.text, m.name), s.rowid, s.expected, s.lower_bound, s.upper_bound)
        .select_from(metric.outerjoin(metric_score, s.uid == m.uid).outerjoin(metric_text, metric_text.c.uid == m.uid))
        .order_by(m.uid)
    )
    uids = sorted({each.uid for each in found})
    known = {uid: rest for part in in_parts(uids) for uid, *rest in conn.execute(query.where(m.uid.in_(part)))}
    return [_row_of(each, *known[each.uid]) for each in found if each.uid in known]


def _row_of(each: Result, text: str, scored_rowid: int | None, *band: float | None) -> MetricRow:
    expected, lower, upper = band if scored_rowid == each.rowid else (None, None, None)
    return MetricRow(each.uid, text, each.timestamp, each.value, each.anomaly_score, expected, lower, upper)


def texts_of(conn: Connection, uids: Collection[str]) -> dict[str, str]:
    """The names of metrics with all labels, by uid."""
    m = metric.c
    query = select(m.uid, func.coalesce(metric_text.c.text, m.name)).select_from(
        metric.outerjoin(metric_text, metric_text.c.uid == m.uid)
    )
    return {uid: text for part in in_parts(sorted(uids)) for uid, text in conn.execute(query.where(m.uid.in_(part)))}
