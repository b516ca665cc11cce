# SPDX-License-Identifier: MIT
"""What the services rely on in a bus: one set of tests, on the bus in memory, the embedded one, and RabbitMQ."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import TestCase

from htmengine.bus import embedded
from htmengine.bus.amqp import AmqpBus, AmqpParams
from htmengine.bus.embedded import EmbeddedBus
from htmengine.bus.interface import Delivery, QueueLimits, Subscription
from htmengine.errors import BusClosed, UnroutableMessage
from htmengine.testing import MemoryBus
from tests.support.servers import RabbitMQ


def bodies(deliveries: Sequence[Delivery]) -> list[bytes]:
    return [delivery.body for delivery in deliveries]


def numbered(first: int, last: int) -> list[bytes]:
    return [b"%d" % number for number in range(first, last + 1)]


async def get_all(subscription: Subscription, number: int) -> list[Delivery]:
    """That many messages, however they come; they are not acknowledged."""
    deliveries: list[Delivery] = []
    while len(deliveries) < number:
        deliveries += await subscription.get(number - len(deliveries))
    return deliveries


if TYPE_CHECKING:
    Contract = TestCase
else:
    Contract = object  # the contract itself is no test case: it would be run without a bus


class BusContract(Contract):
    """The tests.  Subclasses say how to make a bus, and how to let time pass."""

    bus: Any

    def make_bus(self) -> Any:
        """A bus that is not started, on the storage of this test."""
        raise NotImplementedError

    def pass_time(self, seconds: float) -> Deferred[None]:
        return deferLater(reactor, seconds)

    async def queue(self, name: str = "samples", **limits: Any) -> str:
        await self.bus.declare_queue(self.name(name), limits=QueueLimits(**limits))
        return self.name(name)

    def name(self, name: str) -> str:
        """RabbitMQ serves all tests: each has names of its own."""
        return f"{self.names}.{name}"

    def setUp(self) -> None:
        self.names = uuid.uuid4().hex
        self.bus = self.make_bus()
        self.bus.startService()
        self.addCleanup(self.stop)

    def stop(self) -> Deferred[None] | None:
        return self.bus.stopService() if self.bus.running else None

    # --- publish and get -------------------------------------------------------------------------------

    async def test_messages_arrive_in_order_with_their_headers(self) -> None:
        queue = await self.queue()
        await self.bus.publish(queue, [b"one", b"two"], {"dataType": "model-cmd-result"})
        await self.bus.publish(queue, [b"three"])
        got = await get_all(await self.bus.subscribe(queue, prefetch=10), 3)
        self.assertEqual(
            [(delivery.body, dict(delivery.headers)) for delivery in got],
            [(b"one", {"dataType": "model-cmd-result"}), (b"two", {"dataType": "model-cmd-result"}), (b"three", {})],
        )

    async def test_bodies_are_any_bytes(self) -> None:
        queue = await self.queue()
        sent = [b"", bytes(range(256)), b"\xff" * 300_000]
        await self.bus.publish(queue, sent)
        self.assertEqual(bodies(await get_all(await self.bus.subscribe(queue, prefetch=10), 3)), sent)

    async def test_nothing_to_publish_is_no_error(self) -> None:
        queue = await self.queue()
        await self.bus.publish(queue, [])
        self.assertEqual(await self.bus.depth(queue), 0)

    async def test_get_waits_for_a_message(self) -> None:
        queue = await self.queue()
        subscription = await self.bus.subscribe(queue, prefetch=10)
        waiting = Deferred.fromCoroutine(subscription.get(10))
        self.assertFalse(waiting.called)
        await self.bus.publish(queue, [b"late"])
        self.assertEqual(bodies(await waiting), [b"late"])

    async def test_get_gives_no_more_than_it_is_asked_for(self) -> None:
        queue = await self.queue()
        await self.bus.publish(queue, numbered(1, 5))
        subscription = await self.bus.subscribe(queue, prefetch=10)
        self.assertLessEqual(len(await subscription.get(2)), 2)

    async def test_no_more_than_prefetch_are_unacknowledged(self) -> None:
        queue = await self.queue()
        await self.bus.publish(queue, numbered(1, 5))
        subscription = await self.bus.subscribe(queue, prefetch=3)
        first = await get_all(subscription, 3)
        waiting = Deferred.fromCoroutine(subscription.get(10))
        await self.pass_time(0.1)
        self.assertFalse(waiting.called)
        await subscription.ack(first[:1])
        self.assertEqual(bodies(await waiting), [b"4"])

    async def test_order_is_kept_while_publishing_and_consuming(self) -> None:
        queue = await self.queue()
        sent = numbered(1, 3000)
        publications = gatherResults(
            [Deferred.fromCoroutine(self.bus.publish(queue, sent[at : at + 30])) for at in range(0, len(sent), 30)]
        )
        subscription = await self.bus.subscribe(queue, prefetch=100)
        got: list[bytes] = []
        while len(got) < len(sent):
            deliveries = await subscription.get(100)
            got += bodies(deliveries)
            await subscription.ack(deliveries)
        await publications
        self.assertEqual(got, sent)
        self.assertEqual(await self.bus.depth(queue), 0)

    # --- acknowledgements ------------------------------------------------------------------------------

    async def test_what_is_acknowledged_does_not_come_again(self) -> None:
        queue = await self.queue()
        await self.bus.publish(queue, numbered(1, 4))
        subscription = await self.bus.subscribe(queue, prefetch=10)
        got = await get_all(subscription, 4)
        await subscription.ack([got[0], got[2]])
        await subscription.close()
        again = await get_all(await self.bus.subscribe(queue, prefetch=10), 2)
        self.assertEqual(bodies(again), [b"2", b"4"])

    async def test_what_was_put_back_comes_again_before_all_others(self) -> None:
        queue = await self.queue()
        await self.bus.publish(queue, numbered(1, 4))
        subscription = await self.bus.subscribe(queue, prefetch=10)
        got = await get_all(subscription, 2)
        await subscription.nack(got)
        self.assertEqual(sorted(bodies(await get_all(subscription, 4))), numbered(1, 4))
        await subscription.close()
        second = await self.bus.subscribe(queue, prefetch=10)
        self.assertEqual(bodies(await get_all(second, 4)), numbered(1, 4))

    async def test_an_acknowledgement_after_the_end_is_ignored(self) -> None:
        queue = await self.queue()
        await self.bus.publish(queue, [b"one"])
        first = await self.bus.subscribe(queue, prefetch=10)
        got = await first.get(1)
        await first.close()
        await first.ack(got)
        await first.nack(got)
        second = await self.bus.subscribe(queue, prefetch=10)
        self.assertEqual(bodies(await second.get(1)), [b"one"])

    async def test_a_queue_has_one_active_subscriber(self) -> None:
        queue = await self.queue()
        first = await self.bus.subscribe(queue, prefetch=10)
        second = await self.bus.subscribe(queue, prefetch=10)
        waiting = Deferred.fromCoroutine(second.get(10))
        await self.bus.publish(queue, [b"one", b"two"])
        got = await get_all(first, 2)
        await first.ack(got[:1])
        self.assertFalse(waiting.called)
        await first.close()
        self.assertEqual(bodies(await waiting), [b"two"])

    async def test_only_a_queue_that_nobody_reads_can_be_claimed(self) -> None:
        queue = await self.queue()
        await self.bus.publish(queue, [b"one"])
        claimed = await self.bus.claim(queue, prefetch=10)
        self.assertIsNone(await self.bus.claim(queue, prefetch=10))
        self.assertEqual(bodies(await claimed.get(1)), [b"one"])
        await claimed.close()
        again = None
        while again is None:  # a quorum queue forgets its consumer a little later
            again = await self.bus.claim(queue, prefetch=10)
        self.assertEqual(bodies(await again.get(1)), [b"one"])
        with self.assertRaises(UnroutableMessage):
            await self.bus.claim(self.name("nothing"), prefetch=1)

    async def test_the_members_of_a_group_are_counted(self) -> None:
        with self.assertRaises(UnroutableMessage):
            await self.bus.members(self.name("group"))
        for number in (1, 2):
            await self.bus.join(self.name("group"))
            self.assertEqual(await self.bus.members(self.name("group")), number)

    async def test_depth_counts_what_waits_and_what_is_unacknowledged(self) -> None:
        queue = await self.queue()
        await self.bus.publish(queue, numbered(1, 5))
        self.assertEqual(await self.bus.depth(queue), 5)
        subscription = await self.bus.subscribe(queue, prefetch=2)
        got = await get_all(subscription, 2)
        self.assertEqual(await self.bus.depth(queue), 5)
        await subscription.ack(got)
        await get_all(subscription, 2)  # so the acknowledgement has arrived
        self.assertEqual(await self.bus.depth(queue), 3)

    # --- queues and exchanges --------------------------------------------------------------------------

    async def test_a_queue_that_does_not_exist_is_an_error(self) -> None:
        for attempt in (
            self.bus.publish(self.name("nothing"), [b"lost?"]),
            self.bus.subscribe(self.name("nothing"), prefetch=1),
            self.bus.depth(self.name("nothing")),
            self.bus.broadcast(self.name("nothing"), [b"lost?"]),
        ):
            with self.assertRaises(UnroutableMessage) as caught:
                await attempt
            self.assertIn(self.name("nothing"), str(caught.exception))

    async def test_other_publications_survive_one_that_is_unroutable(self) -> None:
        queue = await self.queue()
        lost = Deferred.fromCoroutine(self.bus.publish(self.name("nothing"), numbered(1, 3)))
        found = Deferred.fromCoroutine(self.bus.publish(queue, numbered(1, 3)))
        await found
        with self.assertRaises(UnroutableMessage):
            await lost
        self.assertEqual(await self.bus.depth(queue), 3)

    async def test_a_broadcast_reaches_every_queue_that_is_bound(self) -> None:
        exchange = self.name("results")
        await self.bus.declare_fanout(exchange)
        self.assertEqual(self.bus.is_heard(exchange), isinstance(self.bus, AmqpBus))  # which cannot tell
        await self.bus.broadcast(exchange, [b"nobody listens"])
        queues = [await self.queue("a"), await self.queue("b")]
        await self.queue("not bound")
        for queue in queues:
            await self.bus.bind(queue, exchange)
            await self.bus.bind(queue, exchange)
            self.assertTrue(self.bus.is_heard(exchange))
        await self.bus.broadcast(exchange, numbered(1, 2), {"dataType": "x"})
        for queue in queues:
            got = await get_all(await self.bus.subscribe(queue, prefetch=10), 2)
            self.assertEqual(
                [(each.body, dict(each.headers)) for each in got],
                [(b"1", {"dataType": "x"}), (b"2", {"dataType": "x"})],
            )
        self.assertEqual(await self.bus.depth(self.name("not bound")), 0)

    async def test_declaring_again_changes_nothing(self) -> None:
        queue = await self.queue(max_messages=2)
        await self.bus.publish(queue, numbered(1, 2))
        await self.queue(max_messages=100)
        self.assertEqual(await self.bus.depth(queue), 2)
        waiting = Deferred.fromCoroutine(self.bus.publish(queue, [b"3"]))
        await self.pass_time(0.2)
        self.assertFalse(waiting.called)
        await self.bus.delete_queue(queue)
        with self.assertRaises(UnroutableMessage):
            await waiting

    async def test_a_deleted_queue_is_gone_and_its_subscription_ends(self) -> None:
        queue = await self.queue()
        subscription = await self.bus.subscribe(queue, prefetch=10)
        waiting = Deferred.fromCoroutine(subscription.get(1))
        await self.bus.delete_queue(queue)
        await self.bus.delete_queue(queue)
        with self.assertRaises(BusClosed):
            await waiting
        with self.assertRaises(UnroutableMessage):
            await self.bus.depth(queue)

    # --- bounds ----------------------------------------------------------------------------------------

    async def test_publishers_wait_in_order_while_a_queue_is_full(self) -> None:
        queue = await self.queue(max_messages=10)
        await self.bus.publish(queue, numbered(1, 10))
        waiting = [Deferred.fromCoroutine(self.bus.publish(queue, [b"%d" % number])) for number in (11, 12, 13)]
        await self.pass_time(0.3)
        self.assertEqual([each.called for each in waiting], [False, False, False])
        self.assertEqual(await self.bus.depth(queue), 10)
        subscription = await self.bus.subscribe(queue, prefetch=20)
        got = await get_all(subscription, 10)
        await subscription.ack(got)
        await gatherResults(waiting)
        self.assertEqual(bodies(got + await get_all(subscription, 3)), numbered(1, 13))

    async def test_bytes_are_bounded_too(self) -> None:
        queue = await self.queue(max_bytes=10_000)
        await self.bus.publish(queue, [b"x" * 10_000])
        waiting = Deferred.fromCoroutine(self.bus.publish(queue, [b"y" * 1000]))
        await self.pass_time(0.2)
        self.assertFalse(waiting.called)
        subscription = await self.bus.subscribe(queue, prefetch=10)
        await subscription.ack(await get_all(subscription, 1))
        await waiting

    async def test_a_message_of_any_size_goes_into_an_empty_queue(self) -> None:
        queue = await self.queue(max_bytes=10_000)
        subscription = await self.bus.subscribe(queue, prefetch=10)
        for size in (9_999, 10_000, 10_001, 1_000_000):
            await self.bus.publish(queue, [b"x" * size])
            got = await get_all(subscription, 1)
            self.assertEqual(len(got[0].body), size)
            await subscription.ack(got)

    async def test_many_messages_beyond_the_bound_pass_as_fast_as_they_are_read(self) -> None:
        queue = await self.queue(max_messages=3, max_bytes=1_000)
        sent = [b"%d" % size * size for size in (1, 400, 999, 1000, 1001, 5000, 2, 700, 700, 1)]
        publishing = gatherResults([Deferred.fromCoroutine(self.bus.publish(queue, [body])) for body in sent])
        subscription = await self.bus.subscribe(queue, prefetch=1)
        for body in sent:
            got = await get_all(subscription, 1)
            self.assertEqual(bodies(got), [body])
            await subscription.ack(got)
        await publishing

    async def test_a_full_queue_holds_up_no_other(self) -> None:
        full, other = await self.queue("full", max_messages=1), await self.queue("other")
        await self.bus.publish(full, [b"one"])
        waiting = Deferred.fromCoroutine(self.bus.publish(full, [b"two"]))
        await self.bus.publish(other, [b"one"])
        self.assertFalse(waiting.called)
        await self.bus.delete_queue(full)
        with self.assertRaises(UnroutableMessage):
            await waiting

    async def test_a_followers_queue_loses_its_oldest_messages(self) -> None:
        exchange = self.name("results")
        await self.bus.declare_fanout(exchange)
        queue = await self.queue(max_messages=3, overflow="drop-head", expires_s=60.0)
        await self.bus.bind(queue, exchange)
        await self.bus.broadcast(exchange, numbered(1, 2))
        await self.bus.broadcast(exchange, numbered(3, 7))
        self.assertEqual(await self.bus.depth(queue), 3)
        got = await get_all(await self.bus.subscribe(queue, prefetch=10), 3)
        self.assertEqual(bodies(got), numbered(5, 7))

    async def test_a_broadcast_waits_for_no_reader(self) -> None:
        exchange = self.name("results")
        await self.bus.declare_fanout(exchange)
        left = await self.queue("left", max_messages=3)
        read = await self.queue("read", max_messages=100, overflow="drop-head")
        for queue in (left, read):
            await self.bus.bind(queue, exchange)
        for number in range(1, 21):
            await self.bus.broadcast(exchange, [b"%d" % number])
        got = await get_all(await self.bus.subscribe(read, prefetch=100), 20)
        self.assertEqual(bodies(got), numbered(1, 20))

    async def test_queues_are_listed_with_length_and_reader(self) -> None:
        left, read = await self.queue("left"), await self.queue("read")
        await self.bus.publish(left, numbered(1, 3))
        await self.bus.subscribe(read, prefetch=1)
        await self.pass_time(0.3)
        states = {each.name: each for each in await self.bus.inspect([left, read, self.name("nothing")])}
        self.assertEqual(set(states), {left, read})
        self.assertEqual((states[left].messages, states[read].messages), (3, 0))
        self.assertTrue(states[read].has_reader)

    async def test_a_followers_queue_goes_when_nobody_follows(self) -> None:
        left, kept = await self.queue("left", expires_s=0.5), await self.queue("kept", expires_s=0.5)
        subscription = await self.bus.subscribe(kept, prefetch=10)
        await (await self.bus.subscribe(left, prefetch=10)).close()
        for _ in range(8):
            await self.pass_time(0.2)
        with self.assertRaises(UnroutableMessage):
            await self.bus.depth(left)
        await self.bus.publish(kept, [b"still there"])
        self.assertEqual(bodies(await subscription.get(1)), [b"still there"])

    # --- start and stop --------------------------------------------------------------------------------

    async def test_close_ends_a_pending_get(self) -> None:
        subscription = await self.bus.subscribe(await self.queue(), prefetch=10)
        waiting = Deferred.fromCoroutine(subscription.get(1))
        await subscription.close()
        await subscription.close()
        with self.assertRaises(BusClosed):
            await waiting
        with self.assertRaises(BusClosed):
            await subscription.get(1)

    async def test_stopping_ends_everything_that_waits(self) -> None:
        queue = await self.queue(max_messages=1)
        subscription = await self.bus.subscribe(queue, prefetch=1)
        await self.bus.publish(queue, [b"one"])
        await subscription.get(1)
        waiting = [
            Deferred.fromCoroutine(subscription.get(1)),
            Deferred.fromCoroutine((await self.bus.subscribe(queue, prefetch=1)).get(1)),
        ]
        await self.bus.stopService()
        waiting += [
            Deferred.fromCoroutine(self.bus.publish(queue, [b"two"])),
            Deferred.fromCoroutine(self.bus.subscribe(queue, prefetch=1)),
            Deferred.fromCoroutine(self.bus.depth(queue)),
        ]
        for each in waiting:
            with self.assertRaises(BusClosed):
                await each

    async def test_a_publisher_that_waits_for_room_is_told_of_the_stop(self) -> None:
        queue = await self.queue(max_messages=1)
        await self.bus.publish(queue, [b"one"])
        waiting = Deferred.fromCoroutine(self.bus.publish(queue, [b"two"]))
        await self.pass_time(0.1)
        await self.bus.stopService()
        with self.assertRaises(BusClosed):
            await waiting


class DurableBusContract(BusContract):
    """What a bus must do besides if it outlives its process."""

    async def restart(self) -> None:
        await self.bus.stopService()
        self.bus = self.make_bus()
        self.bus.startService()

    async def test_what_is_asked_before_the_start_is_done_after_it(self) -> None:
        await self.bus.stopService()
        self.bus = self.make_bus()
        queue = self.name("early")
        declared = Deferred.fromCoroutine(self.bus.declare_queue(queue))
        self.assertFalse(declared.called)
        self.bus.startService()
        await declared
        await self.bus.publish(queue, [b"one"])

    async def test_messages_queues_and_bindings_outlive_the_process(self) -> None:
        queue, exchange = await self.queue(), self.name("results")
        await self.bus.declare_fanout(exchange)
        await self.bus.bind(queue, exchange)
        await self.bus.publish(queue, numbered(1, 3), {"dataType": "x"})
        subscription = await self.bus.subscribe(queue, prefetch=2)
        await subscription.ack((await get_all(subscription, 2))[:1])
        await self.restart()
        await self.bus.declare_fanout(exchange)
        self.assertTrue(self.bus.is_heard(exchange))
        await self.bus.broadcast(exchange, [b"4"])
        got = await get_all(await self.bus.subscribe(queue, prefetch=10), 3)
        self.assertEqual(bodies(got), numbered(2, 4))
        self.assertEqual(got[0].headers, {"dataType": "x"})

    async def test_two_processes_share_the_queues(self) -> None:
        queue = await self.queue()
        other = self.make_bus()
        other.startService()
        self.addCleanup(other.stopService)
        subscription = await self.bus.subscribe(queue, prefetch=10)
        await other.declare_fanout(self.name("results"))
        await other.bind(await self.queue("bound"), self.name("results"))
        for message in numbered(1, 3):
            await other.publish(queue, [message])
            got = await subscription.get(1)
            self.assertEqual(bodies(got), [message])
            self.assertTrue(self.bus.is_heard(self.name("results")))
            await subscription.ack(got)
        await self.bus.publish(queue, [b"4"])
        await other.publish(queue, [b"5"])
        self.assertEqual(bodies(await get_all(subscription, 2)), numbered(4, 5))


class MemoryBusTests(BusContract, TestCase):
    timeout = 30

    def setUp(self) -> None:
        self.clock = Clock()
        super().setUp()

    def make_bus(self) -> MemoryBus:
        self.patch(embedded, "HOUSEKEEPING_S", 0.2)
        return MemoryBus(self.clock)

    def pass_time(self, seconds: float) -> Deferred[None]:
        self.clock.advance(seconds)
        return deferLater(reactor, 0)


class EmbeddedBusTests(DurableBusContract, TestCase):
    timeout = 30

    async def test_a_queue_tells_its_bytes_its_age_what_it_dropped_and_its_exchanges(self) -> None:
        exchange = self.name("results")
        await self.bus.declare_fanout(exchange)
        queue = await self.queue(max_messages=2)
        await self.bus.bind(queue, exchange)
        await self.bus.broadcast(exchange, [b"one", b"two", b"three"])
        (state,) = await self.bus.inspect()
        self.assertEqual((state.messages, state.bytes, state.dropped, state.exchanges), (2, 8, 1, [exchange]))
        self.assertLess(state.oldest_s, 30)
        self.assertLess(state.unread_s, 30)

    async def test_a_file_of_the_version_before_is_upgraded_with_its_messages(self) -> None:
        queue = await self.queue()
        await self.bus.publish(queue, numbered(1, 3))
        await self.bus.stopService()
        file = sqlite3.connect(self.folder / "bus.db")
        file.executescript(
            "ALTER TABLE queue DROP COLUMN dropped; ALTER TABLE message DROP COLUMN put_at; PRAGMA user_version=1"
        )
        file.close()
        self.bus = self.make_bus()
        self.bus.startService()
        await self.bus.publish(queue, [b"4"])
        (state,) = await self.bus.inspect()
        self.assertEqual((state.messages, state.oldest_s), (4, None))

    def make_bus(self) -> EmbeddedBus:
        self.patch(embedded, "HOUSEKEEPING_S", 0.2)
        self.folder = getattr(self, "folder", None) or Path(self.mktemp())
        self.folder.mkdir(parents=True, exist_ok=True)
        return EmbeddedBus(self.folder / "bus.db", reactor=reactor)


class AmqpBusTests(DurableBusContract, TestCase):
    timeout = 60
    queue_type = "classic"

    @pytest.fixture(autouse=True)
    def _server(self, rabbitmq: RabbitMQ) -> None:
        self.params = AmqpParams(port=rabbitmq.port, user="guest", password="guest")

    def make_bus(self) -> AmqpBus:
        return AmqpBus(self.params, reactor=reactor, queue_type=self.queue_type)


class AmqpQuorumQueueTests(AmqpBusTests):
    queue_type = "quorum"
