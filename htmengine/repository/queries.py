# SPDX-License-Identifier: MIT
"""What the services ask of the database.  Each function is synchronous, takes ``conn`` first, and runs in the
caller's transaction (`engine.Database.run`); results are frozen dataclasses.  Timestamps are epoch seconds.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from sqlalchemy import Connection, and_, delete, func, insert, select, update
from sqlalchemy.engine import RowMapping

from htmengine.errors import MetricNotFound
from htmengine.labels import spellings
from htmengine.repository.bulk import bulk_insert, bulk_update
from htmengine.repository.schema import (
    anomaly_state,
    filled_span,
    fine_span,
    metric,
    metric_data,
    outbox,
    processed_batch,
    unlearnt_span,
)
from htmengine.repository.times import from_datetime as _epoch
from htmengine.repository.times import to_datetime as _time

#: Values in one IN (...): within every database's limits.
IN_AT_ONCE = 500


class MetricStatus(enum.IntEnum):
    """The column ``metric.status``; docs/states.md has the transitions."""

    UNMONITORED = 0
    ACTIVE = 1
    CREATE_PENDING = 2
    ERROR = 4
    PENDING_DATA = 8
    CONSTANT = 16
    EXPIRED = 32

    @property
    def has_model(self) -> bool:
        """Whether a model runs, or is about to: it is fed, and its results count."""
        return self in (MetricStatus.ACTIVE, MetricStatus.CREATE_PENDING)

    @classmethod
    def _missing_(cls, value: object) -> MetricStatus:
        """A number that another program wrote counts as ERROR: no row of that metric reaches a model."""
        return cls.ERROR


def message_of(status: int, message: str | None) -> str | None:
    """What is told of a metric with that number in ``metric.status``: its message, or that the number is unknown.

    >>> message_of(3, None)
    'metric.status is 3; known are 0, 1, 2, 4, 8, 16, 32'
    """
    known = [each.value for each in MetricStatus]
    return message if status in known else f"metric.status is {status}; known are {', '.join(map(str, sorted(known)))}"


#: Statuses of metrics whose rows wait for no model.
MODEL_NOT_DUE = (MetricStatus.UNMONITORED, MetricStatus.CONSTANT, MetricStatus.EXPIRED)


@dataclass(frozen=True, slots=True)
class Definition:
    """A metric's current model: its generation and parameters (the column ``model_params``)."""

    generation: int
    params: dict[str, Any]
    snapshot: int | None = None  #: the version that it starts from; None: from nothing
    after: int = 0  #: the row after which it starts
    young: bool = False  #: its range is that of fewer rows than tell it; a model of the same rows and more follows
    told: int = 0  #: rows up to this one had their scores of a young model, and keep them
    early: int = 0  #: rows up to this one tell the range: a rule's threshold does not look at them


@dataclass(frozen=True, slots=True)
class Metric:
    uid: str
    datasource: str
    name: str
    description: str | None
    server: str | None
    location: str | None
    parameters: str | None
    status: MetricStatus
    message: str | None = None
    last_timestamp: int | None = None
    last_rowid: int = 0
    definition: Definition | None = None


@dataclass(frozen=True, slots=True)
class Tail:
    """Where a metric's rows end."""

    uid: str
    name: str
    status: MetricStatus
    last_timestamp: int | None = None
    last_rowid: int = 0


@dataclass(frozen=True, slots=True)
class Row:
    rowid: int
    timestamp: int
    value: float
    raw: float | None
    anomaly: float | None
    display: float | None
    predictions: dict[str, Any] | None


#: What is read of the outbox at once: models that are imported may be a gigabyte together.
OUTBOX_BYTES, OUTBOX_MESSAGES = 4 << 20, 1000


@dataclass(frozen=True, slots=True)
class OutboxMessage:
    id: int
    queue: str
    body: bytes


@dataclass(frozen=True, slots=True)
class AnomalyState:
    uid: str
    generation: int
    rowid: int
    state: bytes


