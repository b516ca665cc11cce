# SPDX-License-Identifier: MIT
"""Twisted's timers, as the services use them."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.error import CannotListenError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from htmengine.errors import StartError
from htmengine.process.twisted_types import every, later, listen, within


class WithinTest(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()

    def test_a_result_that_is_there_in_time_is_the_result(self) -> None:
        waiting: Deferred[str] = Deferred()
        limited = within(waiting, 2.0, self.clock)
        waiting.callback("here")
        self.assertEqual(self.successResultOf(limited), "here")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_what_is_late_is_cancelled_and_has_timed_out_however_it_takes_that(self) -> None:
        async def translated() -> None:
            try:
                await Deferred()
            except CancelledError:
                raise KeyError("an error of its own") from None

        limited = within(Deferred.fromCoroutine(translated()), 2.0, self.clock)
        self.clock.advance(2.0)
        self.failureResultOf(limited, TimeoutError)


class TimersTest(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()

    def test_later_fires_at_its_time(self) -> None:
        waiting = later(self.clock, 3.0)
        self.clock.advance(2.9)
        self.assertNoResult(waiting)
        self.clock.advance(0.1)
        self.successResultOf(waiting)

    def test_every_waits_for_work_that_is_in_flight(self) -> None:
        working: list[Deferred[None]] = []

        def work() -> Deferred[None]:
            working.append(Deferred())
            return working[-1]

        timer = every(self.clock, work)
        timer.start(1.0)
        self.clock.pump([1.0] * 3)
        self.assertEqual(len(working), 1)
        working[0].callback(None)
        self.clock.advance(1.0)
        self.assertEqual(len(working), 2)
        timer.stop()
        working[1].callback(None)


class ListenTest(SynchronousTestCase):
    def test_a_taken_port_is_a_start_error_that_names_the_remedy(self) -> None:
        def bind() -> None:
            raise CannotListenError("127.0.0.1", 2003, OSError("Address already in use"))

        with self.assertRaisesRegex(StartError, r"127\.0\.0\.1:2003: Address already in use; take another"):
            listen(bind, "127.0.0.1:2003", "take another")
