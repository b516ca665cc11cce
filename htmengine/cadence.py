# SPDX-License-Identifier: MIT
"""A metric's cadence: the usual time between its rows, and how well it is known.

In: the times of rows, and of samples that came late.  Out: a `Cadence`.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from statistics import median_low
from typing import NamedTuple

#: Steps that make a cadence known, and the most that count.
LEARNT = 8
FIRM = 12
#: A step that does not fit counts as much as so many that do.
MISFIT = 2
#: Times, of late samples and of the rows around them, that show a shorter interval.
HEARD = 2 * LEARNT + 1


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
            return self if self.steps >= FIRM else self._replace(steps=self.steps + 1)
        if self.steps > MISFIT:
            return self._replace(steps=self.steps - MISFIT)
        return self._replace(interval=step, steps=1)

    def after_rows(self, rows: int, seconds: int) -> Cadence | None:
        """The cadence with so many more rows, which took so long; None if they were not as usual.

        >>> Cadence(60, LEARNT).after_rows(2, 120), Cadence(60, FIRM).after_rows(2, 60), Cadence().after_rows(2, 60)
        (Cadence(interval=60, steps=10, heard=()), None, None)
        """
        usual = self.known and 0.5 * self.interval * rows < seconds < 1.5 * self.interval * rows
        return self._replace(steps=min(self.steps + rows, FIRM)) if usual else None

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


def cadence_of(times: Iterable[int]) -> Cadence:
    """The cadence of rows with these times, the oldest first."""
    cadence = Cadence()
    for before, after in pairwise(times):
        cadence = cadence.after(after - before)
    return cadence