def _metric(row: RowMapping) -> Metric:
    definition = json.loads(row["model_params"]) if row["model_params"] else None
    return Metric(
        row["uid"],
        row["datasource"],
        row["name"],
        row["description"],
        row["server"],
        row["location"],
        row["parameters"],
        MetricStatus(row["status"]),
        message_of(row["status"], row["message"]),
        None if row["last_timestamp"] is None else _epoch(row["last_timestamp"]),
        row["last_rowid"],
        definition and Definition(**definition),
    )


def in_parts(values: Collection[Any]) -> Iterator[list[Any]]:
    """Parts that fit into one IN (...)."""
    each = list(values)
    for at in range(0, len(each), IN_AT_ONCE):
        yield each[at : at + IN_AT_ONCE]


def get_metrics(conn: Connection, uids: Sequence[str], *, lock: bool = False) -> list[Metric]:
    """Those that there are, by uid.  With ``lock`` nobody else changes or removes them until the transaction ends."""
    query = select(metric).order_by(metric.c.uid)
    if lock:
        query = query.with_for_update()
    return [
        _metric(row)
        for part in in_parts(sorted(uids))
        for row in conn.execute(query.where(metric.c.uid.in_(part))).mappings()
    ]


def find_metric(conn: Connection, name: str, *, lock: bool = False) -> Metric:
    """The metric of that name, however its tags are sorted, or else of that uid; ``lock``: it is to be changed.

    Raises `MetricNotFound`.
    """
    names = spellings(name)
    found = find_metrics(conn, names, lock=lock)
    metric = next((found[each] for each in names if each in found), None) or find_metric_by_uid(conn, name, lock=lock)
    if metric is None:
        raise MetricNotFound(name)
    return metric


def find_metric_by_uid(conn: Connection, uid: str, *, lock: bool = False) -> Metric | None:
    found = get_metrics(conn, [uid], lock=lock)
    return found[0] if found else None


def get_metric(conn: Connection, uid: str) -> Metric:
    found = find_metric_by_uid(conn, uid)
    if found is None:
        raise MetricNotFound(uid)
    return found


def find_metrics(conn: Connection, names: Sequence[str], *, lock: bool = False) -> dict[str, Metric]:
    """Those that there are, by name; ``lock`` as in `get_metrics`.

    All lock in the same order, so that two who want the same metrics do not wait for each other.
    """
    query = select(metric).order_by(metric.c.name)
    if lock:
        query = query.with_for_update()
    return {
        row["name"]: _metric(row)
        for part in in_parts(sorted(names))
        for row in conn.execute(query.where(metric.c.name.in_(part))).mappings()
    }


def names_with_rows(conn: Connection, rows: int) -> list[str]:
    """Metrics that have had at least so many rows."""
    return list(conn.execute(select(metric.c.name).where(metric.c.last_rowid >= rows)).scalars())


def lock_tails(conn: Connection, names: Sequence[str]) -> dict[str, Tail]:
    """As `find_metrics` with ``lock``, without what only one who changes a metric needs."""
    c = metric.c
    query = select(c.uid, c.name, c.status, c.last_timestamp, c.last_rowid).order_by(c.name).with_for_update()
    return {
        name: Tail(uid, name, MetricStatus(status), newest and _epoch(newest), last_rowid)
        for part in in_parts(sorted(names))
        for uid, name, status, newest, last_rowid in conn.execute(query.where(c.name.in_(part))).all()
    }


def count_metrics(conn: Connection) -> int:
    return int(conn.execute(select(func.count()).select_from(metric)).scalar_one())


def list_metrics(conn: Connection) -> list[Metric]:
    return [_metric(row) for row in conn.execute(select(metric).order_by(metric.c.name)).mappings()]


