# SPDX-License-Identifier: MIT
"""All the wiring: which part gets which other, and which of them make a process.

In: a `Deployment`.  Out: one Twisted service for a whole engine or for one service of a distributed engine.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shlex
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from twisted.application.service import Service

from htmengine.alerts import queries as alert_queries
from htmengine.alerts.maintenance_queries import unlearnt_windows
from htmengine.alerts.service import AlertService
from htmengine.bus.queue_file import QueueFile
from htmengine.config import TelemetrySection
from htmengine.deployment import BusService, Deployment
from htmengine.errors import StartError
from htmengine.incidents.budget_rules import BudgetRules
from htmengine.model_swapper.checkpoints import CheckpointStore
from htmengine.model_swapper.data_checks import DataChecks
from htmengine.model_swapper.model_cache import RunnerOptions
from htmengine.model_swapper.model_scheduler_service import ModelScheduler, SchedulerOptions
from htmengine.model_swapper.swap_controller import Limits
from htmengine.model_swapper.worker_pool import OWN_WORKER
from htmengine.process import crash_points
from htmengine.process.figures import TellsFigures
from htmengine.process.lifecycle import Heartbeat, OrderedServices, ProcessEnd
from htmengine.process.probes import TellsChecks, condition
from htmengine.process.steady_timers import keep_timers_steady
from htmengine.process.systemd import SystemdNotifier
from htmengine.process.tasks import Tasks
from htmengine.process.twisted_types import Reactor, installed_reactor
from htmengine.repository import migrations, troubles
from htmengine.repository.engine import Database
from htmengine.runtime.anomaly_service import AnomalyOptions, AnomalyService
from htmengine.runtime.cadence_changes import CadenceChanges
from htmengine.runtime.carbon_queue import CarbonQueue, CarbonQueueOptions
from htmengine.runtime.late_window import LateWindow
from htmengine.runtime.metric_expiry import MetricExpiry
from htmengine.runtime.metric_garbage_collector import MetricGarbageCollector, kept_rows
from htmengine.runtime.metric_listener import ListenerOptions, MetricListener
from htmengine.runtime.metric_storer import MetricStorer
from htmengine.runtime.sample_batcher import BatcherOptions
from htmengine.runtime.stale_messages import drop_stale
from htmengine.runtime.storing import StorerOptions
from htmengine.runtime.untold_counters import UntoldCounters
from htmengine.selectors import rule_lines, separated
from htmengine.telemetry.clock_watch import ClockWatch
from htmengine.telemetry.health import Health, bus_answers, database_answers
from htmengine.telemetry.progress_watch import ProgressWatch
from htmengine.telemetry.trouble_watch import TroubleWatch
from htmengine.wires.counters import SaidCounters
from htmengine.wires.plugins import wires_at, wires_named
from htmengine.wires.statsd import StatsdOptions

# Imported when they are used, since they take a command's or a service's start longer than all the rest.
if TYPE_CHECKING:
    from htmengine.telemetry.prometheus import Telemetry
    from htmengine.web.access import AccessRules
    from htmengine.web.routes import Routes
    from htmengine.web.service import WebService
    from htmengine.web.telemetry import TelemetryRoutes


class TellsOfItself(TellsFigures, TellsChecks, Protocol):
    """A service: `OrderedServices` starts and stops it, Prometheus and the operator ask it."""


#: Where a process tells about itself: a port of its own (0: nowhere), or the web service that it has.
Place: TypeAlias = "int | Routes"


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
            BatcherOptions(
                section.queue_name,
                section.batch_max_lines,
                section.batch_max_delay_ms / 1000,
                self.deployment.config.admission.max_future_s,
            ),
            host=section.host,
            port=section.port,
            udp=section.udp,
            max_connections=section.max_connections,
            idle_timeout_s=section.idle_timeout_s or None,
            pickle_port=section.pickle_port or None,
            protobuf_port=section.protobuf_port or None,
            statsd_port=section.statsd_port or None,
            statsd=self._statsd_options(),
            wires=wires_at(section.wire_ports),
        )
        return MetricListener(reactor=self.reactor, bus=self.bus, options=options, on_failure=self.end.fail)

    def beside_listener(self) -> list[Service]:
        """What reads Graphite's lines from RabbitMQ, if it is configured."""
        section = self.deployment.config.metric_listener
        if not section.amqp_exchange:
            return []
        options = CarbonQueueOptions(
            section.amqp_exchange,
            section.queue_name,
            self.deployment.config.admission.max_future_s,
            topic=section.amqp_exchange_type == "topic",
            name_in_body=section.amqp_name_in_body,
        )
        return [CarbonQueue(bus=self.bus, clock=self.reactor, options=options, on_failure=self.end.fail)]

    def _statsd_options(self) -> StatsdOptions:
        section = self.deployment.config.statsd
        return StatsdOptions(
            section.prefix,
            tuple(map(float, section.percentiles.split())),
            section.flush_interval_s,
            section.forget_after_s,
            section.max_metrics,
        )

    def metric_storer(self) -> MetricStorer:
        config = self.deployment.config
        options = StorerOptions(
            unlearnt_windows=partial(unlearnt_windows, config=self.deployment.alerts),
            samples_queue=config.metric_listener.queue_name,
            shards=self.deployment.shards,
            auto_monitor=config.metric_storer.auto_monitor,
            pending_samples=config.metric_storer.pending_samples,
            max_future_s=config.admission.max_future_s,
            allow=config.admission.allow.split(),
            deny=config.admission.deny.split(),
            rules=rule_lines(config.admission.rules),
            counters=separated(config.admission.counters),
            new_metrics_a_minute=config.admission.new_metrics_a_minute,
            max_metrics=config.admission.max_metrics,
            late_window=LateWindow(
                config.metric_storer.late_window_intervals,
                config.metric_storer.late_window_s,
                config.metric_storer.same_time,
            ),
            late_samples=config.metric_storer.late_samples,
            gaps=self.deployment.gap_rules,
        )
        return MetricStorer(
            clock=self.reactor, bus=self.bus, database=self.database, options=options, on_failure=self.end.fail
        )

    def beside_storer(self) -> list[Service]:
        """What looks after the database's rows beside the Metric Storer."""
        return [*self.garbage_collection(), self.clock_watch(), self.counter_watch(), self.cadence_watch()]

    def counter_watch(self) -> TroubleWatch:
        """What tells of counters whose senders do not tell them."""
        counters = UntoldCounters(
            database=self.database,
            said=SaidCounters(separated(self.deployment.config.admission.counters)),
            clock=self.reactor,
        )
        return self.trouble_watch("counters", counters.look)

    def cadence_watch(self) -> TroubleWatch:
        """What tells of metrics whose cadence has changed."""
        changes = CadenceChanges(database=self.database, clock=self.reactor)
        return self.trouble_watch("cadence", changes.look)

    def clock_watch(self) -> ClockWatch:
        """What tells that the clock is wrong."""
        return ClockWatch(
            clock=self.reactor,
            database=self.database,
            allowed_s=self.deployment.config.admission.max_future_s,
            on_failure=self.end.fail,
        )

    def garbage_collection(self) -> list[Service]:
        """Beside the storer, whoever removes old rows and metrics without samples, if that is wanted."""
        section = self.deployment.config.garbage_collection
        wanted: list[Service] = []
        if section.threshold_days:
            wanted.append(self._collector(section.threshold_days))
        if section.expire_days:
            wanted.append(self._expiry(section.expire_days))
        return wanted

    def _collector(self, threshold_days: int) -> MetricGarbageCollector:
        return MetricGarbageCollector(
            clock=self.reactor,
            database=self.database,
            threshold_days=threshold_days,
            keep=kept_rows(self.deployment.config.storage.checkpoint_rows),
            on_failure=self.end.fail,
        )

    def _expiry(self, expire_days: float) -> MetricExpiry:
        return MetricExpiry(
            clock=self.reactor,
            database=self.database,
            shards=self.deployment.shards,
            expire_days=expire_days,
            on_failure=self.end.fail,
        )

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
            worker_command=shlex.split(section.worker_command) or OWN_WORKER,
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
            shards=self.deployment.shards,
            chunk_size=config.metric_streamer.chunk_size,
            states_in_memory=config.anomaly_likelihood.states_in_memory,
            sequence_only=config.anomaly_likelihood.evidence == "sequence",
            anomaly_floor=config.anomaly_likelihood.anomaly_floor,
        )
        return AnomalyService(bus=self.bus, database=self.database, options=options, on_failure=self.end.fail)

    def remote_writer(self) -> list[TellsOfItself]:
        """What writes results to a Prometheus, if that is wanted."""
        section = self.deployment.config.remote_write
        if not section.url:
            return []
        from htmengine.export.remote_writer import RemoteWriter, WriterOptions
        from htmengine.process.http_client import HttpClient

        return [
            RemoteWriter(
                clock=self.reactor,
                database=self.database,
                client=HttpClient(self.reactor),
                options=WriterOptions.of(section),
                alone=self.deployment.folder is not None,
                progress=self.bus.progress,
                on_failure=self.end.fail,
            )
        ]

    def alert_service(self) -> AlertService:
        from htmengine.alerts.sender import Sender

        options = self.deployment.alert_options
        return AlertService(
            clock=self.reactor,
            bus=self.bus,
            database=self.database,
            sender=Sender(self.reactor),
            options=options,
            budget_rules=BudgetRules(clock=self.reactor, database=self.database, options=options),
            on_failure=self.end.fail,
        )

    def beside_alert_service(self) -> list[Service]:
        """What tells of receivers that take no messages."""
        return [self.trouble_watch("alerts", partial(self.database.read, alert_queries.unreached))]

    def web_service(self, listener: MetricListener | None = None) -> WebService:
        """With a way to the database of its own: however many read, the engine's threads stay free.

        Without a listener in the same process it is taken to be where the configuration says.
        """
        from htmengine.web.service import WebOptions, WebService
        from htmengine.wires.otlp import with_percentiles

        config = self.deployment.config
        section = config.web
        options = WebOptions(
            port=section.port,
            access=self._access(section.host),
            alerts=self.deployment.alerts,
            tls_certificate=Path(section.tls_certificate) if section.tls_certificate else None,
            answer_within_s=section.answer_within_s,
            queues={name: queues for name, queues in self.deployment.queues.items() if name != "alerts"},
            anomaly_floor=config.anomaly_likelihood.anomaly_floor,
            trusted_proxies=section.trusted_proxies.split(),
            peers=config.telemetry.peers.split(),
            wires=wires_named(section.wires),
            otlp=with_percentiles(section.otlp_percentiles),
            graphite=lambda: (config.metric_listener.host, (listener or config.metric_listener).port),
        )
        service = WebService(
            reactor=self.reactor,
            operations=self.deployment.operations(self.bus, self.database),
            database=Database(self.deployment.database_url, reactor=self.reactor, progress=self.bus.progress),
            options=options,
        )
        service.site.refusals.watched_by(self.bus.progress)
        return service

    def beside_web(self) -> list[Service]:
        """What tells of the engine's other processes that are away or fail, if it is known where they answer."""
        from htmengine.web.peers import Peers

        config = self.deployment.config
        peers = Peers(self.reactor, config.telemetry.peers.split(), config.web.read_token)
        return [self.trouble_watch("processes", peers.troubles)] if config.telemetry.peers else []

    def progress_watch(self, name: str, queues: Sequence[str]) -> ProgressWatch:
        """What tells that something in this process stands still, or that nobody reads one of the queues."""
        deployment = self.deployment
        alerts = deployment.alerts.rules or deployment.alerts.receivers
        wanted = [each for each in queues if each != "alerts" or alerts]
        return ProgressWatch(
            name=name,
            progress=self.bus.progress,
            patience_s=deployment.config.telemetry.stalled_s,
            clock=self.reactor,
            bus=self.bus,
            queues=[queue for each in wanted for queue in deployment.queues[each]],
            database=self.database,
            on_failure=self.end.fail,
        )

    def data_watch(self) -> Sequence[Service]:
        """What tells that database and checkpoints do not belong together, or that rows were passed by."""
        checks = DataChecks(
            database=self.database, store=CheckpointStore(self.deployment.checkpoints), clock=self.reactor
        )
        source = "data" if self.deployment.folder is not None else f"data of {platform.node()}"
        return [self.trouble_watch(source, checks.look)]

    def trouble_watch(self, source: str, look: Callable[[], Awaitable[Sequence[str]]]) -> TroubleWatch:
        """What asks ``look`` now and then for troubles, and tells of them."""
        return TroubleWatch(
            source=source, look=look, clock=self.reactor, database=self.database, on_failure=self.end.fail
        )

    # --- what the process tells about itself ------------------------------------------------------------

    @property
    def ports(self) -> TelemetrySection:
        """Where each service of a distributed engine tells about itself."""
        return self.deployment.config.telemetry

    def telemetry(
        self, told: Sequence[TellsOfItself], queues: Sequence[str], *, at: Place, with_database: bool = True
    ) -> list[Service]:
        """What shows how these services are, and what sends their figures into the engine itself if that is wanted.

        ``queues`` are those that they read.
        """
        section = self.deployment.config.telemetry
        if at == 0 and not section.self_monitor:
            return []
        from prometheus_client import CollectorRegistry

        from htmengine.telemetry.prometheus import Telemetry

        depths = {name: each for name, each in self.deployment.queues.items() if name in queues}
        telemetry = Telemetry(CollectorRegistry(), self.bus, self.reactor, depths)
        telemetry.watch(self.bus, *told)
        further: list[Service] = []
        if at != 0:
            from htmengine.web.telemetry import TelemetryRoutes

            routes = TelemetryRoutes(telemetry.page, self._health(told, with_database))
            if isinstance(at, int):
                further.append(self._telemetry_endpoint(at, routes))
            else:
                routes.add_to(at)
        if section.self_monitor and with_database:
            further.append(self._self_monitor(telemetry))
        return further

    def _health(self, told: Sequence[TellsOfItself], with_database: bool) -> Health:
        ready = {"bus": bus_answers(self.bus, self.deployment.config.metric_listener.queue_name)}
        if with_database:
            ready["database"] = database_answers(self.database)
        for service in told:
            ready.update(service.checks())
        alive = {
            "process": condition(lambda: self.end.status == 0, lambda: "a service has failed; the process is ending")
        }
        count_troubles = partial(self.database.read, troubles.count) if with_database else None
        return Health(self.reactor, alive, ready, count_troubles)

    def _telemetry_endpoint(self, port: int, routes: TelemetryRoutes) -> Service:
        from htmengine.web.telemetry import TelemetryEndpoint

        access = self._access(self.deployment.config.telemetry.host)
        return TelemetryEndpoint(reactor=self.reactor, port=port, access=access, routes=routes)

    def _access(self, host: str) -> AccessRules:
        from htmengine.web.access import AccessRules, load_tokens

        web = self.deployment.config.web
        named = load_tokens(Path(web.tokens_file)) if web.tokens_file else ()
        return AccessRules(host, web.read_token, web.write_token, web.allowed_hosts.split(), named)

    def _self_monitor(self, telemetry: Telemetry) -> Service:
        from htmengine.telemetry.self_monitor import SelfMonitor

        return SelfMonitor(
            clock=self.reactor,
            collect=telemetry.collect,
            operations=self.deployment.operations(self.bus, self.database),
            prefix=self.deployment.config.telemetry.self_monitor_prefix,
            on_failure=self.end.fail,
        )


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


