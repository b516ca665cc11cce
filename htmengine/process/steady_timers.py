# SPDX-License-Identifier: MIT
"""Timers that go on when somebody sets the clock.

Twisted's timers are due at a time of the clock: when that is set back by an hour, none fires for an hour.  In: a
reactor's clock and the monotonic one.  Out: timers that move along with each jump of the clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from htmengine.process.twisted_types import Reactor

#: Less is the clock's own adjustment.
JUMP_S = 1.0


def monotonic() -> float:
    """Seconds that no clock's setting changes; a machine's sleep counts."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


def keep_timers_steady(reactor: Reactor, steady: Callable[[], float] = monotonic) -> None:
    """From now on each turn of the reactor looks first whether its clock was set."""
    turn = reactor.runUntilCurrent
    clock = _Clock(reactor, steady)

    def steady_turn() -> None:
        clock.look()
        turn()

    reactor.runUntilCurrent = steady_turn  # type: ignore[method-assign]  # its main loop calls it


class _Clock:
    """A reactor's clock beside the monotonic one."""

    def __init__(self, reactor: Reactor, steady: Callable[[], float]) -> None:
        self._reactor = reactor
        self._steady = steady
        self._ahead_s = self._difference()

    def look(self) -> None:
        """Move all timers if it was set since the last look."""
        ahead_s = self._difference()
        jump, self._ahead_s = ahead_s - self._ahead_s, ahead_s
        if abs(jump) >= JUMP_S:
            for timer in self._reactor.getDelayedCalls():
                timer.delay(jump)

    def _difference(self) -> float:
        return self._reactor.seconds() - self._steady()
