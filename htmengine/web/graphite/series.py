# SPDX-License-Identifier: MIT
"""What functions work on: points at equal distances, made from rows that come when they come."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from htmengine import labels
from htmengine.web.graphite.aggregations import aggregation
from htmengine.web.refused import Refused

Value = float | None
#: The end of the year 2999: what is later is no time of a row.
LATEST = 32_503_679_999
#: More points than any range has rows.
ALL_POINTS = 1 << 62


@dataclass(frozen=True, slots=True)
class Series:
    """Points ``step`` seconds apart from ``start`` on; None where there is no value.

    ``name`` is what is shown, ``path`` the name of the series that it comes from, ``expression`` what names of
    combined series are made of, ``consolidation`` what becomes of points that are too many.
    """

    name: str
    path: str
    start: int
    step: int
    values: Sequence[Value]
    expression: str = ""
    consolidation: str = "average"

    @property
    def end(self) -> int:
        """Where the next point would be."""
        return self.start + self.step * len(self.values)

    def named(self, name: str) -> Series:
        """The same points under another name."""
        return replace(self, name=name)

    def made(self, name: str, values: Sequence[Value]) -> Series:
        """What a function has made of it."""
        return replace(self, name=name, expression=name, values=values)

    @property
    def tags(self) -> dict[str, str]:
        """Its path's name and labels."""
        name, found = labels.split(self.path)
        return {**found, "name": name}

    @property
    def datapoints(self) -> Iterator[tuple[Value, int]]:
        """As /render answers."""
        return ((value, self.start + self.step * number) for number, value in enumerate(self.values))


@dataclass(frozen=True, slots=True)
class Range:
    """What a request asks for: after ``start``, up to ``end``, at most ``points`` points a series."""

    start: int
    end: int
    points: int
    consolidation: str = "average"  #: what becomes of rows that are more than points

    @property
    def of_rows(self) -> Range:
        """The same with a point for every row."""
        return replace(self, points=ALL_POINTS)

    def moved(self, start: int, end: int = 0) -> Range:
        """With its ends moved by those seconds.  Raises `Refused` when that is before 1970 or no date at all."""
        moved = replace(self, start=self.start + start, end=self.end + end)
        if not 0 <= moved.start <= moved.end <= LATEST:
            raise Refused(400, "target: a function asks for a time before 1970 or after 2999")
        return moved

    def step_for(self, interval: int) -> int:
        """The distance of points for rows that come every ``interval`` seconds: a multiple of it.

        >>> Range(0, 86_400, 100).step_for(60), Range(0, 86_400, 100_000).step_for(60)
        (900, 60)
        """
        return interval * max(1, -(-(self.end - self.start) // (interval * self.points)))


def interval_of(timestamps: Sequence[int]) -> int:
    """How many seconds lie between a metric's rows, usually.

    >>> interval_of([0, 60, 121, 180, 420]), interval_of([5])
    (60, 60)
    """
    gaps = [after - before for before, after in itertools.pairwise(timestamps)]
    return max(1, round(statistics.median_low(gaps))) if gaps else 60


def series_of(path: str, points: Iterable[tuple[int, Value]], step: int, wanted: Range) -> Series:
    """The points of a metric, in any order, as a series; one whose rows the range cuts at its start is left out."""
    start = -(-wanted.start // step) * step
    values: list[Value] = [None] * max(0, wanted.end // step - start // step + 1)
    for timestamp, value in points:
        place = (timestamp - start) // step
        if 0 <= place < len(values):
            values[place] = value
    return Series(path, path, start, step, values, consolidation=wanted.consolidation)


def aligned(series: Sequence[Series]) -> list[Series]:
    """The same series at the same times: with the greatest of their steps, from the first start to the last end."""
    if len({(each.start, each.step, len(each.values)) for each in series}) <= 1:
        return list(series)
    step = max(each.step for each in series)
    start = min(each.start for each in series) // step * step
    points = -(-(max(each.end for each in series) - start) // step)
    return [_stretched(each, start, step, points) for each in series]


def _stretched(series: Series, start: int, step: int, points: int) -> Series:
    places: list[list[Value]] = [[] for _ in range(points)]
    for value, timestamp in series.datapoints:
        places[(timestamp - start) // step].append(value)
    together = aggregation(series.consolidation)
    return replace(series, start=start, step=step, values=[together(each) for each in places])


def consolidated(series: Series, most: int) -> Series:
    """As many points as are wanted, each made of some that follow one another.

    >>> consolidated(Series("a", "a", 0, 60, [1.0, 2.0, None, 4.0, 6.0]), 3).values
    [1.5, 4.0, 6.0]
    """
    size = -(-len(series.values) // most)
    if size <= 1:
        return series
    together = aggregation(series.consolidation)
    values = [together(series.values[at : at + size]) for at in range(0, len(series.values), size)]
    return replace(series, step=series.step * size, values=values)