def _outermost(database: Database, reactor: Reactor) -> list[Service]:
    """What starts last and stops first."""
    return [_StopsFirst(database), SystemdNotifier(reactor, os.environ)]


# --- the embedded engine --------------------------------------------------------------------------------


def make_engine(deployment: Deployment, reactor: Reactor) -> tuple[OrderedServices, ProcessEnd]:
    """All services in one process.  Raises `StartError` when the folder is not to be had."""
    assert deployment.folder is not None
    if deployment.config.metric_listener.amqp_exchange:
        raise StartError("[metric_listener] amqp_exchange: the embedded engine has no RabbitMQ; leave it empty")
    crash_points.arm(os.environ)
    deployment.folder.acquire()
    end = ProcessEnd(reactor)
    keep_timers_steady(reactor)
    bus = deployment.bus(reactor)
    database = deployment.database(reactor, bus.progress)
    _drop_stale_messages(deployment.folder.bus_path, deployment, database, int(reactor.seconds()))
    parts = Parts(deployment, reactor, bus, database, end)
    listener = parts.metric_listener()
    web = parts.web_service(listener)
    told: list[TellsOfItself] = [
        parts.alert_service(),
        *parts.remote_writer(),
        parts.anomaly_service(),
        parts.model_scheduler(),
        parts.metric_storer(),
        listener,
        web,
        parts.progress_watch("engine", list(deployment.queues)),
    ]
    further = parts.telemetry(told, list(deployment.queues), at=web.routes)
    beside = [*parts.beside_storer(), *parts.data_watch(), *parts.beside_alert_service()]
    ordered = [_DatabaseService(database), bus, *beside, *told, *further]
    ordered += [*_outermost(database, reactor), Heartbeat(deployment.folder, reactor, lambda: listener.port)]
    return OrderedServices(ordered, clock=reactor, on_failure=end.fail), end


