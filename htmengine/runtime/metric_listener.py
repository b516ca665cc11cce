# SPDX-License-Identifier: MIT
"""The Metric Listener: Graphite's plaintext protocol in, batches of samples out; and carbon's frames, and statsd.

In: lines ``name value timestamp`` over TCP and UDP, and, on ports of their own that are off unless configured, carbon's
pickles and protobuf (`frame_port`), statsd (`statsd_port`) and what other packages bring (`wire_port`).  Out: messages
on the samples queue.  What breaks the rules is rejected alone, counted by reason and logged once in a while.  Sockets
take turns (`sample_batcher`): a client that sends more than its share is read from no more for a while, the others go
on.  What UDP brings beyond its room is counted and dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferTimeout
from twisted.internet.protocol import DatagramProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from htmengine.bus.interface import Bus
from htmengine.process.descriptors import PausingFactory
from htmengine.process.extras import required
from htmengine.process.figures import Figure, counter, gauge, histogram
from htmengine.process.probes import Probe, runs
from htmengine.process.refusals import Refusals
from htmengine.process.tasks import Tasks
from htmengine.process.twisted_types import Reactor, listen, within
from htmengine.runtime.connections import Connection, ConnectionFactory, LineConnection
from htmengine.runtime.frame_port import PICKLE, PROTOBUF, FrameConnection
from htmengine.runtime.sample_batcher import BatcherOptions, Lane, SampleBatcher
from htmengine.runtime.statsd_port import StatsdConnection, StatsdDatagrams, StatsdPort
from htmengine.runtime.wire_port import WireConnection
from htmengine.wires.plugins import Wire
from htmengine.wires.sniff import FIRST_BYTES, recognise
from htmengine.wires.statsd import StatsdOptions

#: Lines that came as datagrams and wait; nobody can be told to wait before he sends more.
DATAGRAM_LINES = 30_000
DATAGRAM_BYTES = 4 << 20
#: A stop waits this long until the bus has what was taken.
FLUSH_S = 4.0


@dataclass(frozen=True, slots=True)
class ListenerOptions:
    """Section [metric_listener] of application.conf, as far as this service uses it."""

    batches: BatcherOptions
    host: str = "127.0.0.1"
    port: int = 2003
    udp: bool = True
    max_connections: int = 1000
    idle_timeout_s: float | None = None
    pickle_port: int | None = None  #: None: none
    protobuf_port: int | None = None
    statsd_port: int | None = None
    statsd: StatsdOptions = field(default_factory=StatsdOptions)
    wires: Mapping[str, tuple[Wire, int]] = field(default_factory=dict)  #: those of other packages, with their ports


class GraphiteConnection(LineConnection):
    """One client's lines, unless its first bytes are of another protocol."""

    def __init__(self, factory: ConnectionFactory, sender: str) -> None:
        super().__init__(factory, sender)
        self._first = True  #: too few bytes have come to tell other protocols

    def dataReceived(self, data: bytes) -> None:
        if self._first and self._is_foreign(self.rest + data):
            self.close()
        else:
            super().dataReceived(data)

    def _is_foreign(self, first: bytes) -> bool:
        """Whether the connection's first bytes are of another protocol, in which no line will come."""
        foreign = recognise(first)
        self._first = foreign is None and b"\n" not in first and len(first) < FIRST_BYTES
        if foreign is None:
            return False
        self._factory.advise(self.lane.sender, foreign.reason, foreign.advice)
        self.reject(foreign.reason, first)
        self.skipping = foreign.has_lines
        return not foreign.has_lines


class GraphiteDatagrams(DatagramProtocol):
    """UDP: many lines a datagram; dropped and counted while too many wait."""

    noisy = False

    def __init__(self, batcher: SampleBatcher, most_lines: int = DATAGRAM_LINES) -> None:
        self._batcher = batcher
        self._lane = Lane(most_lines, lambda _: None, DATAGRAM_BYTES)

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        lines = [line for line in datagram.split(b"\n") if line.strip()]
        self._lane.sender = addr[0]  # of the lines that it gets from now on
        if self._lane.full:
            self._batcher.drop("udp_dropped", len(lines), self._lane.sender)
            return
        self._batcher.take(lines, self._lane)


