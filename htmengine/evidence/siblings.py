# SPDX-License-Identifier: MIT
"""How far a metric's first values are from what metrics of the same name on other hosts show at this time of day.

In: what the siblings show at each hour, and the metric's rows.  Out: decades and a side for each row.  A metric has
its own level: each sibling's hours are scaled to the first values, unless the siblings agree on one level.  A value is
as far away as it is from the nearest of them: where siblings differ, they say little.  Rows faster than 5 minutes are
judged together, by their mean.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, median
from typing import NamedTuple, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from htmengine.errors import CorruptCheckpoint, InvalidModelSpec
from htmengine.evidence.kinds import Side
from htmengine.htm.params import HOURS, SiblingParams

#: Values that tell a metric's level.
LEVEL_VALUES = 12
#: Levels that differ by no more than this factor are one.
ONE_LEVEL = 1.25
#: Distances that are averaged, in deviations; one counts as no more than `FARTHEST`.
WINDOW, FARTHEST = 6, 20.0
#: Decades of a mean distance of one deviation.
DECADES = 2 / 3
#: Seconds; faster rows are judged together.
BIN_S = 300
#: No estimate is trusted beyond one event in ten million rows.
MOST_DECADES = 7.0


class Distance(NamedTuple):
    """What the siblings say of a value: decades, and its side."""

    decades: float
    side: Side


NOTHING = Distance(0.0, Side.NONE)


def hours_of(timestamps: NDArray[np.int64], values: NDArray[np.float64]) -> SiblingParams | None:
    """Mean and deviation at each hour of the day (UTC) of rows (n times, epoch seconds, and values).

    None if an hour has no row, or if its values are too large.

    >>> hours_of(np.arange(48) * 3600, np.arange(48.0) % 24).means[:3]
    (0.0, 1.0, 2.0)
    """
    finite = np.isfinite(values)
    hours, values = timestamps[finite] // 3600 % HOURS, values[finite]
    if len(np.unique(hours)) < HOURS:
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        found = np.array([(rows.mean(), rows.std()) for rows in (values[hours == hour] for hour in range(HOURS))])
    if not np.isfinite(found).all():
        return None
    return SiblingParams(tuple(found[:, 0].tolist()), tuple(found[:, 1].tolist()))


class _State(msgspec.Struct):
    """What of a metric beside its siblings changes from row to row."""

    last: int | None = None  #: row's time, epoch seconds
    bin: list[float] = []  #: values that are to be judged together
    first: list[tuple[int, float]] = []  #: hours of the day and values, until the level is known
    scales: list[float] = []  #: of the metric's level to each sibling's
    windows: list[list[float]] = []  #: the last distances from each, the oldest first


class _Saved(msgspec.Struct):
    siblings: list[tuple[tuple[float, ...], tuple[float, ...]]]
    state: _State


class Siblings:
    """Some siblings, and where the metric is beside them.

    >>> siblings = Siblings([SiblingParams((100.0,) * 24, (10.0,) * 24)] * 3)
    >>> [round(siblings.update(300 * row, value).decades, 2) for row, value in enumerate([100.0] * 12 + [190.0])][-2:]
    [0.0, 1.0]
    >>> Siblings.restore(siblings.save()).save() == siblings.save()
    True
    """

    def __init__(self, siblings: Sequence[SiblingParams]) -> None:
        self._siblings = list(siblings)
        self._state = _State(windows=[[] for _ in siblings])

    @property
    def know_its_level(self) -> bool:
        """Whether the metric has had values enough to be compared."""
        return bool(self._state.scales)

    def update(self, timestamp: int, value: float) -> Distance:
        """What they say of the next row, which came at that time (epoch seconds); of one without a value nothing."""
        state = self._state
        gap = BIN_S if state.last is None else timestamp - state.last
        state.last = timestamp
        if math.isfinite(value):
            state.bin.append(value)
        completes = gap >= BIN_S or timestamp % BIN_S + gap >= BIN_S
        if not completes or not state.bin:
            return NOTHING
        mean = fmean(state.bin)
        state.bin.clear()
        return self._judge(timestamp // 3600 % HOURS, mean)

    def _judge(self, hour: int, value: float) -> Distance:
        state = self._state
        if state.scales:
            self._put(hour, value)
            return self._nearest()
        state.first.append((hour, value))
        if len(state.first) < LEVEL_VALUES:
            return NOTHING
        state.scales = self._found_scales()
        for each in state.first[-WINDOW:]:
            self._put(*each)
        state.first.clear()
        return self._nearest()

    def _found_scales(self) -> list[float]:
        levels = [fmean(each.means) for each in self._siblings]
        if min(levels) == max(levels) or 0.0 < max(levels) <= ONE_LEVEL * min(levels):
            return [1.0] * len(levels)
        own = median(value for _, value in self._state.first)
        return [_scale(own, median(each.means[hour] for hour, _ in self._state.first)) for each in self._siblings]

    def _put(self, hour: int, value: float) -> None:
        for sibling, scale, window in zip(self._siblings, self._state.scales, self._state.windows, strict=True):
            window.append(_distance(value, scale * sibling.means[hour], scale * sibling.deviations[hour]))
            del window[:-WINDOW]

    def _nearest(self) -> Distance:
        means = [sum(window) / WINDOW for window in self._state.windows]
        above, below = min(means), -max(means)
        side = Side.UP if above > 0.0 else Side.DOWN
        return Distance(min(DECADES * max(above, below), MOST_DECADES), side) if max(above, below) > 0.0 else NOTHING

    def save(self) -> bytes:
        """The state as bytes: `restore` gives one that goes on exactly."""
        siblings = [(each.means, each.deviations) for each in self._siblings]
        return msgspec.msgpack.encode(_Saved(siblings, self._state))

    @classmethod
    def restore(cls, data: bytes) -> Self:
        """What `save` wrote.  Raises CorruptCheckpoint."""
        try:
            saved = msgspec.msgpack.decode(data, type=_Saved)
            siblings = cls([SiblingParams(*each) for each in saved.siblings])
        except (msgspec.DecodeError, InvalidModelSpec) as error:
            raise CorruptCheckpoint(f"siblings make no sense: {error}") from error
        siblings._state = saved.state
        return siblings


def _scale(own: float, other: float) -> float:
    """Of a level to another; levels on two sides of 0 are not compared."""
    return own / other if own * other > 0.0 else 1.0


def _distance(value: float, mean: float, deviation: float) -> float:
    """In deviations; what never differs is as far as can be where it does."""
    if value == mean:
        return 0.0
    distance = (value - mean) / deviation if deviation > 0.0 else FARTHEST if value > mean else -FARTHEST
    return min(max(distance, -FARTHEST), FARTHEST)
