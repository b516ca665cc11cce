# SPDX-License-Identifier: MIT
"""Everything at once: engines are fed, flooded, poisoned, hung, cut off and killed, and twenty metrics must not notice.

A seed decides what happens to one engine and when.  Twenty undisturbed metrics are sent between the disturbances, again
if their listener died; at the end their rows and scores are those of an undisturbed run to the last bit.

``make chaos CHAOS_SECONDS=600`` runs seed after seed for so long, with a summary at the end; ``ARGS=--distributed`` a
process a service, on RabbitMQ and MariaDB behind networks that swallow everything now and then.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pika

from htmengine.bus.interface import QueueLimits
from htmengine.bus.queue_file import QueueFile
from htmengine.errors import QueueFull
from tests.fuzz.messages import TOKENS, mutate
from tests.support.black_hole import BlackHole
from tests.support.crash_targets import DistributedTarget, EmbeddedTarget, Target
from tests.support.crashes import PENDING_SAMPLES, SETTINGS, Rows, scored
from tests.support.engine import wait_for
from tests.support.seeds import Report, command, finish
from tests.support.servers import MariaDB, RabbitMQ

METRICS = [f"undisturbed.{number}" for number in range(20)]
ROWS = PENDING_SAMPLES + 30
#: Rows of all metrics that are sent between two disturbances.
ROWS_AT_ONCE = 5
#: An engine that has stored and scored nothing for so long will not.
PATIENCE_S = 180.0
FLOOD_LINES = 20_000
HUNG_S = (0.5, 4.0)
HOSTILE_VALUES = (
    "1.7976931348623157e308",
    "5e-324",
    "-1e308",
    "9223372036854771712",
    "0",
    "-0.0",
    "nan",
    "inf",
    "1e999",
)
HOSTILE_LINES = (
    b"\xff\xfe 1 1400000000",
    b"x" * 5000,
    b"a b c",
    b"a 1",
    b"; 1 1400000000",
    b"a;b= 1 1400000000",
    b"\0 1 1",
)

#: What messages of the queues look like.
NEARLY: tuple[object, ...] = ({"v": 1, "lines": ["p 1 1400000000"]}, [], {"modelID": "x", "generation": 1}, 7, None)


def lines(first: int, last: int) -> list[str]:
    """Rows of the undisturbed metrics."""
    rows = {name: samples(name) for name in METRICS}
    return [f"{name} {rows[name][row][1]!r} {rows[name][row][0]}" for row in range(first, last) for name in METRICS]


def samples(name: str) -> list[tuple[int, float]]:
    """A metric's rows, its own."""
    chance = random.Random(name)
    return [(1_400_000_000 + 300 * row, round(chance.uniform(0, 100), 3)) for row in range(ROWS)]


class Engine:
    """One that is disturbed.  Subclasses know its queues."""

    def __init__(self, target: Target) -> None:
        self.target = target

    def poison(self, bodies: Sequence[bytes]) -> None:
        """Put messages into every queue."""
        raise NotImplementedError

    def abandon_queue(self) -> None:
        """An application binds a small queue and goes away."""
        raise NotImplementedError

    def swallowing(self, chance: random.Random) -> contextlib.AbstractContextManager[None]:
        """The network to a server swallows everything."""
        raise NotImplementedError

    def running(self) -> list[int]:
        """Process ids, with the workers'."""
        return [each.pid for each in self.target.processes() if each.poll() is None] + self.target.worker_pids()


class EmbeddedEngine(Engine):
    """One process on a folder."""

    def __init__(self, folder: Path) -> None:
        self._bus = folder / "data" / "bus.db"
        super().__init__(EmbeddedTarget(SETTINGS, folder, workers=2))

    def poison(self, bodies: Sequence[bytes]) -> None:
        with contextlib.closing(QueueFile(self._bus)) as file, file.transaction():
            for state in file.states(time.time(), 1.0):
                with contextlib.suppress(QueueFull):
                    if state.name not in {"audit", "absent"}:
                        file.put(state.name, bodies, {}, time.time())

    def abandon_queue(self) -> None:
        with contextlib.closing(QueueFile(self._bus)) as file, file.transaction():
            file.declare_queue("absent", QueueLimits(max_messages=3), time.time())
            file.bind("absent", EmbeddedTarget.EXCHANGE)

    @contextlib.contextmanager
    def swallowing(self, chance: random.Random) -> Iterator[None]:
        """It has no network: another program holds the lock of its database."""
        import sqlite3

        with contextlib.closing(sqlite3.connect(self._bus.with_name("htmengine.db"), timeout=30)) as other:
            other.execute("BEGIN IMMEDIATE")
            yield
            other.rollback()


