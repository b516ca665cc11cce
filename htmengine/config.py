# SPDX-License-Identifier: MIT
"""The configuration: a frozen dataclass a section, every option with its default, one line of help and its bounds.

In: a directory with ``application.conf``, ``model-swapper.conf``, ``model-checkpoint.conf`` and ``rabbitmq.conf``
(INI), and environment variables ``HTMENGINE__<FILE>__<SECTION>__<OPTION>``, which win.  Out: one `Config`.
Whatever is missing has its default.  All that is wrong is told at once, in one `ConfigError`.
"""

from __future__ import annotations

import configparser
import dataclasses
import difflib
import math
import os
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from htmengine.errors import ConfigError
from htmengine.globs import is_glob

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

APPLICATION_CONFIG_PATH = "APPLICATION_CONFIG_PATH"
FILES = ("application", "model-swapper", "model-checkpoint", "rabbitmq")
ENVIRONMENT_PREFIX = "HTMENGINE__"
#: alerts.conf has sections whose names its author chooses: `htmengine.alerts.configuration` reads it.
ALERTS_PREFIX = f"{ENVIRONMENT_PREFIX}ALERTS__"
ALERT_SECTIONS = ("alert:", "receiver:", "maintenance:")

_LABEL = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
#: Labels that tell one series of results from the others.
_OWN_LABELS = frozenset({"__name__", "metric"})


# --- kinds of values ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Kind:
    """How an option's text is read, and what is allowed."""

    allowed: str
    read: Callable[[str], Any]  #: raises ValueError


def _bounded(convert: Callable[[str], Any], low: float, high: float) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        value = convert(text)
        if not low <= value <= high:
            raise ValueError(text)
        return value

    return read


def _flag(text: str) -> bool:
    return {
        "yes": True,
        "true": True,
        "on": True,
        "1": True,
        "no": False,
        "false": False,
        "off": False,
        "0": False,
    }[text.lower()]


def _text(text: str) -> str:
    if not text:
        raise ValueError(text)
    return text


def whole(low: int, high: int) -> Kind:
    """A whole number."""
    return Kind(f"a whole number from {low} to {high}", _bounded(int, low, high))


def real(low: float, high: float = math.inf) -> Kind:
    """A number."""
    above = f"a number from {low}" if high == math.inf else f"a number from {low} to {high}"
    return Kind(above, _bounded(float, low, min(high, 1e300)))


def one_of(*texts: str) -> Kind:
    """One of some texts."""

    def parse(text: str) -> str:
        if text not in texts:
            raise ValueError(text)
        return text

    return Kind(" or ".join(texts), parse)


def _folder(text: str) -> str:
    path = os.path.expanduser(os.path.expandvars(text))
    if "$" in path:
        raise ValueError(text)
    return path


def _addresses(text: str) -> str:
    for each in text.split():
        host, _, port = each.rpartition(":")
        if not host or not each.isascii() or not 1 <= int(port) <= 65_535 or "/" in host:
            raise ValueError(text)
    return text


def _named_ports(text: str) -> str:
    names = [each.rpartition(":")[0] for each in text.split()]
    if len(set(names)) < len(names):
        raise ValueError(text)
    return _addresses(text)


def _globs(text: str) -> str:
    if not set(text).isdisjoint('{}"') or not all(map(is_glob, text.split())):
        raise ValueError(text)
    return text


def _command(text: str) -> str:
    if shlex.split(text)[:1] == [""]:
        raise ValueError(text)
    return text


def _percentiles(text: str) -> str:
    if not all(0 < float(each) < 100 for each in text.split()):
        raise ValueError(text)
    return text


def _label_pairs(text: str) -> str:
    pairs = [each.partition("=") for each in text.split()]
    names = [name for name, _, _ in pairs]
    if not all(equals and _LABEL.fullmatch(name) for name, equals, _ in pairs):
        raise ValueError(text)
    if _OWN_LABELS.intersection(names) or len(set(names)) < len(names):
        raise ValueError(text)
    return text


