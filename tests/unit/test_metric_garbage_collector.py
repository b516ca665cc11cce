# SPDX-License-Identifier: MIT
"""Old rows go once an hour, in parts, and a stop does not wait for all of them."""

from __future__ import annotations

from typing import Any
from unittest import mock

from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from htmengine.adapters.datasource import custom
from htmengine.adapters.datasource.custom import ModelSpec
from htmengine.repository import old_rows, queries, schema
from htmengine.repository.engine import Database
from htmengine.runtime import metric_garbage_collector
from htmengine.runtime.metric_garbage_collector import DAY_S, INTERVAL_S, MetricGarbageCollector
from tests.support.database import InlineDatabase

NOW = 1_400_000_000


class MetricGarbageCollectorTest(SynchronousTestCase):
    def setUp(self) -> None:
        database = Database(f"sqlite:///{self.mktemp()}")
        database.run_sync(schema.metadata.create_all)
        self.addCleanup(database.close)
        self.database: Any = InlineDatabase(database)
        self.clock = Clock()
        self.clock.advance(NOW)
        self.failures: list[Failure] = []
        self.collector = MetricGarbageCollector(
            clock=self.clock, database=self.database, threshold_days=1, keep=0, on_failure=self.failures.append
        )
        self.uid = database.run_sync(custom.create_metric, ModelSpec.for_name("m")).uid
        rows = [(self.uid, n, NOW - 3 * DAY_S + n * DAY_S // 10, 0.0) for n in range(1, 31)]
        database.run_sync(queries.insert_samples, rows)
        database.run_sync(queries.update_tails, [(self.uid, 30, NOW)])

    def tearDown(self) -> None:
        self.successResultOf(self.collector.stopService())
        self.assertEqual(self.failures, [])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def rowids(self) -> list[int]:
        return [row.rowid for row in self.database.run_sync(queries.get_rows, self.uid, 0, 100)]

    def test_rows_that_are_older_by_then_go_at_the_start_and_hour_after_hour(self) -> None:
        self.patch(metric_garbage_collector, "ROWS_AT_ONCE", 7)
        self.collector.startService()
        self.assertEqual(self.rowids(), list(range(20, 31)))
        self.clock.pump([INTERVAL_S] * 3)
        self.assertEqual(self.rowids(), list(range(22, 31)))

    def test_a_clock_that_is_set_a_year_forward_removes_nothing(self) -> None:
        self.clock.advance(365 * DAY_S)
        self.collector.startService()
        self.assertEqual(self.rowids(), list(range(1, 31)))

    def test_it_ends_after_the_part_at_which_it_is_stopped(self) -> None:
        self.patch(metric_garbage_collector, "ROWS_AT_ONCE", 7)
        remove = old_rows.remove

        def remove_and_stop(*args: Any, **kwargs: Any) -> Any:
            self.collector.running = False
            return remove(*args, **kwargs)

        with mock.patch.object(old_rows, "remove", remove_and_stop):
            self.collector.startService()
        self.assertEqual(self.rowids(), list(range(8, 31)))
