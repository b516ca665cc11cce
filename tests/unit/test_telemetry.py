# SPDX-License-Identifier: MIT
"""The engine's own metrics: what is counted is shown, by names that the documents know."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families
from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from htmengine.model_swapper.model_cache import RunnerOptions
from htmengine.model_swapper.worker_pool import WorkerPool
from htmengine.process.figures import Figure, Observations, counter, gauge, histogram
from htmengine.runtime.metric_listener import ListenerOptions, MetricListener
from htmengine.runtime.sample_batcher import BatcherOptions, Lane
from htmengine.telemetry.prometheus import Telemetry
from htmengine.testing import MemoryBus


class SilentBus:
    """A bus whose broker is away: nobody ever answers."""

    async def depth(self, queue: str) -> int:
        return await Deferred[int]()


class Part:
    """Tells these figures."""

    def __init__(self, *figures: Figure) -> None:
        self._figures = figures

    def figures(self) -> Sequence[Figure]:
        return self._figures


class TelemetryTest(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = MemoryReactorClock()
        self.bus = MemoryBus(self.clock)
        self.bus.startService()
        self.addCleanup(self.bus.stopService)
        self.telemetry = self.new_telemetry(self.bus)

    def new_telemetry(self, bus: Any) -> Telemetry:
        queues = {"samples": ["s"], "model_input": ["in.0", "in.1"], "results": ["missing"]}
        return Telemetry(CollectorRegistry(), bus, self.clock, queues)

    def done(self, coroutine: Any) -> Any:
        return self.successResultOf(Deferred.fromCoroutine(coroutine))

    def samples(self) -> dict[tuple[str, ...], float]:
        """By name and the values of its labels, from the page as Prometheus reads it."""
        page = self.done(self.telemetry.page()).decode()
        return {
            (each.name, *each.labels.values()): each.value
            for family in text_string_to_metric_families(page)
            for each in family.samples
        }

    def test_queues_are_as_full_as_the_bus_says_and_missing_ones_are_left_out(self) -> None:
        for queue, messages in (("s", 3), ("in.0", 1), ("in.1", 2)):
            self.done(self.bus.declare_queue(queue))
            self.done(self.bus.publish(queue, [b"x"] * messages))
        shown = {key[1]: value for key, value in self.samples().items() if key[0] == "htmengine_queue_messages"}
        self.assertEqual(shown, {"samples": 3, "model_input": 3})

    def test_a_bus_that_does_not_answer_does_not_hold_up_the_page(self) -> None:
        telemetry = self.new_telemetry(SilentBus())
        page = Deferred.fromCoroutine(telemetry.page())
        self.clock.advance(2)
        self.assertIn(b"process_cpu_seconds_total", self.successResultOf(page))

    def test_the_listeners_counts_and_histograms_are_shown(self) -> None:
        options = ListenerOptions(BatcherOptions("s", batch_max_delay_s=0.01))
        listener = MetricListener(reactor=self.clock, bus=self.bus, options=options, on_failure=self.fail)
        self.telemetry.watch(listener)
        listener.batcher.take([b"a 1 2", b"a 1 3", b"nonsense"], Lane(10, print))
        self.clock.advance(0.02)
        samples = self.samples()
        self.assertEqual(samples["htmengine_listener_lines_total",], 3)
        self.assertEqual(samples["htmengine_listener_rejected_total", "field_count"], 1)
        self.assertEqual(samples["htmengine_listener_batch_lines_bucket", "1.0"], 0)
        self.assertEqual(samples["htmengine_listener_batch_lines_bucket", "2.0"], 1)
        self.assertEqual(samples["htmengine_listener_batch_lines_bucket", "+Inf"], 1)
        self.assertEqual(samples["htmengine_listener_batch_lines_sum",], 2)

    def test_figures_of_every_kind_are_shown_with_and_without_a_label(self) -> None:
        observed = Observations((1.0,))
        observed.observe(0.5)
        self.telemetry.watch(
            Part(
                counter("c", "Counted", 3),
                counter("c_by", "Counted by reason", {"late": 2, "early": 0}, by="reason"),
                gauge("g", "Now", 0.5),
                gauge("g_by", "Now, of no worker", {}, by="worker"),
                histogram("h", "Observed", observed),
            )
        )
        shown = {name: value for name, value in self.samples().items() if name[0][0] in "cgh"}
        self.assertEqual(
            {name: value for name, value in shown.items() if not name[0].endswith("created")},
            {
                ("c_total",): 3,
                ("c_by_total", "late"): 2,
                ("c_by_total", "early"): 0,
                ("g",): 0.5,
                ("h_bucket", "1.0"): 1,
                ("h_bucket", "+Inf"): 1,
                ("h_count",): 1,
                ("h_sum",): 0.5,
            },
        )

    def test_what_is_counted_or_true_is_a_number_that_a_sample_may_have(self) -> None:
        self.telemetry.watch(Part(gauge("g", "Whether", True), counter("c", "Counted", {"late": 2}, by="reason")))
        values = {
            each.name: repr(each.value)
            for family in self.done(self.telemetry.collect())
            for each in family.samples
            if each.name in {"g", "c_total"}
        }
        self.assertEqual(values, {"g": "1.0", "c_total": "2.0"})

    def test_each_workers_figures_are_shown_once_it_has_told_them(self) -> None:
        pool = WorkerPool(
            reactor=self.clock,
            workers=2,
            options=RunnerOptions(checkpoint_root=self.mktemp()),
            timeout_s=60.0,
            on_started=lambda _: None,
            on_answer=lambda *_: None,
            on_death=lambda *_: None,
            on_troubles=lambda *_: None,
            on_failure=self.fail,
        )
        self.patch(pool, "statistics", lambda: {1: {"checkpoints_refused": 4, "cpu_us": 2_500_000}})
        self.telemetry.watch(pool)
        samples = self.samples()
        self.assertEqual(samples["htmengine_workers_wanted",], 2)
        self.assertEqual(samples["htmengine_worker_checkpoints_refused_total", "1"], 4)
        self.assertEqual(samples["htmengine_worker_cpu_seconds_total", "1"], 2.5)
        self.assertNotIn(("htmengine_worker_models", "1"), samples)
