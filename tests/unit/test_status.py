# SPDX-License-Identifier: MIT
"""The status adds up what the bus and the database say, also of an engine that never ran."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from htmengine.bus.interface import Bus
from htmengine.ledger import Ledger
from htmengine.status import Lengths, queue_length, sum_up
from htmengine.testing import MemoryBus


class StatusTest(SynchronousTestCase):
    def setUp(self) -> None:
        bus = MemoryBus()
        bus.startService()
        self.addCleanup(bus.stopService)
        self.bus: Bus = bus

    def length(self, *names: str) -> int | None:
        return self.successResultOf(Deferred.fromCoroutine(queue_length(self.bus, names)))

    def test_the_length_of_several_queues_is_that_of_all_together(self) -> None:
        async def fill() -> None:
            for number in (1, 2):
                await self.bus.declare_queue(f"q{number}")
                await self.bus.publish(f"q{number}", [b"."] * number)

        self.successResultOf(Deferred.fromCoroutine(fill()))
        self.assertEqual(self.length("q1", "q2"), 3)

    def test_a_queue_that_is_not_there_has_no_length(self) -> None:
        self.assertIsNone(self.length("never declared"))

    def test_an_engine_without_samples_has_no_lag(self) -> None:
        nothing = Ledger(None, received=0, stored=0, rejected={}, scored=0, waiting=0)
        status = sum_up(nothing, nothing, 1.0, Lengths(None, None, None), {}, schedulers=0, furthest=None)
        self.assertEqual((status.lag_s, status.received_per_s, status.waiting), (None, 0.0, 0))

    def test_a_model_that_begins_anew_gives_no_negative_rate(self) -> None:
        before = Ledger(None, received=100, stored=100, rejected={}, scored=100, waiting=0)
        now = Ledger(None, received=100, stored=100, rejected={}, scored=0, waiting=100)
        self.assertEqual(sum_up(before, now, 1.0, Lengths(0, 0, 0), {}, schedulers=1, furthest=None).scored_per_s, 0.0)

    def test_an_engine_with_rows_that_wait_is_never_0_s_behind(self) -> None:
        now = Ledger(
            None, received=9, stored=9, rejected={}, scored=8, waiting=1, newest_stored=3600, newest_scored=3600
        )
        for furthest, lag in ((3300, 300.0), (None, None)):
            status = sum_up(now, now, 1.0, Lengths(0, 0, 0), {}, schedulers=1, furthest=furthest)
            self.assertEqual(status.lag_s, lag)

    def test_an_engine_that_has_not_stored_what_came_is_never_0_s_behind(self) -> None:
        now = Ledger(
            None, received=9, stored=9, rejected={}, scored=9, waiting=0, newest_stored=3600, newest_scored=3600
        )
        for samples, lag in ((7, None), (0, 0.0), (None, 0.0)):
            status = sum_up(now, now, 1.0, Lengths(samples, 0, 0), {}, schedulers=1, furthest=None)
            self.assertEqual(status.lag_s, lag)
