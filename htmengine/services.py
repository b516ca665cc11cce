# SPDX-License-Identifier: MIT
"""All the wiring: options and makeService of every tap, and which part gets which other.

In: a `Deployment`.  Out: Twisted services for ``twistd``, ``htmengine run`` and ``python -m``.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from twisted.application.service import Service
from twisted.python import usage

from htmengine.alerts.service import AlertService
from htmengine.config import APPLICATION_CONFIG_PATH
from htmengine.deployment import BusService, Deployment, engine_deployment
from htmengine.errors import ConfigError, HtmEngineError
from htmengine.model_swapper.model_cache import RunnerOptions
from htmengine.model_swapper.model_scheduler_service import ModelScheduler, SchedulerOptions
from htmengine.model_swapper.swap_controller import Limits
from htmengine.model_swapper.worker_pool import WorkerPool
from htmengine.process import crash_points
from htmengine.process.lifecycle import OrderedServices, ProcessEnd, run_in_foreground
from htmengine.process.tasks import Tasks
from htmengine.process.twisted_types import Reactor, installed_reactor
from htmengine.repository import migrations, troubles
from htmengine.repository.engine import Database
from htmengine.runtime.anomaly_service import AnomalyOptions, AnomalyService
from htmengine.runtime.metric_garbage_collector import MetricGarbageCollector, kept_rows
from htmengine.runtime.metric_listener import ListenerOptions, MetricListener
from htmengine.runtime.metric_storer import MetricStorer, StorerOptions
from htmengine.runtime.sample_batcher import BatcherOptions
from htmengine.telemetry.health import Health, Probe, bus_answers, condition, database_answers

# Imported when they are used, since they take a command's or a service's start longer than all the rest.
if TYPE_CHECKING:
    from htmengine.telemetry.prometheus import Telemetry
    from htmengine.web.service import WebService
    from htmengine.web.telemetry import TelemetryRoutes

# --- the parts ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Parts:
    """Makes the services of one process, on one bus and one database."""

    deployment: Deployment
    reactor: Reactor
    bus: BusService
    database: Database
    end: ProcessEnd

    def metric_listener(self) -> MetricListener:
        section = self.deployment.config.metric_listener
        options = ListenerOptions(
            BatcherOptions(section.queue_name, section.batch_max_lines, section.batch_max_delay_ms / 1000),
            host=section.host,
            port=section.port,
            udp=section.udp,
            max_connections=section.max_connections,
            idle_timeout_s=section.idle_timeout_s or None,
        )
        return MetricListener(reactor=self.reactor, bus=self.bus, options=options, on_failure=self.end.fail)

    def metric_storer(self) -> MetricStorer:
        config = self.deployment.config
        options = StorerOptions(
            samples_queue=config.metric_listener.queue_name,
            shards=self.deployment.shards,
            auto_monitor=config.metric_storer.auto_monitor,
            pending_samples=config.metric_storer.pending_samples,
        )
        return MetricStorer(
            clock=self.reactor, bus=self.bus, database=self.database, options=options, on_failure=self.end.fail
        )

    def garbage_collection(self) -> list[MetricGarbageCollector]:
        """Beside the storer, whoever removes old rows, if that is wanted."""
        config = self.deployment.config
        if not config.garbage_collection.threshold_days:
            return []
        collector = MetricGarbageCollector(
            clock=self.reactor,
            database=self.database,
            threshold_days=config.garbage_collection.threshold_days,
            keep=kept_rows(config.storage.checkpoint_rows),
            on_failure=self.end.fail,
        )
        return [collector]

    def model_scheduler(self) -> ModelScheduler:
        config = self.deployment.config
        section, storage = config.model_scheduler, config.storage
        runner = RunnerOptions(
            checkpoint_root=str(self.deployment.checkpoints),
            memory_bytes=section.worker_memory_mb << 20,
            checkpoint_rows=storage.checkpoint_rows,
            checkpoint_seconds=storage.checkpoint_seconds,
            replay_rows=storage.replay_rows,
        )
        options = SchedulerOptions(
            shards=self.deployment.shards,
            group=config.interface_bus.scheduler_notification_queue,
            results_queue=config.interface_bus.results_queue,
            workers=section.workers or os.cpu_count() or 1,
            runner=runner,
            host=platform.node(),
            worker_timeout_s=section.worker_timeout_s,
            limits=Limits(rows_per_turn=section.rows_per_turn, rows_cached=4 * section.rows_per_turn),
        )
        return ModelScheduler(
            reactor=self.reactor, bus=self.bus, database=self.database, options=options, on_failure=self.end.fail
        )

    def anomaly_service(self) -> AnomalyService:
        config = self.deployment.config
        options = AnomalyOptions(
            results_queue=config.interface_bus.results_queue,
            results_exchange=config.metric_streamer.results_exchange_name,
            chunk_size=config.metric_streamer.chunk_size,
            states_in_memory=config.anomaly_likelihood.states_in_memory,
            range_rule=config.anomaly_likelihood.range_rule,
            anomaly_floor=config.anomaly_likelihood.anomaly_floor,
        )
        return AnomalyService(bus=self.bus, database=self.database, options=options, on_failure=self.end.fail)

    def alert_service(self) -> AlertService:
        from htmengine.alerts.sender import Sender

        return AlertService(
            clock=self.reactor,
            bus=self.bus,
            database=self.database,
            sender=Sender(self.reactor),
            options=self.deployment.alert_options,
            on_failure=self.end.fail,
        )

    def web_service(self, listener: MetricListener | None = None) -> WebService:
        """With a way to the database of its own: however many read, the engine's threads stay free.

        Without a listener in the same process it is taken to be where the configuration says.
        """
        from htmengine.web.access import AccessRules
        from htmengine.web.service import WebOptions, WebService

        config = self.deployment.config
        section = config.web
        options = WebOptions(
            port=section.port,
            access=AccessRules(section.host, section.read_token, section.write_token, section.allowed_hosts.split()),
            tls_certificate=Path(section.tls_certificate) if section.tls_certificate else None,
            answer_within_s=section.answer_within_s,
            queues={name: queues for name, queues in self.deployment.queues.items() if name != "alerts"},
            anomaly_floor=config.anomaly_likelihood.anomaly_floor,
            peers=config.telemetry.peers.split(),
            graphite=lambda: (config.metric_listener.host, (listener or config.metric_listener).port),
        )
        return WebService(
            reactor=self.reactor,
            operations=self.deployment.operations(self.bus, self.database),
            database=Database(self.deployment.database_url, reactor=self.reactor),
            options=options,
        )

    # --- what the process tells about itself ------------------------------------------------------------

    def telemetry(
        self, services: Sequence[Any], queues: Sequence[str], *, port: int | None, with_database: bool = True
    ) -> list[Service]:
        """What shows how these services are, on a port (None: that of the last of them, the web service; 0: none).

        Also what sends their figures into the engine itself, if that is wanted.  ``queues`` are those that they read.
        """
        section = self.deployment.config.telemetry
        if port == 0 and not section.self_monitor:
            return []
        from prometheus_client import CollectorRegistry

        from htmengine.telemetry.prometheus import Telemetry

        depths = {name: each for name, each in self.deployment.queues.items() if name in queues}
        telemetry = Telemetry(CollectorRegistry(), self.bus, self.reactor, depths)
        telemetry.watch(self.bus, *services)
        further: list[Service] = []
        if port != 0:
            from htmengine.web.telemetry import TelemetryRoutes

            routes = TelemetryRoutes(telemetry.page, self._health(services, with_database))
            if port is None:
                routes.add_to(services[-1].routes)
            else:
                further.append(self._telemetry_endpoint(port, routes))
        if section.self_monitor and with_database:
            further.append(self._self_monitor(telemetry))
        return further

    def _health(self, services: Sequence[Any], with_database: bool) -> Health:
        ready = {"bus": bus_answers(self.bus, self.deployment.config.metric_listener.queue_name)}
        if with_database:
            ready["database"] = database_answers(self.database)
        for service in services:
            ready[type(service).__name__] = condition(partial(getattr, service, "running"), lambda: "does not run")
            if isinstance(service, ModelScheduler):
                ready["workers"] = _all_workers_run(service.pool)
        alive = {
            "process": condition(lambda: self.end.status == 0, lambda: "a service has failed; the process is ending")
        }
        count_troubles = partial(self.database.read, troubles.count) if with_database else None
        return Health(self.reactor, alive, ready, count_troubles)

    def _telemetry_endpoint(self, port: int, routes: TelemetryRoutes) -> Service:
        from htmengine.web.access import AccessRules
        from htmengine.web.telemetry import TelemetryEndpoint

        host, web = self.deployment.config.telemetry.host, self.deployment.config.web
        access = AccessRules(host, web.read_token, web.write_token, web.allowed_hosts.split())
        return TelemetryEndpoint(reactor=self.reactor, port=port, access=access, routes=routes)

    def _self_monitor(self, telemetry: Telemetry) -> Service:
        from htmengine.telemetry.self_monitor import SelfMonitor

        return SelfMonitor(
            clock=self.reactor,
            collect=telemetry.collect,
            operations=self.deployment.operations(self.bus, self.database),
            prefix=self.deployment.config.telemetry.self_monitor_prefix,
            on_failure=self.end.fail,
        )


def _all_workers_run(pool: WorkerPool) -> Probe:
    return condition(lambda: len(pool.pids()) == pool.count, lambda: f"{len(pool.pids())} of {pool.count} run")


class _DatabaseService(Service):
    """Closes the database when all that use it have stopped.

    Told to ``check``, it ends the process if the schema is not the one that this release works on.
    """

    def __init__(self, database: Database, check: Tasks | None = None) -> None:
        self._database = database
        self._check = check

    def startService(self) -> None:
        super().startService()
        if self._check is not None:
            self._check.start(self._database.read(migrations.check))

    def stopService(self) -> None:
        super().stopService()
        self._database.close()


class _StopsFirst(Service):
    """When the process stops, no service waits for a database that is away any more."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def stopService(self) -> None:
        super().stopService()
        self._database.stop_waiting()


