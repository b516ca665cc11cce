# SPDX-License-Identifier: MIT
"""Why a row has its score: the kinds of evidence, the expected value and its band.

In: a detector after a row, or a metric and a time.  Out: a `Why`.  What the Anomaly Service stores of rows with great
scores is found again, for any row, by replay of the stored rows from the model's first on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, select

from htmengine.errors import ModelNotFound, RowNotFound
from htmengine.evidence import Detector
from htmengine.evidence.explaining import why_of
from htmengine.evidence.scoring import detector_for, restored
from htmengine.htm.params import ModelParams
from htmengine.messages import Why
from htmengine.repository import fine_spans, queries, reading, snapshots
from htmengine.repository.fine_spans import learnt_at
from htmengine.repository.queries import Metric, Row
from htmengine.repository.schema import anomaly
from htmengine.repository.times import to_datetime

#: Rows that are read at once.
ROWS_AT_ONCE = 5000
NONE_UNSTORED: Mapping[int, float] = MappingProxyType({})


def columns(rows: Sequence[Row]) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Timestamps, values and raw scores of rows that have one."""
    known = [row for row in rows if row.raw is not None]
    return (
        np.array([row.timestamp for row in known], dtype=np.int64),
        np.array([row.value for row in known], dtype=np.float64),
        np.array([row.raw for row in known], dtype=np.float64),
    )


class Told(NamedTuple):
    """A scored row, and why it has its score."""

    rowid: int
    timestamp: int
    value: float
    anomaly_score: float
    why: Why


def why_at(conn: Connection, metric: Metric, timestamp: int) -> Told:
    """The row of that time (epoch seconds): what is stored of it, or what a replay says.

    Raises `RowNotFound`, and `ModelNotFound` for a metric without a model.
    """
    return _stored(conn, metric, timestamp) or replayed(conn, metric, timestamp)


def replayed(conn: Connection, metric: Metric, timestamp: int) -> Told:
    """The same by replay of the rows of the metric's model."""
    span = reading.span_of(conn, metric.uid, timestamp, timestamp)
    wanted = next(iter(queries.get_rows(conn, metric.uid, span.last - 1, 1)), None)
    if span.last < span.first or wanted is None or wanted.raw is None or wanted.anomaly is None:
        raise RowNotFound(metric.name, timestamp)
    start = first_detector(conn, metric)
    if wanted.rowid <= start.after:
        raise RowNotFound(metric.name, timestamp)
    detector = detector_before(conn, metric, wanted.rowid, start=start)
    detector.update(wanted.timestamp, wanted.value, wanted.raw)
    return Told(wanted.rowid, wanted.timestamp, wanted.value, wanted.anomaly, why_of(detector))


def _stored(conn: Connection, metric: Metric, timestamp: int) -> Told | None:
    c = anomaly.c
    query = select(c.rowid, c.metric_value, c.anomaly_score, c.why)
    row = conn.execute(query.where(c.uid == metric.uid, c.timestamp == to_datetime(timestamp))).first()
    if row is None or row.why is None:
        return None
    why = msgspec.json.decode(row.why, type=Why)
    return Told(row.rowid, timestamp, row.metric_value, row.anomaly_score, why)


class Start(NamedTuple):
    """A detector after the row ``after``."""

    detector: Detector
    after: int


def first_detector(conn: Connection, metric: Metric) -> Start:
    """The detector before the first row of a metric's model.

    Raises `ModelNotFound` for a metric without a model.
    """
    definition = metric.definition
    if definition is None:
        raise ModelNotFound(metric.name, metric.status.name)
    if definition.snapshot is not None:
        state = snapshots.state_of(conn, metric.uid, definition.snapshot)
        if state is not None:
            return Start(restored(state.likelihood), definition.after)
    return Start(detector_for(ModelParams.from_json(definition.params)), definition.after)


def detector_before(
    conn: Connection,
    metric: Metric,
    rowid: int,
    *,
    start: Start | None = None,
    unstored: Mapping[int, float] = NONE_UNSTORED,
) -> Detector:
    """A metric's detector when a row comes: it knows the earlier rows but for those that were called fine by then.

    ``start``: from where it runs; None: `first_detector`.  ``unstored``: raw scores that the database does not have
    yet, by rowid.
    """
    detector, after = start or first_detector(conn, metric)
    learnt = learnt_at(fine_spans.of_metrics(conn, [metric.uid]).get(metric.uid, ()), rowid)
    while after < rowid - 1:
        rows = queries.get_rows(conn, metric.uid, after, min(ROWS_AT_ONCE, rowid - 1 - after))
        if not rows:
            break
        known = [row for row in rows if row.rowid < rowid and learnt(row.rowid)]
        detector.update_many(*columns([replace(row, raw=unstored.get(row.rowid, row.raw)) for row in known]))
        after = rows[-1].rowid
    return detector
