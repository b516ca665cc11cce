# SPDX-License-Identifier: MIT
"""What was expected of a metric's rows, and which evidence spoke of them, over a range of rows.

In: a metric and a span of its rows.  Out: columns.  They are found by replay of the stored rows, as `why` finds one
row: from the model's first row on, or for a long series from some rows before the span.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from htmengine.adapters.datasource.why import Start, detector_before, first_detector
from htmengine.evidence import Detector
from htmengine.evidence.kinds import KINDS, LANES
from htmengine.evidence.scoring import detector_for
from htmengine.htm.params import ModelParams
from htmengine.repository import fine_spans, reading
from htmengine.repository.queries import Metric
from htmengine.repository.reading import Span

#: Rows that one replay runs at most: some seconds of work, and twelve times what the evidence remembers.
MOST_ROWS = 200_000
_LANE_KINDS = [[place for place, kind in enumerate(KINDS) if kind.lane == lane] for lane in LANES]


class EvidenceColumns(NamedTuple):
    """n rows.  ``timestamps``: epoch seconds, shape (n,).

    ``expected``: value, lower and upper end of the band, shape (n, 3), NaN where nothing was known.  ``lanes``: decades
    as the score counts them, the greatest of each lane's kinds, shape (n, number of lanes).  ``complete``: the replay
    began with the model, so that these are the numbers that the scores rest on.
    """

    timestamps: NDArray[np.int64]
    expected: NDArray[np.float64]
    lanes: NDArray[np.float64]
    complete: bool


def evidence_columns(conn: Connection, metric: Metric, span: Span) -> EvidenceColumns:
    """Of a span's rows that have a raw score.  Raises `ModelNotFound` for a metric without a model.

    Of a span longer than `MOST_ROWS` the newest rows are given.
    """
    after = first_detector(conn, metric).after
    complete = span.last - after <= MOST_ROWS
    after = after if complete else span.last - MOST_ROWS
    spans = fine_spans.of_metrics(conn, [metric.uid]).get(metric.uid, ())
    parts = []
    for first, last in _between_turns(Span(max(span.first, after + 1), span.last), fine_spans.turns(spans)):
        start = first_detector(conn, metric) if complete else Start(_new_detector(metric), after)
        detector, done = detector_before(conn, metric, first, start=start), first - 1
        while rows := reading.raw_scored_rows(conn, metric.uid, Span(done + 1, last)):
            parts.append(_run(detector, rows))
            done = rows[-1][0]
    return _joined(parts, complete)


def _between_turns(span: Span, turns: Collection[int]) -> Iterator[Span]:
    """Parts in which the same rows are learnt.

    >>> [*_between_turns(Span(3, 9), {5, 9, 12})]
    [Span(first=3, last=5), Span(first=6, last=9)]
    """
    first = span.first
    for turn in sorted(turn for turn in turns if span.first <= turn < span.last):
        yield Span(first, turn)
        first = turn + 1
    yield Span(first, span.last)


def _new_detector(metric: Metric) -> Detector:
    assert metric.definition is not None
    return detector_for(ModelParams.from_json(metric.definition.params))


def _run(detector: Detector, rows: list[tuple[int, int, float, float]]) -> EvidenceColumns:
    _, timestamps, values, raws = zip(*rows, strict=True)
    times = np.array(timestamps, dtype=np.int64)
    scored = detector.update_many(times, np.array(values, dtype=np.float64), np.array(raws, dtype=np.float64))
    paced = detector.paced(scored.evidence)
    return EvidenceColumns(times, scored.expected, _lanes(paced), complete=True)


def _lanes(evidence: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.stack([evidence[:, kinds].max(axis=1) for kinds in _LANE_KINDS], axis=1)


def _joined(parts: list[EvidenceColumns], complete: bool) -> EvidenceColumns:
    if not parts:
        return EvidenceColumns(np.empty(0, np.int64), np.empty((0, 3)), np.empty((0, len(LANES))), complete)
    timestamps, expected, lanes = (np.concatenate(column) for column in list(zip(*parts, strict=True))[:3])
    return EvidenceColumns(timestamps, expected, lanes, complete)


def bucketed(columns: EvidenceColumns, step: int | None) -> EvidenceColumns:
    """Buckets of whole multiples of ``step`` seconds, empty ones left out; None: each row is a bucket.

    A bucket has its last expected value, its widest band, and the greatest decades of each lane.

    >>> rows = EvidenceColumns(np.array([10, 70, 80]), np.array([[1.0, 0, 2]] * 3), np.array([[1.0], [2], [3]]), True)
    >>> bucketed(rows, 60).timestamps.tolist(), bucketed(rows, 60).lanes.tolist()
    ([0, 60], [[1.0], [3.0]])
    """
    if step is None or not len(columns.timestamps):
        return columns
    numbers = columns.timestamps // step
    starts = np.flatnonzero(np.r_[True, numbers[1:] != numbers[:-1]])
    ends = np.r_[starts[1:], len(numbers)] - 1
    value = columns.expected[ends, 0]
    lower = np.fmin.reduceat(columns.expected[:, 1], starts)
    upper = np.fmax.reduceat(columns.expected[:, 2], starts)
    return EvidenceColumns(
        numbers[starts] * step,
        np.stack([value, lower, upper], axis=1),
        np.maximum.reduceat(columns.lanes, starts, axis=0),
        columns.complete,
    )
