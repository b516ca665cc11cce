# SPDX-License-Identifier: MIT
"""Coroutines beside their caller: none is forgotten, none fails unheard, and a periodic one never overtakes itself."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from htmengine.errors import BusClosed
from htmengine.process.tasks import PeriodicService, Tasks, together
from htmengine.process.twisted_types import Clock as AnyClock


class TasksTest(SynchronousTestCase):
    def setUp(self) -> None:
        self.failures: list[Failure] = []
        self.tasks = Tasks(self.failures.append)

    async def wait_for(self, what: Deferred[None]) -> None:
        await what

    def test_all_that_runs_is_waited_for(self) -> None:
        first, second = Deferred[None](), Deferred[None]()
        ends = [self.tasks.start(self.wait_for(each)) for each in (first, second)]
        finished = self.tasks.finished()
        first.callback(None)
        self.assertEqual([end.called for end in ends], [True, False])
        self.assertNoResult(finished)
        second.callback(None)
        self.successResultOf(finished)

    def test_an_unexpected_end_is_told_and_a_closed_bus_is_none(self) -> None:
        for error in (BusClosed(), ValueError("no")):
            failing: Deferred[None] = Deferred()
            end = self.tasks.start(self.wait_for(failing))
            failing.errback(error)
            self.successResultOf(end)
        self.assertEqual([failure.type for failure in self.failures], [ValueError])
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)


class Counting(PeriodicService):
    def __init__(self, clock: AnyClock, failures: list[Failure]) -> None:
        super().__init__(clock=clock, interval_s=60.0, on_failure=failures.append)
        self.times = 0
        self.blocked: Deferred[None] | None = None

    async def work(self) -> None:
        self.times += 1
        if self.blocked is not None:
            await self.blocked


class PeriodicServiceTest(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.failures: list[Failure] = []
        self.service = Counting(self.clock, self.failures)
        self.service.startService()

    def tearDown(self) -> None:
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_it_works_at_the_start_and_once_an_interval_until_it_stops(self) -> None:
        self.clock.pump([30.0] * 5)
        self.assertEqual(self.service.times, 3)
        self.successResultOf(self.service.stopService())
        self.clock.advance(600)
        self.assertEqual(self.service.times, 3)

    def test_work_that_takes_long_is_not_begun_again_and_waited_for_at_the_stop(self) -> None:
        self.service.blocked = Deferred()
        self.clock.pump([60.0] * 4)
        self.assertEqual(self.service.times, 2)
        stopped = self.service.stopService()
        self.assertNoResult(stopped)
        self.service.blocked.callback(None)
        self.successResultOf(stopped)

    def test_work_that_fails_is_told(self) -> None:
        self.service.blocked = Deferred()
        self.clock.advance(60.0)
        self.service.blocked.errback(ValueError("no"))
        self.assertEqual([failure.type for failure in self.failures], [ValueError])
        self.flushLoggedErrors(ValueError)
        self.service.blocked = None
        self.successResultOf(self.service.stopService())


class TogetherTest(SynchronousTestCase):
    def setUp(self) -> None:
        self.ended: list[str] = []

    async def work(self, name: str, waits_for: Deferred[None], error: Exception | None = None) -> None:
        await waits_for
        self.ended.append(name)
        if error is not None:
            raise error

    def test_they_run_side_by_side(self) -> None:
        first, second = Deferred[None](), Deferred[None]()
        both = Deferred.fromCoroutine(together([self.work("first", first), self.work("second", second)]))
        second.callback(None)
        self.assertEqual(self.ended, ["second"])
        self.assertNoResult(both)
        first.callback(None)
        self.assertIsNone(self.successResultOf(both))

    def test_an_error_is_raised_as_it_is_when_all_have_ended(self) -> None:
        first, second = Deferred[None](), Deferred[None]()
        both = Deferred.fromCoroutine(
            together([self.work("first", first, BusClosed("stopped")), self.work("second", second)])
        )
        first.callback(None)
        self.assertNoResult(both)
        second.callback(None)
        self.failureResultOf(both, BusClosed)
        self.assertEqual(self.ended, ["first", "second"])

    def test_of_two_errors_the_first_is_raised_and_the_other_is_not_left_unhandled(self) -> None:
        done = Deferred[None]()
        done.callback(None)
        both = Deferred.fromCoroutine(
            together([self.work("first", done, ValueError("one")), self.work("second", done, KeyError("two"))])
        )
        self.failureResultOf(both, ValueError)