def create_metrics(conn: Connection, metrics: Sequence[Metric]) -> None:
    """Add metrics without a model.  Another transaction that makes one of them too fails, and then finds it."""
    if metrics:
        conn.execute(
            insert(metric),
            [
                {
                    "uid": each.uid,
                    "datasource": each.datasource,
                    "name": each.name,
                    "status": int(each.status),
                    "parameters": each.parameters,
                }
                for each in metrics
            ],
        )


def set_parameters(conn: Connection, uid: str, parameters: str) -> None:
    conn.execute(update(metric).where(metric.c.uid == uid).values(parameters=parameters))


def set_status(conn: Connection, uid: str, status: MetricStatus, message: str | None) -> None:
    conn.execute(update(metric).where(metric.c.uid == uid).values(status=int(status), message=message))


def set_definition(conn: Connection, uid: str, definition: Definition, status: MetricStatus) -> None:
    text = json.dumps(asdict(definition))
    conn.execute(update(metric).where(metric.c.uid == uid).values(model_params=text, status=int(status), message=None))


def delete_metric(conn: Connection, uid: str) -> None:
    conn.execute(delete(metric_data).where(metric_data.c.uid == uid))
    conn.execute(delete(anomaly_state).where(anomaly_state.c.uid == uid))
    conn.execute(delete(metric).where(metric.c.uid == uid))


_ROW = ("uid", "rowid", "timestamp", "metric_value")
_SCORES = ("raw_anomaly_score", "anomaly_score", "display_value", "multi_step_best_predictions")


def insert_samples(conn: Connection, rows: Sequence[tuple[str, int, int, float]]) -> None:
    """Rows as (uid, rowid, timestamp, value)."""
    bulk_insert(conn, metric_data, _ROW, [(uid, rowid, _time(at), value) for uid, rowid, at, value in sorted(rows)])


def update_tails(conn: Connection, tails: Sequence[tuple[str, int, int]]) -> None:
    """Where metrics' rows end, as (uid, rowid, timestamp)."""
    rows = [(uid, rowid, _time(at)) for uid, rowid, at in tails]
    bulk_update(conn, metric, ["uid"], ["last_rowid", "last_timestamp"], rows)


def remove_rows(conn: Connection, uid: str) -> None:
    """Let a metric that has no model begin again, without rows."""
    for spans in (fine_span, unlearnt_span, filled_span):
        conn.execute(delete(spans).where(spans.c.uid == uid))
    conn.execute(delete(metric_data).where(metric_data.c.uid == uid))
    conn.execute(update(metric).where(metric.c.uid == uid).values(last_rowid=0, last_timestamp=None))


def remove_rows_after(conn: Connection, uid: str, timestamp: int) -> int:
    """Remove a metric's rows after a time, so that it takes samples from then on; how many there were."""
    c = metric_data.c
    removed = conn.execute(delete(metric_data).where(c.uid == uid, c.timestamp > _time(timestamp))).rowcount
    newest = conn.execute(select(c.timestamp).where(c.uid == uid).order_by(c.rowid.desc()).limit(1)).scalar()
    if removed:
        conn.execute(update(metric).where(metric.c.uid == uid).values(last_timestamp=newest))
    return removed


def metrics_ahead(conn: Connection, timestamp: int) -> tuple[int, tuple[str, int] | None]:
    """How many metrics have a sample after that time, and the newest one's name and time."""
    c = metric.c
    ahead = c.last_timestamp > _time(timestamp)
    count = conn.execute(select(func.count()).select_from(metric).where(ahead)).scalar_one()
    newest = conn.execute(select(c.name, c.last_timestamp).where(ahead).order_by(c.last_timestamp.desc()).limit(1))
    return int(count), next(((name, _epoch(last)) for name, last in newest), None)


def last_rowids(conn: Connection, uids: Sequence[str]) -> dict[str, int]:
    """The newest stored row of each metric."""
    c = metric.c
    return {
        uid: rowid
        for part in in_parts(uids)
        for uid, rowid in conn.execute(select(c.uid, c.last_rowid).where(c.uid.in_(part))).all()
    }


