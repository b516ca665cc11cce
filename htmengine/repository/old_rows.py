# SPDX-License-Identifier: MIT
"""Removing old rows: metric after metric, in transactions of bounded size, never a row that a model may still need.

A metric's rows are removed from its first on, up to the first one that is not old.  What stays of a monitored
metric however old it is: rows that the current model has not scored, and the last ``keep`` that it has, since
its checkpoints may not have them yet.  Of a constant metric the last ``keep`` rows stay.  While checkpoints cannot be
written, nothing is removed at all.  What other tables say of the rows that go, goes with them.
"""

from __future__ import annotations

from sqlalchemy import Connection, delete, func, select

from htmengine.messages import CHECKPOINTS_REFUSED
from htmengine.repository import fine_spans
from htmengine.repository.queries import MetricStatus
from htmengine.repository.row_spans import filled_rows, unlearnt_rows
from htmengine.repository.schema import anomaly, metric, metric_data, metric_score, trouble
from htmengine.repository.times import to_datetime

#: Metrics that are looked at in one transaction.
METRICS_AT_ONCE = 500


def remove(conn: Connection, *, after: str, before: int, keep: int, most: int) -> tuple[int, str | None]:
    """Remove at most ``most`` rows older than the epoch ``before``, of the metrics whose uids come after ``after``.

    Returns how many, and the uid to go on after; None: all metrics are done.
    """
    if conn.execute(select(trouble.c.source).where(trouble.c.message.startswith(CHECKPOINTS_REFUSED))).first():
        return 0, None
    m, s = metric.c, metric_score.c
    metrics = conn.execute(
        select(m.uid, m.status, m.last_rowid, func.coalesce(s.rowid, 0))
        .select_from(metric.outerjoin(metric_score, m.uid == s.uid))
        .where(m.uid > after)
        .order_by(m.uid)
        .limit(METRICS_AT_ONCE)
    ).all()
    removed = 0
    for uid, status, last_rowid, scored_to in metrics:
        last = _last_unneeded(MetricStatus(status), last_rowid, scored_to, keep)
        removed += _remove_first_rows(conn, uid, last, before, most - removed)
        if removed >= most:
            return removed, after
        after = uid
    return removed, after if len(metrics) == METRICS_AT_ONCE else None


def _last_unneeded(status: MetricStatus, last_rowid: int, scored_to: int, keep: int) -> int:
    """The last row that no model needs; nothing or less: there is none."""
    if status is MetricStatus.UNMONITORED:
        return last_rowid
    return (last_rowid if status is MetricStatus.CONSTANT else scored_to) - keep


def remove_anomalies(conn: Connection, before: int) -> None:
    """The list of anomalies reaches as far back as the rows."""
    conn.execute(delete(anomaly).where(anomaly.c.timestamp < to_datetime(before)))


def _remove_first_rows(conn: Connection, uid: str, last: int, before: int, most: int) -> int:
    """A metric's timestamps grow with its rowids: its old rows are its first."""
    if last <= 0:
        return 0
    c = metric_data.c
    first = select(c.rowid, c.timestamp).where(c.uid == uid, c.rowid <= last).order_by(c.rowid).limit(most).subquery()
    newest_old = conn.execute(select(func.max(first.c.rowid)).where(first.c.timestamp < to_datetime(before))).scalar()
    if newest_old is None:
        return 0
    unlearnt_rows.prune(conn, uid, newest_old)
    filled_rows.prune(conn, uid, newest_old)
    fine_spans.prune(conn, uid, newest_old)
    return conn.execute(delete(metric_data).where(c.uid == uid, c.rowid <= newest_old)).rowcount