# --- the embedded engine --------------------------------------------------------------------------------


def make_engine(deployment: Deployment, reactor: Reactor) -> tuple[OrderedServices, ProcessEnd]:
    """All services in one process.  Raises `StartError` when the folder is not to be had."""
    assert deployment.folder is not None
    crash_points.arm(os.environ)
    deployment.folder.acquire()
    end = ProcessEnd(reactor)
    database = deployment.database(reactor)
    bus = deployment.bus(reactor)
    parts = Parts(deployment, reactor, bus, database, end)
    listener = parts.metric_listener()
    services = [
        parts.alert_service(),
        parts.anomaly_service(),
        parts.model_scheduler(),
        parts.metric_storer(),
        listener,
        parts.web_service(listener),
    ]
    services += parts.telemetry(services, list(deployment.queues), port=None)
    ordered = [_DatabaseService(database), bus, *parts.garbage_collection(), *services, _StopsFirst(database)]
    return OrderedServices(ordered, clock=reactor), end


def _make_distributed(
    make: Callable[[Parts], Any], *, port: str | None, queues: Sequence[str], with_database: bool = True
) -> Callable[[Mapping[str, Any]], Service]:
    """A service of its own process, on RabbitMQ and, but for the listener, a database server.

    ``port`` is the option of [telemetry] that says where it tells about itself; None: where it answers anyway.
    """

    def make_service(_options: Mapping[str, Any]) -> Service:
        reactor = installed_reactor()
        crash_points.arm(os.environ)
        deployment = Deployment.distributed()
        end = ProcessEnd(reactor)
        database = deployment.database(reactor)
        bus = deployment.bus(reactor)
        check = Tasks(end.fail) if with_database else None
        parts = Parts(deployment, reactor, bus, database, end)
        services = [make(parts)]
        number = getattr(deployment.config.telemetry, port) if port else None
        services += parts.telemetry(services, queues, port=number, with_database=with_database)
        collectors = parts.garbage_collection() if make is Parts.metric_storer else []
        ordered = [_DatabaseService(database, check), bus, *collectors, *services, _StopsFirst(database)]
        return OrderedServices(ordered, clock=reactor)

    return make_service