def get_rows(conn: Connection, uid: str, after_rowid: int, limit: int) -> list[Row]:
    query = select(metric_data).where(metric_data.c.uid == uid, metric_data.c.rowid > after_rowid)
    return [_row(row) for row in conn.execute(query.order_by(metric_data.c.rowid).limit(limit))]


def _row(row: Any) -> Row:
    return Row(
        row.rowid,
        _epoch(row.timestamp),
        row.metric_value,
        row.raw_anomaly_score,
        row.anomaly_score,
        row.display_value,
        json.loads(row.multi_step_best_predictions) if row.multi_step_best_predictions else None,
    )


def lacks_scores(conn: Connection, uid: str, after: int, last: int) -> bool:
    """Whether any of the rows after one row up to another has no raw score."""
    c = metric_data.c
    lacking = select(c.rowid).where(c.uid == uid, c.rowid > after, c.rowid <= last, c.raw_anomaly_score.is_(None))
    return conn.execute(lacking.limit(1)).first() is not None


def samples_between(conn: Connection, uid: str, after: int, last: int) -> list[tuple[int, int, float]]:
    """(rowid, timestamp, value) of the rows after one row up to another."""
    c = metric_data.c
    query = select(c.rowid, c.timestamp, c.metric_value).where(c.uid == uid, c.rowid > after, c.rowid <= last)
    return [(rowid, _epoch(at), value) for rowid, at, value in conn.execute(query.order_by(c.rowid))]


def samples_at(conn: Connection, uid: str, rowids: Sequence[int]) -> list[tuple[int, float]]:
    """(timestamp, value) of those rows that are there, in the order of time."""
    c = metric_data.c
    query = select(c.timestamp, c.metric_value).where(c.uid == uid).order_by(c.rowid)
    found = (row for part in in_parts(rowids) for row in conn.execute(query.where(c.rowid.in_(part))))
    return [(_epoch(at), value) for at, value in found]


def newest_rows(conn: Connection, uids: Sequence[str]) -> dict[str, Row]:
    """The newest row of each metric, by uid; those without rows are left out."""
    d = metric_data.c
    newest = select(metric_data).join(metric, and_(d.uid == metric.c.uid, d.rowid == metric.c.last_rowid))
    return {row.uid: _row(row) for part in in_parts(uids) for row in conn.execute(newest.where(metric.c.uid.in_(part)))}


def first_values(conn: Connection, uid: str, rows: int) -> list[float]:
    """The values of the first rows that there are."""
    c = metric_data.c
    return list(conn.execute(select(c.metric_value).where(c.uid == uid).order_by(c.rowid).limit(rows)).scalars())


def first_timestamp(conn: Connection, uid: str) -> int | None:
    """The time of the first row that there is."""
    c = metric_data.c
    found = conn.execute(select(c.timestamp).where(c.uid == uid).order_by(c.rowid).limit(1)).scalar()
    return None if found is None else _epoch(found)


def values_at(conn: Connection, rowids: Mapping[str, int]) -> dict[str, float]:
    """The value of one row of each metric, by uid; those whose row is not there are left out.

    They are asked for one by one: SQLite would go through the whole table to find pairs out of a list.
    """
    c = metric_data.c
    found = {
        uid: conn.execute(select(c.metric_value).where(c.uid == uid, c.rowid == rowid)).scalar_one_or_none()
        for uid, rowid in rowids.items()
    }
    return {uid: value for uid, value in found.items() if value is not None}


def is_constant(conn: Connection, uid: str) -> bool:
    """Whether all rows that there are have the same value."""
    c = metric_data.c
    lowest, highest = conn.execute(select(func.min(c.metric_value), func.max(c.metric_value)).where(c.uid == uid)).one()
    return bool(lowest == highest)


class Score(NamedTuple):
    """What a row was given."""

    uid: str
    rowid: int
    timestamp: int
    value: float
    raw: float
    anomaly: float
    display: float
    predictions: dict[str, Any] | None = None