class MetricListener(Service):
    """Listens on the Graphite port, TCP and UDP, and on those of other protocols that are configured.

    ``port`` is the real one when the option was 0, ``ports`` are all of them by what they are.
    """

    log = Logger()

    def __init__(
        self, *, reactor: Reactor, bus: Bus, options: ListenerOptions, on_failure: Callable[[Failure], None]
    ) -> None:
        self._reactor = reactor
        self._bus = bus
        self._options = options
        self._tasks = Tasks(on_failure)
        self.batcher = SampleBatcher(bus, reactor, options.batches, self._tasks, self._pressure)
        most = options.max_connections
        self.refusals = Refusals(reactor, f"{most} are connected to a port, [metric_listener] max_connections")
        self.refusals.watched_by(bus.progress)
        self.factory = self._factory(GraphiteConnection)
        self.statsd = StatsdPort(self.batcher, reactor, options.statsd)
        self._others = {
            what: (port, self._factory(make))
            for what, port, make in (
                ("pickle", options.pickle_port, partial(FrameConnection, PICKLE)),
                ("protobuf", options.protobuf_port, partial(FrameConnection, PROTOBUF)),
                ("statsd", options.statsd_port, partial(StatsdConnection, self.statsd)),
            )
            if port is not None
        }
        self._wires = {
            name: (port, self._factory(partial(WireConnection, name, wire)))
            for name, (wire, port) in options.wires.items()
        }
        self._bound: list[Any] = []
        self.ports: dict[str, int] = {}
        self.port = 0

    def privilegedStartService(self) -> None:
        """Bind the ports.  Raises `StartError` when one is taken."""
        super().privilegedStartService()
        options = self._options
        if options.protobuf_port is not None:
            require_protobuf()
        remedy = "choose another one with --graphite-port or [metric_listener] port"
        datagrams = GraphiteDatagrams(self.batcher) if options.udp else None
        self.port = self._listen("Graphite", options.port, self.factory, datagrams, remedy)
        self.log.info("listening for Graphite lines on {host}:{port}", host=options.host, port=self.port)
        for what, (port, factory) in self._others.items():
            further = StatsdDatagrams(self.statsd) if what == "statsd" and options.udp else None
            self.ports[what] = self._listen(
                what, port, factory, further, f"choose another one with [metric_listener] {what}_port"
            )
            self.log.info("listening for {what} on {host}:{port}", what=what, host=options.host, port=self.ports[what])
        for name, (port, factory) in self._wires.items():
            remedy = "choose another one with [metric_listener] wire_ports"
            real = self._listen(f"wire {name}", port, factory, None, remedy)
            self.log.info("listening for the wire {name} on {host}:{port}", name=name, host=options.host, port=real)

    def startService(self) -> None:
        super().startService()
        if "statsd" in self._others:
            self.statsd.start()

    async def close(self) -> None:
        """Take no more, let the clients go, and publish what was taken, unless the bus takes nothing for too long."""
        for port in self._bound:
            await _fired(port.stopListening())
        self._bound = []
        for connection in list(self._connections()):
            connection.close()
        self.statsd.stop()
        try:
            await within(Deferred.fromCoroutine(self.batcher.flush()), FLUSH_S, self._reactor)
        except DeferTimeout:
            self.log.error(
                "{lines} lines are lost: the queue {queue} has taken nothing for {seconds:g} s",
                lines=self.batcher.unpublished,
                queue=self._options.batches.queue_name,
                seconds=FLUSH_S,
            )

    def stopService(self) -> Deferred[None]:
        super().stopService()
        return Deferred.fromCoroutine(self.close())

    def figures(self) -> Iterable[Figure]:
        """What the listener has taken and rejected, and how its clients are."""
        batcher = self.batcher
        yield counter("htmengine_listener_lines", "Lines that came, accepted or not", batcher.received)
        yield counter("htmengine_listener_rejected", "Lines that the listener rejected", batcher.rejected, by="reason")
        yield counter("htmengine_listener_batches", "Messages published to the samples queue", batcher.batches)
        yield histogram("htmengine_listener_batch_lines", "Lines in a message", batcher.batch_lines)
        yield histogram(
            "htmengine_listener_publish_seconds", "Time until messages are durable", batcher.publish_seconds
        )
        yield gauge("htmengine_listener_connections", "Connected clients", len(list(self._connections())))
        yield counter("htmengine_listener_refused_connections", "Clients beyond the limit", self.refusals.count)
        yield gauge("htmengine_listener_paused", "1 while clients have to wait for the bus", batcher.under_pressure)

    def checks(self) -> Mapping[str, Probe]:
        """Whether it listens."""
        return {"MetricListener": runs(self)}

    def _factory(self, make: Callable[[ConnectionFactory, str], Connection]) -> ConnectionFactory:
        options = self._options
        return ConnectionFactory(
            make,
            self.batcher,
            self._reactor,
            lane_lines=options.batches.batch_max_lines,
            max_connections=options.max_connections,
            refusals=self.refusals,
            idle_timeout_s=options.idle_timeout_s,
        )

    def _listen(
        self, what: str, port: int, factory: ConnectionFactory, datagrams: DatagramProtocol | None, remedy: str
    ) -> int:
        """Bind a port, for TCP and for datagrams if there is what takes them; which one it is."""
        host = self._options.host
        accepting = PausingFactory(factory, self._reactor, what=f"the {what} port")

        def bind_tcp() -> Any:
            return self._reactor.listenTCP(port, accepting, interface=host)

        def bind_udp() -> Any:
            return self._reactor.listenUDP(real, datagrams, interface=host, maxPacketSize=65_536)

        accepting.port = tcp = listen(bind_tcp, f"{host}:{port}", remedy)
        self._bound.append(tcp)
        real: int = tcp.getHost().port
        if datagrams is not None:
            self._bound.append(listen(bind_udp, f"{host}:{real} (UDP)", remedy))
        return real

    def _factories(self) -> list[ConnectionFactory]:
        return [self.factory, *(factory for _, factory in (*self._others.values(), *self._wires.values()))]

    def _connections(self) -> Iterator[Connection]:
        for factory in self._factories():
            yield from factory.connections

    def _pressure(self, _: bool) -> None:
        for connection in self._connections():
            connection.pause_or_resume()


def require_protobuf() -> object:
    """What `protobuf_port` wants.  Raises `StartError` without its extra."""
    return required("[metric_listener] protobuf_port", "google.protobuf", "wires")


async def _fired(result: Deferred[None] | None) -> None:
    if result is not None:
        await result


if __name__ == "__main__":
    from htmengine.taps import LISTENER

    LISTENER.run()
