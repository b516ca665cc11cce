# SPDX-License-Identifier: MIT
"""What the log tells of a broker that takes no more."""

from __future__ import annotations

from typing import Any

from twisted.internet.testing import MemoryReactorClock
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from htmengine.bus.amqp_link import AmqpParams, Link
from htmengine.process.seldom import LOG_INTERVAL_S


class BlockedTest(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = MemoryReactorClock()
        self.link = Link(AmqpParams(), "publishing", reactor=self.clock, on_lost=lambda: None)
        self.logged: list[str] = []
        globalLogPublisher.addObserver(self.observe)
        self.addCleanup(globalLogPublisher.removeObserver, self.observe)

    def observe(self, event: Any) -> None:
        if "purpose" in event:
            self.logged.append(event["log_format"].format(**event))

    def test_it_is_told_at_once_and_then_once_a_minute(self) -> None:
        self.link._blocked(True)
        self.clock.pump([LOG_INTERVAL_S / 2] * 4)
        self.link._blocked(True)  # another alarm beside the first
        self.link._blocked(False)
        self.clock.advance(LOG_INTERVAL_S)
        self.assertEqual(
            self.logged,
            [
                "RabbitMQ is short of memory or disk and has accepted nothing for 0 s (publishing)",
                "RabbitMQ is short of memory or disk and has accepted nothing for 60 s (publishing)",
                "RabbitMQ is short of memory or disk and has accepted nothing for 120 s (publishing)",
                "RabbitMQ accepts messages again (publishing)",
            ],
        )
        self.assertEqual(self.clock.getDelayedCalls(), [])
