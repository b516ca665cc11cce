# SPDX-License-Identifier: MIT
"""Metrics that send no more lose their model, then their rows; the time counts only while samples come."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from htmengine.adapters.datasource import custom
from htmengine.adapters.datasource.custom import ModelSpec
from htmengine.ledger import Ledger, read_ledger
from htmengine.messages import DELETE_MODEL, ModelCommand, SampleBatch, decode_model_message
from htmengine.repository import queries
from htmengine.runtime import metric_expiry
from htmengine.runtime.metric_expiry import DAY_S, MetricExpiry
from htmengine.runtime.storing import StorerOptions, store_batches
from htmengine.sharding import ShardQueues
from tests.support.database import InlineDatabase, new_database

OPTIONS = StorerOptions("samples", ShardQueues("shard.", 4), auto_monitor=True, pending_samples=3)
START = 1_000_000
EVERY_S = DAY_S / 4  #: rather than once an hour
LOOKS = 8


@pytest.mark.long
class MetricExpiryTest(SynchronousTestCase):
    def setUp(self) -> None:
        self.patch(metric_expiry, "INTERVAL_S", EVERY_S)
        self.patch(metric_expiry, "LONGEST_STEP_S", 2 * EVERY_S)
        self.database = new_database(self)
        self.clock = Clock()
        self.clock.advance(START)
        self.failures: list[Failure] = []
        self.expiry = self.started()

    def tearDown(self) -> None:
        self.successResultOf(self.expiry.stopService())
        self.assertEqual(self.failures, [])

    def started(self) -> MetricExpiry:
        inline: Any = InlineDatabase(self.database)
        expiry = MetricExpiry(
            clock=self.clock, database=inline, shards=OPTIONS.shards, expire_days=2, on_failure=self.failures.append
        )
        expiry.startService()
        return expiry

    def send(self, *names: str, value: float = 1.0, timestamp: int | None = None) -> None:
        at = int(self.clock.seconds()) if timestamp is None else timestamp
        batch = SampleBatch([f"{name} {value} {at}" for name in names])
        self.database.run_sync(store_batches, [batch], OPTIONS, self.clock.seconds(), [])

    def live(self, looks: int, *names: str) -> None:
        """A time in which these metrics send; metrics expire after `LOOKS` without a sample."""
        for _ in range(looks):
            self.send(*names, value=self.clock.seconds() % 7)
            self.clock.advance(EVERY_S)

    def statuses(self) -> dict[str, str]:
        return {metric.name: metric.status.name for metric in self.database.run_sync(queries.list_metrics)}

    def ledger(self, name: str | None = None) -> Ledger:
        ledger = self.database.run_sync(read_ledger, name)
        self.assertTrue(ledger.adds_up, ledger)
        return ledger

    def commands(self) -> list[str]:
        pending = self.database.run_sync(queries.pending_outbox)
        messages = [decode_model_message(message.body) for message in pending]
        return [message.method for message in messages if isinstance(message, ModelCommand)]

    def test_a_silent_metric_loses_its_model_and_after_as_long_again_its_rows(self) -> None:
        self.live(4, "node1.load", "pod-7f.cpu")
        self.assertEqual(self.statuses(), {"node1.load": "CREATE_PENDING", "pod-7f.cpu": "CREATE_PENDING"})
        self.live(LOOKS, "node1.load")
        self.assertEqual(self.statuses(), {"node1.load": "CREATE_PENDING", "pod-7f.cpu": "EXPIRED"})
        metric = self.database.run_sync(queries.find_metric, "pod-7f.cpu")
        self.assertEqual(metric.message, "no samples for 2 days")
        self.assertEqual(self.commands().count(DELETE_MODEL), 1)
        self.live(LOOKS - 1, "node1.load")
        self.assertEqual(len(self.statuses()), 2)
        self.assertEqual(self.ledger().expired, 0)
        self.live(2, "node1.load")
        self.assertEqual(self.statuses(), {"node1.load": "CREATE_PENDING"})
        self.assertEqual((self.ledger().expired, self.ledger().deleted), (4, 0))
        self.send("pod-7f.cpu")
        self.assertEqual((self.statuses()["pod-7f.cpu"], self.ledger("pod-7f.cpu").stored), ("PENDING_DATA", 1))

    def test_an_expired_metric_that_comes_back_gets_a_new_model_of_all_its_rows(self) -> None:
        self.live(2, "node1.load", "node2.load")
        self.live(1, "node1.load", "node2.load", "node3.load")
        self.live(LOOKS, "node1.load")
        self.assertEqual(
            self.statuses(), {"node1.load": "CREATE_PENDING", "node2.load": "EXPIRED", "node3.load": "EXPIRED"}
        )
        self.send("node2.load", "node3.load")
        self.assertEqual(
            self.statuses(),
            {"node1.load": "CREATE_PENDING", "node2.load": "CREATE_PENDING", "node3.load": "PENDING_DATA"},
        )
        definition = self.database.run_sync(queries.find_metric, "node2.load").definition
        self.assertEqual((definition.generation, self.ledger("node2.load").waiting), (2, 4))
        self.live(LOOKS - 1, "node1.load")
        self.assertEqual(self.statuses()["node2.load"], "CREATE_PENDING")

    def test_what_is_not_monitored_or_never_sent_is_left_alone(self) -> None:
        self.live(3, "node1.load", "node2.load")
        metric = self.database.run_sync(queries.find_metric, "node2.load")
        self.database.run_sync(custom.unmonitor_metric, metric)
        self.database.run_sync(custom.monitor_metric, ModelSpec.for_name("node3.load", min=0, max=1), 3)
        self.live(3 * LOOKS, "node1.load")
        self.assertEqual(
            self.statuses(),
            {"node1.load": "CREATE_PENDING", "node2.load": "UNMONITORED", "node3.load": "CREATE_PENDING"},
        )
        self.database.run_sync(custom.monitor_metric, ModelSpec.for_name("node2.load"), 3)
        self.live(LOOKS - 1, "node1.load")
        self.assertEqual(self.statuses()["node2.load"], "CREATE_PENDING")

    def test_time_in_which_nothing_came_or_nobody_looked_does_not_count(self) -> None:
        self.live(3, "node1.load", "node2.load")
        self.live(5 * LOOKS)  # the senders are away
        self.assertEqual(self.statuses(), {"node1.load": "CREATE_PENDING", "node2.load": "CREATE_PENDING"})
        self.successResultOf(self.expiry.stopService())
        self.clock.advance(100 * DAY_S)
        self.expiry = self.started()
        self.live(LOOKS - 1, "node1.load")
        self.assertEqual(self.statuses()["node2.load"], "CREATE_PENDING")
        self.live(2, "node1.load")
        self.assertEqual(self.statuses(), {"node1.load": "CREATE_PENDING", "node2.load": "EXPIRED"})

    def test_a_history_that_is_being_loaded_is_not_silent(self) -> None:
        for hour in range(3 * LOOKS):
            self.send("history.load", timestamp=3600 * hour, value=hour)
            self.clock.advance(EVERY_S)
        self.assertEqual(self.statuses(), {"history.load": "CREATE_PENDING"})