def _drop_stale_messages(bus_path: Path, deployment: Deployment, database: Database, now: int) -> None:
    with contextlib.closing(QueueFile(bus_path)) as file:
        results_queue = deployment.config.interface_bus.results_queue
        drop_stale(file, database, deployment.shards.queues, results_queue, now)


# --- the distributed engine -----------------------------------------------------------------------------


def make_distributed(
    make: Callable[[Parts], tuple[TellsOfItself, Place]],
    *,
    queues: Sequence[str],
    beside: Callable[[Parts], Sequence[Service]] = lambda _: [],
    told_beside: Callable[[Parts], Sequence[TellsOfItself]] = lambda _: [],
    with_database: bool = True,
) -> Callable[[Mapping[str, Any]], Service]:
    """A service of its own process, on RabbitMQ and, except for the listener, a database server.

    ``make`` makes the service and says where it tells about itself; ``queues`` are those that it reads.  Those beside
    it run with it; some of them tell about themselves, too.
    """

    def make_service(_options: Mapping[str, Any]) -> Service:
        reactor = installed_reactor()
        crash_points.arm(os.environ)
        deployment = Deployment.distributed()
        end = ProcessEnd(reactor)
        keep_timers_steady(reactor)
        bus = deployment.bus(reactor)
        # a service without a database writes its troubles there if it can, and waits for nothing
        database = deployment.database(reactor, bus.progress if with_database else None, patient=with_database)
        check = Tasks(end.fail) if with_database else None
        parts = Parts(deployment, reactor, bus, database, end)
        service, at = make(parts)
        name = f"{type(service).__name__} on {platform.node()}"
        watch = parts.progress_watch(name, queues)
        told: list[TellsOfItself] = [*told_beside(parts), service, watch]
        further = parts.telemetry(told, queues, at=at, with_database=with_database)
        if with_database:
            further.append(parts.trouble_watch(f"queues of {name}", bus.differences))
        ordered = [
            _DatabaseService(database, check),
            bus,
            *beside(parts),
            *told,
            *further,
            *_outermost(database, reactor),
        ]
        return OrderedServices(ordered, clock=reactor, on_failure=end.fail)

    return make_service