class EngineOptions(usage.Options):
    """``twistd htmengine``."""

    optParameters: ClassVar = [
        ["data-dir", None, None, "The engine's data folder; by default the user's.", Path],
        ["graphite-port", None, None, "Graphite port, TCP and UDP; 0: any free one.", int],
        ["http-port", None, None, "HTTP port; 0: any free one.", int],
        ["workers", None, None, "Worker processes; 0: one for each CPU.", int],
        ["config", None, None, "The folder with application.conf and the others.", Path],
    ]
    optFlags: ClassVar = [["no-auto-monitor", None, "Give new metrics no model."]]


def _make_embedded(options: Mapping[str, Any]) -> Service:
    reactor = installed_reactor()
    deployment = engine_deployment(
        data_dir=options["data-dir"],
        config_dir=options["config"],
        graphite_port=options["graphite-port"],
        http_port=options["http-port"],
        workers=options["workers"],
        auto_monitor=False if options["no-auto-monitor"] else None,
    )
    return make_engine(deployment, reactor)[0]


# --- taps -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tap:
    """What twistd's plugin loader looks for: a class of options, and makeService."""

    Options: type[usage.Options]
    make: Callable[[Mapping[str, Any]], Service]

    def makeService(self, options: Mapping[str, Any]) -> Service:
        """Called by twistd.  What cannot start ends it with one clear line and status 1."""
        try:
            return self.make(options)
        except ConfigError as error:
            raise SystemExit("\n".join(f"htmengine: {problem}" for problem in error.problems)) from None
        except HtmEngineError as error:
            raise SystemExit(f"htmengine: {error}") from None

    def run(self) -> NoReturn:
        """The process of ``python -m`` and a service's module: as with ``twistd -n``, its log on standard error."""
        options = self.Options()
        try:
            options.parseOptions()
        except usage.UsageError as error:
            raise SystemExit(f"htmengine: {error}") from None
        run_in_foreground(self.makeService(options), installed_reactor())
        sys.exit(0)  # a service that failed has ended the process with 1 already


class ServiceOptions(usage.Options):
    """``twistd htmengine-listener`` and the others: everything is in the configuration."""

    longdesc = f"The environment variable {APPLICATION_CONFIG_PATH} names the folder with the configuration."


EMBEDDED = Tap(EngineOptions, _make_embedded)
LISTENER = Tap(
    ServiceOptions, _make_distributed(Parts.metric_listener, port="listener_port", queues=[], with_database=False)
)
STORER = Tap(ServiceOptions, _make_distributed(Parts.metric_storer, port="storer_port", queues=["samples"]))
SCHEDULER = Tap(ServiceOptions, _make_distributed(Parts.model_scheduler, port="scheduler_port", queues=["model_input"]))
ANOMALY = Tap(ServiceOptions, _make_distributed(Parts.anomaly_service, port="anomaly_port", queues=["results"]))
ALERTS = Tap(ServiceOptions, _make_distributed(Parts.alert_service, port="alerts_port", queues=["alerts"]))
WEB = Tap(
    ServiceOptions,
    _make_distributed(Parts.web_service, port=None, queues=["samples", "model_input", "results", "alerts"]),
)
