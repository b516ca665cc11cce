# SPDX-License-Identifier: MIT
"""CPU time a sample of each wire, beside the receiver that its protocol comes from, all in one run.

The same bytes go over the same kind of socket to an engine and to the peer: carbon's cache (lines, pickles, protobuf),
statsd's server of npm, Prometheus.  The engine is measured until its samples are rows in SQLite, synced to the disk; a
peer until it has nothing to do any more, which is a file a metric at carbon's, memory and a log at Prometheus's,
and memory alone at statsd's.  For InfluxDB's lines and OTLP there is no peer: a bare loop over what the reference
library has parsed stands for one, and one over lines that are split for POST /api/v1/samples.  A peer that is not
installed is left out.  AMQP is measured at the Metric Listener and Storer of a distributed engine on MariaDB, without
what the servers use.

    python -m benchmarks.receivers --samples 50000 --page docs/benchmarks-scale.md
    python -m benchmarks.receivers lines amqp
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pickle
import socket
import struct
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

import httpx
import line_protocol_parser
import pika
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from benchmarks.page import table, write
from htmengine.wires.compression import snap
from htmengine.wires.remote_write import Labels, write_version_1
from tests.support.distributed import distributed_engine
from tests.support.engine import Engine, running_engine, wait_for
from tests.support.protobuf import double, message, varint_field
from tests.support.senders import CarbonCache, NodeStatsd
from tests.support.servers import MariaDB, Prometheus, RabbitMQ, Server, free_port

SERIES = 500
#: A busy machine's MariaDB is slow.
PATIENCE_S = 1800.0
#: Nothing has happened for so long: it is done.
QUIET_S = 1.0
STATSD_FLUSH_S = 3600
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
REMOTE_WRITE = {"Content-Encoding": "snappy", "Content-Type": "application/x-protobuf"}
TEXT = {"Content-Type": "text/plain"}
PROTOBUF = {"Content-Type": "application/x-protobuf"}

HEADS = ("wire", "HTM Engine", "peer", "ratio", "the peer")
LINE = "{:14}{:>12}{:>10}  {:>6}  {}"

#: Takes bodies, as a client sends them.
Send = Callable[[Sequence[bytes]], None]
#: Runs a peer on bodies: its name, and the CPU seconds that they cost it.
Peer = Callable[[Sequence[bytes]], AbstractContextManager[tuple[str, float]]]


class Measured(NamedTuple):
    """CPU microseconds a sample; None: there is no peer here."""

    ours: float
    peers: float | None
    peer: str


# --- what is sent: (second, body), each body with a sample of each series -------------------------------------


def seconds(samples: int) -> range:
    """The times of the bodies."""
    newest = int(time.time())
    return range(newest - samples // SERIES, newest)


def lines(second: int) -> bytes:
    return "".join(f"{name(number, 'line')} {number}.5 {second}\n" for number in range(SERIES)).encode()


def web_lines(second: int) -> bytes:
    return "".join(f"{name(number, 'web')} {number}.5 {second}\n" for number in range(SERIES)).encode()


def pickles(second: int) -> bytes:
    return framed(pickle.dumps([(name(number, "pickle"), (second, number + 0.5)) for number in range(SERIES)], 2))


def protobuf(second: int) -> bytes:
    point = message(2, varint_field(1, second), double(2, 0.5))
    return framed(b"".join(message(1, message(1, name(n, "protobuf").encode()), point) for n in range(SERIES)))


def statsd(_second: int) -> bytes:
    return "".join(f"{name(number, 'statsd')}:{number}|c\n" for number in range(SERIES)).encode()


def remote_write(second: int) -> bytes:
    labels: list[Labels] = [(("__name__", "load"), ("instance", name(number, "prom"))) for number in range(SERIES)]
    return snap(write_version_1({each: [(float(second), 0.5)] for each in labels}))


def influx(second: int) -> bytes:
    return "\n".join(f"http,host=web{number} a=1.5 {second}" for number in range(SERIES)).encode()


def opentelemetry(second: int) -> bytes:
    request = ExportMetricsServiceRequest()
    data = request.resource_metrics.add().scope_metrics.add().metrics.add(name="otlp.requests").gauge
    for number in range(SERIES):
        point = data.data_points.add(time_unix_nano=second * 10**9, as_double=number)
        point.attributes.add(key="host").value.string_value = f"web{number}"
    return request.SerializeToString()


def name(number: int, wire: str) -> str:
    return f"{wire}.servers.web{number}.http.requests"


def framed(body: bytes) -> bytes:
    return struct.pack("!L", len(body)) + body


# --- how it is sent, and what it costs ------------------------------------------------------------------------


def over_tcp(port: int) -> Send:
    def send(bodies: Sequence[bytes]) -> None:
        with wait_for(lambda: connected(port), "the port") as connection:
            for body in bodies:
                connection.sendall(body)

    return send


def connected(port: int) -> socket.socket | None:
    """A peer opens its ports one after the other."""
    try:
        return socket.create_connection(("127.0.0.1", port), timeout=60)
    except ConnectionRefusedError:
        return None


def over_amqp(port: int, exchange: str) -> Send:
    def send(bodies: Sequence[bytes]) -> None:
        with pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", port)) as connection:
            channel = connection.channel()
            for body in bodies:
                channel.basic_publish(exchange, "", body)

    return send


def over_http(url: str, headers: dict[str, str]) -> Send:
    def send(bodies: Sequence[bytes]) -> None:
        with httpx.Client(timeout=60) as client:
            for body in bodies:
                client.post(url, content=body, headers=headers).raise_for_status()

    return send


def cpu_s(pid: int) -> float:
    """What a process has used, its threads included."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_A_SECOND