def _url(text: str) -> str:
    parts = urlsplit(text)
    plain = text.isascii() and text.isprintable() and " " not in text
    if not plain or parts.scheme not in {"http", "https"} or not parts.hostname or parts.username is not None:
        raise ValueError(text)
    _ = parts.port  # raises ValueError
    return text


FLAG = Kind("yes or no", _flag)
FOLDER = Kind("a path, in which environment variables that are set ($NAME) and ~", _folder)
TEXT = Kind("a text that is not empty", _text)
ANY_TEXT = Kind("a text", str)
COMMAND = Kind("a command as a shell reads it: quotes come in pairs", _command)
ADDRESSES = Kind("HOST:PORT, or several with spaces between them", _addresses)
NAMED_PORTS = Kind("NAME:PORT, or several with spaces between them, each name once", _named_ports)
GLOBS = Kind(
    "globs of names (web.* *.debug disk;*host=a*) with spaces between them, without !, with a ] for each [", _globs
)
PERCENTILES = Kind("numbers between 0 and 100 with spaces between them", _percentiles)
URL = Kind("an http or https URL without user and password", _url)
URL_OR_NOTHING = Kind(f"{URL.allowed}, or nothing", lambda text: text and _url(text))
LABEL_PAIRS = Kind(
    "NAME=VALUE, or several with spaces between them, each NAME once and neither metric nor __name__", _label_pairs
)
PORT = whole(0, 65_535)


def option(default: Any, kind: Kind, help: str, *, secret: bool = False) -> Any:
    """A field of a section."""
    return field(default=default, metadata={"kind": kind, "help": help, "secret": secret})


# --- sections -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Repository:
    """[repository] of application.conf: the database of the distributed deployment."""

    url: str = option("", ANY_TEXT, "SQLAlchemy URL; overrides the other options of this section", secret=True)
    host: str = option("localhost", TEXT, "MySQL or MariaDB server")
    port: int = option(3306, PORT, "its port")
    user: str = option("root", TEXT, "its user")
    passwd: str = option("", ANY_TEXT, "the user's password", secret=True)
    db: str = option("htmengine", TEXT, "the database's name")


@dataclass(frozen=True, slots=True)
class MetricListenerSection:
    """[metric_listener] of application.conf."""

    queue_name: str = option("htmengine.metric.custom.data", TEXT, "the samples queue")
    host: str = option("127.0.0.1", TEXT, "address to listen on")
    port: int = option(2003, PORT, "Graphite port, TCP and UDP; 0: any free one")
    udp: bool = option(True, FLAG, "listen on UDP too: for Graphite lines, and statsd")
    batch_max_lines: int = option(1000, whole(1, 10_000), "lines in one message")
    batch_max_delay_ms: int = option(10, whole(0, 50), "a line waits at most this long for others")
    max_connections: int = option(1000, whole(1, 100_000), "connections at a time")
    idle_timeout_s: float = option(0.0, real(0), "close a connection that is silent this long; 0: never")
    pickle_port: int = option(0, PORT, "port of carbon's pickles (carbon: 2004), TCP; 0: none")
    protobuf_port: int = option(
        0, PORT, "port of carbon's protobuf (carbon: 2005), TCP, wants the extra wires; 0: none"
    )
    amqp_exchange: str = option(
        "", ANY_TEXT, "exchange of RabbitMQ that others publish Graphite lines to (collectd, carbon); empty: none"
    )
    amqp_exchange_type: str = option("fanout", one_of("fanout", "topic"), "the exchange's type (carbon: topic)")
    amqp_name_in_body: bool = option(
        True, FLAG, "names are in the lines; no: in the routing keys, and lines are value and timestamp"
    )
    wire_ports: str = option(
        "", NAMED_PORTS, "ports of wires that other packages bring (entry points of htmengine.wires); empty: none"
    )
    statsd_port: int = option(0, PORT, "port of statsd (its own: 8125), TCP, and UDP if udp is on; 0: none")


