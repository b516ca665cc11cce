# SPDX-License-Identifier: MIT
"""Targets to series: finds the metrics of their paths and tags, and reads their rows.

In: targets and a range of time.  Out: series.  Everything happens in one read of the database, in its thread; what
one request may ask for is bounded.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace

from sqlalchemy import Connection

from htmengine.adapters.datasource.evidence_columns import EvidenceColumns, bucketed, evidence_columns
from htmengine.errors import ModelNotFound
from htmengine.labels import spellings
from htmengine.repository import queries, reading
from htmengine.repository.reading import Span
from htmengine.web.graphite.evaluator import Budget, Evaluator
from htmengine.web.graphite.paths import BAND, Pattern, SeriesKind, find_series
from htmengine.web.graphite.series import Range, Series, interval_of, series_of
from htmengine.web.graphite.tags import find_tagged
from htmengine.web.graphite.targets import parse_target
from htmengine.web.refused import Refused

MOST_TARGETS = 100
#: Series that one request may read.
MOST_SERIES = 500
#: Points in one answer, about.
MOST_POINTS = 1_000_000
_FIGURES = {
    SeriesKind.VALUE: reading.MEAN_VALUE,
    SeriesKind.ANOMALY_SCORE: reading.GREATEST_SCORE,  # a peak must not be averaged away
    SeriesKind.RAW_ANOMALY_SCORE: reading.GREATEST_RAW_SCORE,
}
#: Metrics whose bands one request may ask for: each is found by replay.
MOST_BANDS = 20
#: Rows that tell how often a metric comes.
_INTERVAL_ROWS = 61


def render(conn: Connection, targets: list[str], wanted: Range) -> list[Series]:
    """The series of all targets.  Raises `Refused`."""
    if len(targets) > MOST_TARGETS:
        raise Refused(400, f"target: {len(targets)} of them; at most {MOST_TARGETS} are allowed")
    expressions = [parse_target(target) for target in targets]
    evaluator = Evaluator(_Database(conn), wanted, Budget())
    try:
        return [series for expression in expressions for series in evaluator.evaluate(expression)]
    finally:
        evaluator.forget()


class _Database:
    """Series of the stored metrics; what one request may read is bounded."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn
        self._spans: dict[tuple[str, Range], tuple[Span, int]] = {}  #: by uid: their rows, and the distance of points
        self._bands: dict[tuple[str, Range], EvidenceColumns | None] = {}  #: None: the metric has no model
        self._series = 0
        self._points = 0

    def by_path(self, path: str, wanted: Range) -> list[Series]:
        pattern = Pattern.parse(spellings(path)[0] if ";" in path else path)  # tags in any order
        metrics = metrics_of(self._conn, pattern)
        found = self._all(((name, metrics[name], kind) for name, kind in find_series(pattern, metrics)), wanted)
        return [replace(each, expression=path) for each in found]

    def by_tags(self, conditions: list[str], wanted: Range) -> list[Series]:
        found = find_tagged(self._conn, conditions)
        return self._all(((each.name, each.uid, SeriesKind.VALUE) for each in found), wanted)

    def _all(self, found: Iterable[tuple[str, str, SeriesKind]], wanted: Range) -> list[Series]:
        several = list(found)
        self._series += len(several)
        if self._series > MOST_SERIES:
            raise Refused(422, f"target: more than {MOST_SERIES} series at a time")
        return [self._one(name, uid, kind, wanted) for name, uid, kind in several]

    def _one(self, name: str, uid: str, kind: SeriesKind, wanted: Range) -> Series:
        if (uid, wanted) not in self._spans:
            self._spans[uid, wanted] = self._span(uid, wanted)
        span, step = self._spans[uid, wanted]
        self._points += (wanted.end - wanted.start) // step + 1
        if self._points > MOST_POINTS:
            raise Refused(
                422,
                f"target: more than {MOST_POINTS} points at a time; ask for less with maxDataPoints, or for a shorter"
                " time where a function wants all rows",
            )
        path = f"{name}.{kind.value}" if kind.value else name
        return series_of(path, self._points_of(uid, span, step, kind, wanted), step, wanted)

    def _points_of(
        self, uid: str, span: Span, step: int, kind: SeriesKind, wanted: Range
    ) -> Iterable[tuple[int, float | None]]:
        if kind in _FIGURES:
            return reading.points_of(self._conn, uid, span, step, _FIGURES[kind])
        if (uid, wanted) not in self._bands:
            self._bands[uid, wanted] = self._band(uid, span, step)
        return band_points(self._bands[uid, wanted], BAND.index(kind))

    def _band(self, uid: str, span: Span, step: int) -> EvidenceColumns | None:
        if len(self._bands) >= MOST_BANDS:
            raise Refused(422, f"target: bands of more than {MOST_BANDS} metrics at a time")
        try:
            return bucketed(evidence_columns(self._conn, queries.get_metric(self._conn, uid), span), step)
        except ModelNotFound:
            return None

    def _span(self, uid: str, wanted: Range) -> tuple[Span, int]:
        span = reading.span_of(self._conn, uid, wanted.start, wanted.end)
        newest = reading.rows_of(self._conn, uid, span, _INTERVAL_ROWS, newest=True)
        return span, wanted.step_for(interval_of([row.timestamp for row in newest]))


def band_points(columns: EvidenceColumns | None, column: int) -> Iterator[tuple[int, float | None]]:
    """(timestamp, expected value or end of its band); what is not known is None."""
    if columns is not None:
        for timestamp, value in zip(columns.timestamps.tolist(), columns.expected[:, column].tolist(), strict=True):
            yield timestamp, value if math.isfinite(value) else None


def metrics_of(conn: Connection, pattern: Pattern) -> dict[str, str]:
    """The uids, by name, of all metrics that may have a series that matches."""
    if pattern.prefix == pattern.text:
        return reading.metrics_named(conn, [pattern.text, pattern.stem])
    return reading.metrics_with_prefix(conn, pattern.stem)
