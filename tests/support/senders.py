# SPDX-License-Identifier: MIT
"""Other programs that send metrics, or read them, with the configurations that the documents show.

Those that pip installs come with the test extras.  Those of Debian and npm that a machine may do without are skipped
where they are missing, also in CI (docs/sending.md says which).
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests.support.servers import Server, free_port, program

#: Where ``npm install statsd`` was run.
NPM = Path(__file__).parents[1] / "javascript" / "node_modules"


def script(name: str) -> list[str]:
    """A program that pip has installed beside Python; Graphite's own are of the time before Python 3.12."""
    path = Path(sys.executable).with_name(name)
    return [sys.executable, str(path) if path.exists() else program(name, required=sys.version_info < (3, 12))]


class Sender(Server):
    """A program in a folder of its own; `port` is where it listens, if it does."""

    def prepare(self) -> None:
        (self.folder / "config").write_text(self.configuration())

    def configuration(self) -> str:
        """The content of the file ``config``."""
        raise NotImplementedError

    def send(self, text: str) -> None:
        """Lines to its port, as a client of it does."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection:
            connection.sendall(text.encode())

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True


def _carbon(program: str, folder: Path) -> list[str]:
    options = [f"--config={folder / 'config'}", f"--logdir={folder}", f"--pidfile={folder / 'pid'}", "--debug"]
    return [*script(program), *options, "start"]


def _of_carbon(folder: Path) -> dict[str, str]:
    generated = {"PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python"}  # its code for protobuf is an old one's
    return {"GRAPHITE_ROOT": str(folder), "PYTHONWARNINGS": "ignore", **generated}


class CarbonRelay(Sender):
    """Carbon's own relay, which sends pickles, or in another ``protocol`` of carbon's."""

    def __init__(self, port: int, protocol: str = "pickle") -> None:
        super().__init__()
        self._destination = f"127.0.0.1:{port}:a"
        self._protocol = protocol

    def prepare(self) -> None:
        super().prepare()
        (self.folder / "storage-schemas.conf").write_text("[all]\npattern = .*\nretentions = 1s:1d\n")  # it wants one

    def configuration(self) -> str:
        return f"""
[relay]
CARBON_METRIC_INTERVAL = 1
LINE_RECEIVER_INTERFACE = 127.0.0.1
LINE_RECEIVER_PORT = {self.port}
PICKLE_RECEIVER_PORT = {free_port()}
PICKLE_RECEIVER_INTERFACE = 127.0.0.1
RELAY_METHOD = consistent-hashing
DESTINATIONS = {self._destination}
DESTINATION_PROTOCOL = {self._protocol}
"""

    def commands(self) -> Sequence[Sequence[str]]:
        return [_carbon("carbon-relay.py", self.folder)]

    def environment(self) -> Mapping[str, str]:
        return _of_carbon(self.folder)


class CarbonCache(Sender):
    """Carbon's cache, which takes metrics and writes them to whisper's files; `ports` by protocol.

    With ``amqp_port`` it reads the exchange ``graphite`` of a RabbitMQ, too.
    """

    def __init__(self, amqp_port: int = 0) -> None:
        super().__init__()
        self._amqp_port = amqp_port
        self.ports = {"line": self.port, "pickle": free_port(), "protobuf": free_port()}

    def prepare(self) -> None:
        super().prepare()
        (self.folder / "storage-schemas.conf").write_text("[all]\npattern = .*\nretentions = 1s:1h\n")

    def configuration(self) -> str:
        return f"""
