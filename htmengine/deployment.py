# SPDX-License-Identifier: MIT
"""Where an engine is: its configuration, its data folder, its database and its bus.

In: the folder of a configuration or a data folder, and the environment.  Out: a `Deployment`, by which the client, the
command line and the wiring (`htmengine.services`) reach the engine, whether it runs or not.  It loads no service.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import platformdirs
from sqlalchemy import URL
from twisted.logger import Logger

from htmengine.alerts.configuration import NO_ALERTS, AlertConfig, AlertOptions, load_alerts
from htmengine.alerts.maintenance_queries import unlearnt_windows
from htmengine.bus.embedded import EmbeddedBus
from htmengine.bus.interface import QueueLimits
from htmengine.config import APPLICATION_CONFIG_PATH, FILES, Config, Repository, load
from htmengine.errors import ConfigError, MissingExtra, StartError
from htmengine.gaps import GapRules
from htmengine.operations import Operations
from htmengine.process.extras import optional
from htmengine.process.lifecycle import DataFolder
from htmengine.process.progress import Progress
from htmengine.process.twisted_types import Reactor
from htmengine.repository import migrations
from htmengine.repository.connections import make_engine
from htmengine.repository.engine import Database
from htmengine.selectors import of_option, rule_lines
from htmengine.sharding import ShardQueues

if TYPE_CHECKING:  # imported when it is used: an embedded engine needs no pika
    from htmengine.bus.amqp import AmqpBus

BusService: TypeAlias = "EmbeddedBus | AmqpBus"

_log = Logger("htmengine.config")


def _warn(warning: str) -> None:
    _log.warn("{warning}", warning=warning)


def load_all(
    config_dir: Path | None,
    environ: Mapping[str, str],
    warn: Callable[[str], None] = _warn,
    *,
    calendars_needed: bool = False,
) -> tuple[Config, AlertConfig]:
    """The whole configuration.  Raises `ConfigError` with all that is wrong in any file.

    ``warn`` gets what only HTM Engine's configuration had.  A calendar that cannot be read is an error if it is needed,
    and otherwise a trouble of the engine.
    """
    loaded: list[Any] = []
    problems: dict[str, None] = {}  # in order, each once
    for read in (
        lambda: load(config_dir, environ, warn),
        lambda: load_alerts(config_dir, environ, calendars_needed=calendars_needed),
    ):
        try:
            loaded.append(read())
        except ConfigError as error:
            problems.update(dict.fromkeys(error.problems))
    if problems:
        raise ConfigError(list(problems))
    config, alerts = loaded
    return config, alerts


def is_distributed(config_dir: Path | None) -> bool:
    """Whether a configuration is a distributed engine's: it has a rabbitmq.conf."""
    return config_dir is not None and (config_dir / "rabbitmq.conf").exists()


def unused(config: Config) -> Iterator[str]:
    """What an embedded engine does not use.

    >>> [*unused(Config(repository=Repository(url="mysql://db/htmengine")))]
    ['application.conf [repository] url: without effect on an embedded engine: its database is in its data folder']
    """
    set_here = [
        each.name
        for each in dataclasses.fields(Repository)
        if getattr(config.repository, each.name) != getattr(Repository(), each.name)
    ]
    if set_here:
        what = f"application.conf [repository] {', '.join(set_here)}"
        yield f"{what}: without effect on an embedded engine: its database is in its data folder"


