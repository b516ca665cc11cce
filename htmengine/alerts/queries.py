# SPDX-License-Identifier: MIT
"""What the alert service asks of the database; as `queries`: synchronous, ``conn`` first, in the caller's transaction.

Times are epoch seconds, wall clock, but for ``timestamp``, which is the row's.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from msgspec import UNSET
from sqlalchemy import Connection, and_, delete, exists, func, insert, or_, select, update

from htmengine.alerts.evaluation import AlertState, MetricFacts, Phase, Scored
from htmengine.alerts.incident_messages import Message, message_from_json
from htmengine.alerts.notifications import RECENT_ROWS, Notification, RecentRow
from htmengine.messages import ScoredRow
from htmengine.repository import results
from htmengine.repository.counters import learn_texts
from htmengine.repository.queries import IN_AT_ONCE, MetricStatus, get_rows, in_parts
from htmengine.repository.schema import alert, alert_delivery, alert_state, anomaly, incident, metric, metric_data
from htmengine.repository.times import from_datetime, to_datetime


class DeliveryState(enum.Enum):
    """The column ``alert_delivery.state``; docs/states.md has the transitions."""

    WAITING = "WAITING"
    DELIVERED = "DELIVERED"
    GIVEN_UP = "GIVEN_UP"


@dataclass(frozen=True, slots=True)
class QueuedMessage:
    """A message for a receiver, taken out of the queue for one attempt."""

    id: str
    receiver: str
    notification: Message
    attempts: int  #: with this one
    created_at: float


@dataclass(frozen=True, slots=True)
class AlertRecord:
    """One alert that fired, and how its messages fare."""

    id: str
    rule: str
    metric: str
    timestamp: int
    value: float
    score: float
    created_at: float
    resolved_at: float | None
    reason: str
    newest: int | None = None  #: the metric's newest sample, epoch seconds
    deliveries: tuple[DeliveryRecord, ...] = ()


@dataclass(frozen=True, slots=True)
class DeliveryRecord:
    """How one message fares."""

    status: str
    receiver: str
    state: DeliveryState
    attempts: int
    answer: str


@dataclass(frozen=True, slots=True)
class Undelivered:
    """A message that a receiver has refused so far, or for good."""

    alert_id: str  #: of an alert or an incident
    subject: str
    status: str
    receiver: str
    state: DeliveryState
    attempts: int
    answer: str
    created_at: float


@dataclass(frozen=True, slots=True)
class MissedRows:
    """Rows of a metric, those after ``after`` up to ``last``."""

    uid: str
    name: str
    after: int
    last: int


# --- states ---------------------------------------------------------------------------------------------


def load_alert_states(conn: Connection, wanted: Sequence[tuple[str, str]]) -> dict[tuple[str, str], AlertState]:
    """The states of (rule, uid) pairs, as far as there are any, and all that are open."""
    c = alert_state.c
    found: dict[tuple[str, str], AlertState] = {}
    for where in (c.open, *(c.uid.in_(part) for part in in_parts(sorted({uid for _, uid in wanted})))):
        found.update({(row.rule, row.uid): _state(row) for row in conn.execute(select(alert_state).where(where))})
    return found


def save_alert_states(conn: Connection, states: Iterable[AlertState], now: float) -> None:
    """Store states, whether they are new or not."""
    c = alert_state.c
    for state in states:
        values = {
            "phase": state.phase.value,
            "open": state.open,
            "rowid": state.rowid,
            "hits": json.dumps(state.hits),
            "alert_id": state.alert_id,
            "fired_at": state.fired_at,
            "changed_at": now,
        }
        where = and_(c.rule == state.rule, c.uid == state.uid)
        if not conn.execute(update(alert_state).where(where).values(values)).rowcount:
            conn.execute(insert(alert_state), {"rule": state.rule, "uid": state.uid, **values})


def firing_states(conn: Connection) -> list[tuple[AlertState, str, MetricFacts | None]]:
    """All that fire, each with its metric's name and what is known of it ("" and None: it is gone).

    The metrics' labels are learnt.
    """
    query = select(alert_state, metric.c.name, metric.c.status).outerjoin(metric, metric.c.uid == alert_state.c.uid)
    firing = query.where(alert_state.c.phase == Phase.FIRING.value)
    found = [(_state(row), row.name or "", _facts(row)) for row in conn.execute(firing)]
    learn_texts(conn, (name for _, name, _ in found))
    return found


def forget_deleted_metrics(conn: Connection) -> None:
    """Remove what is known of metrics that are gone, unless it still fires."""
    gone = ~exists().where(metric.c.uid == alert_state.c.uid)
    conn.execute(delete(alert_state).where(gone, alert_state.c.phase == Phase.RESOLVED.value))


def _state(row: Any) -> AlertState:
    return AlertState(
        row.rule,
        row.uid,
        Phase(row.phase),
        row.rowid,
        tuple(json.loads(row.hits)),
        row.alert_id,
        row.fired_at,
    )


def _facts(row: Any) -> MetricFacts | None:
    if row.status is None:
        return None
    return MetricFacts(MetricStatus(row.status).has_model)


# --- rows -----------------------------------------------------------------------------------------------


def anomalous_spans(conn: Connection, after: str, since: int, threshold: float, most: int) -> list[MissedRows]:
    """For each metric with anomalies since an epoch second: from its first one to its last.

    Anomalies are rows with at least this score, and those with a height.
    Metrics by uid, those after ``after``, at most ``most``.  Their labels are learnt.
    """
    c = anomaly.c
    query = (
        select(c.uid, metric.c.name, func.min(c.rowid), func.max(c.rowid))
        .join(metric, metric.c.uid == c.uid)
        .where(c.uid > after, c.timestamp >= to_datetime(since))
        .where(or_(c.anomaly_score >= threshold, c.height.is_not(None)))
        .group_by(c.uid, metric.c.name)
        .order_by(c.uid)
        .limit(most)
    )
    found = [MissedRows(uid, name, first - 1, last) for uid, name, first, last in conn.execute(query)]
    learn_texts(conn, (each.name for each in found))
    return found


def scored_rows(conn: Connection, spans: Iterable[MissedRows], most: int) -> tuple[list[Scored], list[MissedRows]]:
    """The scored rows of spans, ``most`` of each, and what is left of the spans."""
    c = metric_data.c
    scored, left = [], []
    for span in spans:
        whys = results.whys_of(conn, span.uid, span.after + 1, span.last)
        query = (
            select(c.rowid, c.timestamp, c.metric_value, c.raw_anomaly_score, c.anomaly_score)
            .where(c.uid == span.uid, c.rowid > span.after, c.rowid <= span.last, c.anomaly_score.is_not(None))
            .order_by(c.rowid)
            .limit(most)
        )
        rows = tuple(
            ScoredRow(rowid, from_datetime(timestamp), value, raw, score, None, whys.get(rowid, UNSET))
            for rowid, timestamp, value, raw, score in conn.execute(query)
        )
        scored.append(Scored(span.uid, span.name, rows))
        if len(rows) == most:
            left.append(replace(span, after=rows[-1].rowid))
    return scored, left


def recent_rows(conn: Connection, uid: str, rowid: int) -> tuple[RecentRow, ...]:
    """The last rows up to one, for a plot."""
    rows = get_rows(conn, uid, max(rowid - RECENT_ROWS, 0), RECENT_ROWS)
    return tuple(RecentRow(row.timestamp, row.value, row.anomaly) for row in rows if row.rowid <= rowid)


# --- alerts ---------------------------------------------------------------------------------------------


def add_alert(conn: Connection, fired: Notification) -> bool:
    """Remember that an alert fired; False: it is known already."""
    if conn.execute(select(alert.c.id).where(alert.c.id == fired.alert_id)).first() is not None:
        return False
    conn.execute(
        insert(alert),
        {
            "id": fired.alert_id,
            "rule": fired.rule,
            "uid": fired.uid,
            "metric": fired.metric,
            "rowid": fired.rowid,
            "timestamp": fired.timestamp,
            "metric_value": fired.value,
            "anomaly_score": fired.score,
            "created_at": fired.created,
        },
    )
    return True


def resolve_alert(conn: Connection, alert_id: str, now: float, reason: str) -> None:
    """Remember that it is over."""
    conn.execute(update(alert).where(alert.c.id == alert_id).values(resolved_at=now, reason=reason))


def told_of(conn: Connection, alert_id: str) -> dict[str, Message]:
    """What each receiver was told when an alert fired, or an incident opened."""
    c = alert_delivery.c
    query = select(c.receiver, c.body).where(c.alert_id == alert_id, c.status == "firing")
    return {row.receiver: message_from_json(row.body) for row in conn.execute(query)}


def still_firing(conn: Connection, receiver: str, limit: int) -> list[Message]:
    """What a receiver was told of alerts and incidents that are not over: of each the newest message."""
    c = alert_delivery.c
    later = alert_delivery.alias()
    newer = exists().where(
        later.c.alert_id == c.alert_id,
        later.c.receiver == receiver,
        later.c.status == "worse",
        later.c.state == DeliveryState.DELIVERED.value,
        c.status == "firing",
    )
    open_ = or_(
        exists().where(alert.c.id == c.alert_id, alert.c.resolved_at.is_(None)),
        exists().where(incident.c.id == c.alert_id, incident.c.over_at.is_(None)),
    )
    query = (
        select(c.body)
        .where(c.receiver == receiver, c.status.in_(["firing", "worse"]), c.state == DeliveryState.DELIVERED.value)
        .where(open_, ~newer)
        .order_by(c.created_at.desc())
        .limit(limit)
    )
    return [message_from_json(body) for body in conn.execute(query).scalars()]


def list_alerts(conn: Connection, limit: int) -> list[AlertRecord]:
    """The newest alerts first, those that fire before all others."""
    query = select(alert, metric.c.last_timestamp).outerjoin(metric, metric.c.uid == alert.c.uid)
    query = query.order_by(alert.c.resolved_at.is_not(None), alert.c.created_at.desc()).limit(limit)
    rows = conn.execute(query).all()
    deliveries: dict[str, list[DeliveryRecord]] = {row.id: [] for row in rows}
    c = alert_delivery.c
    for ids in in_parts(deliveries):
        of_them = select(alert_delivery).where(c.alert_id.in_(ids)).order_by(c.created_at, c.id)
        for row in conn.execute(of_them):
            record = DeliveryRecord(row.status, row.receiver, DeliveryState(row.state), row.attempts, row.answer or "")
            deliveries[row.alert_id].append(record)
    return [
        AlertRecord(
            row.id,
            row.rule,
            row.metric,
            row.timestamp,
            row.metric_value,
            row.anomaly_score,
            row.created_at,
            row.resolved_at,
            row.reason or "",
            None if row.last_timestamp is None else from_datetime(row.last_timestamp),
            tuple(deliveries[row.id]),
        )
        for row in rows
    ]


# --- deliveries -----------------------------------------------------------------------------------------


def add_deliveries(conn: Connection, notification: Message, receivers: Iterable[str], *, after_s: float = 0.0) -> None:
    """Queue a message for each receiver that has not been queued before; it is due after so many seconds."""
    c = alert_delivery.c
    same = select(c.receiver).where(c.alert_id == notification.id, c.status == notification.status)
    known = set(conn.execute(same).scalars())
    for receiver in receivers:
        if receiver in known:
            continue
        conn.execute(
            insert(alert_delivery),
            {
                "id": f"{notification.id}.{notification.status}.{receiver}",
                "alert_id": notification.id,
                "status": notification.status,
                "receiver": receiver,
                "state": DeliveryState.WAITING.value,
                "body": notification.to_json(),
                "attempts": 0,
                "created_at": notification.created,
                "next_at": notification.created + after_s,
            },
        )


def renew_waiting(conn: Connection, notification: Message) -> None:
    """A message that nobody has tried to send yet says what is known now."""
    c = alert_delivery.c
    same = and_(c.alert_id == notification.id, c.status == notification.status)
    unsent = and_(same, c.state == DeliveryState.WAITING.value, c.attempts == 0)
    conn.execute(update(alert_delivery).where(unsent).values(body=notification.to_json()))


def claim_delivery(conn: Connection, receiver: str, now: float, lease_s: float) -> QueuedMessage | None:
    """Take a receiver's next message that is due; nobody else gets it within the lease.

    An alert's messages go out in their order.  A process that dies with a message leaves it to be taken again when the
    lease is over.
    """
    c = alert_delivery.c
    query = select(alert_delivery).where(_may_go(receiver), c.next_at <= now).order_by(c.next_at, c.id).limit(1)
    row = conn.execute(query).first()
    if row is None:
        return None
    mine = and_(c.id == row.id, c.state == DeliveryState.WAITING.value, c.next_at == row.next_at)
    taken = update(alert_delivery).where(mine).values(attempts=row.attempts + 1, next_at=now + lease_s)
    if not conn.execute(taken).rowcount:
        return None  # another process was faster
    return QueuedMessage(row.id, receiver, message_from_json(row.body), row.attempts + 1, row.created_at)


def next_due(conn: Connection, receiver: str) -> float | None:
    """When a receiver's next message is due."""
    due: float | None = conn.execute(select(func.min(alert_delivery.c.next_at)).where(_may_go(receiver))).scalar_one()
    return due