def cost_s(pids: Sequence[int], work: Callable[[], object]) -> float:
    """What they use for this work, until they are quiet."""
    before = sum(map(cpu_s, pids))
    work()
    while True:
        last = sum(map(cpu_s, pids))
        time.sleep(QUIET_S)
        if sum(map(cpu_s, pids)) - last <= 2 / TICKS_A_SECOND:
            return sum(map(cpu_s, pids)) - before


def bare(read: Callable[[bytes], int], bodies: Sequence[bytes]) -> float:
    """The same of a loop in this process."""
    began = time.process_time()
    assert sum(map(read, bodies)) == SERIES * len(bodies)
    return time.process_time() - began


def bare_influx(body: bytes) -> int:
    points = map(line_protocol_parser.parse_line, body.decode().split("\n"))
    return sum(isinstance(value, float) for point in points for value in point["fields"].values())


def bare_lines(body: bytes) -> int:
    return sum(len(line.split()) == 3 for line in body.decode().splitlines())


def bare_otlp(body: bytes) -> int:
    request = ExportMetricsServiceRequest.FromString(body)
    return sum(
        bool({each.key: each.value.string_value for each in point.attributes})
        for resource in request.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        for point in metric.gauge.data_points
    )


# --- the run --------------------------------------------------------------------------------------------------


class Run:
    """One engine, and a peer after the other."""

    def __init__(self, engine: Engine, ports: dict[str, int], samples: int) -> None:
        self._engine = engine
        self._ports = ports
        self._seconds = seconds(samples)
        self._samples = len(self._seconds) * SERIES
        self._stored = 0

    def measure(self, wire: str) -> Measured:
        """The same bodies to the engine, then to the peer."""
        make, send, peer = self.wires()[wire]
        bodies = [make(second) for second in self._seconds]
        assert self._engine.process is not None
        return beside(cost_s([self._engine.process.pid], lambda: self._store(wire, send, bodies)), peer, bodies)

    def _store(self, wire: str, send: Send, bodies: Sequence[bytes]) -> None:
        send(bodies)
        if wire != "statsd":  # it has what comes in memory until the flush
            self._stored += self._samples
            wait_for(lambda: self._engine.query("SELECT count(*) FROM metric_data") == [(self._stored,)], "all rows")

    def wires(self) -> dict[str, tuple[Callable[[int], bytes], Send, Peer]]:
        """By name: what is sent, how, and to which peer, too."""
        url, ports = self._engine.url, self._ports
        return {
            "lines": (lines, over_tcp(self._engine.port), _carbon("line")),
            "pickle": (pickles, over_tcp(ports["pickle"]), _carbon("pickle")),
            "protobuf": (protobuf, over_tcp(ports["protobuf"]), _carbon("protobuf")),
            "statsd": (statsd, over_tcp(ports["statsd"]), _statsd),
            "remote_write": (remote_write, over_http(f"{url}/api/v1/write", REMOTE_WRITE), _prometheus),
            "samples": (web_lines, over_http(f"{url}/api/v1/samples", TEXT), _bare("str.split", bare_lines)),
            "influx": (influx, over_http(f"{url}/write?precision=s", {}), _bare("line-protocol-parser", bare_influx)),
            "otlp": (opentelemetry, over_http(f"{url}/v1/metrics", PROTOBUF), _bare("opentelemetry-proto", bare_otlp)),
        }


def beside(ours_s: float, peer: Peer, bodies: Sequence[bytes]) -> Measured:
    """What the bodies have cost the engine, and what they cost a peer."""
    samples = SERIES * len(bodies)
    try:
        with peer(bodies) as (named, seconds):
            return Measured(1e6 * ours_s / samples, 1e6 * seconds / samples, named)
    except BaseException as error:  # pytest's skip is none of Exception
        if type(error).__name__ != "Skipped":
            raise
        return Measured(1e6 * ours_s / samples, None, str(error))