@dataclass(frozen=True, slots=True)
class Deployment:
    """An engine's configuration, and how to reach its database and bus, whether it runs or not."""

    config: Config
    folder: DataFolder | None  #: of the embedded deployment; None: distributed
    alerts: AlertConfig = NO_ALERTS

    @classmethod
    def embedded(cls, config_dir: Path | None, data_dir: Path | None) -> Deployment:
        """One machine, no server.  Raises `ConfigError`."""
        environ = {"HTMENGINE__APPLICATION__METRIC_STORER__AUTO_MONITOR": "yes", **os.environ}
        config, alerts = load_all(config_dir, environ)
        for warning in unused(config):
            _warn(warning)
        return cls(config, DataFolder(data_dir or _user_folder()), alerts.with_default_rule())

    @classmethod
    def distributed(cls, config_dir: Path | None = None) -> Deployment:
        """A process a service, RabbitMQ, a database server.  Without a folder the environment has to name it.

        Raises `ConfigError`.
        """
        folder = config_dir or _config_dir(os.environ)
        if folder is None:
            raise ConfigError(
                [f"{APPLICATION_CONFIG_PATH} must name the folder with {', '.join(f'{file}.conf' for file in FILES)}"]
            )
        config, alerts = load_all(folder, os.environ)
        return cls(config, None, alerts)

    @classmethod
    def find(cls, config_dir: Path | None, data_dir: Path | None) -> Deployment:
        """The one that a command means: a configuration with a rabbitmq.conf is that of a distributed engine."""
        folder = config_dir or _config_dir(os.environ)
        if data_dir is None and is_distributed(folder):
            return cls.distributed(folder)
        return cls.embedded(folder, data_dir)

    @property
    def database_url(self) -> str:
        """SQLAlchemy's name of the database."""
        if self.folder is not None:
            return self.folder.database_url
        section = self.config.repository
        if section.url:
            return section.url
        url = URL.create(
            "mysql+pymysql",
            username=section.user,
            password=section.passwd or None,
            host=section.host,
            port=section.port,
            database=section.db,
            query={"charset": "utf8mb4"},
        )
        return url.render_as_string(hide_password=False)

    def make_database(self) -> None:
        """Make the folder's database, or bring its schema up to date.

        That of a server is the operator's, with ``htmengine db upgrade``.  Raises `DatabaseFailed`.
        """
        self.make_folder()
        if self.folder is not None:
            migrations.upgrade(self.database_url)

    def make_folder(self) -> None:
        """An embedded engine's, if there is none."""
        if self.folder is not None:
            self.folder.make()

    def database(self, reactor: Reactor | None, progress: Progress | None = None, *, patient: bool = True) -> Database:
        """The database, which is made if need be; without a reactor for synchronous use."""
        self.make_database()
        return Database(self.database_url, reactor=reactor, progress=progress, patient=patient)

    def existing_database(self, reactor: Reactor | None) -> Database:
        """The database as it is, for a command: nothing is made, and no server that is away is waited for.

        An embedded engine that runs is busy, perhaps: its lock is waited for.
        Raises `StartError` and `DatabaseFailed`.
        """
        if self.folder is not None:
            self.folder.require_database()
        busy = self.folder is not None and self.folder.in_use
        database = Database(self.database_url, reactor=reactor, patient=False, busy=busy)
        try:
            database.read_sync(migrations.check)
        except BaseException:
            database.close()
            raise
        return database

    def bus(self, reactor: Reactor) -> BusService:
        """The bus, not started."""
        if self.folder is not None:
            return EmbeddedBus(self.folder.bus_path, reactor=reactor)
        _require_pika()
        from htmengine.bus.amqp import AmqpBus, AmqpParams

        connection, credentials = self.config.connection, self.config.credentials
        params = AmqpParams(
            host=connection.host,
            port=connection.port,
            user=credentials.user,
            password=credentials.password,
            virtual_host=connection.virtual_host,
            heartbeat_s=connection.heartbeat_s,
            tls=connection.tls,
            tls_ca_file=connection.tls_ca_file,
        )
        return AmqpBus(params, reactor=reactor, queue_type="quorum" if connection.quorum_queues else "classic")

    def require_drivers(self) -> None:
        """Raises `ConfigError`, which names the extras, if the drivers of a distributed engine are not installed."""
        problems: list[str] = []
        for require in (lambda: make_engine(self.database_url).dispose(), _require_pika):
            try:
                require()
            except ConfigError as error:
                problems += error.problems
        if problems:
            raise ConfigError(problems)

    @property
    def shards(self) -> ShardQueues:
        """The model input queues."""
        return ShardQueues(self.config.interface_bus.model_input_queue_prefix, self.config.interface_bus.shards)

    @property
    def queues(self) -> dict[str, list[str]]:
        """All queues, by what they carry."""
        return {
            "samples": [self.config.metric_listener.queue_name],
            "model_input": list(self.shards.queues),
            "results": [self.config.interface_bus.results_queue],
            "alerts": [self.alerts.general.queue_name],
        }

    @property
    def application_limits(self) -> QueueLimits:
        """Of the queues that applications bind to the results exchange through the client."""
        section = self.config.metric_streamer
        return QueueLimits(
            max_messages=section.queue_max_messages,
            max_bytes=section.queue_max_mb << 20,
            overflow="drop-head",
            expires_s=section.queue_expire_days * 86_400 or None,
        )

    @property
    def checkpoints(self) -> Path:
        """The folder of the models."""
        root = self.config.storage.root
        if root:
            return Path(root)
        return (self.folder or DataFolder(_user_folder())).checkpoints

    @property
    def alert_options(self) -> AlertOptions:
        """What the alert service and ``htmengine alert`` need."""
        web = self.config.web
        scheme = "https" if web.tls_certificate else "http"
        public_url = web.public_url or (f"{scheme}://{web.host}:{web.port}" if web.port else "")
        return AlertOptions(self.alerts, self.config.metric_streamer.results_exchange_name, public_url)

    @property
    def gap_rules(self) -> GapRules:
        """Which metrics' gaps are filled.  Raises `InvalidRule`."""
        with of_option("[metric_storer] fill_gaps"):
            return GapRules(rule_lines(self.config.metric_storer.fill_gaps))

    def operations(self, bus: BusService, database: Database) -> Operations:
        """What users do with metrics."""
        return Operations(
            database,
            bus,
            self.shards,
            self.config.metric_listener.queue_name,
            self.config.metric_storer.pending_samples,
            self.config.admission.max_future_s,
            partial(unlearnt_windows, config=self.alerts),
            self.gap_rules,
        )


def engine_deployment(
    *,
    data_dir: Path | None,
    config_dir: Path | None,
    graphite_port: int | None = None,
    http_port: int | None = None,
    workers: int | None = None,
    auto_monitor: bool | None = None,
) -> Deployment:
    """The embedded deployment with what the command line overrides."""
    found = Deployment.embedded(config_dir or _config_dir(os.environ), data_dir)
    config = found.config
    given: dict[str, dict[str, Any]] = {
        "metric_listener": {"port": graphite_port},
        "web": {"port": http_port},
        "model_scheduler": {"workers": workers},
        "metric_storer": {"auto_monitor": auto_monitor},
    }
    for section, values in given.items():
        changed = {name: value for name, value in values.items() if value is not None}
        config = dataclasses.replace(config, **{section: dataclasses.replace(getattr(config, section), **changed)})
    return dataclasses.replace(found, config=config)


def _require_pika() -> None:
    try:
        optional("pika", "amqp")
    except MissingExtra as missing:
        raise ConfigError([f"rabbitmq.conf [connection]: {missing}"]) from None


def _user_folder() -> Path:
    """Raises `StartError` for a user without a home."""
    try:
        return Path(platformdirs.user_data_dir("htmengine"))
    except RuntimeError:
        raise StartError("the user has no home directory: name the data folder with --data-dir, or set HOME") from None


def _config_dir(environ: Mapping[str, str]) -> Path | None:
    return Path(environ[APPLICATION_CONFIG_PATH]) if environ.get(APPLICATION_CONFIG_PATH) else None
