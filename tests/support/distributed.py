# SPDX-License-Identifier: MIT
"""A distributed engine: its configuration, its processes, and what tests ask of its database."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import sys
import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, create_engine, text

from htmengine.repository import migrations
from tests.support import processes
from tests.support.engine import PATIENCE_S, wait_for

MODULES = {
    "listener": "htmengine.runtime.metric_listener",
    "storer": "htmengine.runtime.metric_storer",
    "scheduler": "htmengine.model_swapper.model_scheduler_service",
    "anomaly": "htmengine.runtime.anomaly_service",
    "web": "htmengine.web",
    "alerts": "htmengine.alerts",
}

#: A metric gets its model after 20 samples instead of a day's.
QUICK = {"HTMENGINE__APPLICATION__METRIC_STORER__PENDING_SAMPLES": "20"}

_PORT = re.compile(r"Graphite lines on 127\.0\.0\.1:(\d+)")
_URL = re.compile(r"dashboard and API: (\S+)/\n")


class DistributedEngine:
    """``python -m`` for each service, all on one configuration.  ``close`` kills what still runs.

    Its queues have names of their own, so that many engines may share one RabbitMQ.
    """

    def __init__(
        self,
        folder: Path,
        *,
        rabbitmq_port: int,
        database_url: str,
        options: Mapping[str, str] | None = None,
        start: processes.Start = processes.start_quickly,
    ) -> None:
        self.folder = folder
        self.config_dir = folder / "conf"
        self.names = uuid.uuid4().hex[:8]
        self.processes: dict[str, processes.Process] = {}
        self._start = start
        self._options = dict(options or {})
        self._database = create_engine(database_url, pool_pre_ping=True)  # tests restart servers
        self._write_configuration(rabbitmq_port, database_url)
        migrations.upgrade(database_url)

    def _write_configuration(self, rabbitmq_port: int, database_url: str) -> None:
        files = {
            "application": f"""
                [repository]
                url = {database_url}
                [metric_listener]
                queue_name = {self.names}.samples
                port = 0
                [metric_storer]
                auto_monitor = yes
                [metric_streamer]
                results_exchange_name = {self.names}.results
                [web]
                port = 0
                """,
            "model-swapper": f"""
                [interface_bus]
                model_input_queue_prefix = {self.names}.input.
                results_queue = {self.names}.raw
                scheduler_notification_queue = {self.names}.schedulers
                shards = 4
                [model_scheduler]
                workers = 1
                """,
            "model-checkpoint": f"[storage]\nroot = {self.folder / 'checkpoints'}\n",
            "rabbitmq": f"[connection]\nhost = 127.0.0.1\nport = {rabbitmq_port}\n",
        }
        self.config_dir.mkdir(parents=True)
        for name, content in files.items():
            lines = [line.strip() for line in content.splitlines()]
            (self.config_dir / f"{name}.conf").write_text("\n".join(lines) + "\n")

    # --- processes -------------------------------------------------------------------------------------

    def environment(self) -> dict[str, str]:
        return {**os.environ, "APPLICATION_CONFIG_PATH": str(self.config_dir), "PYTHONUNBUFFERED": "1", **self._options}

    def start(self, service: str, name: str = "", **environment: str) -> processes.Process:
        """Start a service; ``name`` tells two of the same kind apart."""
        name = name or service
        command = [sys.executable, "-m", MODULES[service]]
        self.processes[name] = self._start(command, self._log_path(name), {**self.environment(), **environment})
        return self.processes[name]

    def start_all(self, *services: str) -> None:
        for service in services or ("listener", "storer", "scheduler", "anomaly"):
            self.start(service)

    def kill(self, name: str) -> None:
        """kill -9 of a service alone."""
        process = self.processes.pop(name)
        process.kill()
        process.wait(PATIENCE_S)

    def stop(self, name: str) -> int:
        """SIGTERM; the exit status."""
        process = self.processes.pop(name)
        process.send_signal(signal.SIGTERM)
        return process.wait(PATIENCE_S)

    def close(self) -> None:
        for name in list(self.processes):
            self.kill(name)
        self._database.dispose()

    def log(self, name: str) -> str:
        """What a service has written so far."""
        path = self._log_path(name)
        return path.read_text(errors="replace") if path.exists() else ""

    def logs(self) -> str:
        return "\n".join(f"--- {path.name}\n{path.read_text()[-3000:]}" for path in sorted(self.folder.glob("*.log")))

    def _log_path(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    # --- clients ---------------------------------------------------------------------------------------

    @property
    def port(self) -> int:
        """The listener's; waits until it listens."""
        return int(wait_for(lambda: _PORT.findall(self.log("listener"))[-1:], "the listener")[0])

    @property
    def url(self) -> str:
        """The web service's, without a slash at the end; waits until it listens."""
        return str(wait_for(lambda: _URL.findall(self.log("web"))[-1:], "the web service")[0])

    def send(self, lines: Iterable[str]) -> None:
        """Over TCP, as nc would."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S) as connection:
            connection.sendall("".join(f"{line}\n" for line in lines).encode())
            connection.shutdown(socket.SHUT_WR)
            connection.recv(1)  # the listener has read it all when it closes

    def command(self, *words: str) -> str:
        """What ``htmengine`` prints."""
        done = processes.run_htmengine(*words, environment=self.environment())
        done.check_returncode()
        return done.stdout

    def query(self, sql: str, **values: Any) -> list[tuple[Any, ...]]:
        """Read the engine's database, as another program would."""
        with self._database.connect() as connection:
            return [tuple(row) for row in connection.execute(text(sql), values)]

    def changing(self) -> contextlib.AbstractContextManager[Connection]:
        """A transaction that may change the database."""
        return self._database.begin()

    def scored(self) -> int:
        """Rows with an anomaly score."""
        return int(self.query("SELECT COUNT(*) FROM metric_data WHERE anomaly_score IS NOT NULL")[0][0])

    def wait_until_scored(self, rows: int, patience_s: float = PATIENCE_S) -> None:
        wait_for(lambda: self.scored() >= rows, f"{rows} scores", patience_s)

    def scores(self) -> list[tuple[Any, ...]]:
        """(name, rowid, value, raw score, score) of all rows."""
        return self.query(
            "SELECT metric.name, metric_data.rowid, metric_value, raw_anomaly_score, anomaly_score"
            " FROM metric_data JOIN metric ON metric.uid = metric_data.uid ORDER BY metric.name, metric_data.rowid"
        )


@contextlib.contextmanager
def distributed_engine(folder: Path, **options: Any) -> Iterator[DistributedEngine]:
    """An engine whose processes are gone at the end; their logs are shown if the test fails."""
    folder.mkdir(parents=True, exist_ok=True)
    engine = DistributedEngine(folder, **options)
    try:
        yield engine
    except BaseException:
        print(engine.logs())
        raise
    finally:
        engine.close()