class DistributedEngine(Engine):
    """A process a service."""

    def __init__(self, folder: Path, rabbitmq: RabbitMQ, mariadb: MariaDB, holes: Sequence[BlackHole]) -> None:
        self._holes = holes
        self._port = rabbitmq.port
        broker, database = holes
        url = mariadb.new_database().replace(f":{mariadb.port}/", f":{database.port}/")
        target = DistributedTarget(SETTINGS, folder, rabbitmq_port=broker.port, database_url=url)
        self._names = target.names
        super().__init__(target)

    def poison(self, bodies: Sequence[bytes]) -> None:
        queues = [f"{self._names}.{name}" for name in ("samples", "raw", *(f"input.{shard}" for shard in range(4)))]
        with self._channel() as channel:
            for queue in queues:
                for body in bodies:
                    channel.basic_publish("", queue, body)

    def abandon_queue(self) -> None:
        with self._channel() as channel:
            name = f"{self._names}.absent"
            channel.queue_declare(name, durable=True, arguments={"x-max-length": 3, "x-overflow": "reject-publish"})
            channel.queue_bind(name, f"{self._names}.results")

    def swallowing(self, chance: random.Random) -> contextlib.AbstractContextManager[None]:
        return chance.choice(self._holes).swallowing()

    @contextlib.contextmanager
    def _channel(self) -> Iterator[pika.adapters.blocking_connection.BlockingChannel]:
        with contextlib.closing(pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", self._port))) as opened:
            yield opened.channel()


@dataclass(slots=True)
class Chaos:
    """One seed on one engine."""

    seed: int
    engine: Engine
    report: Report = field(init=False)
    _chance: random.Random = field(init=False)
    _sent: int = 0  #: rows that have arrived, as far as we know

    def __post_init__(self) -> None:
        self.report = Report(self.seed)
        self._chance = random.Random(self.seed)

    def run(self) -> None:
        """To the end, whatever happens on the way."""
        try:
            self._start()
            while self._sent < ROWS:
                self._disturb()
                self._send()
            self._wait()
        finally:
            self.engine.target.close()

    # --- the undisturbed

    def _start(self) -> None:
        self.engine.target.start(None)

    def _send(self) -> None:
        last = min(self._sent + ROWS_AT_ONCE, ROWS)
        try:
            self.engine.target.send(lines(self._sent, last))
            self._sent = last
        except OSError:
            self._sent = 0
        if self._revived():
            self._sent = 0

    def _revived(self) -> bool:
        """Start what has died; True if what was sent may be lost."""
        target, lost = self.engine.target, self.engine.target.listener_dead()
        if target.dead():
            target.wait_for_death()
            self._start()
        return lost

    def _wait(self) -> None:
        expected = {name: scored(samples(name)) for name in METRICS}
        counted, at = self.engine.target.ledger(), time.monotonic()
        while (found := self._rows()) != expected:
            if self._revived():
                self.engine.target.send(lines(0, ROWS))
            before, counted = counted, self.engine.target.ledger()
            if counted != before:
                at = time.monotonic()
            elif time.monotonic() > at + PATIENCE_S:
                raise AssertionError(_difference(found, expected))
            time.sleep(0.2)
        wait_for(lambda: self.engine.target.ledger().adds_up, "a ledger that adds up")

    def _rows(self) -> dict[str, Rows]:
        target = self.engine.target
        found = {metric.name: metric for metric in target.metrics() if metric.name in METRICS}
        return {
            name: [(row.timestamp, row.value, row.raw, row.anomaly) for row in target.rows(metric)]
            for name, metric in sorted(found.items())
        }

    # --- disturbances

    def _disturb(self) -> None:
        what: Callable[[], None] = self._chance.choice(
            (self.hostile, self.poison, self.flood, self.absent, self.hang, self.swallow, self.kill, self.kill_workers)
        )
        self.report.happened[what.__name__] += 1
        with contextlib.suppress(OSError, pika.exceptions.AMQPError):  # what is disturbed may be dead already
            what()

    def hostile(self) -> None:
        """Metrics of any value, and lines that are none."""
        name = f"hostile.{self._chance.randrange(5)}"
        values = [self._chance.choice(HOSTILE_VALUES) for _ in range(2 * PENDING_SAMPLES)]
        first = 1_400_000_000 + 100_000 * self._chance.randrange(100)
        self.engine.target.send([f"{name} {value} {first + 60 * row}" for row, value in enumerate(values)])
        self._send_bytes(b"\n".join(self._chance.sample(HOSTILE_LINES, 4)) + b"\n")

    def poison(self) -> None:
        """Messages in every queue that are nearly right."""
        seeds = [json.dumps(each).encode() for each in NEARLY]
        mutated = [mutate(self._chance, self._chance.choice(seeds)) for _ in range(10)]
        self.engine.poison([*mutated, *TOKENS, self._chance.randbytes(50)])

    def flood(self) -> None:
        """Many rows of other metrics from one client."""
        first = 1_400_000_000 + 100_000 * self._chance.randrange(100)
        rows = [f"flood.{row % 10} {row % 23} {first + row}" for row in range(FLOOD_LINES)]
        threading.Thread(target=self._send_bytes, args=("\n".join(rows).encode() + b"\n",), daemon=True).start()

    def absent(self) -> None:
        """An application that has gone."""
        self.engine.abandon_queue()

    def hang(self) -> None:
        """A process that stops for a while."""
        pid = self._chance.choice(self.engine.running())
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
            time.sleep(self._chance.uniform(*HUNG_S))
            os.kill(pid, signal.SIGCONT)

    def swallow(self) -> None:
        """A server that nothing reaches for a while."""
        with self.engine.swallowing(self._chance):
            time.sleep(self._chance.uniform(*HUNG_S))

    def kill(self) -> None:
        """kill -9 of a process."""
        self.engine.target.kill("engine", self._chance.random())
        self._sent *= not self._revived()

    def kill_workers(self) -> None:
        """kill -9 of the workers."""
        self.engine.target.kill("workers", 0.0)

    def _send_bytes(self, data: bytes) -> None:
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", self.engine.target.port), 60) as client,
        ):
            client.sendall(data)


