# SPDX-License-Identifier: MIT
"""When a metric may alarm: not while it is learnt, and once a day unless something higher comes.

In: the times and heights of a metric's alarms.  Out: whether the next one counts.  Pure: no clock, no database.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

DAY_S = 86_400.0
#: A metric's first days have no alarms: its evidence needs two weeks to know the days of the week.
LEARNING_S = 14 * DAY_S
#: So much higher than an alarm that paged, another one counts within its day.
MARGIN = 2.0


@dataclass(frozen=True, slots=True)
class HoldOff:
    """A metric after its last alarm.

    ``at``: epoch seconds of that alarm; None: there was none.  ``bar``: until a day is over, only a greater height
    counts.  An alarm that was held back sets the bar to its own height: it has disturbed nobody.

    >>> held = HoldOff().after(0.0, 4.5, paged=True)
    >>> [held.allows(3600.0, 6.5), held.allows(3600.0, 6.6), held.allows(86_400.0, 4.1)]
    [False, True, True]
    """

    at: float | None = None
    bar: float = 0.0

    def allows(self, now: float, height: float) -> bool:
        """Whether an alarm counts."""
        return self.at is None or now - self.at >= DAY_S or height > self.bar

    def after(self, now: float, height: float, *, paged: bool) -> HoldOff:
        """The metric after an alarm that counted.  ``paged``: it belongs to an incident that people were told of."""
        return HoldOff(now, height + (MARGIN if paged else 0.0))


class Learning(NamedTuple):
    """A metric that is still learnt: how far, from 0 to 1, and the epoch second when that is over."""

    progress: float
    until: float


def learning(first: float, now: float, *, learning_s: float = LEARNING_S) -> Learning | None:
    """The state of a metric whose first row was at ``first``; None when it may alarm.

    >>> learning(0.0, 604_800.0), learning(0.0, 1_209_600.0)
    (Learning(progress=0.5, until=1209600.0), None)
    """
    age = now - first
    return None if age >= learning_s else Learning(max(age, 0.0) / learning_s, first + learning_s)