@dataclass(frozen=True, slots=True)
class StatsdSection:
    """[statsd] of application.conf: what becomes of what comes to [metric_listener] statsd_port."""

    prefix: str = option("stats", TEXT, "names begin with it")
    percentiles: str = option("90", PERCENTILES, "percentiles of timers (upper_90)")
    flush_interval_s: float = option(10.0, real(1, 3600), "time between two flushes, each a sample a metric")
    forget_after_s: float = option(3600.0, real(1, 1e9), "a metric that gets nothing for this long gives nothing more")
    max_metrics: int = option(100_000, whole(1, 10_000_000), "counters, gauges, timers and sets that are added up")


@dataclass(frozen=True, slots=True)
class AdmissionSection:
    """[admission] of application.conf: which samples and new metrics are taken."""

    max_future_s: float = option(600.0, real(0, 4e9), "samples further ahead of the clock are rejected")
    allow: str = option("", GLOBS, "only metrics with such names are taken; empty: all")
    deny: str = option("", GLOBS, "metrics with such names are rejected, whatever is allowed")
    rules: str = option("", ANY_TEXT, "rules of admission, one a line, for names and labels: docs/admission.md")
    counters: str = option(
        "",
        ANY_TEXT,
        "metrics whose values are totals, globs or selectors with labels separated by commas: they become rates; those "
        "with a ! before them are none: docs/sending.md",
    )
    new_metrics_a_minute: int = option(
        10_000, whole(0, 100_000_000), "samples of further new metrics are rejected until the next minute; 0: no limit"
    )
    max_metrics: int = option(
        500_000, whole(0, 100_000_000), "samples of new metrics are rejected while there are that many; 0: no limit"
    )


@dataclass(frozen=True, slots=True)
class MetricStorerSection:
    """[metric_storer] of application.conf."""

    auto_monitor: bool = option(False, FLAG, "give each new metric a model (the embedded engine's default: yes)")
    pending_samples: int = option(288, whole(1, 100_000), "samples that define a metric's range if it is not given")
    late_window_intervals: float = option(
        2.0, real(0), "intervals of its metric that a sample waits at most for earlier ones; 0: it never waits"
    )
    late_window_s: float = option(60.0, real(0), "seconds that it waits at most; 0: it never waits")
    same_time: str = option(
        "first",
        one_of("first", "last", "sum"),
        "which of several samples of a metric with the same time counts; last, sum: a sample waits for the next one",
    )
    fill_gaps: str = option(
        "",
        ANY_TEXT,
        "what fills gaps, a rule a line: hold ROWS SELECTOR, linear ROWS SELECTOR, skip SELECTOR; others: nothing",
    )
    late_samples: int = option(
        10_000, whole(0, 1_000_000), "samples of a metric that came still later and are kept for its next rebuild"
    )


@dataclass(frozen=True, slots=True)
class MetricStreamer:
    """[metric_streamer] of application.conf."""

    results_exchange_name: str = option("htmengine.model.results", TEXT, "the results exchange (fanout)")
    chunk_size: int = option(4000, whole(1, 100_000), "rows in one message on the results exchange")
    queue_max_messages: int = option(
        100_000, whole(1, 100_000_000), "messages that an application's queue holds; then it drops the oldest"
    )
    queue_max_mb: int = option(256, whole(64, 1_000_000), "megabytes that it holds; then it drops the oldest")
    queue_expire_days: float = option(7.0, real(0), "days after which a queue without a reader is removed; 0: never")
    application_queues: str = option("", ANY_TEXT, "queues that applications declared, for htmengine queues to list")


