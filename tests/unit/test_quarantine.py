# SPDX-License-Identifier: MIT
"""Messages that cannot be processed: set aside alone, told of with the reason, counted; the others are processed."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any

import pytest
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from htmengine.adapters.datasource import custom
from htmengine.adapters.datasource.custom import ModelSpec
from htmengine.ledger import read_ledger
from htmengine.messages import SampleBatch, encode_samples
from htmengine.repository import queries, schema, set_aside, troubles
from htmengine.repository.engine import Database
from htmengine.repository.quarantine import Quarantine
from htmengine.repository.queries import Metric
from htmengine.runtime.metric_storer import MetricStorer
from htmengine.runtime.storing import StorerOptions
from htmengine.sharding import ShardQueues
from tests.fuzz import messages as fuzz
from tests.support.database import InlineDatabase

NOW = 1_400_000_000


@pytest.mark.long
class QuarantineTest(SynchronousTestCase):
    def setUp(self) -> None:
        database = Database("sqlite://")
        database.run_sync(schema.metadata.create_all)
        self.addCleanup(database.close)
        self.database = InlineDatabase(database)
        self.quarantine = Quarantine(self.database, "results", lambda: NOW)
        self.handled: list[int] = []

    def done(self, coroutine: Coroutine[Deferred[Any], Any, Any]) -> Any:
        return self.successResultOf(Deferred.fromCoroutine(coroutine))

    def troubles(self) -> list[tuple[str, str, int]]:
        return [(each.source, each.message, each.since) for each in self.database.run_sync(troubles.list_of)]

    async def handle(self, items: Sequence[int]) -> None:
        """Takes all but odd numbers above 10."""
        for item in items:
            if item > 10 and item % 2:
                raise KeyError(item)
        self.handled += items

    def test_the_culprits_are_found_among_many_and_the_others_stay_in_order(self) -> None:
        self.done(self.quarantine.each([2, 4, 11, 6, 8, 13, 10], self.handle))
        self.assertEqual(self.handled, [2, 4, 6, 8, 10])
        expected = [("messages of queue results", f"set aside: KeyError: {n}", NOW) for n in (11, 13)]
        self.assertEqual(sorted(self.troubles()), expected)
        self.assertEqual(self.database.run_sync(read_ledger, None).set_aside, 2)

    def test_an_error_that_no_message_is_to_blame_for_is_raised(self) -> None:
        async def away(items: Sequence[int]) -> None:
            raise OperationalError("SELECT 1", None, Exception("disk full"))

        async def broken(items: Sequence[int]) -> None:
            raise ValueError

        for handle, error in ((away, OperationalError), (broken, ValueError)):
            self.failureResultOf(Deferred.fromCoroutine(self.quarantine.each([1, 2], handle)), error)
        self.assertEqual(self.troubles(), [])

    def test_reasons_are_bounded_and_each_keeps_the_time_when_it_was_first_seen(self) -> None:
        for n in range(50):
            self.database.run_sync(set_aside.add, "results", [f"reason {n}"], NOW + n)
        self.database.run_sync(set_aside.add, "results", ["reason 40", "reason 40"], NOW + 100)
        found = self.troubles()
        self.assertEqual(len(found), set_aside.KEPT_REASONS)
        self.assertIn(("messages of queue results", "set aside: reason 40", NOW + 40), found)
        self.assertEqual(self.database.run_sync(read_ledger, None).set_aside, 52)

    def test_dismissed_reasons_are_gone_and_other_troubles_stay(self) -> None:
        self.database.run_sync(troubles.replace, "worker 0", ["no room"], NOW)
        self.database.run_sync(set_aside.add, "results", ["reason"], NOW)
        self.assertEqual(self.database.run_sync(set_aside.dismiss), 1)
        self.assertEqual(self.troubles(), [("worker 0", "no room", NOW)])

    def test_samples_of_a_metric_that_cannot_be_stored_are_rejected_alone(self) -> None:
        create = custom.create_metrics

        def failing(conn: Connection, specs: Sequence[ModelSpec], *, monitor: bool) -> dict[str, Metric]:
            if any(spec.name == "web3.cpu" for spec in specs):
                raise ZeroDivisionError("web3.cpu")
            return create(conn, specs, monitor=monitor)

        self.patch(custom, "create_metrics", failing)
        bus = fuzz.Fed()
        failures: list[Failure] = []
        clock = Clock()
        clock.advance(NOW)
        storer = MetricStorer(
            clock=clock,
            bus=bus,
            database=self.database,
            options=StorerOptions("samples", ShardQueues("shard.", 2), auto_monitor=False),
            on_failure=failures.append,
        )
        storer.running = 1
        lines = [f"web{n % 5}.cpu {n} {NOW + n}" for n in range(20)]
        bus.waiting = [
            encode_samples(SampleBatch(lines[:10], "one")),
            b"nonsense",
            encode_samples(SampleBatch(lines[10:], "two")),
        ]
        storer._tasks.start(storer.consume())
        self.assertEqual((failures, bus.acknowledged), ([], 3))
        ledger = self.database.run_sync(read_ledger, None)
        self.assertEqual((ledger.stored, ledger.rejected), (16, {"not_storable": 4, "invalid_message": 1}))
        self.assertTrue(ledger.adds_up)
        self.assertEqual(len(self.database.run_sync(queries.list_metrics)), 4)
        self.assertIn(("messages of queue samples", "set aside: ZeroDivisionError: web3.cpu", NOW), self.troubles())

    def test_a_mutated_message_of_any_queue_ends_no_service(self) -> None:
        counts = fuzz.run(600, seed=1, handled=3)
        self.assertGreater(counts["handled"], 15)
