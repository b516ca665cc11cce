# SPDX-License-Identifier: MIT
"""Counters kept in the transactions that they count: what was received, rejected and scored.

Written by the Metric Storer (received, rejected), the Anomaly Service (scored) and the operations on metrics; read
by `htmengine.ledger` and by lists of metrics.  As in `queries`, each function takes ``conn`` first and runs in
the caller's transaction.  Nothing here costs more when a metric has more rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, delete, func, insert, or_, select, update

from htmengine.messages.digest import START
from htmengine.repository import late_samples
from htmengine.repository.bulk import bulk_insert, bulk_update
from htmengine.repository.queries import MODEL_NOT_DUE, Metric, MetricStatus, in_parts
from htmengine.repository.schema import ledger_total, metric, metric_score, reject_count
from htmengine.repository.times import from_datetime, to_datetime

#: Names in the table ledger_total.
RECEIVED = "received"  #: samples that came through the samples queue, whatever became of them
DELETED = "deleted"  #: rows of metrics that were deleted
EXPIRED = "expired"  #: rows of metrics that were removed as nothing came any more
SET_ASIDE = "set_aside"  #: messages between the services that none could process


class MetricScore(NamedTuple):
    """How far a metric's current model is: its newest scored row, and how many rows it has scored."""

    uid: str
    generation: int
    rowid: int = 0
    scored: int = 0
    timestamp: int | None = None
    value: float | None = None
    raw: float | None = None
    anomaly: float | None = None
    evidence_from: int | None = None  #: from this row on the scores are the evidence's; None: they are HTM Engine's
    digest: int | None = START  #: of the rows that were scored; None: not known, in a model of an earlier release
    expected: float | None = None  #: of the newest scored row; None: nothing was known
    lower: float | None = None  #: ends of its band
    upper: float | None = None
    interval_s: float | None = None  #: between the metric's rows; None: not known
    interval_since: int | None = None  #: epoch seconds; None: from the start


class ChangedCadence(NamedTuple):
    """A metric whose rows have another cadence."""

    name: str
    since: int  #: epoch seconds


@dataclass(frozen=True, slots=True)
class StatusTotal:
    """The metrics of one status together."""

    status: MetricStatus
    stored: int  #: rows that were ever stored
    scored: int  #: rows that the current models have scored
    run_to: int  #: sum of the rowids up to which the current models have come
    newest_stored: int | None  #: epoch seconds
    newest_scored: int | None


@dataclass(frozen=True, slots=True)
class RejectTotal:
    """Rejects for one reason, and when the last one was counted (epoch seconds; None: before this was kept)."""

    reason: str
    count: int
    last_at: int | None


# --- scored ---------------------------------------------------------------------------------------------


def start_scores(conn: Connection, start: MetricScore) -> None:
    """A new model: its scores are counted from here.  Whoever defines a model calls this."""
    conn.execute(delete(metric_score).where(metric_score.c.uid == start.uid))
    bulk_insert(conn, metric_score, (*_KEYS, *_CHANGING), [_values(start)])


def save_scores(conn: Connection, scores: Sequence[MetricScore]) -> int:
    """Advance models' counts; those of a model that was replaced meanwhile change nothing.  Returns how many did."""
    return bulk_update(conn, metric_score, _KEYS, _CHANGING, [_values(score) for score in scores])


def get_scores(conn: Connection, uids: Iterable[str] | None = None) -> dict[str, MetricScore]:
    """By uid; of all metrics that have or had a model if no uids are given."""
    query = select(metric_score)
    if uids is not None:
        query = query.where(metric_score.c.uid.in_(list(uids)))
    return {
        row.uid: MetricScore(
            row.uid,
            row.generation,
            row.rowid,
            row.scored,
            None if row.timestamp is None else from_datetime(row.timestamp),
            row.metric_value,
            row.raw_anomaly_score,
            row.anomaly_score,
            row.evidence_from,
            row.digest,
            row.expected,
            row.lower_bound,
            row.upper_bound,
            row.interval_s,
            row.interval_since,
        )
        for row in conn.execute(query)
    }


#: The columns of a `MetricScore`, in its order.
_KEYS = ("uid", "generation")
_CHANGING = (
    *("rowid", "scored", "timestamp", "metric_value", "raw_anomaly_score", "anomaly_score"),
    *("evidence_from", "digest", "expected", "lower_bound", "upper_bound", "interval_s", "interval_since"),
)


def _values(score: MetricScore) -> tuple[object, ...]:
    return score if score.timestamp is None else (*score[:4], to_datetime(score.timestamp), *score[5:])


def get_generations(conn: Connection, uids: Sequence[str]) -> dict[str, int]:
    """The generation of each metric's newest model; those that never had one are left out."""
    c = metric_score.c
    return {
        uid: generation
        for part in in_parts(uids)
        for uid, generation in conn.execute(select(c.uid, c.generation).where(c.uid.in_(part))).all()
    }


def changed_cadences(conn: Connection, now: float, seconds: float, rows: int) -> list[ChangedCadence]:
    """By name: metrics with models whose cadence has changed within so many seconds, or so many rows of it."""
    m, s = metric.c, metric_score.c
    lately = or_(s.interval_since > now - seconds, s.interval_since + rows * s.interval_s > now)
    query = select(m.name, s.interval_since).select_from(metric.join(metric_score, m.uid == s.uid))
    found = conn.execute(query.where(lately, m.status.not_in(MODEL_NOT_DUE)).order_by(m.name))
    return [ChangedCadence(*row) for row in found]


