# SPDX-License-Identifier: MIT
"""The engine watches itself: its own figures become metrics like any other, with models of their own.

In: what `htmengine.telemetry.prometheus` collects, once a minute.  Out: samples in the samples queue.  A counter is
sent as its growth, a histogram as its mean, since a model learns what is usual and not what only grows.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence

from prometheus_client.metrics_core import Metric as Family
from prometheus_client.samples import Sample
from sqlalchemy import Connection
from twisted.python.failure import Failure

from htmengine.adapters.datasource.custom import ModelSpec
from htmengine.messages import MAX_NAME_LENGTH
from htmengine.operations import Operations
from htmengine.process.tasks import PeriodicService
from htmengine.process.twisted_types import Clock
from htmengine.repository import queries

INTERVAL_S = 60.0
_UNWANTED = re.compile(r"[^A-Za-z0-9_-]+")


class Differences:
    """Figures to samples: what a counter grew by, a histogram's mean since the last time, a gauge as it is."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._before: dict[str, float] = {}

    def of(self, families: Iterable[Family]) -> Iterator[tuple[str, float]]:
        """(name, value).  What is new has nothing to be compared with, and gives none yet."""
        for family in families:
            sums = {self._name(family, each): each.value for each in family.samples if each.name.endswith("_sum")}
            for each in family.samples:
                name = self._name(family, each)
                if family.type == "gauge":
                    yield name, each.value
                elif family.type == "counter" and each.name.endswith("_total"):
                    yield from self._grown(name, each.value)
                elif family.type == "histogram" and each.name.endswith("_count"):
                    yield from self._mean(name, sums[name], each.value)

    def _grown(self, key: str, value: float) -> Iterator[tuple[str, float]]:
        before = self._before.get(key)
        self._before[key] = value
        if before is not None:
            # Less than before: another process counts from nothing again.
            yield key, value - before if value >= before else value

    def _mean(self, name: str, total: float, count: float) -> Iterator[tuple[str, float]]:
        grown_total = dict(self._grown(f"{name} sum", total)).values()
        grown_count = dict(self._grown(f"{name} count", count)).values()
        yield from ((name, more / times) for more, times in zip(grown_total, grown_count, strict=True) if times)

    def _name(self, family: Family, sample: Sample) -> str:
        """``htmengine_queue_messages{queue="samples"}`` is ``htmengine.queue_messages.samples``."""
        labels = [_UNWANTED.sub("_", value) for value in sample.labels.values()]
        return ".".join([self._prefix + family.name.removeprefix("htmengine_"), *labels])[:MAX_NAME_LENGTH]


class SelfMonitor(PeriodicService):
    """Sends the figures once a minute, and gives each of them a model."""

    def __init__(
        self,
        *,
        clock: Clock,
        collect: Callable[[], Awaitable[Sequence[Family]]],
        operations: Operations,
        prefix: str,
        on_failure: Callable[[Failure], None],
    ) -> None:
        super().__init__(clock=clock, interval_s=INTERVAL_S, on_failure=on_failure)
        self._clock = clock
        self._collect = collect
        self._operations = operations
        self._differences = Differences(prefix)
        self._monitored: set[str] = set()

    async def work(self) -> None:
        """Send what the figures are now."""
        now = int(self._clock.seconds())
        samples = list(self._differences.of(await self._collect()))
        await self._monitor([name for name, _ in samples if name not in self._monitored])
        await self._operations.send([f"{name} {value!r} {now}" for name, value in samples])

    async def _monitor(self, names: Sequence[str]) -> None:
        """Metrics that do not exist yet get a model; whoever took one's model away meant it."""

        def known(conn: Connection) -> set[str]:
            return set(queries.find_metrics(conn, names))

        for name in sorted(set(names) - await self._operations.database.read(known)):
            await self._operations.monitor(ModelSpec.for_name(name))
        self._monitored.update(names)
