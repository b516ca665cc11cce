# SPDX-License-Identifier: MIT
"""Metrics that come steadily, and whose rows become too few or late, while they do not stop.

In: at each look, a metric's newest row and the seconds of the fleet's clock.  Out: why its rows are a fault, in words.
Pure.  Rows are counted in windows of half an hour of the fleet's clock, so an outage of all is nobody's gap.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from statistics import median
from typing import NamedTuple

from htmengine.evidence.kinds import duration

WINDOW_S = 1800.0
#: Windows that are remembered, and those without which nothing is known of a metric.
KEPT, LEAST = 48, 24
#: A metric with fewer rows in a usual window is too slow to have gaps.
LEAST_ROWS = 6
#: A window of fewer of the usual rows has gaps; one of more is steady.
GAPS, STEADY = 0.5, 0.75
#: Rows that are so old when they come are late, for a metric whose rows are younger than half of it as a rule.
LATE_S = 600.0
#: After a fault a metric has none for so long.
HOLD_S = 86_400.0


class Window(NamedTuple):
    """What came in half an hour: how many rows, and the age of the youngest when it was seen."""

    rows: int
    age: float


@dataclass(slots=True)
class Steadiness:
    """A metric's windows.  Memory: some 6 KB."""

    began: float
    rowid: int
    age: float | None = None  #: the least in this window
    past: deque[Window] = field(default_factory=lambda: deque(maxlen=KEPT))
    held_until: float = 0.0

    def looked(self, seconds: float, rowid: int, age: float | None) -> str | None:
        """Take a look into account; why the window that it ends is a fault.  ``age``: of a row that is new, seconds."""
        if age is not None:
            self.age = age if self.age is None else min(age, self.age)
        if seconds - self.began < WINDOW_S:
            return None
        window = Window(rowid - self.rowid, self.age or 0.0)
        fault = self._fault(window) if seconds >= self.held_until else None
        if fault is None:
            self.past.append(window)
        else:
            self.held_until = seconds + HOLD_S
        self.began, self.rowid, self.age = seconds, rowid, None
        return fault

    def pause(self, seconds: float, rowid: int) -> None:
        """The metric is silent: what comes in this window says nothing of gaps."""
        self.began, self.rowid, self.age = seconds, rowid, None

    def _fault(self, window: Window) -> str | None:
        if len(self.past) < LEAST or not window.rows:
            return None
        usual = median(each.rows for each in self.past)
        steady = usual >= LEAST_ROWS and min(each.rows for each in self.past) >= STEADY * usual
        if steady and window.rows < GAPS * usual:
            return f"{window.rows} samples in {duration(WINDOW_S)}; {usual:g} are usual"
        if window.age >= LATE_S and max(each.age for each in self.past) < LATE_S / 2:
            return f"its samples come {duration(window.age)} late"
        return None
