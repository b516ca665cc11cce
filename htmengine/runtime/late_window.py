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
from itertools import pairwise
from statistics import median_low
from typing import NamedTuple, Protocol, TypeVar

#: Steps that make a cadence known, and the most that count.
LEARNT = 8
FIRM = 12
#: A step that does not fit counts as much as so many that do.
MISFIT = 2
#: Times, of late samples and of the rows around them, that show a shorter interval.
HEARD = 2 * LEARNT + 1
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


class Cadence(NamedTuple):
    """The usual time between a metric's rows.

    >>> cadence = cadence_of(range(0, 600, 60))
    >>> cadence.jumps(60), cadence.jumps(120), cadence_of([0, 60, 200, 500]).jumps(9000)
    (False, True, False)
    """

    interval: int = 0  #: seconds
    steps: int = 0  #: how well it is known
    heard: tuple[int, ...] = ()  #: times since a sample came late, until they are judged

    @property
    def known(self) -> bool:
        return self.steps >= LEARNT

    def jumps(self, step: int) -> bool:
        """Whether a row so much later than the newest has passed over an expected one."""
        return self.known and step >= 1.5 * self.interval

    def after(self, step: int) -> Cadence:
        """The cadence with one more step taken into account."""
        if 0.5 * self.interval < step < 1.5 * self.interval:
            return self._replace(steps=min(self.steps + 1, FIRM))
        if self.steps > MISFIT:
            return self._replace(steps=self.steps - MISFIT)
        return self._replace(interval=step, steps=1)

    def after_row(self, step: int, timestamp: int) -> Cadence:
        """The cadence with one more row, so much later than the newest."""
        stepped = self.after(step)
        return stepped.hearing(timestamp) if self.heard else stepped

    def after_late(self, newest: int, timestamp: int) -> Cadence:
        """The cadence with a sample that is older than the newest row: if it is not much older, it may lie between."""
        return self.hearing(newest, timestamp) if newest - timestamp < 2 * self.interval else self

    def hearing(self, *times: int) -> Cadence:
        """The cadence with times of rows and late samples: enough of them show whether its interval is shorter.

        >>> Cadence(2, FIRM).hearing(*range(HEARD)).interval, Cadence(2, FIRM).hearing(*range(0, 99, 2)).interval
        (1, 2)
        """
        heard = sorted({*self.heard, *times})
        if len(heard) < HEARD:
            return self._replace(heard=tuple(heard))
        steps = [after - before for before, after in pairwise(heard)]
        usual = median_low(steps)
        fitting = sum(0.5 * usual < step < 1.5 * usual for step in steps)
        if usual < 0.75 * self.interval and fitting >= LEARNT:
            return Cadence(usual, LEARNT)
        return self._replace(heard=())


def cadence_of(times: Sequence[int]) -> Cadence:
    """The cadence of rows with these times, the oldest first."""
    cadence = Cadence()
    for before, after in pairwise(times):
        cadence = cadence.after(after - before)
    return cadence


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
