# SPDX-License-Identifier: MIT
"""Private servers for tests: RabbitMQ, MariaDB, PostgreSQL, Alertmanager and Prometheus, in temporary folders, on free
loopback ports.

Each is a context manager, and a pytest fixture that lives as long as the session (tests/integration/conftest.py
names them)::

    with PostgreSQL() as server:
        url = server.new_database()

A server may be killed and started again on the same folder and port.  None outlives the process (strictly: the
thread) that started it, however that one ends.  A missing program skips the test, or fails it when the environment
variable HTMENGINE_CI is 1.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self
from urllib.parse import quote

import pytest

#: No server takes this long to start or stop unless it hangs.
PATIENCE_S = 180.0
#: Not the shared generator: a test that seeds it would get the ports of another.
_PORTS = random.Random()
#: Kept from the caller: the servers read nothing else of the environment.
_PATH = {"PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin", "LANG": "C.UTF-8"}


def free_port() -> int:
    """A TCP port on 127.0.0.1 that nobody listens on now.

    It lies below those that the kernel gives to clients and to whoever asks for any port: a server that is stopped and
    started again finds its port free.
    """
    while True:
        port = _PORTS.randrange(10_000, 32_768)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port


def program(name: str, *patterns: str, required: bool = True) -> str:
    """The path of an installed program; ``patterns`` are globs under /usr/lib, of which the last match is taken.

    A test that needs one that is missing is skipped, or fails under HTMENGINE_CI=1 if the program is required.
    """
    found = [str(path) for pattern in patterns for path in sorted(Path("/usr/lib").glob(pattern))]
    path = found[-1] if found else shutil.which(name, path=_PATH["PATH"])
    if path is None:
        missing = f"{name} is not installed"
        if required and os.environ.get("HTMENGINE_CI") == "1":
            pytest.fail(missing)
        pytest.skip(missing)
    return path


class Server:
    """A server in a folder of its own.  Subclasses say how it is prepared and started, and when it is ready."""

    #: Sent to the port; a ready server answers with at least one byte.  Empty: it speaks first.
    greeting: ClassVar[bytes] = b""
    #: How a ready server's answer begins, where one that is not ready answers too.
    answer: ClassVar[bytes] = b""
    #: What ends it in good order, clients or not.
    stop_signal: ClassVar[int] = signal.SIGTERM

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=f"htmengine-{type(self).__name__.lower()}-"))
        self.port = free_port()
        self._processes: list[subprocess.Popen[bytes]] = []

    def prepare(self) -> None:
        """Make the folder's content; called once."""

    def commands(self) -> Sequence[Sequence[str]]:
        """The programs to start; the last one is the server."""
        raise NotImplementedError

    def environment(self) -> Mapping[str, str]:
        """Their environment, beside the path."""
        return {}

    def __enter__(self) -> Self:
        try:
            self.prepare()
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self) -> None:
        """Start it, or start it again, and wait until it answers."""
        for command in self.commands():
            self._processes.append(self._spawn(command))
        deadline = time.monotonic() + PATIENCE_S
        while not self._answers():
            if self._processes[-1].poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{type(self).__name__} did not start:\n{self.log()[-3000:]}")
            time.sleep(0.02)

    def stop(self) -> None:
        """Stop it in good order."""
        self._end(self.stop_signal)

    def kill(self) -> None:
        """kill -9 of the server and its children: whatever it had not written is gone."""
        groups = [process.pid for process in self._processes]
        for group in groups:
            os.killpg(group, signal.SIGKILL)
        self._end(signal.SIGKILL)
        deadline = time.monotonic() + PATIENCE_S
        while any(map(_alive, groups)) and time.monotonic() < deadline:
            time.sleep(0.01)  # a child that is not gone yet would keep the next server from starting

    @contextlib.contextmanager
    def suspended(self) -> Iterator[None]:
        """It lives, keeps its connections, and does nothing."""
        groups = [process.pid for process in self._processes]
        for group in groups:
            os.killpg(group, signal.SIGSTOP)
        try:
            yield
        finally:
            for group in groups:
                os.killpg(group, signal.SIGCONT)

    def log(self) -> str:
        """What it has printed so far."""
        path = self.folder / "output.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def run(self, *command: str) -> str:
        """Run a program of the server's to its end; what it printed.  Raises `RuntimeError` if it fails."""
        done = subprocess.run(
            command,
            env={**_PATH, **self.environment()},
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{command[0]} ended with {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout

    def _spawn(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        with (self.folder / "output.log").open("ab") as output:
            return subprocess.Popen(
                [program("setpriv"), "--pdeathsig", "KILL", *command],
                env={**_PATH, **self.environment()},
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C is for the tests, which stop their servers themselves
            )

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as connection:
                connection.settimeout(5)
                connection.sendall(self.greeting)
                answer = connection.recv(max(1, len(self.answer)))
                return bool(answer) and answer.startswith(self.answer)
        except OSError:
            return False

    def _end(self, number: int) -> None:
        while self._processes:
            process = self._processes.pop()
            process.send_signal(number)
            try:
                process.wait(PATIENCE_S / 2)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _alive(group: int) -> bool:
    """Whether a process group has a process that is more than a zombie."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has just ended
            state, _, of = stat.read_text().rpartition(")")[2].split()[:3]
            if state != "Z" and int(of) == group:
                return True
    return False


class RabbitMQ(Server):
    """A RabbitMQ node (user ``guest``, password ``guest``) with its own name server, cookie and folders.

    ``plugins`` are enabled; ``options`` are lines for its rabbitmq.conf.
    """

    greeting = b"AMQP\0\0\x09\x01"

    def __init__(self, *, plugins: Sequence[str] = (), options: Sequence[str] = ()) -> None:
        super().__init__()
        self._plugins = plugins
        self._options = options
        self._name_server_port = free_port()
        self._distribution_port = free_port()

    def prepare(self) -> None:
        (self.folder / "enabled_plugins").write_text(f"[{','.join(self._plugins)}].\n")
        (self.folder / "environment.conf").touch()
        cookie = self.folder / ".erlang.cookie"
        cookie.write_text("HTMENGINE")
        cookie.chmod(0o400)
        lines = [
            f"listeners.tcp.1 = 127.0.0.1:{self.port}",
            "default_user = guest",
            "default_pass = guest",
            "disk_free_limit.absolute = 50MB",
            "vm_memory_high_watermark.absolute = 1GB",
            "log.console = false",
            "log.file.level = warning",
            *self._options,
        ]
        (self.folder / "rabbitmq.conf").write_text("\n".join(lines) + "\n")

    def commands(self) -> Sequence[Sequence[str]]:
        name_server = [program("epmd"), "-port", str(self._name_server_port), "-address", "127.0.0.1"]
        return name_server, [self._tool("rabbitmq-server")]

    def environment(self) -> Mapping[str, str]:
        folder = self.folder
        return {
            "HOME": str(folder),
            "ERL_EPMD_PORT": str(self._name_server_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"test{self.port}@localhost",
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_CONF_ENV_FILE": str(folder / "environment.conf"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(folder / "config"),
            "RABBITMQ_PID_FILE": str(folder / "pid"),
            "RABBITMQ_ALLOW_INPUT": "true",  # the script becomes the server: signals reach it
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-noinput -kernel inet_dist_use_interface {127,0,0,1}",
        }

    def control(self, *arguments: str) -> str:
        """rabbitmqctl."""
        return self.run(self._tool("rabbitmqctl"), "-q", *arguments)

    def _tool(self, name: str) -> str:
        # Debian's /usr/sbin/rabbitmq-* change to the system's user; the scripts below do not.
        return program(name, f"rabbitmq/lib/rabbitmq_server-*/sbin/{name}")


class MariaDB(Server):
    """A MariaDB server; the user ``root`` needs no password.  ``options`` are mariadbd's."""

    def __init__(self, *, options: Sequence[str] = ()) -> None:
        super().__init__()
        self._options = options
        self._databases = 0

    def prepare(self) -> None:
        self.run(
            program("mariadb-install-db"),
            "--no-defaults",
            f"--datadir={self.folder / 'data'}",
            f"--user={getpass.getuser()}",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
            "--skip-name-resolve",
            "--innodb-log-file-size=8M",
            "--innodb-flush-log-at-trx-commit=0",
            "--innodb-doublewrite=0",
        )

    def commands(self) -> Sequence[Sequence[str]]:
        command = [
            program("mariadbd"),
            "--no-defaults",
            f"--user={getpass.getuser()}",
            f"--datadir={self.folder / 'data'}",
            f"--socket={self.folder / 'socket'}",
            f"--pid-file={self.folder / 'pid'}",
            f"--port={self.port}",
            "--bind-address=127.0.0.1",
            "--skip-name-resolve",
            "--skip-log-bin",
            "--character-set-server=utf8mb4",
            "--innodb-log-file-size=8M",
            "--innodb-buffer-pool-size=64M",
            "--performance-schema=OFF",
            *self._options,
        ]
        return [command]

    def sql(self, statement: str) -> str:
        """What the statement prints, a row a line, columns parted by tabs."""
        return self._client("mariadb", "-N", "-e", statement)

    def new_database(self) -> str:
        """SQLAlchemy's URL of a new, empty database."""
        self._databases += 1
        name = f"test{self._databases}"
        self.sql(f"CREATE DATABASE {name}")
        return f"mysql+pymysql://root@127.0.0.1:{self.port}/{name}?charset=utf8mb4"

    def dump(self, name: str, file: Path) -> None:
        """Back up a database that may be in use."""
        file.write_text(self._client("mariadb-dump", "--single-transaction", "--hex-blob", name))

    def go_back(self, name: str, file: Path) -> None:
        """Make a database what it was at a dump."""
        self.sql(f"DROP DATABASE {name}; CREATE DATABASE {name}")
        self._client("mariadb", name, "-e", f"source {file}")

    def _client(self, tool: str, *arguments: str) -> str:
        return self.run(program(tool), "--no-defaults", f"--socket={self.folder / 'socket'}", "-uroot", *arguments)


class PostgreSQL(Server):
    """A PostgreSQL server; the user ``postgres`` needs no password.  ``options`` are settings, ``name=value``.

    It refuses to run as root, who therefore starts it as the system's user ``postgres``, or ``nobody``.
    """

    #: Asks whether it speaks TLS.  A server that is not ready answers this too: `start` asks for more.
    greeting = b"\0\0\0\x08\x04\xd2\x16\x2f"
    stop_signal = signal.SIGINT

    def __init__(self, *, options: Sequence[str] = ()) -> None:
        super().__init__()
        self._options = options
        self._databases = 0
        self._as_user = _unprivileged()

    def prepare(self) -> None:
        if self._as_user:
            shutil.chown(self.folder, self._as_user)
        data = str(self.folder / "data")
        options = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"]
        self.run(*self._as(self._tool("initdb"), f"--pgdata={data}", *options))

    def commands(self) -> Sequence[Sequence[str]]:
        settings = [
            f"port={self.port}",
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",  # a killed server's socket would keep the next one from starting
            "fsync=off",  # what a kill -9 leaves is complete all the same
            *self._options,
        ]
        options = [f"--{setting}" for setting in settings]
        return [self._as(self._tool("postgres"), "-D", str(self.folder / "data"), *options)]

    def sql(self, statement: str) -> str:
        """What the statement prints, a row a line, columns parted by ``|``."""
        return self._psql("-c", statement)

    def new_database(self) -> str:
        """SQLAlchemy's URL of a new, empty database."""
        self._databases += 1
        name = f"test{self._databases}"
        self.sql(f"CREATE DATABASE {name}")
        return f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/{name}"

    def dump(self, name: str, file: Path) -> None:
        """Back up a database that may be in use."""
        file.write_text(self._client("pg_dump", name))

    def go_back(self, name: str, file: Path) -> None:
        """Make a database what it was at a dump."""
        self.sql(f"DROP DATABASE {name} WITH (FORCE)")
        self.sql(f"CREATE DATABASE {name}")
        self._psql("-f", str(file), name)

    def _psql(self, *arguments: str) -> str:
        return self._client("psql", "-X", "-q", "-At", "-v", "ON_ERROR_STOP=1", *arguments)

    def _client(self, tool: str, *arguments: str) -> str:
        return self.run(self._tool(tool), "-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres", *arguments)

    def _answers(self) -> bool:
        if not super()._answers():
            return False
        with contextlib.suppress(RuntimeError):
            self.sql("SELECT 1")
            return True
        return False

    def _tool(self, name: str) -> str:
        return program(name, f"postgresql/*/bin/{name}")

    def _as(self, *command: str) -> list[str]:
        if not self._as_user:
            return list(command)
        user, group = self._as_user, str(pwd.getpwnam(self._as_user).pw_gid)
        drop = ["--reuid", user, "--regid", group, "--clear-groups"]
        # Changing the user forgets the wish to die with the parent: it is set again.
        return [program("setpriv"), *drop, "--pdeathsig", "KILL", *command]


class Alertmanager(Server):
    """A Prometheus Alertmanager of its own, that notifies nobody."""

    greeting = b"GET /-/ready HTTP/1.0\r\n\r\n"
    answer = b"HTTP/1.0 200"

    def prepare(self) -> None:
        (self.folder / "alertmanager.yml").write_text("route: {receiver: nobody}\nreceivers: [{name: nobody}]\n")

    def commands(self) -> Sequence[Sequence[str]]:
        command = [
            program("prometheus-alertmanager"),
            f"--config.file={self.folder / 'alertmanager.yml'}",
            f"--storage.path={self.folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
            "--cluster.listen-address=",
        ]
        return [command]

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    def alerts(self) -> list[dict[str, Any]]:
        """What it holds as firing now."""
        with urllib.request.urlopen(f"{self.url}/api/v2/alerts?active=true", timeout=PATIENCE_S) as answer:  # noqa: S310
            found: list[dict[str, Any]] = json.load(answer)
        return found


class Prometheus(Server):
    """A Prometheus that looks at one engine, or itself, once a second, by some rules; it may write to a URL, and takes
    what is written to `write_url`.
    """

    greeting = b"GET /-/ready HTTP/1.0\r\n\r\n"
    answer = b"HTTP/1.0 200"

    def __init__(self, target: str = "", rules: str = "", *, write_to: str = "", **scrape: Any) -> None:
        super().__init__()
        self._scrape = scrape  #: further options of what it looks at
        self._target = target
        self._rules = rules
        self._write_to = write_to

    def prepare(self) -> None:
        (self.folder / "rules.yml").write_text(self._rules)
        config: dict[str, Any] = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": ["rules.yml"],
            "scrape_configs": [
                {
                    "job_name": "htmengine",
                    "static_configs": [{"targets": [self._target or f"127.0.0.1:{self.port}"]}],
                    **self._scrape,
                }
            ],
        }
        if self._write_to:
            queue = {"min_backoff": "100ms", "max_backoff": "500ms", "batch_send_deadline": "1s"}
            config["remote_write"] = [{"url": self._write_to, "queue_config": queue}]
        (self.folder / "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML

    def commands(self) -> Sequence[Sequence[str]]:
        command = [
            program("prometheus"),
            f"--config.file={self.folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={self.folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
            "--web.enable-remote-write-receiver",
        ]
        return [command]

    @property
    def write_url(self) -> str:
        """Where samples may be written to."""
        return f"http://127.0.0.1:{self.port}/api/v1/write"

    def targets(self) -> list[str]:
        """The health of what it looks at."""
        return [target["health"] for target in self._get("targets")["activeTargets"]]

    def value(self, query: str) -> float | None:
        """Of the first series that a query finds."""
        found = self._get(f"query?query={query}")["result"]
        return float(found[0]["value"][1]) if found else None

    def samples(self, selector: str) -> dict[int, float]:
        """Of the only series that a selector finds: its last hours, by their times."""
        found = self._get(f"query?query={quote(selector + '[6h]')}")["result"]
        return {int(timestamp): float(value) for timestamp, value in found[0]["values"]} if found else {}

    def firing(self) -> set[tuple[str, str]]:
        """Name and label ``reason`` of each alert that fires."""
        labels = [alert["labels"] for alert in self._get("alerts")["alerts"] if alert["state"] == "firing"]
        return {(each["alertname"], each.get("reason", "")) for each in labels}

    def _get(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/v1/{path}", timeout=PATIENCE_S) as answer:
            return json.load(answer)["data"]


def _unprivileged() -> str | None:
    """Whom root runs PostgreSQL as; None: we are not root."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in known else "nobody"


@pytest.fixture(scope="session")
def rabbitmq() -> Iterator[RabbitMQ]:
    """A RabbitMQ node for all tests of the session: they use queues of their own."""
    with RabbitMQ() as server:
        yield server


@pytest.fixture(scope="session")
def mariadb() -> Iterator[MariaDB]:
    """A MariaDB server for all tests of the session: each makes a `MariaDB.new_database`."""
    with MariaDB() as server:
        yield server


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    """A PostgreSQL server for all tests of the session: each makes a `PostgreSQL.new_database`."""
    with PostgreSQL() as server:
        yield server


@pytest.fixture(scope="session")
def alertmanager() -> Iterator[Alertmanager]:
    """An Alertmanager for all tests of the session: they send alerts of their own names."""
    with Alertmanager() as server:
        yield server
