# SPDX-License-Identifier: MIT
"""The two deployments as `tests.support.crashes` kills them: what runs, who dies, and what is left.

The embedded engine is one process and its workers.  The distributed one is a process a service on RabbitMQ and a
database server; each dies alone, and the others go on.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import pika

from htmengine.bus.interface import QueueLimits
from htmengine.bus.queue_file import QueueFile
from htmengine.ledger import Ledger, read_ledger
from htmengine.process import crash_points
from htmengine.repository import queries
from htmengine.repository.engine import Database
from htmengine.repository.queries import Metric, Row
from tests.support.distributed import DistributedEngine
from tests.support.engine import PATIENCE_S, Engine, wait_for
from tests.support.processes import Process, start_forked

AUDIT_QUEUE = "audit"
_LISTENING = "listening for Graphite lines"
#: The prefixes of crash points that are reached in another service's process than that of their name.
_PROCESS_OF = {"worker": "scheduler", "checkpoint": "scheduler"}


class Target:
    """An engine that is killed.  Subclasses say how it is started and what its processes are."""

    database_url: str

    def __init__(self, settings: Mapping[str, str], once: Path) -> None:
        self.settings = dict(settings)
        self.once = once  #: made by the process that dies at a crash point

    # --- processes

    def start(self, order: str | None) -> None:
        """Start what does not run, with an order to die.  Raises AssertionError if it dies before it listens."""
        raise NotImplementedError

    def send(self, lines: Sequence[str]) -> None:
        """Raises OSError when the listener is gone."""
        raise NotImplementedError

    @property
    def port(self) -> int:
        """The listener's."""
        raise NotImplementedError

    def processes(self) -> list[Process]:
        """Those that should run."""
        raise NotImplementedError

    def worker_pids(self) -> list[int]:
        raise NotImplementedError

    def dead(self) -> bool:
        return any(process.poll() is not None for process in self.processes())

    def listener_dead(self) -> bool:
        """Whether the process that the client has sent to is gone."""
        raise NotImplementedError

    def wait_for_death(self) -> None:
        """Returns when a process that was told to die has.  Raises AssertionError if one ended by itself."""
        deadline = time.monotonic() + PATIENCE_S
        while not self.dead():
            if time.monotonic() > deadline:
                raise AssertionError("the listener is gone, but no process has ended")
            time.sleep(0.01)
        for process in self.processes():
            if process.poll() not in (None, -signal.SIGKILL, -signal.SIGTERM, 0):
                raise AssertionError(f"a process ended with status {process.returncode}")

    def kill(self, what: str, pick: float) -> bool:
        """Kill the workers, or a process, or tell one to stop; False if it was gone already."""
        running = [process for process in self.processes() if process.poll() is None]
        if not running:
            return False
        chosen = running[int(pick * len(running))]
        with contextlib.suppress(OSError):
            if what == "workers":
                pids = self.worker_pids()
                for pid in pids:
                    os.kill(pid, signal.SIGKILL)
                return bool(pids)
            chosen.send_signal(signal.SIGTERM if what == "stop" else signal.SIGKILL)
            return True
        return False

    def close(self) -> None:
        """End all processes."""
        for process in self.processes():
            process.kill()
            process.wait(PATIENCE_S)
        self.__dict__.pop("database", self.database).close()

    # --- what is left

    @cached_property
    def database(self) -> Database:
        return Database(self.database_url)

    def ledger(self) -> Ledger:
        return self.database.run_sync(read_ledger, None)

    def metrics(self) -> list[Metric]:
        return self.database.run_sync(queries.list_metrics)

    def rows(self, metric: Metric) -> list[Row]:
        return self.database.run_sync(queries.get_rows, metric.uid, 0, 1_000_000)

    def told(self) -> bool:
        """Whether all that is stored was broadcast."""
        raise NotImplementedError

    def broadcasts(self) -> Iterator[bytes]:
        """All bodies that the results exchange has given out."""
        raise NotImplementedError