def _may_go(receiver: str) -> Any:
    """What waits for a receiver, and not behind another message of the same alert."""
    c = alert_delivery.c
    earlier = alert_delivery.alias()
    before = or_(
        and_(c.status != "firing", earlier.c.status == "firing"),
        and_(c.status == "resolved", earlier.c.status == "worse"),
    )
    behind = exists().where(
        before,
        earlier.c.alert_id == c.alert_id,
        earlier.c.receiver == receiver,
        earlier.c.state == DeliveryState.WAITING.value,
    )
    return and_(c.receiver == receiver, c.state == DeliveryState.WAITING.value, ~behind)


def end_delivery(conn: Connection, delivery_id: str, state: DeliveryState, now: float, answer: str) -> None:
    """It was delivered, or is given up."""
    _update(conn, delivery_id, state=state.value, ended_at=now, answer=answer)


def postpone_delivery(conn: Connection, delivery_id: str, next_at: float, answer: str) -> None:
    """It is tried again later."""
    _update(conn, delivery_id, next_at=next_at, answer=answer)


def undelivered(conn: Connection, since: float, limit: int) -> list[Undelivered]:
    """What still waits after an attempt that failed, and what was given up since then; the newest first."""
    c = alert_delivery.c
    failing = and_(c.state == DeliveryState.WAITING.value, c.attempts > 0, c.answer.is_not(None))
    lost = and_(c.state == DeliveryState.GIVEN_UP.value, c.ended_at >= since)
    rows = conn.execute(
        select(alert_delivery).where(or_(failing, lost)).order_by(c.created_at.desc(), c.id).limit(limit)
    )
    return [
        Undelivered(
            row.alert_id,
            message_from_json(row.body).subject,
            row.status,
            row.receiver,
            DeliveryState(row.state),
            row.attempts,
            row.answer or "",
            row.created_at,
        )
        for row in rows
    ]


