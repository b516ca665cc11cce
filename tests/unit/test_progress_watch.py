# SPDX-License-Identifier: MIT
"""The watchdog: a publication that waits for ever is told by name, in the log, to who asks, and until it is over."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from htmengine.bus.interface import QueueLimits
from htmengine.process.probes import Unhealthy
from htmengine.telemetry.progress_watch import REMIND_S, WATCH_S, ProgressWatch
from htmengine.testing import MemoryBus


class WatchTest(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.bus = MemoryBus(self.clock)
        self.bus.startService()
        self.watch = ProgressWatch(
            name="test",
            progress=self.bus.progress,
            patience_s=60.0,
            clock=self.clock,
            database=None,
            on_failure=lambda failure: failure.raiseException(),
        )
        self.logged: list[str] = []
        globalLogPublisher.addObserver(self.observe)
        self.addCleanup(globalLogPublisher.removeObserver, self.observe)
        self.watch.startService()

    def observe(self, event: dict[str, object]) -> None:
        if event.get("log_namespace") == f"{ProgressWatch.__module__}.ProgressWatch":
            self.logged.append(str(event["what"]))

    def pass_time(self, seconds: float) -> None:
        self.clock.pump([WATCH_S] * round(seconds / WATCH_S))

    def readiness(self) -> Deferred[None]:
        async def ask() -> None:
            await self.watch.checks()["progress"]()

        return Deferred.fromCoroutine(ask())

    def test_a_publication_that_waits_for_room_is_told_by_its_queue_once_and_then_hourly(self) -> None:
        self.successResultOf(Deferred.fromCoroutine(self.bus.declare_queue("full", limits=QueueLimits(max_messages=1))))
        self.successResultOf(Deferred.fromCoroutine(self.bus.publish("full", [b"one"])))
        waiting = Deferred.fromCoroutine(self.bus.publish("full", [b"two"]))
        self.pass_time(50)
        self.successResultOf(self.readiness())
        self.pass_time(30)
        told = "publishing to queue 'full' since 1970-01-01 00:00:00 UTC"
        self.assertEqual(self.logged, [told])
        self.assertIn(told, str(self.failureResultOf(self.readiness(), Unhealthy).value))
        self.pass_time(REMIND_S)
        self.assertEqual(self.logged, [told, told])
        self.assertEqual([figure.value for figure in self.watch.figures()], [1])
        subscription = self.successResultOf(Deferred.fromCoroutine(self.bus.subscribe("full", prefetch=1)))
        got = self.successResultOf(Deferred.fromCoroutine(subscription.get(1)))
        self.successResultOf(Deferred.fromCoroutine(subscription.ack(got)))
        self.pass_time(WATCH_S)
        self.successResultOf(waiting)
        self.successResultOf(self.readiness())
        self.assertEqual([figure.value for figure in self.watch.figures()], [0])