@dataclass(frozen=True, slots=True)
class AnomalyLikelihoodSection:
    """[anomaly_likelihood] of application.conf."""

    evidence: str = option(
        "all", one_of("all", "sequence"), "what scores come from; sequence: the likelihood of Numenta's HTM Engine"
    )
    states_in_memory: int = option(
        100_000, whole(1, 10_000_000), "metrics whose evidence (35 KB each) is kept in memory"
    )
    anomaly_floor: float = option(0.99, real(0, 1), "rows with at least this score are listed as anomalies")


@dataclass(frozen=True, slots=True)
class GarbageCollection:
    """[garbage_collection] of application.conf."""

    threshold_days: int = option(0, whole(0, 36_500), "remove rows older than this, once an hour; 0: never")
    expire_days: float = option(
        0.0,
        real(0, 36_500),
        "a metric without samples for this long loses its model, and its rows after twice as long; 0: never",
    )


@dataclass(frozen=True, slots=True)
class Web:
    """[web] of application.conf."""

    host: str = option("127.0.0.1", TEXT, "address to listen on")
    port: int = option(8080, PORT, "HTTP port; 0: any free one")
    public_url: str = option("", ANY_TEXT, "where users find the dashboard; empty: http://host:port")
    read_token: str = option("", ANY_TEXT, "token for reading; required beyond loopback", secret=True)
    write_token: str = option("", ANY_TEXT, "token for reading and changing; required beyond loopback", secret=True)
    tokens_file: str = option("", FOLDER, "file of further tokens, a line NAME ROLE sha256:DIGEST each; empty: none")
    answer_within_s: float = option(30.0, real(0.1), "seconds until an unfinished answer becomes an error 503")
    otlp_percentiles: str = option("50 95 99", PERCENTILES, "percentiles of OpenTelemetry's histograms (NAME.p95)")
    wires: str = option("", ANY_TEXT, "wires of other packages at /wires/NAME, separated by spaces; empty: none")
    allowed_hosts: str = option("", ANY_TEXT, "further host names that requests may use, separated by spaces")
    trusted_proxies: str = option("", ANY_TEXT, "addresses whose X-Forwarded-For is believed, separated by spaces")
    tls_certificate: str = option("", ANY_TEXT, "PEM file with certificate and key; empty: no TLS")


@dataclass(frozen=True, slots=True)
class TelemetrySection:
    """[telemetry] of application.conf: /metrics, /healthz and /readyz of services without the web service's port."""

    host: str = option("127.0.0.1", TEXT, "address of the ports below; beyond loopback [web] tokens are required")
    listener_port: int = option(0, PORT, "of htmengine-listener; 0: none")
    storer_port: int = option(0, PORT, "of htmengine-storer; 0: none")
    scheduler_port: int = option(0, PORT, "of htmengine-scheduler; 0: none")
    anomaly_port: int = option(0, PORT, "of htmengine-anomaly; 0: none")
    alerts_port: int = option(0, PORT, "of htmengine-alerts; 0: none")
    peers: str = option("", ADDRESSES, "other processes that the health page shows, as HOST:PORT ...")
    self_monitor: bool = option(False, FLAG, "send the engine's own figures to the engine once a minute")
    self_monitor_prefix: str = option("htmengine.", TEXT, "beginning of the names of the engine's own metrics")
    stalled_s: float = option(60.0, real(1.0), "a stage that has work and finishes none for this long is a trouble")


@dataclass(frozen=True, slots=True)
class RemoteWriteSection:
    """[remote_write] of application.conf: results are written to a Prometheus."""

    url: str = option("", URL_OR_NOTHING, "where to POST: http://HOST:9090/api/v1/write; empty: nowhere", secret=True)
    metrics: str = option("*", TEXT, "whose results: globs and labels as in rules of alerts, separated by commas")
    labels: str = option("", LABEL_PAIRS, "labels that all series get, which tell engines apart")
    authorization: str = option("", ANY_TEXT, "value of the header Authorization", secret=True)
    tls_ca_file: str = option("", ANY_TEXT, "PEM file with the authorities to trust; empty: the system's")
    timeout_s: float = option(30.0, real(0.1, 600), "an answer takes at most this long")


