# SPDX-License-Identifier: MIT
"""The engine's own metrics, in Prometheus's form.

In: the services' plain counters and `Observations`, read when somebody asks.  Out: a page of text for Prometheus, and
the same figures for `htmengine.telemetry.self_monitor`.  services.py makes one `Telemetry` a process and tells it which
parts to watch; docs/self-metrics.md lists all metrics.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferTimeout

from htmengine.bus.interface import Bus
from htmengine.errors import BusError, UnroutableMessage
from htmengine.process.figures import Observations
from htmengine.process.twisted_types import Clock, within

if TYPE_CHECKING:
    from htmengine.alerts.service import AlertService
    from htmengine.model_swapper.model_scheduler_service import ModelScheduler
    from htmengine.runtime.anomaly_service import AnomalyService
    from htmengine.runtime.metric_listener import MetricListener
    from htmengine.runtime.metric_storer import MetricStorer
    from htmengine.web.service import WebService

#: The bus has this long to tell how full the queues are; a broker that is away must not hold up the page.
DEPTH_S = 2.0
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Telemetry:
    """What one process tells about itself, in a registry of its own."""

    def __init__(
        self, registry: CollectorRegistry, bus: Bus, clock: Clock, queues: Mapping[str, Sequence[str]]
    ) -> None:
        self.registry = registry
        self._depths = _QueueDepths(bus, clock, queues)
        ProcessCollector(registry=registry)
        registry.register(self._depths)

    def watch(self, *parts: object) -> None:
        """Show the figures of services and of the bus; what has none is let be."""
        for part in parts:
            read = _READERS.get(type(part).__name__)
            if read is not None:
                self.registry.register(_Figures(read, part))

    async def collect(self) -> list[Metric]:
        """All metrics as they are now."""
        await self._depths.refresh()
        return list(self.registry.collect())

    async def page(self) -> bytes:
        """All metrics in Prometheus's text format."""
        await self._depths.refresh()
        return generate_latest(self.registry)


class _Figures(Collector):
    """Reads a part's figures when they are asked for."""

    def __init__(self, read: Callable[[Any], Iterable[Metric]], part: object) -> None:
        self._read = read
        self._part = part

    def collect(self) -> Iterable[Metric]:
        return self._read(self._part)


class _QueueDepths(Collector):
    """How full the queues are, as of the last `refresh`."""

    def __init__(self, bus: Bus, clock: Clock, queues: Mapping[str, Sequence[str]]) -> None:
        self._bus = bus
        self._clock = clock
        self._queues = queues
        self._depths: dict[str, int] = {}

    async def refresh(self) -> None:
        """Ask the bus; while it is away there are no figures."""
        self._depths = {}
        try:
            await within(Deferred.fromCoroutine(self._ask()), DEPTH_S, self._clock)
        except (BusError, DeferTimeout):
            self._depths = {}

    async def _ask(self) -> None:
        depths = {}
        for name, queues in self._queues.items():
            with contextlib.suppress(UnroutableMessage):  # nobody has declared it yet
                depths[name] = sum([await self._bus.depth(queue) for queue in queues])
        self._depths = depths

    def collect(self) -> Iterable[Metric]:
        yield _by(GaugeMetricFamily, "htmengine_queue_messages", "Messages in queues", "queue", self._depths)


# --- metrics --------------------------------------------------------------------------------------------


def _counter(name: str, help: str, value: float) -> Metric:
    return CounterMetricFamily(name, help, value)


def _gauge(name: str, help: str, value: float) -> Metric:
    return GaugeMetricFamily(name, help, value)


def _histogram(name: str, help: str, observed: Observations) -> Metric:
    buckets = [("+Inf" if bound == float("inf") else repr(bound), n) for bound, n in observed.cumulated()]
    return HistogramMetricFamily(name, help, buckets=buckets, sum_value=observed.total)