class EmbeddedTarget(Target):
    """One process, SQLite, a bus on disk."""

    RESULTS_QUEUE = "htmengine.mswapper.results"
    EXCHANGE = "htmengine.model.results"

    def __init__(self, settings: Mapping[str, str], folder: Path, workers: int) -> None:
        super().__init__(settings, folder / "crashed")
        self._data = folder / "data"
        self._engine = Engine(self._data, "--workers", str(workers), start=start_forked)
        self.database_url = f"sqlite:///{self._data / 'htmengine.db'}"
        self._data.mkdir(mode=0o700)
        with self._bus() as file, file.transaction():
            file.declare_queue(AUDIT_QUEUE, QueueLimits(max_messages=1_000_000), time.time())
            file.declare_fanout(self.EXCHANGE)
            file.bind(AUDIT_QUEUE, self.EXCHANGE)

    def start(self, order: str | None) -> None:
        self._engine.environment = self.settings | _order(order, self.once)
        self._engine.start()

    @property
    def port(self) -> int:
        return self._engine.port

    def send(self, lines: Sequence[str]) -> None:
        self._engine.send(lines)

    def processes(self) -> list[Process]:
        return [self._engine.process] if self._engine.process is not None else []

    def worker_pids(self) -> list[int]:
        return self._engine.worker_pids()

    def listener_dead(self) -> bool:
        return self.dead()

    def told(self) -> bool:
        with self._bus() as file:
            return file.queue(self.RESULTS_QUEUE).messages == 0

    def broadcasts(self) -> Iterator[bytes]:
        with self._bus() as file:
            at, complete = 0, False
            while not complete:
                part = file.read(AUDIT_QUEUE, at, 1000, 1 << 24)
                yield from (body for _, _, body in part.messages)
                at, complete = part.end, part.complete

    def _bus(self) -> contextlib.closing[QueueFile]:
        return contextlib.closing(QueueFile(self._data / "bus.db"))


class DistributedTarget(Target):
    """A process a service."""

    SERVICES = ("listener", "storer", "scheduler", "anomaly")

    def __init__(self, settings: Mapping[str, str], folder: Path, *, rabbitmq_port: int, database_url: str) -> None:
        super().__init__(settings, folder / "crashed")
        self.database_url = database_url
        self._engine = DistributedEngine(
            folder / "engine",
            rabbitmq_port=rabbitmq_port,
            database_url=database_url,
            options=settings,
            start=start_forked,
        )
        self._port = rabbitmq_port
        exchange = f"{self._engine.names}.results"
        self._audit_queue = f"{self._engine.names}.audit"
        with self._channel() as channel:
            channel.exchange_declare(exchange, "fanout", durable=True)
            channel.queue_declare(self._audit_queue, durable=True)
            channel.queue_bind(self._audit_queue, exchange)

    def start(self, order: str | None) -> None:
        """The service that is to die is started again; the others go on."""
        condemned = _PROCESS_OF.get(order.split(".")[0], order.split(".")[0]) if order else ""
        for service in self.SERVICES:
            process = self._engine.processes.get(service)
            if process is not None and process.poll() is None:
                if service != condemned:
                    continue
                self._engine.stop(service)
            listened = self._engine.log("listener").count(_LISTENING)
            self._engine.start(service, **_order(order if service == condemned else None, self.once))
            if service == "listener":
                self._wait_for_port(listened)

    def _wait_for_port(self, listened: int) -> None:
        """A listener that was started again says again where it listens."""
        wait_for(
            lambda: self.listener_dead() or self._engine.log("listener").count(_LISTENING) > listened,
            "the listener to listen",
        )

    @property
    def port(self) -> int:
        return self._engine.port

    @property
    def config_dir(self) -> Path:
        return self._engine.config_dir

    @property
    def names(self) -> str:
        """What its queues' names begin with."""
        return self._engine.names

    def send(self, lines: Sequence[str]) -> None:
        if self.listener_dead():  # perhaps before it had a port
            raise ConnectionRefusedError("the listener is gone")
        self._engine.send(lines)

    def processes(self) -> list[Process]:
        return list(self._engine.processes.values())

    def listener_dead(self) -> bool:
        return self._engine.processes["listener"].poll() is not None

    def worker_pids(self) -> list[int]:
        scheduler = self._engine.processes.get("scheduler")
        if scheduler is None:  # it has died and is not started again yet
            return []
        pid = scheduler.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def close(self) -> None:
        super().close()
        self._engine.close()

    def told(self) -> bool:
        """A stop of the Anomaly Service ends what it has begun, unless it is told to die on the way."""
        if self._engine.stop("anomaly") == 0:
            return True
        self._engine.start("anomaly")
        # One that is told to stop while it starts dies of it, and would do so for ever.
        wait_for(lambda: self.dead() or self._results_are_read(), "the Anomaly Service to start")
        return False

    def _results_are_read(self) -> bool:
        with self._channel() as channel:
            return bool(channel.queue_declare(f"{self._engine.names}.raw", passive=True).method.consumer_count)

    def broadcasts(self) -> Iterator[bytes]:
        with self._channel() as channel:
            while True:
                method, _, body = channel.basic_get(self._audit_queue, auto_ack=True)
                if method is None:
                    return
                yield body

    @contextlib.contextmanager
    def _channel(self) -> Iterator[pika.adapters.blocking_connection.BlockingChannel]:
        connection = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", self._port))
        try:
            yield connection.channel()
        finally:
            connection.close()


def _order(order: str | None, once: Path) -> dict[str, str]:
    if order is None:
        return {}
    return {crash_points.VARIABLE: order, crash_points.ONCE_VARIABLE: str(once)}
