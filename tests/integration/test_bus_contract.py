# SPDX-License-Identifier: MIT
"""One contract for every bus."""

from __future__ import annotations

import multiprocessing
import sqlite3
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from htmengine.bus.embedded import IN_MEMORY, EmbeddedBus
from htmengine.bus.interface import BusService, Delivery, QueueLimits
from htmengine.errors import BusClosed, UnroutableMessage
from htmengine.testing import MemoryBus

reactor: Any = installed


def bodies(deliveries: list[Delivery]) -> list[bytes]:
    return [delivery.body for delivery in deliveries]


def numbered(first: int, last: int) -> list[bytes]:
    return [b"%d" % number for number in range(first, last + 1)]


async def pause(seconds: float = 0.0) -> None:
    await deferLater(reactor, seconds)


class BusContract:
    """What every bus does.  Subclasses say how to make one; `reopen` is its next life on the same data."""

    timeout = 30
    assertEqual: Callable[..., None]  # noqa: N815 - TestCase's
    fail: Callable[..., None]

    def make(self) -> BusService:
        raise NotImplementedError

    @asynccontextmanager
    async def running(self) -> AsyncIterator[BusService]:
        bus = self.make()
        bus.startService()
        try:
            yield bus
        finally:
            await bus.stopService()

    def run_with_bus(self, test: Callable[[BusService], Coroutine[Deferred[Any], Any, None]]) -> Deferred[None]:
        async def run() -> None:
            async with self.running() as bus:
                await bus.declare_queue("q")
                await test(bus)

        return Deferred.fromCoroutine(run())

    async def refused(self, error: type[Exception], waiting: Coroutine[Deferred[Any], Any, Any]) -> None:
        try:
            await waiting
        except error:
            return
        self.fail(f"{error.__name__} was not raised")

    def test_messages_come_in_order_with_their_headers(self) -> Deferred[None]:
        async def test(bus: BusService) -> None:
            await bus.publish("q", [b"1", b"\xff\x00"], {"dataType": "x"})
            await bus.publish("q", [b"3"])
            subscription = await bus.subscribe("q", prefetch=10)
            got: list[Delivery] = []
            while len(got) < 3:
                got += await subscription.get(10)
            self.assertEqual(bodies(got), [b"1", b"\xff\x00", b"3"])
            self.assertEqual([dict(each.headers) for each in got], [{"dataType": "x"}] * 2 + [{}])

        return self.run_with_bus(test)

    def test_a_waiting_consumer_gets_what_is_published_later(self) -> Deferred[None]:
        async def test(bus: BusService) -> None:
            subscription = await bus.subscribe("q", prefetch=10)
            waiting = Deferred.fromCoroutine(subscription.get(10))
            await bus.publish("q", [b"1"])
            self.assertEqual(bodies(await waiting), [b"1"])

        return self.run_with_bus(test)

    def test_nothing_is_missed_while_others_publish(self) -> Deferred[None]:
        async def test(bus: BusService) -> None:
            await bus.publish("q", numbered(1, 50))
            later = [Deferred.fromCoroutine(bus.publish("q", [b"%d" % number])) for number in range(51, 101)]
            subscription = await bus.subscribe("q", prefetch=1000)
            got: list[bytes] = []
            while len(got) < 100:
                got += bodies(await subscription.get(7))
            for each in later:
                await each
            self.assertEqual(got, numbered(1, 100))

        return self.run_with_bus(test)

    def test_no_more_than_the_prefetch_is_given_out(self) -> Deferred[None]:
        async def test(bus: BusService) -> None:
            await bus.publish("q", numbered(1, 5))
            subscription = await bus.subscribe("q", prefetch=2)
            first: list[Delivery] = []
            while len(first) < 2:
                first += await subscription.get(10)
            waiting = Deferred.fromCoroutine(subscription.get(10))
            await pause(0.1)
            self.assertEqual(waiting.called, False)
            await subscription.ack(first[:1])
            self.assertEqual(bodies(await waiting), [b"3"])

        return self.run_with_bus(test)

    def test_what_is_not_acknowledged_goes_to_the_next_subscriber_first(self) -> Deferred[None]:
        async def test(bus: BusService) -> None:
            await bus.publish("q", numbered(1, 3))
            subscription = await bus.subscribe("q", prefetch=10)
            got: list[Delivery] = []
            while len(got) < 3:
                got += await subscription.get(10)
            await subscription.ack(got[1:2])
            await subscription.close()
            again = await bus.subscribe("q", prefetch=10)
            left: list[Delivery] = []
            while len(left) < 2:
                left += await again.get(10)
            self.assertEqual(bodies(left), [b"1", b"3"])

        return self.run_with_bus(test)

    def test_a_nack_brings_messages_back_in_order(self) -> Deferred[None]:
        async def test(bus: BusService) -> None:
            await bus.publish("q", numbered(1, 3))
            subscription = await bus.subscribe("q", prefetch=10)
            got: list[Delivery] = []
            while len(got) < 3:
                got += await subscription.get(10)
            await subscription.nack(got)
            again: list[bytes] = []
            while len(again) < 3:
                again += bodies(await subscription.get(10))
            self.assertEqual(again, numbered(1, 3))

        return self.run_with_bus(test)

    def test_one_consumer_is_active_and_the_next_takes_over(self) -> Deferred[None]:
        async def test(bus: BusService) -> None:
            first = await bus.subscribe("q", prefetch=10)
            second = await bus.subscribe("q", prefetch=10)
            waiting = Deferred.fromCoroutine(second.get(10))
            await bus.publish("q", [b"1"])
            await first.ack(await first.get(10))
            self.assertEqual(waiting.called, False)
            await first.close()
            await bus.publish("q", [b"2"])
            self.assertEqual(bodies(await waiting), [b"2"])

        return self.run_with_bus(test)

    def test_publishing_to_no_queue_is_an_error(self) -> Deferred[None]:
        async def test(bus: BusService) -> None:
            await self.refused(UnroutableMessage, bus.publish("nowhere", [b"1"]))
            await bus.publish("q", [b"1"])
            self.assertEqual(await bus.depth("q"), 1)

        return self.run_with_bus(test)

    def test_a_broadcast_reaches_every_bound_queue_and_none_is_fine(self) -> Deferred[None]:
        async def test(bus: BusService) -> None:
            await bus.declare_fanout("x")
            await bus.broadcast("x", [b"0"])
            for queue in ("q", "r"):
                await bus.declare_queue(queue)
                await bus.bind(queue, "x")
            await bus.broadcast("x", [b"1"], {"dataType": "y"})
            for queue in ("q", "r"):
                [got] = await (await bus.subscribe(queue, prefetch=10)).get(10)
                self.assertEqual((got.body, dict(got.headers)), (b"1", {"dataType": "y"}))

        return self.run_with_bus(test)

    def test_publishing_waits_while_a_queue_is_full(self) -> Deferred[None]:
        async def test(bus: BusService) -> None:
            await bus.declare_queue("small", limits=QueueLimits(max_messages=2))
            await bus.publish("small", [b"1"])
            await bus.publish("small", [b"2"])
            waiting = Deferred.fromCoroutine(bus.publish("small", [b"3"]))
            await pause(0.4)
            self.assertEqual(waiting.called, False)
            subscription = await bus.subscribe("small", prefetch=1)
            await subscription.ack(await subscription.get(1))
            await waiting
            self.assertEqual(await bus.depth("small"), 2)

        return self.run_with_bus(test)

    def test_a_followers_queue_drops_its_oldest_messages(self) -> Deferred[None]:
        async def test(bus: BusService) -> None:
            await bus.declare_queue("last", limits=QueueLimits(max_messages=2, overflow="drop-head"))
            await bus.publish("last", numbered(1, 5))
            subscription = await bus.subscribe("last", prefetch=10)
            got: list[bytes] = []
            while len(got) < 2:
                got += bodies(await subscription.get(10))
            self.assertEqual(got, [b"4", b"5"])

        return self.run_with_bus(test)

    def test_a_deleted_queue_is_gone(self) -> Deferred[None]:
        async def test(bus: BusService) -> None:
            await bus.publish("q", [b"1"])
            await bus.delete_queue("q")
            await self.refused(UnroutableMessage, bus.publish("q", [b"2"]))
            await bus.declare_queue("q")
            self.assertEqual(await bus.depth("q"), 0)

        return self.run_with_bus(test)

    def test_stopping_ends_what_waits(self) -> Deferred[None]:
        async def test() -> None:
            async with self.running() as bus:
                await bus.declare_queue("q")
                subscription = await bus.subscribe("q", prefetch=10)
                waiting = Deferred.fromCoroutine(subscription.get(10))
            await self.refused(BusClosed, _awaiting(waiting))
            await self.refused(BusClosed, bus.publish("q", [b"1"]))

        return Deferred.fromCoroutine(test())


