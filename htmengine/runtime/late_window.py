# SPDX-License-Identifier: MIT
"""Which samples wait for others that may still come.  Pure decisions.

In: a metric's cadence, learnt from the times of its rows and late samples, and its new samples in the order of their
times.  Out: those to be stored now, and those that wait.

A sample that comes where the next one is expected is stored at once.  One that jumps over an expected time waits, and
what is newer waits behind it, until the missing ones have come or the window has passed.  So senders in order never
wait, and neither does a metric without a steady cadence.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from htmengine.cadence import Cadence

#: Which of several samples with the same time counts.
FIRST, LAST, SUM = "first", "last", "sum"
#: Samples of one metric that wait at most: a backlog with gaps is not held up.
MOST_WAITING = 1000


class Timed(Protocol):
    """A sample that waits until ``due_at`` at most (epoch seconds)."""

    @property
    def timestamp(self) -> int: ...
    @property
    def due_at(self) -> float: ...


T = TypeVar("T", bound=Timed)


@dataclass(frozen=True, slots=True)
class LateWindow:
    """How long a sample waits at most: so many of its metric's intervals, and so many seconds."""

    intervals: float = 2.0
    most_s: float = 60.0
    same_time: str = FIRST  #: LAST and SUM: a sample waits for the next one

    def wait_s(self, cadence: Cadence) -> float:
        if cadence.known:
            return min(self.intervals * cadence.interval, self.most_s)
        return 0.0 if self.same_time == FIRST else self.most_s


def take(
    newest: int | None, cadence: Cadence, samples: Sequence[T], now: float, same_time: str = FIRST
) -> tuple[int, Cadence]:
    """How many of the samples, in the order of time, are stored now, and the cadence with them.

    ``newest`` is the time of the metric's newest row.
    """
    last, learnt = newest, cadence
    for place, sample in enumerate(samples):
        step = 0 if last is None else sample.timestamp - last
        incomplete = same_time != FIRST and sample.timestamp == samples[-1].timestamp and last != sample.timestamp
        if (learnt.jumps(step) or incomplete) and sample.due_at > now:
            too_many = len(samples) - place > MOST_WAITING
            return take(newest, cadence, samples, math.inf, same_time) if too_many else (place, learnt)
        if last is None:
            last = sample.timestamp
        elif step > 0:
            last, learnt = sample.timestamp, learnt.after_row(step, sample.timestamp)
        elif step < 0:
            learnt = learnt.after_late(last, sample.timestamp)
    return len(samples), learnt
