# SPDX-License-Identifier: MIT
"""How much a publisher sends before it asks a queue for its length, and when it waits."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import SynchronousTestCase

from htmengine.bus.amqp_publisher import FULL_POLL_S, ROOM_S, Destination, Publisher
from htmengine.bus.interface import QueueLimits


class ConfirmingChannel:
    """A broker that takes everything at once."""

    is_open = True

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    def confirm_delivery(self) -> Deferred[None]:
        return succeed(None)

    def add_on_return_callback(self, _callback: object) -> None:
        pass

    def basic_publish(self, _exchange: str, _queue: str, body: bytes, *_: object, **__: object) -> Deferred[None]:
        self.bodies.append(body)
        return succeed(None)


class OpenLink:
    """A connection that is there."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.broker = ConfirmingChannel()

    async def channel(self) -> ConfirmingChannel:
        return self.broker

    async def sleep(self, seconds: float) -> None:
        await deferLater(self._clock, seconds)


class RoomTest(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        link: Any = OpenLink(self.clock)
        self.broker = link.broker
        self.depth, self.asked = 0, 0
        self.limits = QueueLimits(max_messages=10)

        async def depth_of(_queue: str) -> int:
            self.asked += 1
            return self.depth

        async def check_exchange(_exchange: str) -> None:
            pass

        self.publisher = Publisher(
            link,
            clock=self.clock,
            limits_of=lambda _queue: self.limits,
            depth_of=depth_of,
            check_exchange=check_exchange,
        )

    def publish(self, *bodies: bytes) -> Deferred[None]:
        return Deferred.fromCoroutine(self.publisher.publish(Destination(queue="q"), bodies, {}))

    def test_a_queue_is_asked_once_for_half_of_its_room(self) -> None:
        for _ in range(5):
            self.successResultOf(self.publish(b"x"))
        self.assertEqual(self.asked, 1)
        self.successResultOf(self.publish(b"x"))
        self.assertEqual(self.asked, 2)

    def test_an_old_answer_is_asked_for_again(self) -> None:
        self.successResultOf(self.publish(b"x"))
        self.clock.advance(ROOM_S + 0.1)
        self.successResultOf(self.publish(b"x"))
        self.assertEqual(self.asked, 2)

    def test_a_full_queue_is_waited_for(self) -> None:
        self.depth = 10
        waiting = self.publish(b"x")
        self.clock.advance(FULL_POLL_S)
        self.assertNoResult(waiting)
        self.assertEqual(self.broker.bodies, [])
        self.depth = 9
        self.clock.advance(FULL_POLL_S)
        self.successResultOf(waiting)
        self.assertEqual(self.broker.bodies, [b"x"])

    def test_the_bound_on_bytes_counts_what_was_published(self) -> None:
        self.limits = QueueLimits(max_bytes=100)
        self.successResultOf(self.publish(b"x" * 40))
        self.depth = 2
        waiting = self.publish(b"x" * 40)
        self.assertNoResult(waiting)
        self.depth = 1
        self.clock.advance(FULL_POLL_S)
        self.successResultOf(waiting)

    def test_a_message_beyond_every_bound_goes_into_an_empty_queue(self) -> None:
        self.limits = QueueLimits(max_messages=1, max_bytes=100)
        for size in (99, 100, 101, 10_000, 1):
            self.successResultOf(self.publish(b"x" * size))
        self.depth = 1
        waiting = self.publish(b"x")
        self.assertNoResult(waiting)
        self.depth = 0
        self.clock.advance(FULL_POLL_S)
        self.successResultOf(waiting)

    def test_publications_wait_for_those_before_them(self) -> None:
        self.depth = 10
        waiting = [self.publish(b"1"), self.publish(b"2")]
        self.depth = 0
        self.clock.advance(FULL_POLL_S)
        for each in waiting:
            self.successResultOf(each)
        self.assertEqual(self.broker.bodies, [b"1", b"2"])
