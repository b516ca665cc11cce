# SPDX-License-Identifier: MIT
"""The last sample of each metric that is a counter, from which the next one's rate is made; rows of the others, to find
counters among them; and whole texts of metrics.

As `queries`: synchronous, ``conn`` first, in the caller's transaction.  Times are epoch seconds.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from sqlalchemy import Connection, delete, insert, select

from htmengine.full_texts import FULL_TEXTS
from htmengine.repository.queries import MetricStatus, in_parts
from htmengine.repository.schema import metric, metric_counter, metric_text

#: Metrics that are looked at in one transaction.
METRICS_AT_ONCE = 100


class LastCount(NamedTuple):
    """A counter's newest sample."""

    value: float
    timestamp: float
    started_at: float


class Gauge(NamedTuple):
    """A metric whose samples are stored as they are."""

    uid: str
    name: str
    text: str  #: the whole of it
    last_rowid: int


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


def scored_gauges(conn: Connection, *, after: str) -> list[Gauge]:
    """Metrics with models that are no counters and whose uids come after ``after``; `METRICS_AT_ONCE` at most."""
    m = metric.c
    with_model = [status for status in MetricStatus if status.has_model]
    query = (
        select(m.uid, m.name, metric_text.c.text, m.last_rowid)
        .select_from(metric.outerjoin(metric_counter).outerjoin(metric_text, metric_text.c.uid == m.uid))
        .where(m.uid > after, m.status.in_(with_model), metric_counter.c.uid.is_(None))
    )
    rows = conn.execute(query.order_by(m.uid).limit(METRICS_AT_ONCE))
    return [Gauge(uid, name, text or name, last_rowid) for uid, name, text, last_rowid in rows]


def add_texts(conn: Connection, texts: Mapping[str, str]) -> None:
    """Keep the whole texts of metrics, by uid, that are new."""
    if texts:
        conn.execute(insert(metric_text), [{"uid": uid, "text": text} for uid, text in texts.items()])


def learn_texts(conn: Connection, names: Iterable[str]) -> None:
    """Let selectors and `labels_of` know all labels of the metrics of these names, those past the 255th byte, too."""
    in_texts = select(metric_text.c.text).join(metric, metric.c.uid == metric_text.c.uid)
    for part in in_parts(FULL_TEXTS.lacking(names)):
        FULL_TEXTS.remember(conn.execute(in_texts.where(metric.c.name.in_(part))).scalars())


def long_texts(conn: Connection) -> dict[str, str]:
    """The whole texts of metrics whose names are short identities, by uid."""
    return {row.uid: row.text for row in conn.execute(select(metric_text))}
