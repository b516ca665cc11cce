# SPDX-License-Identifier: MIT
"""An engine runs on the base's packages; what needs another one names the extra that brings it."""

from __future__ import annotations

import ast
import re
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import TestCase, mock
from zoneinfo import ZoneInfo

from twisted.internet.testing import MemoryReactorClock

from htmengine.alerts.apprise import is_known
from htmengine.alerts.calendars import FileCalendar, cron_calendar
from htmengine.alerts.configuration import load_alerts
from htmengine.alerts.templates import rendered
from htmengine.bus.amqp_link import AmqpParams, _endpoint
from htmengine.cli.score_output import PARQUET, writing
from htmengine.config import Config, RemoteWriteSection
from htmengine.deployment import Deployment
from htmengine.errors import HtmEngineError
from htmengine.export.remote_writer import WriterOptions
from htmengine.offline.data_frames import score
from htmengine.process.extras import TLS
from htmengine.repository.connections import make_engine
from htmengine.sources import sql
from htmengine.web.service import tls_options
from htmengine.wires import influx, otlp, protobuf_frames
from htmengine.wires.compression import decompress
from tools import import_picture

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
#: No part of the engine uses them, or they only put others together.
AGGREGATES = {"all", "distributed", "test"}
OTHER_PROGRAMS = {"supervisor"}
#: What people use who have files or frames and no engine.
WITHOUT_ENGINE = {"frames", "parquet"}

#: What every engine has: the distribution of each package.
BASE = {
    "alembic": "alembic",
    "click": "click",
    "jsonschema": "jsonschema",
    "klein": "klein",
    "msgspec": "msgspec",
    "numpy": "numpy",
    "platformdirs": "platformdirs",
    "prometheus_client": "prometheus-client",
    "re2": "google-re2",
    "sqlalchemy": "SQLAlchemy",
    "tqdm": "tqdm",
    "twisted": "Twisted",
    "werkzeug": "klein",
    "zope": "Twisted",
}
#: Modules that are imported when there is a RabbitMQ: `Deployment.bus` asks for the extra first.
AMQP = re.compile(r"htmengine\.bus\.amqp")


def _https_receiver() -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "alerts.conf").write_text("[receiver:ops]\ntype = webhook\nurl = https://example.com/\n")
        load_alerts(Path(folder), {})


def _parquet() -> None:
    with writing(Path("never.parquet"), PARQUET, several=False):
        pass


#: Each use of a package that an extra brings: (extra, package, what uses it).
USES: list[tuple[str, str, Callable[[], object]]] = [
    ("amqp", "pika", lambda: Deployment(Config(), None).bus(MemoryReactorClock())),
    ("apprise", "apprise", lambda: is_known("json://127.0.0.1")),
    ("calendars", "cronsim", lambda: cron_calendar("0 2 * * *", 3600.0, ZoneInfo("UTC"))),
    ("calendars", "icalendar", lambda: FileCalendar(Path("any.ics"), ZoneInfo("UTC"))),
    ("calendars", "recurring_ical_events", lambda: FileCalendar(Path("any.ics"), ZoneInfo("UTC"))),
    ("frames", "narwhals", lambda: score(object())),
    ("mysql", "pymysql", lambda: make_engine("mysql://root@127.0.0.1/htmengine")),
    ("mysql", "pymysql", lambda: sql.query("mysql://root@127.0.0.1/old", "SELECT 1")),
    ("parquet", "pyarrow", _parquet),
    ("postgresql", "psycopg", lambda: make_engine("postgresql://postgres@127.0.0.1/htmengine")),
    ("postgresql", "psycopg", lambda: sql.query("postgresql://postgres@127.0.0.1/old", "SELECT 1")),
    ("templates", "jinja2", lambda: rendered("any.j2", {})),
    ("tls", TLS, _https_receiver),
    ("tls", TLS, lambda: tls_options(Path("any.pem"))),
    ("tls", TLS, lambda: _endpoint(AmqpParams(tls=True), MemoryReactorClock())),
    ("wires", "cramjam", lambda: decompress(b"", "snappy", 10)),
    ("tls", TLS, lambda: WriterOptions.of(RemoteWriteSection(url="https://example.com/"))),
    ("wires", "cramjam", lambda: WriterOptions.of(RemoteWriteSection(url="http://example.com/"))),
    ("wires", "google.protobuf.descriptor_pb2", lambda: protobuf_frames.read_frame(b"")),
    ("wires", "line_protocol_parser", lambda: influx.read_lines(b"", "ns", 0.0)),
    (
        "wires",
        "opentelemetry.proto.collector.metrics.v1.metrics_service_pb2",
        lambda: otlp.OtlpReader().read(b""),
    ),
]


class ExtrasTest(TestCase):
    def test_what_needs_a_missing_package_names_the_extra_that_brings_it(self) -> None:
        protobuf_frames._payload.cache_clear()
        for extra, package, use in USES:
            with mock.patch.dict(sys.modules, {package: None}):
                with self.assertRaises(HtmEngineError) as caught:
                    use()
                words = f"{package} is not installed; pip install 'htmengine[{extra}]' brings it"
                self.assertIn(words, str(caught.exception))

    def test_every_extra_is_asked_for_by_what_needs_it(self) -> None:
        extras = PROJECT["optional-dependencies"].keys() - AGGREGATES - OTHER_PROGRAMS
        self.assertEqual({extra for extra, _, _ in USES}, extras)

    def test_all_is_all_that_the_engine_can_use(self) -> None:
        [everything] = PROJECT["optional-dependencies"]["all"]
        named = re.fullmatch(r"htmengine\[(.*)\]", everything)
        self.assertEqual(set(named[1].split(",")), {extra for extra, _, _ in USES} - WITHOUT_ENGINE)


class BaseTest(TestCase):
    def test_modules_import_packages_of_the_base_alone_and_all_of_them(self) -> None:
        imported = {name for module, path in MODULES.items() if not AMQP.match(module) for name in packages(path)}
        self.assertEqual(imported, set(BASE))

    def test_the_base_is_what_pip_installs(self) -> None:
        named = {re.split(r"[>=<\[]", each)[0] for each in PROJECT["dependencies"]}
        self.assertEqual(named, set(BASE.values()))


MODULES = import_picture.sources(ROOT)
OURS = {"htmengine", "_typeshed"}


def packages(path: Path) -> Iterator[str]:
    """The packages that others wrote and a module imports when it is imported itself."""
    for node in outside_functions(import_picture.parsed(path)):
        names: list[str] = []
        if isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module or ""]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        yield from {name.partition(".")[0] for name in names} - sys.stdlib_module_names - OURS


def outside_functions(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes that are not in the body of a function."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield child
            yield from outside_functions(child)