@dataclass(frozen=True, slots=True)
class InterfaceBus:
    """[interface_bus] of model-swapper.conf."""

    model_input_queue_prefix: str = option("htmengine.mswapper.model.input.", TEXT, "prefix of the shards' queues")
    results_queue: str = option("htmengine.mswapper.results", TEXT, "the results queue")
    scheduler_notification_queue: str = option(
        "htmengine.mswapper.scheduler.notification",
        TEXT,
        "a queue whose consumers are the schedulers, which count each other",
    )
    shards: int = option(16, whole(1, 1024), "model input queues; the same for all services")


@dataclass(frozen=True, slots=True)
class ModelSchedulerSection:
    """[model_scheduler] of model-swapper.conf."""

    workers: int = option(0, whole(0, 1024), "worker processes; 0: one for each CPU")
    worker_command: str = option(
        "", COMMAND, "what starts a worker of another kind, such as NuPIC's (docs/nupic.md); empty: the engine's own"
    )
    worker_memory_mb: int = option(1024, whole(1, 10_000_000), "models that a worker holds in memory, in MB")
    worker_timeout_s: float = option(60.0, real(0.1), "a worker without a sign of life for this long is killed")
    rows_per_turn: int = option(500, whole(1, 100_000), "rows of one model in a turn")


@dataclass(frozen=True, slots=True)
class Storage:
    """[storage] of model-checkpoint.conf."""

    root: str = option("", FOLDER, "folder of the checkpoints; empty: checkpoints in the data folder")
    checkpoint_rows: int = option(1000, whole(1, 10_000_000), "write a model after this many rows")
    checkpoint_seconds: float = option(900.0, real(0.1), "write a model this long after its first unwritten row")
    replay_rows: int = option(16, whole(1, 10_000), "rows after which a swapped-out model is written")


@dataclass(frozen=True, slots=True)
class Connection:
    """[connection] of rabbitmq.conf."""

    host: str = option("localhost", TEXT, "RabbitMQ server")
    port: int = option(5672, PORT, "its port")
    virtual_host: str = option("/", TEXT, "its virtual host")
    heartbeat_s: int = option(10, whole(1, 3600), "seconds between heartbeats; a host is gone after two")
    quorum_queues: bool = option(
        False, FLAG, "replicate the queues in RabbitMQ's cluster; set it before the first start"
    )
    tls: bool = option(False, FLAG, "speak TLS")
    tls_ca_file: str = option("", ANY_TEXT, "PEM file with the authorities to trust; empty: the system's")


@dataclass(frozen=True, slots=True)
class Credentials:
    """[credentials] of rabbitmq.conf."""

    user: str = option("guest", TEXT, "RabbitMQ user")
    password: str = option("guest", ANY_TEXT, "its password", secret=True)


def _section(file: str, section: type[Any]) -> Any:
    return field(default_factory=section, metadata={"file": file})


@dataclass(frozen=True, slots=True)
class Config:
    """All sections; a field's name is its section's."""

    repository: Repository = _section("application", Repository)
    metric_listener: MetricListenerSection = _section("application", MetricListenerSection)
    statsd: StatsdSection = _section("application", StatsdSection)
    admission: AdmissionSection = _section("application", AdmissionSection)
    metric_storer: MetricStorerSection = _section("application", MetricStorerSection)
    metric_streamer: MetricStreamer = _section("application", MetricStreamer)
    anomaly_likelihood: AnomalyLikelihoodSection = _section("application", AnomalyLikelihoodSection)
    garbage_collection: GarbageCollection = _section("application", GarbageCollection)
    web: Web = _section("application", Web)
    telemetry: TelemetrySection = _section("application", TelemetrySection)
    remote_write: RemoteWriteSection = _section("application", RemoteWriteSection)
    interface_bus: InterfaceBus = _section("model-swapper", InterfaceBus)
    model_scheduler: ModelSchedulerSection = _section("model-swapper", ModelSchedulerSection)
    storage: Storage = _section("model-checkpoint", Storage)
    connection: Connection = _section("rabbitmq", Connection)
    credentials: Credentials = _section("rabbitmq", Credentials)


