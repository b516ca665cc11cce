# SPDX-License-Identifier: MIT
"""What goes on for long is told at most once an interval: a server that is away, lines that are rejected."""

from __future__ import annotations

from collections.abc import Callable

LOG_INTERVAL_S = 60.0


class Seldom:
    """One log line's turns.  ``now`` gives seconds.

    >>> times = iter([0.0, 20.0, 40.0, 60.0])
    >>> seldom = Seldom(lambda: next(times))
    >>> [seldom.due() for _ in range(4)], seldom.left_out
    ([True, False, False, True], 2)
    """

    __slots__ = ("_due_at", "_interval_s", "_now", "_since", "left_out")

    def __init__(self, now: Callable[[], float], interval_s: float = LOG_INTERVAL_S) -> None:
        self._now = now
        self._interval_s = interval_s
        self._due_at = float("-inf")
        self._since = 0
        self.left_out = 0  #: lines between the one that is due and the one before

    def due(self) -> bool:
        """Whether the line is to be written now; one that is not is counted."""
        now = self._now()
        if 0 < self._due_at - now <= self._interval_s:  # more: the clock was set back
            self._since += 1
            return False
        self._due_at = now + self._interval_s
        self.left_out, self._since = self._since, 0
        return True

    def reset(self) -> None:
        """It is over: the next line is news."""
        self._due_at = float("-inf")
        self._since = 0