def _update(conn: Connection, delivery_id: str, **values: Any) -> None:
    conn.execute(update(alert_delivery).where(alert_delivery.c.id == delivery_id).values(**values))


def unreached(conn: Connection) -> list[str]:
    """Troubles: the receivers whose messages wait after an attempt that failed."""
    c = alert_delivery.c
    query = (
        select(c.receiver, func.min(c.created_at), func.max(c.answer))
        .where(c.state == DeliveryState.WAITING.value)
        .group_by(c.receiver)
        .having(func.max(c.answer).is_not(None))
        .order_by(c.receiver)
    )
    return [
        f"receiver {name!r} has taken no message since {_in_utc(since)}: {why}"
        for name, since, why in conn.execute(query)
    ]


def _in_utc(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"


def give_up_unknown(conn: Connection, receivers: Sequence[str], now: float) -> int:
    """Give up what waits for receivers that are no longer configured; returns how many messages."""
    c = alert_delivery.c
    where = and_(c.state == DeliveryState.WAITING.value, c.receiver.not_in(receivers))
    values = {"state": DeliveryState.GIVEN_UP.value, "ended_at": now, "answer": "the receiver was removed"}
    return conn.execute(update(alert_delivery).where(where).values(values)).rowcount


def prune_alerts(conn: Connection, before: float) -> None:
    """Remove alerts that ended before, with their messages, unless one still waits."""
    waiting = exists().where(
        alert_delivery.c.alert_id == alert.c.id, alert_delivery.c.state == DeliveryState.WAITING.value
    )
    old = select(alert.c.id).where(alert.c.resolved_at < before, ~waiting).limit(IN_AT_ONCE)
    ids = list(conn.execute(old).scalars())
    conn.execute(delete(alert_delivery).where(alert_delivery.c.alert_id.in_(ids)))
    conn.execute(delete(alert).where(alert.c.id.in_(ids)))