# --- HTM Engine's own options ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Legacy:
    """An option of HTM Engine's files that has another place here, or no meaning any more."""

    why: str
    place: tuple[str, str, str] | None = None  #: the option that it sets, if that is not set itself


_FIXED = "the anomaly likelihood's parameters are fixed, so that the scores of all engines can be compared"

#: By (file, section, option).
LEGACY: dict[tuple[str, str, str], Legacy] = {
    ("application", "metric_listener", "plaintext_port"): Legacy(
        "is called port", ("application", "metric_listener", "port")
    ),
    ("application", "metric_listener", "protocol"): Legacy("Graphite's plaintext protocol is the only one"),
    ("application", "anomaly_likelihood", "statistics_sample_size"): Legacy(_FIXED),
    ("application", "anomaly_likelihood", "statistics_min_sample_size"): Legacy(_FIXED),
    ("application", "anomaly_likelihood", "range_rule"): Legacy("the evidence says it; evidence = sequence does not"),
    ("application", "anomaly_likelihood", "statistics_refresh_rate"): Legacy("it is refreshed with every row"),
    ("rabbitmq", "connection", "user"): Legacy("stands in [credentials]", ("rabbitmq", "credentials", "user")),
    ("rabbitmq", "connection", "password"): Legacy("stands in [credentials]", ("rabbitmq", "credentials", "password")),
    ("rabbitmq", "connection", "vhost"): Legacy("is called virtual_host", ("rabbitmq", "connection", "virtual_host")),
}


# --- reading --------------------------------------------------------------------------------------------

Values = dict[tuple[str, str, str], tuple[str, str]]  # (file, section, option) -> (text, where it stands)


def load(
    directory: Path | None, environ: Mapping[str, str], warn: Callable[[str], None] = lambda warning: None
) -> Config:
    """The configuration of a directory (None: all defaults) and an environment.  Raises `ConfigError`.

    ``warn`` gets each option that only HTM Engine knew, and of sections that look misspelt.

    >>> load(None, {"HTMENGINE__APPLICATION__METRIC_LISTENER__PORT": "2103"}).metric_listener.port
    2103
    """
    problems: list[str] = []
    values: Values = {}
    if directory is not None:
        check_directory(directory)
        for file in FILES:
            _read_file(directory / f"{file}.conf", file, values, problems, warn)
        _replace_legacy(values, warn)
    _read_environment(environ, values, problems)
    sections = {
        each.name: read_section(each.metadata["file"], each.name, _type(each), values, problems)
        for each in dataclasses.fields(Config)
    }
    if problems:
        raise ConfigError(problems)
    return Config(**sections)


def check_directory(directory: Path) -> None:
    """Raises `ConfigError` when a configuration cannot be there."""
    if not directory.is_dir():
        raise ConfigError([f"{directory} is no directory; {APPLICATION_CONFIG_PATH} must name one"])


def options() -> Iterator[tuple[str, str, dataclasses.Field[Any]]]:
    """(file, section, option) for every option there is."""
    for section in dataclasses.fields(Config):
        for each in dataclasses.fields(_type(section)):
            yield section.metadata["file"], section.name, each


def _type(section: dataclasses.Field[Any]) -> Any:
    return section.default_factory


def parse_file(path: Path, problems: list[str]) -> configparser.ConfigParser:
    """An INI file's sections; none when there is no such file, or it cannot be read, which is a problem."""
    parser = configparser.ConfigParser(interpolation=None)
    try:
        with path.open(encoding="utf-8-sig") as lines:  # editors of Windows begin a file with a mark
            parser.read_file(lines)
    except FileNotFoundError:
        pass
    except OSError as error:
        problems.append(f"{path}: {error.strerror}")
        parser.clear()
    except (UnicodeDecodeError, configparser.Error) as error:
        problems.append(f"{path}: {' '.join(str(error).split())}")
        parser.clear()
    return parser


