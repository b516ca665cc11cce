# SPDX-License-Identifier: MIT
"""The watchdog: what waits for ever is told by name, in the log, in the table of troubles, and to who asks.

Faults that once stood still in silence are made again here by taking their fixes out.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar
from unittest import mock

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from htmengine.bus.interface import QueueLimits
from htmengine.bus.queue_file import QueueFile
from htmengine.errors import BusClosed, DatabaseFailed, QueueFull
from htmengine.process.probes import Unhealthy
from htmengine.process.tasks import Tasks
from htmengine.repository import engine, queries, troubles
from htmengine.repository.engine import Database
from htmengine.runtime.sample_batcher import BatcherOptions, Lane, SampleBatcher
from htmengine.telemetry.progress_watch import REMIND_S, WATCH_S, ProgressWatch
from htmengine.testing import MemoryBus

T = TypeVar("T")
EPOCH = "1970-01-01 00:00:00 UTC"


class TroublesTable:
    """A database that writes down the troubles that it gets; it may hang or be away."""

    def __init__(self) -> None:
        self.written: list[list[str]] = []
        self.hangs = False
        self.away = False

    async def run(self, fn: object, _source: str, messages: list[str], _now: int) -> None:
        assert fn is troubles.replace
        if self.hangs:
            await Deferred()
        if self.away:
            raise DatabaseFailed("no way to the database")
        self.written.append(messages)


class WatchTest(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.bus = MemoryBus(self.clock)
        self.bus.startService()
        self.table: Any = TroublesTable()
        self.watch = ProgressWatch(
            name="test",
            progress=self.bus.progress,
            patience_s=60.0,
            clock=self.clock,
            bus=self.bus,
            queues=["read"],
            database=self.table,
            on_failure=lambda failure: failure.raiseException(),
        )
        self.logged: list[str] = []
        globalLogPublisher.addObserver(self.observe)
        self.addCleanup(globalLogPublisher.removeObserver, self.observe)
        self.watch.startService()

    def observe(self, event: dict[str, object]) -> None:
        if event.get("log_namespace") == f"{ProgressWatch.__module__}.ProgressWatch":
            self.logged.append(str(event["what"]))

    def take_out(self, target: Any, name: str, instead: Callable[..., Any]) -> None:
        """A fix, for the rest of a test."""
        patch = mock.patch.object(target, name, instead)
        patch.start()
        self.addCleanup(patch.stop)

    def done(self, coroutine: Coroutine[Deferred[Any], Any, T]) -> T:
        return self.successResultOf(Deferred.fromCoroutine(coroutine))

    def pass_time(self, seconds: float) -> None:
        self.clock.pump([WATCH_S] * round(seconds / WATCH_S))

    def readiness(self) -> Deferred[None]:
        async def ask() -> None:
            await self.watch.checks()["progress"]()

        return Deferred.fromCoroutine(ask())

    def assert_told(self, *told: str) -> None:
        """In every place, and nothing else."""
        self.assertEqual(self.logged, list(told))
        self.assertEqual(self.table.written[-1], list(told))
        self.assertEqual([figure.value for figure in self.watch.figures()], [len(told)])
        self.assertEqual(str(self.failureResultOf(self.readiness(), Unhealthy).value), "; ".join(told))

    @pytest.mark.long
    def test_a_publication_that_waits_for_room_is_told_by_its_queue_once_and_then_hourly(self) -> None:
        self.done(self.bus.declare_queue("full", limits=QueueLimits(max_messages=1)))
        self.done(self.bus.publish("full", [b"one"]))
        waiting = Deferred.fromCoroutine(self.bus.publish("full", [b"two"]))
        self.pass_time(50)
        self.successResultOf(self.readiness())
        self.pass_time(30)
        told = f"publishing to queue 'full' waits for room in queue 'full' since {EPOCH}"
        self.assert_told(told)
        self.pass_time(REMIND_S)
        self.assertEqual(self.logged, [told, told])
        subscription = self.done(self.bus.subscribe("full", prefetch=1))
        got = self.done(subscription.get(1))
        self.done(subscription.ack(got))
        self.pass_time(2 * WATCH_S)
        self.successResultOf(waiting)
        self.successResultOf(self.readiness())
        self.assertEqual([figure.value for figure in self.watch.figures()], [0])
        self.assertEqual(self.table.written, [[], [told], []])  # what an earlier process has left is gone first

    def test_a_database_that_never_answers_is_told_and_told_of_when_it_cannot_be_told_itself(self) -> None:
        self.table.hangs = True
        self.take_out(engine, "in_thread", lambda *_args, **_kwargs: Deferred())
        database = Database("sqlite://", progress=self.bus.progress)
        database._reactor = self.clock  # type: ignore[assignment]  # without one it would do it at once
        asked = Deferred.fromCoroutine(database.read(queries.list_metrics))
        self.pass_time(80)
        self.assertEqual(self.logged, [f"waiting for the database (list_metrics) since {EPOCH}"])
        self.failureResultOf(self.readiness(), Unhealthy)
        asked.addErrback(lambda _: None)
        asked.cancel()
        self.successResultOf(self.readiness())

    def test_what_a_listener_without_a_way_to_the_database_cannot_write_is_written_when_there_is_one(self) -> None:
        self.table.away = True
        with self.bus.progress.doing("publishing"):
            self.pass_time(80)
            self.assertEqual((self.logged, self.table.written), ([f"publishing since {EPOCH}"], [[]]))
            self.table.away = False
            self.pass_time(WATCH_S)
            self.assert_told(f"publishing since {EPOCH}")

    def test_a_stop_does_not_wait_for_a_database_that_hangs(self) -> None:
        self.pass_time(WATCH_S)
        self.table.hangs = True
        with self.bus.progress.doing("something"):
            self.pass_time(80)
            self.successResultOf(self.watch.stopService())

    # --- faults that stood still in silence

    def test_a_listener_whose_batch_finds_no_room_in_an_empty_queue(self) -> None:
        def refuse(_file: QueueFile, name: str, *_args: object) -> None:
            raise QueueFull(name)

        self.take_out(QueueFile, "put", refuse)
        self.take_out(QueueFile, "has_room", lambda *_: False)
        tasks = Tasks(lambda failure: failure.raiseException())
        batcher = SampleBatcher(self.bus, self.clock, BatcherOptions("samples", 1000, 0.1), tasks, lambda _: None)
        batcher.take([b"m 1 1"], Lane(1000, lambda _: None))
        self.clock.advance(0.1)
        self.pass_time(80)
        self.assert_told(
            f"publishing to queue 'samples' waits for room in queue 'samples' since {EPOCH}",
            f"samples wait, but none is published since {EPOCH}",
        )

    def test_an_application_that_went_away_and_whose_full_queue_holds_up_all_broadcasts(self) -> None:
        self.done(self.bus.declare_fanout("results"))
        self.done(self.bus.declare_queue("application", limits=QueueLimits(max_messages=1)))
        self.done(self.bus.bind("application", "results"))
        self.done(self.bus.broadcast("results", [b"one"]))

        def put_in_all(file: QueueFile, _exchange: str, *args: Any) -> Any:
            return file.put("application", *args)

        self.take_out(QueueFile, "broadcast", put_in_all)
        waiting = Deferred.fromCoroutine(self.bus.broadcast("results", [b"two"]))
        self.pass_time(80)
        self.assert_told(f"publishing to exchange 'results' waits for room in queue 'application' since {EPOCH}")
        self.bus.stopService()
        self.failureResultOf(waiting, BusClosed)

    def test_a_consumer_that_is_never_told_that_it_was_cancelled(self) -> None:
        self.done(self.bus.declare_queue("read"))
        subscription = self.done(self.bus.subscribe("read", prefetch=1))
        getting = Deferred.fromCoroutine(subscription.get(1))
        self.take_out(MemoryBus, "forget", lambda *_: None)
        self.bus._subscriptions.clear()
        self.done(self.bus.publish("read", [b"one"]))
        self.pass_time(100)
        self.assertNoResult(getting)
        self.assertEqual(len(self.logged), 1)
        self.assertIn("queue 'read' has messages and no reader since 1970-01-01", self.logged[0])
        self.assert_told(*self.logged)
