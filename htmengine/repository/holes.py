# SPDX-License-Identifier: MIT
"""Rows without a raw score behind scored ones: a model goes from row to row, so there should be none.

As in `queries`, each function takes ``conn`` first and runs in the caller's transaction.
"""

from __future__ import annotations

from sqlalchemy import Connection, func, select

from htmengine.repository import queries
from htmengine.repository.queries import MetricStatus
from htmengine.repository.schema import metric, metric_data, metric_score

#: Metrics that are looked at in one transaction.
METRICS_AT_ONCE = 100
#: Rows behind each metric's newest scored one.
ROWS_BACK = 300


def find(conn: Connection, *, after: str) -> tuple[dict[str, int], str | None]:
    """How many rows lack a score, by the names of metrics whose uids come after ``after``.

    Returns those that have such rows, and the uid to go on after; None: these were the last.
    """
    m = metric.c
    with_model = [status for status in MetricStatus if status.has_model]
    chosen = select(m.uid).where(m.uid > after, m.status.in_(with_model)).order_by(m.uid).limit(METRICS_AT_ONCE)
    uids = list(conn.execute(chosen).scalars())
    found = {}
    for each in queries.get_metrics(conn, [uid for uid in uids if _count(conn, [uid])]) if _count(conn, uids) else []:
        start = each.definition.after if each.definition else 0  # a copied model has not scored the rows before it
        if rows := _count(conn, [each.uid], start):
            found[each.name] = rows
    return found, uids[-1] if len(uids) == METRICS_AT_ONCE else None


def _count(conn: Connection, uids: list[str], start: int = 0) -> int:
    d, s = metric_data.c, metric_score.c
    query = (
        select(func.count())
        .select_from(metric_data.join(metric_score, d.uid == s.uid))
        .where(d.uid.in_(uids), d.rowid <= s.rowid, d.rowid > s.rowid - ROWS_BACK, d.rowid > start)
        .where(d.raw_anomaly_score.is_(None))
    )
    return int(conn.execute(query).scalar_one())