def _read_file(path: Path, file: str, values: Values, problems: list[str], warn: Callable[[str], None]) -> None:
    parser = parse_file(path, problems)
    known = {section for each_file, section, _ in options() if each_file == file}
    for section in parser.sections():
        if section in known:  # applications keep sections of their own in these files
            options_here = {each.name for _, each_section, each in options() if each_section == section}
            for name, text in parser.items(section):
                if name in options_here or name not in parser.defaults():  # [DEFAULT] is for all sections
                    values[file, section, name] = (text, f"{path} [{section}] {name}")
        elif home := _home_of(section):
            warn(f"{path} [{section}]: not read here; it belongs in {home}.conf")
        elif close := difflib.get_close_matches(section, known, 1, 0.8):
            warn(f"{path} [{section}]: taken for the application's section; perhaps [{close[0]}] is meant")


def _home_of(section: str) -> str | None:
    """The file, without its ending, that a section of ours is read from."""
    if section == "alerts" or section.startswith(ALERT_SECTIONS):
        return "alerts"
    return next((file for file, known, _ in options() if known == section), None)


def _replace_legacy(values: Values, warn: Callable[[str], None]) -> None:
    """What HTM Engine's options meant is set where it stands now; the others are left out."""
    for place in [place for place in values if place in LEGACY]:
        text, where = values.pop(place)
        legacy = LEGACY[place]
        if legacy.place is None:
            warn(f"{where}: no longer has an effect: {legacy.why}")
        else:
            warn(f"{where}: {legacy.why}")
            values.setdefault(legacy.place, (text, where))


def _read_environment(environ: Mapping[str, str], values: Values, problems: list[str]) -> None:
    names = {
        "__".join((file.replace("-", "_"), section, each.name)).upper(): (file, section, each.name)
        for file, section, each in options()
    }
    ours = {name: text for name, text in environ.items() if name.startswith(ENVIRONMENT_PREFIX)}
    ours = {name: text for name, text in ours.items() if not name.startswith(ALERTS_PREFIX)}
    read_variables(ours, names, values, problems)


def read_variables(
    variables: Mapping[str, str], names: Mapping[str, tuple[str, str, str]], values: Values, problems: list[str]
) -> None:
    """Options from environment variables; ``names`` are those of all options, without the prefix."""
    for variable, text in variables.items():
        name = variable.removeprefix(ENVIRONMENT_PREFIX)
        if name in names:
            values[names[name]] = (text, f"environment variable {variable}")
        else:
            close = difflib.get_close_matches(name, names, 1)
            hint = f"; perhaps {ENVIRONMENT_PREFIX}{close[0]}" if close else ""
            problems.append(f"environment variable {variable} names no option{hint}")


Section = TypeVar("Section", bound="DataclassInstance")


def read_section(file: str, section: str, kind: type[Section], values: Values, problems: list[str]) -> Section:
    """One section's options; what is wrong with them is added to ``problems``."""
    fields = {each.name: each for each in dataclasses.fields(kind) if "kind" in each.metadata}
    read: dict[str, Any] = {}
    for (in_file, in_section, name), (text, where) in values.items():
        if (in_file, in_section) != (file, section):
            continue
        if name not in fields:
            close = difflib.get_close_matches(name, fields, 1)
            hint = f"; perhaps {close[0]}" if close else f"; there are {', '.join(sorted(fields))}"
            problems.append(f"{where}: no such option{hint}")
            continue
        wanted: Kind = fields[name].metadata["kind"]
        try:
            read[name] = wanted.read(text)
        except (ValueError, KeyError):
            shown = "" if fields[name].metadata["secret"] else f" = {text!r}"
            problems.append(f"{where}{shown}: {wanted.allowed} is allowed")
    return kind(**read)
