# SPDX-License-Identifier: MIT
"""Targets to series: finds the metrics of their paths, reads them, and runs the functions.

In: expressions and a range of time.  Out: series.  Everything happens in one read of the database, in its thread; what
one request may ask for is bounded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from time import monotonic
from typing import Any

from sqlalchemy import Connection

from htmengine.adapters.datasource.evidence_columns import EvidenceColumns, bucketed, evidence_columns
from htmengine.errors import ModelNotFound
from htmengine.repository import queries, reading
from htmengine.repository.reading import Span
from htmengine.web.graphite.functions import function_named
from htmengine.web.graphite.paths import BAND, Pattern, SeriesKind, find_series
from htmengine.web.graphite.series import Range, Series, interval_of, series_of
from htmengine.web.graphite.targets import FunctionCall, Path, parse_target
from htmengine.web.refused import Refused

MOST_TARGETS = 100
#: Series that one request may read.
MOST_SERIES = 500
#: Points in one answer, about.
MOST_POINTS = 1_000_000
#: Points that functions may make on the way to it, and the time that all of it may take.
MOST_COMPUTED = 10_000_000
MOST_SECONDS = 10.0
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
    renderer = _Renderer(conn, wanted)
    return [series for expression in expressions for series in renderer.evaluate(expression)]


class Budget:
    """What one request may still cost.  ``now``: seconds of a clock that only goes on."""

    def __init__(self, now: Callable[[], float] = monotonic) -> None:
        self._now = now
        self._end = now() + MOST_SECONDS
        self._computed = 0

    def spend(self, series: list[Series]) -> None:
        """Take off what was computed.  Raises `Refused` when there is nothing left."""
        self._computed += sum(len(each.values) for each in series)
        if self._computed > MOST_COMPUTED:
            raise Refused(422, f"target: functions make more than {MOST_COMPUTED} points; ask for less")
        if self._now() > self._end:
            raise Refused(
                503, f"target: takes more than {MOST_SECONDS:g} s; ask for less", headers={"Retry-After": "5"}
            )


class _Renderer:
    def __init__(self, conn: Connection, wanted: Range) -> None:
        self._conn = conn
        self._budget = Budget()
        self._wanted = wanted
        self._spans: dict[str, tuple[Span, int]] = {}  #: of metrics by uid: their rows, and the distance of points
        self._bands: dict[str, EvidenceColumns | None] = {}  #: by uid; None: the metric has no model
        self._series = 0
        self._points = 0

    def evaluate(self, expression: Path | FunctionCall) -> list[Series]:
        """The series of an expression."""
        if isinstance(expression, Path):
            return self._fetch(expression.text)
        function = function_named(expression.function)
        arguments = [self._argument(each) for each in expression.arguments]
        keywords = {name: self._argument(each) for name, each in expression.keywords}
        made = function(self._wanted, expression.text, arguments, keywords)
        self._budget.spend(made)
        return made

    def _argument(self, given: Any) -> Any:
        return self.evaluate(given) if isinstance(given, Path | FunctionCall) else given

    def _fetch(self, path: str) -> list[Series]:
        pattern = Pattern.parse(path)
        metrics = metrics_of(self._conn, pattern)
        found = list(find_series(pattern, metrics))
        self._series += len(found)
        if self._series > MOST_SERIES:
            raise Refused(422, f"target: more than {MOST_SERIES} series at a time")
        return [self._one(name, metrics[name], kind) for name, kind in found]

    def _one(self, name: str, uid: str, kind: SeriesKind) -> Series:
        if uid not in self._spans:
            self._spans[uid] = self._span(uid)
        span, step = self._spans[uid]
        path = f"{name}.{kind.value}" if kind.value else name
        series = series_of(path, self._points_of(uid, span, step, kind), step, self._wanted)
        self._points += len(series.values)
        self._budget.spend([series])
        if self._points > MOST_POINTS:
            raise Refused(422, f"target: more than {MOST_POINTS} points at a time; ask for less with maxDataPoints")
        return series

    def _points_of(self, uid: str, span: Span, step: int, kind: SeriesKind) -> Iterable[tuple[int, float | None]]:
        if kind in _FIGURES:
            return reading.points_of(self._conn, uid, span, step, _FIGURES[kind])
        if uid not in self._bands:
            self._bands[uid] = self._band(uid, span, step)
        return band_points(self._bands[uid], BAND.index(kind))

    def _band(self, uid: str, span: Span, step: int) -> EvidenceColumns | None:
        if len(self._bands) >= MOST_BANDS:
            raise Refused(422, f"target: bands of more than {MOST_BANDS} metrics at a time")
        try:
            return bucketed(evidence_columns(self._conn, queries.get_metric(self._conn, uid), span), step)
        except ModelNotFound:
            return None

    def _span(self, uid: str) -> tuple[Span, int]:
        wanted = self._wanted
        span = reading.span_of(self._conn, uid, wanted.start, wanted.end)
        newest = reading.rows_of(self._conn, uid, span, _INTERVAL_ROWS, newest=True)
        return span, wanted.step_for(interval_of([row.timestamp for row in newest]))


def band_points(columns: EvidenceColumns | None, column: int) -> Iterator[tuple[int, float | None]]:
    """(timestamp, expected value or end of its band); what is not known is None."""
    if columns is not None:
        for timestamp, value in zip(columns.timestamps.tolist(), columns.expected[:, column].tolist(), strict=True):
            yield timestamp, value if math.isfinite(value) else None


def metrics_of(conn: Connection, pattern: Pattern) -> dict[str, str]:
    """The uids, by name, of all metrics that may have a series or a node that matches.

    The last node of a score or a band is not part of its metric's name.
    """
    stem = pattern.prefix.rpartition(".")[0]
    if pattern.prefix == pattern.text:
        return reading.metrics_named(conn, [pattern.text, stem])
    return reading.metrics_with_prefix(conn, stem)
