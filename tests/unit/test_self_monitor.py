# SPDX-License-Identifier: MIT
"""The engine's own figures become samples: counters as growth, histograms as means, and each gets a model once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from htmengine.adapters.datasource.custom import ModelSpec, create_metric
from htmengine.messages import decode_samples, parse_sample
from htmengine.operations import Operations
from htmengine.repository import queries, schema
from htmengine.repository.engine import Database
from htmengine.repository.queries import MetricStatus
from htmengine.sharding import ShardQueues
from htmengine.telemetry.self_monitor import Differences, SelfMonitor
from htmengine.testing import MemoryBus
from tests.support.database import InlineDatabase


def counter(value: float) -> Metric:
    family = CounterMetricFamily("htmengine_storer_rejected", "", labels=["reason"])
    family.add_metric(["too old!"], value)
    return family


def histogram(count: int, total: float) -> Metric:
    return HistogramMetricFamily("htmengine_turn_seconds", "", buckets=[("+Inf", count)], sum_value=total)


GAUGE = GaugeMetricFamily("htmengine_workers", "", 2.0)


class DifferencesTest(SynchronousTestCase):
    def setUp(self) -> None:
        self.differences = Differences("own.")

    def of(self, *figures: Metric) -> dict[str, float]:
        return dict(self.differences.of(figures))

    def test_a_gauge_is_sent_as_it_is(self) -> None:
        self.assertEqual(self.of(GAUGE), {"own.workers": 2.0})

    def test_a_counter_is_sent_as_what_it_grew_by(self) -> None:
        self.assertEqual(self.of(counter(5)), {})
        self.assertEqual(self.of(counter(7)), {"own.storer_rejected.too_old_": 2})
        self.assertEqual(self.of(counter(7)), {"own.storer_rejected.too_old_": 0})

    def test_a_counter_that_begins_anew_has_grown_from_nothing(self) -> None:
        self.of(counter(5))
        self.assertEqual(self.of(counter(3)), {"own.storer_rejected.too_old_": 3})

    def test_a_histogram_is_sent_as_its_mean_if_anything_was_observed(self) -> None:
        self.assertEqual(self.of(histogram(2, 10.0)), {})
        self.assertEqual(self.of(histogram(4, 11.0)), {"own.turn_seconds": 0.5})
        self.assertEqual(self.of(histogram(4, 11.0)), {})


class SelfMonitorTest(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_400_000_000)
        self.bus = MemoryBus(self.clock)
        self.bus.startService()
        self.addCleanup(self.bus.stopService)
        database = Database(f"sqlite:///{self.mktemp()}")
        database.run_sync(schema.metadata.create_all)
        self.addCleanup(database.close)
        self.database: Any = InlineDatabase(database)
        self.failures: list[Failure] = []
        self.shown: list[Metric] = [GAUGE]
        self.monitor = SelfMonitor(
            clock=self.clock,
            collect=self.collect,
            operations=Operations(self.database, self.bus, ShardQueues("in.", 1), "samples"),
            prefix="own.",
            on_failure=self.failures.append,
        )

    async def collect(self) -> Sequence[Metric]:
        return self.shown

    def tearDown(self) -> None:
        self.successResultOf(self.monitor.stopService())
        self.assertEqual(self.failures, [])

    def sent(self) -> list[list[str]]:
        from twisted.internet.defer import Deferred

        async def read() -> list[list[str]]:
            subscription = await self.bus.subscribe("samples", prefetch=100)
            return [decode_samples(delivery.body).lines for delivery in await subscription.get(100)]

        return self.successResultOf(Deferred.fromCoroutine(read()))

    def status(self) -> MetricStatus:
        [metric] = self.database.run_sync(queries.find_metrics, ["own.workers"]).values()
        assert isinstance(metric.status, MetricStatus)
        return metric.status

    def test_figures_are_sent_once_a_minute_as_samples_and_get_a_model(self) -> None:
        self.monitor.startService()
        self.clock.pump([30] * 4)
        self.assertEqual(self.sent(), [[f"own.workers 2.0 {1_400_000_000 + 60 * n}"] for n in range(3)])
        self.assertEqual(parse_sample("own.workers 2.0 1400000000", 0.0).value, 2.0)
        self.assertIs(self.status(), MetricStatus.PENDING_DATA)

    def test_a_metric_whose_model_was_taken_away_keeps_without(self) -> None:
        self.database.run_sync(create_metric, ModelSpec.for_name("own.workers"), monitor=False)
        self.monitor.startService()
        self.assertIs(self.status(), MetricStatus.UNMONITORED)
