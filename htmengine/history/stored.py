# SPDX-License-Identifier: MIT
"""What a backtest reads of the database: metrics' pasts, and what happened.

As in `repository.queries`: synchronous, ``conn`` first.  Nothing is written, so a live engine may be asked.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from sqlalchemy import Connection, select

from htmengine.errors import InvalidModelSpec
from htmengine.history.comparison import Entry
from htmengine.history.rescoring import Floats, Past, Wholes, changed
from htmengine.htm.params import ModelParams
from htmengine.incidents import queries as incident_queries
from htmengine.incidents.budget_rules import STUDIED_ROWS
from htmengine.incidents.grouping import GAPS, SILENCE
from htmengine.incidents.records import Did, Incident, Member
from htmengine.repository import counts, fine_spans, late_samples, queries, reading, snapshots
from htmengine.repository.counters import learn_texts
from htmengine.repository.engine import as_of_now
from htmengine.repository.queries import Definition, Metric, MetricStatus
from htmengine.repository.row_spans import unlearnt_rows
from htmengine.repository.schema import alert, metric_data
from htmengine.repository.times import from_datetime, to_datetime
from htmengine.selectors import Selection

#: Incidents that are set side by side, at most; the newest.
MOST_INCIDENTS = 10_000
#: Rows that a picture has.
MOST_POINTS = 2000


def metrics_with_models(conn: Connection, selection: Selection) -> tuple[list[Metric], int]:
    """Those that are selected, and how many others of them have no model."""
    metrics = queries.list_metrics(conn)
    learn_texts(conn, (each.name for each in metrics))
    selected = [each for each in metrics if selection.takes(each.name)]
    modelled = [each for each in selected if each.definition and each.status is not MetricStatus.UNMONITORED]
    return modelled, len(selected) - len(modelled)


def past_of(conn: Connection, uid: str, changes: Mapping[str, Any]) -> Past | None:
    """A metric's rows, all as of one moment; None if it is gone, or has no model or no rows.

    With other parameters its model begins with the first row.  Raises `InvalidModelSpec`, which names the metric.
    """
    as_of_now(conn)
    metric = queries.find_metric_by_uid(conn, uid)
    if metric is None or metric.definition is None:
        return None
    definition = metric.definition
    params = _params(metric.name, definition, changes)
    same = params == ModelParams.from_json(definition.params)
    past = _rows(conn, metric, params, definition.after if same else 0)
    if not len(past.rowids):
        return None
    if not same:
        return replace(past, learnt_since=float(past.timestamps[0]), compares=False)
    return _with_beginning(conn, past, definition)


def _params(name: str, definition: Definition, changes: Mapping[str, Any]) -> ModelParams:
    try:
        return changed(definition.params, changes)
    except InvalidModelSpec as error:
        raise InvalidModelSpec(f"{name}: {error}") from None


def _rows(conn: Connection, metric: Metric, params: ModelParams, after: int) -> Past:
    c = metric_data.c
    columns = (c.rowid, c.timestamp, c.metric_value, c.raw_anomaly_score, c.anomaly_score)
    found = conn.execute(select(*columns).where(c.uid == metric.uid, c.rowid > after).order_by(c.rowid)).all()
    rowids, times, values, raws, scores = zip(*found, strict=True) if found else ((),) * 5
    return Past(
        uid=metric.uid,
        name=metric.name,
        params=params,
        rowids=np.array(rowids, dtype=np.int64),
        timestamps=np.array([from_datetime(each) for each in times], dtype=np.int64),
        values=np.array(values, dtype=np.float64),
        raws=np.array(raws, dtype=np.float64),  # None becomes NaN
        scores=np.array(scores, dtype=np.float64),
        after=after,
        unlearnt=unlearnt_rows.among(conn, metric.uid, after + 1, metric.last_rowid),
    )


def _with_beginning(conn: Connection, past: Past, definition: Definition) -> Past:
    """What the stored scores rest on beside the rows."""
    score = counts.get_scores(conn, [past.uid]).get(past.uid)
    current = score if score is not None and score.generation == definition.generation else None
    version = definition.snapshot
    return replace(
        past,
        start=None if version is None else snapshots.state_of(conn, past.uid, version),
        fine=fine_spans.of_metrics(conn, [past.uid]).get(past.uid, ()),
        evidence_from=current.evidence_from if current else None,
        scored_to=current.rowid if current else 0,
        late=late_samples.count_late(conn, past.uid),
        learnt_since=incident_queries.learnt_since(conn, [past.uid]).get(past.uid),
    )


def values_between(conn: Connection, uid: str, first: int, last: int) -> tuple[Wholes, Floats]:
    """A metric's rows in a range of time, both ends included: timestamps and values, of many rows about MOST_POINTS."""
    span = reading.span_of(conn, uid, first, last)
    rows = queries.samples_between(conn, uid, span.first - 1, span.last)
    rows = rows[:: 1 + len(rows) // MOST_POINTS]
    times = np.array([timestamp for _, timestamp, _ in rows], dtype=np.int64)
    return times, np.array([value for *_, value in rows], dtype=np.float64)


# --- what happened --------------------------------------------------------------------------------------


def times_until(conn: Connection, uid: str, until: int) -> list[int]:
    """The times of a metric's newest rows up to one, in order: what the Alert Service studies."""
    c = metric_data.c
    query = select(c.timestamp).where(c.uid == uid, c.timestamp <= to_datetime(until))
    times = conn.execute(query.order_by(c.rowid.desc()).limit(STUDIED_ROWS)).scalars()
    return [from_datetime(each) for each in reversed(times.all())]


def entries_between(conn: Connection, since: int, until: int, uids: Collection[str], *, silences: bool) -> list[Entry]:
    """Incidents and alerts that began in a range of time and have one of these metrics.

    Without ``silences`` those of nothing but metrics that fell silent are left out.
    """
    return [*_incidents(conn, since, until, frozenset(uids), silences=silences), *_alerts(conn, since, until, uids)]


def _incidents(conn: Connection, since: int, until: int, uids: frozenset[str], *, silences: bool) -> Iterator[Entry]:
    marks = incident_queries.marks(conn)
    for each in incident_queries.incidents_between(conn, since, until, MOST_INCIDENTS):
        members = incident_queries.members_of(conn, each.id)
        by_rows = [member for member in members if silences or member.kind not in {SILENCE, GAPS}]
        if by_rows and not uids.isdisjoint(member.uid for member in members):
            yield _entry(each, by_rows, marks.get(each.id))


def _entry(each: Incident, members: list[Member], mark: Did | None) -> Entry:
    return Entry(
        rule=each.rule,
        timestamp=each.timestamp,
        until=each.last_timestamp,
        paged=each.paged,
        verdict="paged" if each.paged else each.held_back or "",
        height=each.height,
        title=each.title,
        reason=members[0].reason,
        uid=members[0].uid,
        uids=frozenset(member.uid for member in members),
        id=each.id,
        mark=mark,
    )


def _alerts(conn: Connection, since: int, until: int, uids: Collection[str]) -> Iterator[Entry]:
    c = alert.c
    query = select(alert).where(c.timestamp.between(since, until)).order_by(c.timestamp, c.id)
    for row in conn.execute(query.limit(MOST_INCIDENTS)):
        if row.uid in uids:
            reason = f"value {row.metric_value:g}, anomaly score {row.anomaly_score:.6f}"
            at, only = row.timestamp, frozenset({row.uid})
            yield Entry(row.rule, at, at, True, "paged", None, row.metric, reason, row.uid, only, id=row.id)
