# SPDX-License-Identifier: MIT
"""All the wiring: options and makeService of every tap, and which part gets which other.

In: a configuration.  Out: Twisted services, for ``twistd``, ``htmengine run`` and ``python -m``.  Nothing else
knows whether it is embedded or distributed.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from twisted.application.service import Service

from htmengine.bus.embedded import EmbeddedBus
from htmengine.bus.interface import Bus
from htmengine.lifecycle import DataFolder, OrderedServices, ProcessEnd
from htmengine.model_swapper.model_runner import RunnerOptions
from htmengine.model_swapper.model_scheduler_service import ModelScheduler, SchedulerOptions
from htmengine.repository.engine import Database
from htmengine.runtime.anomaly_service import AnomalyOptions, AnomalyService
from htmengine.runtime.metric_listener import ListenerOptions, MetricListener
from htmengine.runtime.metric_storer import MetricStorer, StorerOptions
from htmengine.sharding import ShardQueues


class Part(Service):
    def __init__(self, stop) -> None:
        self._stop = stop

    def stopService(self):
        super().stopService()
        self._stop()


def embedded(reactor, data_dir: Path, graphite_port: int = 2003, workers: int = 2):
    end = ProcessEnd(reactor)
    folder = DataFolder(data_dir)
    folder.acquire()
    db = Database(folder.database_url, reactor=reactor)
    bus = EmbeddedBus(str(folder.bus_path), reactor=reactor)
    shards = ShardQueues("htmengine.mswapper.model.input.", 16)
    common = dict(on_failure=end.fail)
    anomaly = AnomalyService(bus=bus, database=db, options=AnomalyOptions("htmengine.mswapper.results", "htmengine.model.results"), **common)
    scheduler = ModelScheduler(reactor=reactor, bus=bus, database=db, options=SchedulerOptions(shards, "htmengine.mswapper.results", workers, RunnerOptions(str(folder.checkpoints))), **common)
    storer = MetricStorer(clock=reactor, bus=bus, database=db, options=StorerOptions("htmengine.metric.custom.data", shards, True), **common)
    listener = MetricListener(reactor=reactor, bus=bus, options=ListenerOptions("htmengine.metric.custom.data", port=graphite_port), **common)
    return OrderedServices([Part(db.close), bus, anomaly, scheduler, storer, listener]), end
