# SPDX-License-Identifier: MIT
"""What functions work on: points at equal distances, made from rows that come when they come."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

Value = float | None


@dataclass(frozen=True, slots=True)
class Series:
    """Points ``step`` seconds apart from ``start`` on; None where there is no value.

    ``name`` is what is shown, ``path`` the name of the series that it comes from.
    """

    name: str
    path: str
    start: int
    step: int
    values: Sequence[Value]

    @property
    def end(self) -> int:
        """Where the next point would be."""
        return self.start + self.step * len(self.values)

    def named(self, name: str) -> Series:
        """The same points under another name."""
        return replace(self, name=name)

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
    return Series(path, path, start, step, values)


def aligned(series: Sequence[Series]) -> list[Series]:
    """The same series at the same times: with the greatest of their steps, from the first start to the last end."""
    if len({(each.start, each.step, len(each.values)) for each in series}) <= 1:
        return list(series)
    step = max(each.step for each in series)
    start = min(each.start for each in series) // step * step
    points = -(-(max(each.end for each in series) - start) // step)
    return [_stretched(each, start, step, points) for each in series]


def _stretched(series: Series, start: int, step: int, points: int) -> Series:
    places: list[list[float]] = [[] for _ in range(points)]
    for value, timestamp in series.datapoints:
        if value is not None:
            places[(timestamp - start) // step].append(value)
    means: list[Value] = [sum(each) / len(each) if each else None for each in places]
    return replace(series, start=start, step=step, values=means)