def measure_amqp(bodies: Sequence[bytes]) -> Measured:
    """Lines that are published to RabbitMQ."""
    with (
        RabbitMQ() as rabbitmq,
        MariaDB() as mariadb,
        tempfile.TemporaryDirectory() as folder,
        distributed_engine(
            Path(folder, "engine"), rabbitmq_port=rabbitmq.port, database_url=mariadb.new_database()
        ) as engine,
    ):
        exchange = f"{engine.names}.graphite"
        pids = [
            engine.start(service, HTMENGINE__APPLICATION__METRIC_LISTENER__AMQP_EXCHANGE=exchange).pid
            for service in ("listener", "storer")
        ]
        wait_for(lambda: "reading lines from the exchange" in engine.log("listener"), "the exchange")

        def store() -> None:
            over_amqp(rabbitmq.port, exchange)(bodies)
            rows = [(SERIES * len(bodies),)]
            wait_for(lambda: engine.query("SELECT count(*) FROM metric_data") == rows, "all rows", PATIENCE_S)

        return beside(cost_s(pids, store), _carbon_over(rabbitmq), bodies)


def _pid(server: Server) -> int:
    return server._processes[-1].pid


def _carbon_over(rabbitmq: RabbitMQ) -> Peer:
    @contextlib.contextmanager
    def measured(bodies: Sequence[bytes]) -> Iterator[tuple[str, float]]:
        with CarbonCache(rabbitmq.port) as carbon:
            wait_for(lambda: "binding exchange" in (carbon.folder / "output.log").read_text(), "the exchange")
            time.sleep(QUIET_S)
            yield "carbon-cache", cost_s([_pid(carbon)], lambda: over_amqp(rabbitmq.port, "graphite")(bodies))

    return measured


def _carbon(kind: str) -> Peer:
    @contextlib.contextmanager
    def measured(bodies: Sequence[bytes]) -> Iterator[tuple[str, float]]:
        with CarbonCache() as carbon:
            yield "carbon-cache", cost_s([_pid(carbon)], lambda: over_tcp(carbon.ports[kind])(bodies))

    return measured


@contextlib.contextmanager
def _statsd(bodies: Sequence[bytes]) -> Iterator[tuple[str, float]]:
    with NodeStatsd(free_port(), transport="tcp", flush_s=STATSD_FLUSH_S) as server:
        yield "statsd (npm)", cost_s([_pid(server)], lambda: over_tcp(server.port)(bodies))


@contextlib.contextmanager
def _prometheus(bodies: Sequence[bytes]) -> Iterator[tuple[str, float]]:
    with Prometheus() as server:
        yield "Prometheus", cost_s([_pid(server)], lambda: over_http(server.write_url, REMOTE_WRITE)(bodies))


def _bare(library: str, read: Callable[[bytes], int]) -> Peer:
    return lambda bodies: contextlib.nullcontext((library, bare(read, bodies)))


def costs_of(wires: Sequence[str], samples: int) -> Iterator[tuple[str, Measured]]:
    """These wires, or all, each as soon as it is measured."""
    ports = {wire: free_port() for wire in ("pickle", "protobuf", "statsd")}
    prefix = "HTMENGINE__APPLICATION__"
    environment = {f"{prefix}METRIC_LISTENER__{wire.upper()}_PORT": str(port) for wire, port in ports.items()}
    environment[f"{prefix}STATSD__FLUSH_INTERVAL_S"] = str(STATSD_FLUSH_S)
    with (
        tempfile.TemporaryDirectory() as folder,
        running_engine(Path(folder, "data"), "--workers", "1", "--no-auto-monitor", environment=environment) as engine,
    ):
        run = Run(engine, ports, samples)
        for wire in [each for each in run.wires() if not wires or each in wires]:
            yield wire, run.measure(wire)
    if not wires or "amqp" in wires:
        yield "amqp", measure_amqp([lines(second) for second in seconds(samples)])


def cells(wire: str, found: Measured) -> tuple[str, ...]:
    """A line of the table."""
    if found.peers is None:
        return wire, f"{found.ours:.1f}", "", "", found.peer
    return wire, f"{found.ours:.1f}", f"{found.peers:.1f}", f"{found.ours / found.peers:.1f}", found.peer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wires", nargs="*", help="all of them, unless some are named")
    parser.add_argument("--samples", type=int, default=50_000, help="of each wire")
    parser.add_argument("--page", type=Path, help="has a place for a table")
    options = parser.parse_args()
    print(LINE.format(*HEADS), "(CPU microseconds a sample)", flush=True)
    found = []
    for wire, costs in costs_of(options.wires, options.samples):
        found.append(cells(wire, costs))
        print(LINE.format(*found[-1]), flush=True)
    if options.page is not None:
        write(options.page, "receivers", table(HEADS, found))


if __name__ == "__main__":
    main()