def _by(
    kind: type[CounterMetricFamily] | type[GaugeMetricFamily],
    name: str,
    help: str,
    label: str,
    values: Mapping[str, float],
) -> Metric:
    """One metric with a label."""
    family = kind(name, help, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


# --- parts ----------------------------------------------------------------------------------------------


def _of_listener(listener: MetricListener) -> Iterable[Metric]:
    batcher = listener.batcher
    yield _counter("htmengine_listener_lines", "Lines that came, accepted or not", batcher.received)
    yield _by(
        CounterMetricFamily,
        "htmengine_listener_rejected",
        "Lines that the listener rejected",
        "reason",
        batcher.rejected,
    )
    yield _counter("htmengine_listener_batches", "Messages published to the samples queue", batcher.batches)
    yield _histogram("htmengine_listener_batch_lines", "Lines in a message", batcher.batch_lines)
    yield _histogram("htmengine_listener_publish_seconds", "Until messages are durable", batcher.publish_seconds)
    yield _gauge("htmengine_listener_connections", "Clients that are connected", len(listener.factory.connections))
    yield _counter("htmengine_listener_refused_connections", "Clients beyond the limit", listener.factory.refused)
    yield _gauge("htmengine_listener_paused", "1 while clients have to wait for the bus", float(batcher.under_pressure))


def _of_storer(storer: MetricStorer) -> Iterable[Metric]:
    yield _counter("htmengine_storer_samples", "Samples that came, accepted or not", storer.received)
    yield _counter("htmengine_storer_stored", "Samples that were stored", storer.stored)
    yield _by(
        CounterMetricFamily,
        "htmengine_storer_rejected",
        "Samples that were rejected, by the listener too",
        "reason",
        storer.rejected,
    )
    yield _histogram("htmengine_storer_transaction_samples", "Samples in a transaction", storer.transaction_samples)
    yield _histogram("htmengine_storer_transaction_seconds", "A transaction", storer.transaction_seconds)
    yield _histogram(
        "htmengine_received_to_stored_seconds",
        "From a batch's first line at the listener to its rows in the database",
        storer.received_to_stored_seconds,
    )


def _of_scheduler(scheduler: ModelScheduler) -> Iterable[Metric]:
    pool = scheduler.pool
    yield _counter("htmengine_scheduler_scored", "Rows whose raw scores are published", scheduler.scored)
    yield _counter("htmengine_scheduler_rejected", "Messages that are no model input", scheduler.rejected)
    yield _gauge("htmengine_scheduler_waiting_rows", "Rows in memory that wait", scheduler.controller.cached_rows)
    yield _histogram("htmengine_scheduler_turn_seconds", "A turn, with its wait for others", pool.turn_seconds)
    yield _gauge("htmengine_workers", "Worker processes that run", len(pool.pids()))
    yield _gauge("htmengine_workers_wanted", "Worker processes that should run", pool.count)
    yield _counter("htmengine_worker_deaths", "Worker processes that died", pool.deaths)
    resident = {str(worker): _resident_bytes(pid) for worker, pid in pool.pids().items()}
    yield _by(GaugeMetricFamily, "htmengine_worker_resident_bytes", "Memory of a worker process", "worker", resident)
    for figure, (kind, name, help, scale) in _WORKER_FIGURES.items():
        values = {str(worker): each[figure] * scale for worker, each in pool.statistics().items() if figure in each}
        yield _by(kind, name, help, "worker", values)


#: Figures of `ModelCache.statistics`.
_WORKER_FIGURES: Mapping[str, tuple[Any, str, str, float]] = {
    "models": (GaugeMetricFamily, "htmengine_worker_models", "Models in memory", 1),
    "memory_bytes": (GaugeMetricFamily, "htmengine_worker_model_bytes", "Memory of the models", 1),
    "swapped_in": (CounterMetricFamily, "htmengine_worker_swapped_in", "Models read from disk", 1),
    "swapped_out": (CounterMetricFamily, "htmengine_worker_swapped_out", "Models that made room", 1),
    "checkpoints": (CounterMetricFamily, "htmengine_worker_checkpoints", "Checkpoints written", 1),
    "checkpoint_bytes": (CounterMetricFamily, "htmengine_worker_checkpoint_bytes", "Bytes of checkpoints written", 1),
    "cpu_us": (CounterMetricFamily, "htmengine_worker_cpu_seconds", "Processor time", 1e-6),
}


def _resident_bytes(pid: int) -> int:
    """Of a process; 0 when it is gone, or the system does not say."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES
    except OSError:
        return 0


def _of_anomaly_service(service: AnomalyService) -> Iterable[Metric]:
    yield _counter("htmengine_anomaly_scored", "Rows whose anomaly scores are stored", service.scored)
    yield _counter("htmengine_anomaly_rejected", "Messages that are no results", service.rejected)
    yield _histogram("htmengine_anomaly_transaction_rows", "Rows in a transaction", service.transaction_rows)
    yield _histogram("htmengine_anomaly_transaction_seconds", "A transaction", service.transaction_seconds)
    yield _histogram(
        "htmengine_received_to_scored_seconds",
        "From a line at the listener to its anomaly score in the database, one line a message",
        service.received_to_scored_seconds,
    )


def _of_alert_service(service: AlertService) -> Iterable[Metric]:
    yield _counter("htmengine_alerts_fired", "Alerts that fired", service.fired)
    yield _counter("htmengine_alerts_resolved", "Alerts that are over", service.resolved)
    yield _counter("htmengine_alerts_overflows", "Times that the alerts' queue was full", service.overflows)
    yield _counter("htmengine_alerts_rejected", "Messages that are no results", service.rejected)
    for name, help in (
        ("delivered", "Alert messages that were delivered"),
        ("failed", "Attempts to deliver that failed"),
        ("given_up", "Alert messages that were given up"),
    ):
        values = {courier.name: getattr(courier, name) for courier in service.couriers}
        yield _by(CounterMetricFamily, f"htmengine_alert_messages_{name}", help, "receiver", values)


def _of_web(service: WebService) -> Iterable[Metric]:
    yield _counter("htmengine_web_answers", "HTTP requests that were answered", service.routes.answered)
    yield _counter("htmengine_web_refusals", "HTTP requests that were refused", service.routes.refused)
    yield _gauge("htmengine_web_event_clients", "Clients of server-sent events", service.feed.clients)


def _of_amqp_bus(bus: Any) -> Iterable[Metric]:
    yield _counter("htmengine_bus_lost_connections", "Connections to RabbitMQ that were lost", bus.lost_connections)


#: By the name of a part's class: a process does not load the parts that it has not got.
_READERS: Mapping[str, Callable[[Any], Iterable[Metric]]] = {
    "MetricListener": _of_listener,
    "MetricStorer": _of_storer,
    "ModelScheduler": _of_scheduler,
    "AnomalyService": _of_anomaly_service,
    "AlertService": _of_alert_service,
    "WebService": _of_web,
    "AmqpBus": _of_amqp_bus,
}