# --- many seeds -----------------------------------------------------------------------------------------


def _difference(found: dict[str, Rows], expected: dict[str, Rows]) -> str:
    wrong = [name for name in METRICS if found.get(name) != expected[name]]
    scores = {name: sum(row[3] is not None for row in found.get(name, [])) for name in wrong}
    return f"{len(wrong)} of {len(METRICS)} are not as expected; scored of {ROWS} rows: {scores}"


def main() -> None:
    """``make chaos``: status 1 if any seed has a problem; its folder is kept."""
    parser = argparse.ArgumentParser(description="Disturb engines in every way, and compare what must not notice.")
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--distributed", action="store_true", help="a process a service, RabbitMQ and MariaDB")
    options = parser.parse_args()
    with (
        command("chaos", lambda done: f"{done.count * len(METRICS) * ROWS} undisturbed rows") as runs,
        contextlib.ExitStack() as stack,
    ):
        make: Callable[[Path], Engine] = EmbeddedEngine
        if options.distributed:
            rabbitmq, mariadb = stack.enter_context(RabbitMQ()), stack.enter_context(MariaDB())
            holes = [stack.enter_context(BlackHole(server.port)) for server in (rabbitmq, mariadb)]

            def make(folder: Path) -> Engine:
                return DistributedEngine(folder, rabbitmq, mariadb, holes)

        runs.run_for(options.seconds, options.first, lambda seed, folder: finish(Chaos(seed, make(folder))))


if __name__ == "__main__":
    main()