async def _awaiting(deferred: Deferred[Any]) -> Any:
    return await deferred


class MemoryBusTest(BusContract, TestCase):
    def make(self) -> BusService:
        return MemoryBus(reactor=reactor)


def publish_from_another_process(path: str, numbers: list[bytes]) -> None:
    """What a program does that opens the same file."""
    with sqlite3.connect(path, timeout=30) as db:
        for number in numbers:
            db.execute("INSERT INTO message (queue, headers, body) VALUES ('q', '{}', ?)", (number,))
        db.execute("UPDATE queue SET messages = messages + ? WHERE name = 'q'", (len(numbers),))
    db.close()


class EmbeddedBusTest(BusContract, TestCase):
    def setUp(self) -> None:
        self.path = Path(self.mktemp())

    def make(self) -> BusService:
        return EmbeddedBus(self.path, reactor=reactor)

    def test_everything_is_there_in_the_next_life(self) -> Deferred[None]:
        async def test() -> None:
            async with self.running() as bus:
                await bus.declare_queue("q")
                await bus.declare_fanout("x")
                await bus.bind("q", "x")
                await bus.publish("q", numbered(1, 3))
                subscription = await bus.subscribe("q", prefetch=10)
                await subscription.ack((await subscription.get(3))[:1])
            async with self.running() as bus:
                await bus.broadcast("x", [b"4"])
                subscription = await bus.subscribe("q", prefetch=10)
                self.assertEqual(bodies(await subscription.get(10)), [b"2", b"3", b"4"])

        return Deferred.fromCoroutine(test())

    def test_more_than_fits_into_memory_comes_in_order(self) -> Deferred[None]:
        async def test(bus: BusService) -> None:
            count = 3 * IN_MEMORY
            subscription = await bus.subscribe("q", prefetch=count)
            await bus.publish("q", numbered(1, 1))
            got = bodies(await subscription.get(1))
            for at in range(2, count + 1, 1000):
                await bus.publish("q", numbered(at, min(at + 999, count)))
            while len(got) < count:
                deliveries = await subscription.get(500)
                got += bodies(deliveries)
                await subscription.ack(deliveries)
            self.assertEqual(got, numbered(1, count))

        return self.run_with_bus(test)

    def test_what_another_process_publishes_comes_between_ours_and_none_is_missed(self) -> Deferred[None]:
        async def test(bus: BusService) -> None:
            subscription = await bus.subscribe("q", prefetch=1000)
            context = multiprocessing.get_context("spawn")
            other = context.Process(target=publish_from_another_process, args=(str(self.path), numbered(1, 20)))
            other.start()
            got: list[bytes] = []
            for number in range(101, 141):
                await bus.publish("q", [b"%d" % number])
                await pause(0.02)
            while len(got) < 60:
                got += bodies(await subscription.get(100))
            other.join()
            self.assertEqual([each for each in got if int(each) <= 100], numbered(1, 20))
            self.assertEqual([each for each in got if int(each) > 100], numbered(101, 140))

        return self.run_with_bus(test)

    def test_the_queue_of_a_vanished_follower_expires(self) -> Deferred[None]:
        async def test(bus: BusService) -> None:
            await bus.declare_fanout("x")
            await bus.declare_queue("gone", limits=QueueLimits(overflow="drop-head", expires_s=0.05))
            await bus.bind("gone", "x")
            await pause(0.1)
            await bus.broadcast("x", [b"1"])
            await self.refused(UnroutableMessage, bus.depth("gone"))

        return self.run_with_bus(test)
