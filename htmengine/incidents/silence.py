# SPDX-License-Identifier: MIT
"""Metrics that have stopped: silent for longer than their own cadence explains, while others go on.

In: the times of a metric's rows, and now and then a look at the whole fleet.  Out: whether the metric is silent.
Pure: no database, and the only clock is that of the fleet.

The fleet's clock runs only while at least half of the metrics report.  So an outage of the collector, or of the
engine, is no metric's silence and no metric's longest gap.
"""

from __future__ import annotations

from dataclasses import dataclass

#: No silence is shorter.
LEAST_S = 600.0
#: A silence is longer than this many of the metric's steps, and than its longest gap as often.
STEPS, GAPS = 3.0, 2.0
#: After a longer time without a look nobody knows what was reported: the clock does not count it.
LOOKS_APART_S = 900.0


@dataclass(frozen=True, slots=True)
class FleetClock:
    """Seconds during which the fleet reported, up to a look at epoch second ``at``; None: before the first look."""

    seconds: float = 0.0
    at: float | None = None

    def looked(self, now: float, *, reporting: int, metrics: int) -> FleetClock:
        """The clock after a look at which that many of the metrics report.

        >>> clock = FleetClock().looked(0.0, reporting=3, metrics=4).looked(60.0, reporting=2, metrics=4)
        >>> clock.seconds, clock.looked(120.0, reporting=1, metrics=4).seconds
        (60.0, 60.0)
        """
        elapsed = 0.0 if self.at is None else now - self.at
        counts = 2 * reporting >= metrics and 0.0 < elapsed <= LOOKS_APART_S
        return FleetClock(self.seconds + (elapsed if counts else 0.0), now if self.at is None else max(now, self.at))


@dataclass(frozen=True, slots=True)
class Cadence:
    """How a metric reports.  ``last`` and the gaps are seconds of the fleet's clock; ``gap`` 0: one row so far."""

    last: float
    step: float = 0.0  #: the shortest gap
    gap: float = 0.0  #: the longest

    @property
    def limit(self) -> float | None:
        """A longer silence is a fault; None while the metric's step is not known.

        >>> Cadence(0.0, step=300.0, gap=600.0).limit, Cadence(0.0, step=10.0, gap=30.0).limit
        (1200.0, 600.0)
        """
        return max(LEAST_S, STEPS * self.step, GAPS * self.gap) if self.gap else None

    def heard(self, seconds: float) -> Cadence:
        """The cadence after a row at that time of the fleet's clock."""
        gap = seconds - self.last
        if gap <= 0.0:
            return self
        return Cadence(seconds, min(self.step or gap, gap), max(self.gap, gap))

    def is_silent(self, seconds: float) -> bool:
        """Whether the metric has been silent for too long."""
        return self.limit is not None and seconds - self.last >= self.limit

    def reports(self, age: float) -> bool:
        """Whether a metric whose newest row is so old counts among those that report: half of what is a silence."""
        return self.limit is not None and age < self.limit / 2