def save_scores(conn: Connection, scores: Sequence[Score]) -> int:
    """Store scores with their rows.  Returns how many of the rows there are, with that time and value."""
    rows = [
        (
            uid,
            rowid,
            _time(at),
            value,
            raw,
            anomaly,
            display,
            predictions if predictions is None else json.dumps(predictions),
        )
        for uid, rowid, at, value, raw, anomaly, display, predictions in scores
    ]
    return bulk_update(conn, metric_data, _ROW, _SCORES, rows)


def forget_raw_scores(conn: Connection, uid: str) -> None:
    """No row of the metric is one that its model has run; anomaly scores stay."""
    conn.execute(update(metric_data).where(metric_data.c.uid == uid).values(raw_anomaly_score=None))


def young_metrics(conn: Connection, uids: Sequence[str]) -> set[str]:
    """Those whose models are young."""
    return {each.uid for each in get_metrics(conn, uids) if each.definition is not None and each.definition.young}


def young_rows(conn: Connection, uids: Sequence[str]) -> dict[str, int]:
    """The last of the rows that tell each metric's range; metrics whose range is given are left out."""
    found = [(each.uid, each.definition) for each in get_metrics(conn, uids) if each.definition is not None]
    return {uid: definition.early for uid, definition in found if definition.early}


def load_states(conn: Connection, uids: Sequence[str]) -> dict[str, AnomalyState]:
    return {
        row.uid: AnomalyState(row.uid, row.generation, row.rowid, row.state)
        for part in in_parts(uids)
        for row in conn.execute(select(anomaly_state).where(anomaly_state.c.uid.in_(part)))
    }


def save_states(conn: Connection, states: Sequence[AnomalyState]) -> None:
    for part in in_parts([s.uid for s in states]):
        conn.execute(delete(anomaly_state).where(anomaly_state.c.uid.in_(part)))
    if states:
        conn.execute(
            insert(anomaly_state),
            [{"uid": s.uid, "generation": s.generation, "rowid": s.rowid, "state": s.state} for s in states],
        )


def add_outbox(conn: Connection, messages: Sequence[tuple[str, bytes]]) -> list[OutboxMessage]:
    return [OutboxMessage(_add_message(conn, queue, body), queue, body) for queue, body in messages]


def _add_message(conn: Connection, queue: str, body: bytes) -> int:
    key = conn.execute(insert(outbox), {"queue": queue, "body": body}).inserted_primary_key
    assert key is not None
    return int(key[0])


def pending_outbox(conn: Connection, after: int = 0) -> list[OutboxMessage]:
    """The first messages after one, in order: at most `OUTBOX_BYTES`, or one alone."""
    c = outbox.c
    sizes = select(c.id, func.length(c.body)).where(c.id > after).order_by(c.id).limit(OUTBOX_MESSAGES)
    last = left = 0
    for number, size in conn.execute(sizes).all():
        left += size
        if last and left > OUTBOX_BYTES:
            break
        last = number
    query = select(outbox).where(c.id.between(after + 1, last)).order_by(c.id)
    return [OutboxMessage(row.id, row.queue, row.body) for row in conn.execute(query)]


def delete_outbox(conn: Connection, ids: Sequence[int]) -> None:
    for part in in_parts(ids):
        conn.execute(delete(outbox).where(outbox.c.id.in_(part)))


def known_batches(conn: Connection, ids: Sequence[str]) -> set[str]:
    return {
        row.batch_id
        for part in in_parts(ids)
        for row in conn.execute(select(processed_batch).where(processed_batch.c.batch_id.in_(part)))
    }


def add_batches(conn: Connection, ids: Sequence[str], now: int) -> None:
    if ids:
        conn.execute(insert(processed_batch), [{"batch_id": i, "processed_at": now} for i in ids])


def prune_batches(conn: Connection, before: int) -> None:
    conn.execute(delete(processed_batch).where(processed_batch.c.processed_at < before))
