# SPDX-License-Identifier: MIT
"""Somebody sets the clock: timers are due when they would have been."""

from __future__ import annotations

from typing import Any

from twisted.internet.base import DelayedCall, ReactorBase
from twisted.trial.unittest import SynchronousTestCase

from htmengine.process.progress import Progress
from htmengine.process.seldom import LOG_INTERVAL_S, Seldom
from htmengine.process.steady_timers import keep_timers_steady


class TimersOnly(ReactorBase):
    """Twisted's own timers, on a clock that tests set."""

    def __init__(self) -> None:
        self.now, self.steady = 1_000_000.0, 50.0
        super().__init__()

    def seconds(self) -> float:
        return self.now

    def installWaker(self) -> None:
        """It never waits."""

    def pass_time(self, seconds: float, *, jump: float = 0.0) -> None:
        self.steady += seconds
        self.now += seconds + jump
        self.runUntilCurrent()


class SteadyTimersTest(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = TimersOnly()
        reactor: Any = self.reactor
        keep_timers_steady(reactor, lambda: self.reactor.steady)
        self.fired: list[float] = []
        for delay in (30.0, 10.0, 20.0):
            self.timer: Any = self.reactor.callLater(delay, self.fired.append, delay)
            assert isinstance(self.timer, DelayedCall)

    def test_a_clock_that_is_set_back_holds_no_timer_up(self) -> None:
        self.reactor.pass_time(5.0, jump=-3600.0)
        self.reactor.pass_time(6.0)
        self.assertEqual(self.fired, [10.0])
        self.reactor.pass_time(20.0)
        self.assertEqual(self.fired, [10.0, 20.0, 30.0])

    def test_a_clock_that_is_set_forward_fires_no_timer_early(self) -> None:
        self.reactor.pass_time(5.0, jump=365 * 86_400.0)
        self.assertEqual(self.fired, [])
        self.reactor.pass_time(6.0)
        self.assertEqual(self.fired, [10.0])

    def test_a_clock_that_is_adjusted_little_by_little_moves_nothing(self) -> None:
        for _ in range(20):
            self.reactor.pass_time(0.5, jump=0.01)
        self.assertEqual(self.fired, [10.0])


class SetBackTest(SynchronousTestCase):
    def test_what_is_told_seldom_is_told_when_the_clock_was_set_back(self) -> None:
        now = [10_000.0]
        seldom = Seldom(lambda: now[0])
        self.assertTrue(seldom.due())
        now[0] -= 3600.0
        self.assertTrue(seldom.due())
        self.assertFalse(seldom.due())
        now[0] += LOG_INTERVAL_S
        self.assertTrue(seldom.due())

    def test_what_stands_still_is_told_when_the_clock_was_set_back(self) -> None:
        now = [10_000.0]
        progress = Progress(lambda: now[0])
        progress.stage("rows wait", lambda: True)
        with progress.doing("publishing"):
            now[0] -= 3600.0
            self.assertEqual(progress.stalled(60.0), [])
            now[0] += 61.0
            self.assertEqual(len(progress.stalled(60.0)), 2)
