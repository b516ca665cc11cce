# SPDX-License-Identifier: MIT
"""How the parts of a process stop: each after those that use it, and all within ten seconds."""

from __future__ import annotations

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from htmengine.process.lifecycle import OrderedServices


class Part(Service):
    """Stops when the test says so, or never."""

    def __init__(self) -> None:
        self.stopped: Deferred[None] = Deferred()

    def stopService(self) -> Deferred[None]:
        super().stopService()
        return self.stopped


class StopTest(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.parts = [Part() for _ in range(4)]
        self.services = OrderedServices(self.parts, clock=self.clock)
        self.services.startService()

    def test_a_part_stops_when_those_after_it_have_stopped(self) -> None:
        ended = self.services.stopService()
        for part in reversed(self.parts):
            self.assertFalse(part.running)
            self.assertNoResult(ended)
            part.stopped.callback(None)
        self.successResultOf(ended)

    def test_all_end_within_ten_seconds_whatever_hangs(self) -> None:
        ended = self.services.stopService()
        self.clock.pump([0.1] * 100)
        self.successResultOf(ended)
        self.assertFalse(any(part.running for part in self.parts))