# --- received, rejected, deleted ------------------------------------------------------------------------


def add_total(conn: Connection, name: str, count: int) -> None:
    """Count up one of the names above."""
    c = ledger_total.c
    if count and not conn.execute(update(ledger_total).where(c.name == name).values(count=c.count + count)).rowcount:
        conn.execute(insert(ledger_total), {"name": name, "count": count})


def add_rejects(conn: Connection, rejects: Mapping[tuple[str, str], int], now: int | None) -> None:
    """Count rejects by (uid, reason); the uid is "" while it is not known."""
    c = reject_count.c
    for (uid, reason), n in sorted(rejects.items()):
        where = (c.uid == uid) & (c.reason == reason)
        if not conn.execute(update(reject_count).where(where).values(count=c.count + n, last_at=now)).rowcount:
            conn.execute(insert(reject_count), {"uid": uid, "reason": reason, "count": n, "last_at": now})


def keep_counts_of_removed(conn: Connection, gone: Metric, counted_as: str) -> None:
    """What a metric that is about to be removed leaves in the engine's totals, its rows as `DELETED` or `EXPIRED`.

    So are its samples that never became rows.
    """
    others = late_samples.count_held(conn, gone.uid) + late_samples.count_late(conn, gone.uid)
    add_total(conn, counted_as, gone.last_rowid + others)
    rejects = reject_totals(conn, gone.uid)
    conn.execute(delete(reject_count).where(reject_count.c.uid == gone.uid))
    for each in rejects:
        add_rejects(conn, {("", each.reason): each.count}, each.last_at)


# --- totals ---------------------------------------------------------------------------------------------


def get_totals(conn: Connection) -> dict[str, int]:
    """`RECEIVED`, `DELETED`, `EXPIRED` and `SET_ASIDE`."""
    found: dict[str, int] = dict.fromkeys((RECEIVED, DELETED, EXPIRED, SET_ASIDE), 0)
    for name, count in conn.execute(select(ledger_total.c.name, ledger_total.c["count"])):
        found[name] = count
    return found


def reject_totals(conn: Connection, uid: str | None = None) -> list[RejectTotal]:
    """By reason: of one metric, or of everything."""
    c = reject_count.c
    query = select(c.reason, func.sum(c.count).label("count"), func.max(c.last_at).label("last_at"))
    if uid is not None:
        query = query.where(c.uid == uid)
    # SUM gives Decimals on MySQL and PostgreSQL
    return [
        RejectTotal(reason, int(count), last_at)
        for reason, count, last_at in conn.execute(query.group_by(c.reason).order_by(c.reason))
    ]


def get_rejects(conn: Connection, uid: str | None = None) -> dict[str, int]:
    """Counts by reason: of one metric, or of everything."""
    return {each.reason: each.count for each in reject_totals(conn, uid)}


def metrics_by_status(conn: Connection) -> dict[str, int]:
    """How many metrics are in each status, by its name; those without any are left out."""
    found = Counter[str]()
    for status, number in conn.execute(select(metric.c.status, func.count()).group_by(metric.c.status)):
        found[MetricStatus(status).name] += int(number)
    return dict(found)


def furthest_behind(conn: Connection) -> int | None:
    """The newest scored sample's time (epoch seconds) of the metric that is furthest behind with its scores.

    None if no metric that has a score has rows that wait for one.
    """
    m, s = metric.c, metric_score.c
    query = (
        select(func.min(s.timestamp))
        .select_from(metric.join(metric_score, m.uid == s.uid))
        .where(m.last_rowid > s.rowid, m.status.not_in(MODEL_NOT_DUE))
    )
    found = conn.execute(query).scalar()
    return None if found is None else from_datetime(found)


def unscored(conn: Connection) -> list[tuple[str, int, int]]:
    """The metrics whose models lack scores: (uid, generation, newest stored row)."""
    with_model = [status for status in MetricStatus if status.has_model]
    return _models(conn, metric.c.last_rowid > metric_score.c.rowid, metric.c.status.in_(with_model))


def unconfirmed(conn: Connection) -> list[tuple[str, int, int]]:
    """The metrics whose models are defined, and not known to be made: as `unscored`."""
    return _models(conn, metric.c.status == MetricStatus.CREATE_PENDING)


def _models(conn: Connection, *where: ColumnElement[bool]) -> list[tuple[str, int, int]]:
    m, s = metric.c, metric_score.c
    query = select(m.uid, s.generation, m.last_rowid).select_from(metric.join(metric_score, m.uid == s.uid))
    return [(uid, generation, rowid) for uid, generation, rowid in conn.execute(query.where(*where).order_by(m.uid))]


def status_totals(conn: Connection) -> list[StatusTotal]:
    """All metrics by status."""
    m, s = metric.c, metric_score.c
    query = (
        select(
            m.status,
            func.sum(m.last_rowid),
            func.coalesce(func.sum(s.scored), 0),
            func.coalesce(func.sum(s.rowid), 0),
            func.max(m.last_timestamp),
            func.max(s.timestamp),
        )
        .select_from(metric.outerjoin(metric_score, m.uid == s.uid))
        .group_by(m.status)
    )
    return [
        StatusTotal(
            MetricStatus(status),
            int(stored),
            int(scored),
            int(run_to),
            newest_stored and from_datetime(newest_stored),
            newest_scored and from_datetime(newest_scored),
        )
        for status, stored, scored, run_to, newest_stored, newest_scored in conn.execute(query)
    ]
