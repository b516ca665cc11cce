# SPDX-License-Identifier: MIT
"""The engine's own metrics, in Prometheus's form.

In: the `Figure`s of the process's parts, read when Prometheus asks.  Out: a page of text, and the same metrics for
`htmengine.telemetry.self_monitor`.  services.py makes one `Telemetry` a process and tells it which parts to watch;
docs/self-metrics.md lists all metrics.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferTimeout

from htmengine.bus.interface import Bus
from htmengine.errors import BusError, UnroutableMessage
from htmengine.process.figures import Figure, Observations, TellsFigures, gauge
from htmengine.process.twisted_types import Clock, within

#: The bus has this long to tell how full the queues are; a broker that is away must not hold up the page.
DEPTH_S = 2.0


class Telemetry:
    """What one process tells about itself, in a registry of its own."""

    def __init__(
        self, registry: CollectorRegistry, bus: Bus, clock: Clock, queues: Mapping[str, Sequence[str]]
    ) -> None:
        self.registry = registry
        self._depths = _QueueDepths(bus, clock, queues)
        ProcessCollector(registry=registry)
        registry.register(self._depths)

    def watch(self, *parts: TellsFigures) -> None:
        """Show the figures of services and of the bus."""
        for part in parts:
            self.registry.register(_Figures(part))

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

    def __init__(self, part: TellsFigures) -> None:
        self._part = part

    def collect(self) -> Iterable[Metric]:
        return map(_family, self._part.figures())


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
        yield _family(gauge("htmengine_queue_messages", "Messages in queues", self._depths, by="queue"))


_FAMILIES: Mapping[str, type[CounterMetricFamily] | type[GaugeMetricFamily]] = {
    "counter": CounterMetricFamily,
    "gauge": GaugeMetricFamily,
}


def _family(figure: Figure) -> Metric:
    """A figure as prometheus_client writes it; every value is a float, which the self-monitor can send as a sample."""
    value = figure.value
    if isinstance(value, Observations):
        buckets = [("+Inf" if bound == float("inf") else repr(bound), n) for bound, n in value.cumulated()]
        return HistogramMetricFamily(figure.name, figure.help, buckets=buckets, sum_value=value.total)
    kind = _FAMILIES[figure.kind]
    if not isinstance(value, Mapping):
        return kind(figure.name, figure.help, float(value))
    family = kind(figure.name, figure.help, labels=[figure.label])
    for key, each in value.items():
        family.add_metric([key], float(each))
    return family
