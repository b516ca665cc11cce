# SPDX-License-Identifier: MIT
"""HTM Engine's own scores, kept beside those that take their place in metric_data.

A migrated database alone has the table; ``htmengine migrate-from-htmengine`` makes it.  As in `queries`, each function
takes ``conn`` first and runs in the caller's transaction.
"""

from __future__ import annotations

from sqlalchemy import Column, Connection, Double, Integer, MetaData, Table, func, insert, inspect, select

from htmengine.errors import DatabaseFailed
from htmengine.repository import counts
from htmengine.repository.htm_engine_models import THEIR_VERSIONS
from htmengine.repository.queries import Metric
from htmengine.repository.schema import metric, metric_data
from htmengine.repository.times import to_datetime

_METADATA = MetaData()

htm_engine_score = Table(
    "htm_engine_score",
    _METADATA,
    Column("uid", metric.c.uid.type, primary_key=True),
    Column("rowid", Integer, primary_key=True, autoincrement=False),
    Column("raw_anomaly_score", Double),
    Column("anomaly_score", Double, nullable=False),
)


def make_table(conn: Connection) -> None:
    """Make the table if there is none.  Raises `DatabaseFailed` for a database that HTM Engine did not make."""
    if not inspect(conn).has_table(THEIR_VERSIONS):
        raise DatabaseFailed(f"not a database that HTM Engine made: it has no table {THEIR_VERSIONS}")
    _METADATA.create_all(conn)


def keep(conn: Connection, each: Metric) -> int | None:
    """Keep a metric's scores, once; how many are kept.  None: they are gone, since this engine has scored rows."""
    k, d = htm_engine_score.c, metric_data.c
    if kept := _count(conn, each.uid):
        return kept
    score = counts.get_scores(conn, [each.uid]).get(each.uid)
    if score is not None and score.rowid:
        return None
    theirs = select(d.uid, d.rowid, d.raw_anomaly_score, d.anomaly_score)
    old = theirs.where(d.uid == each.uid, d.anomaly_score.is_not(None))
    conn.execute(insert(htm_engine_score).from_select([*k.keys()], old))
    return _count(conn, each.uid)


def _count(conn: Connection, uid: str) -> int:
    return conn.execute(select(func.count()).where(htm_engine_score.c.uid == uid)).scalar_one()


def alarms(conn: Connection, uid: str, since: int, score: float) -> list[int]:
    """The rows from a time on that HTM Engine gave at least that score, in order."""
    k, d = htm_engine_score.c, metric_data.c
    rows = select(k.rowid).join(metric_data, (k.uid == d.uid) & (k.rowid == d.rowid))
    late = rows.where(k.uid == uid, k.anomaly_score >= score, d.timestamp >= to_datetime(since))
    return [*conn.execute(late.order_by(k.rowid)).scalars()]