[cache]
LOCAL_DATA_DIR = {self.folder / "whisper"}
LINE_RECEIVER_INTERFACE = 127.0.0.1
LINE_RECEIVER_PORT = {self.ports["line"]}
PICKLE_RECEIVER_INTERFACE = 127.0.0.1
PICKLE_RECEIVER_PORT = {self.ports["pickle"]}
ENABLE_PROTOBUF_RECEIVER = True
PROTOBUF_RECEIVER_INTERFACE = 127.0.0.1
PROTOBUF_RECEIVER_PORT = {self.ports["protobuf"]}
CACHE_QUERY_INTERFACE = 127.0.0.1
CACHE_QUERY_PORT = {free_port()}
MAX_CREATES_PER_MINUTE = inf
MAX_UPDATES_PER_SECOND = inf
CARBON_METRIC_INTERVAL = 0
ENABLE_AMQP = {bool(self._amqp_port)}
AMQP_HOST = 127.0.0.1
AMQP_PORT = {self._amqp_port}
AMQP_VHOST = /
AMQP_USER = guest
AMQP_PASSWORD = guest
AMQP_EXCHANGE = graphite
AMQP_METRIC_NAME_IN_BODY = True
"""

    def commands(self) -> Sequence[Sequence[str]]:
        return [_carbon("carbon-cache.py", self.folder)]

    def environment(self) -> Mapping[str, str]:
        return _of_carbon(self.folder)


class CarbonCRelay(Sender):
    """carbon-c-relay of Debian's package, which sends lines."""

    def __init__(self, line_port: int) -> None:
        super().__init__()
        self._line_port = line_port

    def configuration(self) -> str:
        return f"""
listen type linemode 127.0.0.1:{self.port} proto tcp;
cluster engine forward 127.0.0.1:{self._line_port};
match * send to engine stop;
"""

    def commands(self) -> Sequence[Sequence[str]]:
        relay = program("carbon-c-relay", required=False)
        return [[relay, "-f", str(self.folder / "config")]]


class Collectd(Sender):
    """collectd, which measures this machine once a second; ``output`` is the plugin that sends, with its options."""

    def __init__(self, output: str, options: str) -> None:
        super().__init__()
        self._output = output
        self._options = options

    def configuration(self) -> str:
        return f"""
Hostname "web1"
BaseDir "{self.folder}"
PIDFile "{self.folder / "pid"}"
TypesDB "/usr/share/collectd/types.db"
Interval 1
LoadPlugin load
LoadPlugin {self._output}
<Plugin {self._output}>
{self._options}
</Plugin>
"""

    def commands(self) -> Sequence[Sequence[str]]:
        return [[program("collectd", required=False), "-f", "-C", str(self.folder / "config")]]

    def _answers(self) -> bool:
        return "Initialization complete" in self.log()


class NodeStatsd(Sender):
    """statsd's own server of npm, which sends lines to Graphite at each flush."""

    def __init__(self, line_port: int, *, transport: str = "udp", flush_s: int = 1) -> None:
        super().__init__()
        self._line_port = line_port
        self._transport = transport
        self._flush_s = flush_s
        self.management_port = free_port()

    def configuration(self) -> str:
        return f"""{{
  servers: [{{ server: "./servers/{self._transport}", address: "127.0.0.1", port: {self.port} }}],
  backends: ["./backends/graphite"], graphitePort: {self._line_port}, graphiteHost: "127.0.0.1",
  mgmt_address: "127.0.0.1", mgmt_port: {self.management_port}, flushInterval: {1000 * self._flush_s}
}}"""

    def commands(self) -> Sequence[Sequence[str]]:
        server = NPM / "statsd" / "stats.js"
        if not server.exists():
            pytest.skip("statsd is not installed (npm install statsd, in tests/javascript)")
        return [[program("node", required=False), str(server), str(self.folder / "config")]]

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.management_port), 1).close()
        except OSError:
            return False
        return True


class GraphiteWeb(Sender):
    """graphite-web of PyPI in front of an engine, as docs/grafana.md says."""

    greeting = b"GET /version/ HTTP/1.0\r\n\r\n"
    answer = b"HTTP/1."

    def __init__(self, engine: str) -> None:
        super().__init__()
        self._engine = engine

    def configuration(self) -> str:
        return f"""
CLUSTER_SERVERS = ["{self._engine}"]
SECRET_KEY = "of this test"
GRAPHITE_ROOT = STORAGE_DIR = LOG_DIR = CONF_DIR = "{self.folder}"
INDEX_FILE = "{self.folder}/index"
STANDARD_DIRS = []
"""

    def prepare(self) -> None:
        super().prepare()
        (self.folder / "config").rename(self.folder / "local_settings_of_test.py")
        self.run(*script("django-admin"), "migrate", "--run-syncdb", "-v", "0")

    def commands(self) -> Sequence[Sequence[str]]:
        admin = script("django-admin")
        return [[*admin, "runserver", "--noreload", f"127.0.0.1:{self.port}"]]

    def environment(self) -> Mapping[str, str]:
        return {
            "DJANGO_SETTINGS_MODULE": "graphite.settings",
            "GRAPHITE_SETTINGS_MODULE": "local_settings_of_test",
            "PYTHONPATH": str(self.folder),
            "PYTHONWARNINGS": "ignore",
            "HOME": os.environ.get("HOME", "/"),
        }

    _answers = Server._answers
