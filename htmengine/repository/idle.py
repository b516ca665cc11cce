# SPDX-License-Identifier: MIT
"""How long each metric has had no new row, as whoever looks now and then has seen it.

In: the metrics' newest rows.  Out: the table metric_idle.  Time counts only while somebody looks and samples come, so
an engine that was down, or whose senders were, finds no metric idle for that.  As in `queries`, each function takes
``conn`` first and runs in the caller's transaction.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select, update

from htmengine.repository.queries import MetricStatus
from htmengine.repository.schema import metric, metric_idle

#: Metrics that are looked at in one transaction.
METRICS_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Idle:
    """A metric, its newest row, and for how long that has been its newest."""

    uid: str
    status: MetricStatus
    last_rowid: int
    seconds: float


def look(conn: Connection, *, after: str, passed_s: float) -> tuple[list[Idle], str | None]:
    """Metrics whose uids come after ``after``; those without a new row have been idle for ``passed_s`` longer.

    Returns them, and the uid to go on after; None: these were the last.  Metrics without rows, and those that are not
    monitored, are left out.
    """
    m, i = metric.c, metric_idle.c
    rows = conn.execute(
        select(m.uid, m.status, m.last_rowid, i.last_rowid, i.idle_s)
        .select_from(metric.outerjoin(metric_idle, m.uid == i.uid))
        .where(m.uid > after)
        .order_by(m.uid)
        .limit(METRICS_AT_ONCE)
    ).all()
    found = [
        Idle(uid, MetricStatus(status), newest, idle_s + passed_s if newest == known else 0.0)
        for uid, status, newest, known, idle_s in rows
        if newest and status != MetricStatus.UNMONITORED
    ]
    if rows:
        conn.execute(delete(metric_idle).where(i.uid > after, i.uid <= rows[-1].uid))
    if found:
        values = [{"uid": each.uid, "last_rowid": each.last_rowid, "idle_s": each.seconds} for each in found]
        conn.execute(insert(metric_idle), values)
    return found, rows[-1].uid if len(rows) == METRICS_AT_ONCE else None


def start_again(conn: Connection, uid: str) -> None:
    """From now on the metric has been idle for no time."""
    conn.execute(update(metric_idle).where(metric_idle.c.uid == uid).values(idle_s=0.0))
