# SPDX-License-Identifier: MIT
"""The Metric Listener: Graphite's plaintext protocol in, batches of samples out.

In: lines ``name value timestamp`` over TCP and UDP.  Out: messages on the samples queue.  A line that breaks the
rules is rejected alone, counted by reason and logged once in a while.  Sockets take turns (`sample_batcher`): a client
that sends more than its share is read from no more for a while, the others go on.  What UDP brings beyond its room is
counted and dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferTimeout
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.protocols.policies import TimeoutMixin
from twisted.python.failure import Failure

from htmengine.bus.interface import Bus
from htmengine.messages import MAX_LINE_LENGTH
from htmengine.process.descriptors import PausingFactory
from htmengine.process.figures import Figure, counter, gauge, histogram
from htmengine.process.probes import Probe, runs
from htmengine.process.seldom import Seldom
from htmengine.process.tasks import Tasks
from htmengine.process.twisted_types import Clock, Reactor, listen, within
from htmengine.runtime.sample_batcher import BatcherOptions, Lane, SampleBatcher
from htmengine.wires.sniff import FIRST_BYTES, Foreign, recognise

#: Lines that came as datagrams and wait; nobody can be told to wait before he sends more.
DATAGRAM_LINES = 30_000
DATAGRAM_BYTES = 4 << 20
#: A stop waits this long until the bus has what was taken.
FLUSH_S = 4.0
#: Senders that are told what they do wrong.
MOST_TOLD = 1000
#: That connections are refused is told at most so often.
REFUSED_EVERY_S = 60.0


@dataclass(frozen=True, slots=True)
class ListenerOptions:
    """Section [metric_listener] of application.conf, as far as this service uses it."""

    batches: BatcherOptions
    host: str = "127.0.0.1"
    port: int = 2003
    udp: bool = True
    max_connections: int = 1000
    idle_timeout_s: float | None = None


class GraphiteProtocol(Protocol, TimeoutMixin):
    """One client's connection.

    Twisted's LineOnlyReceiver drops the rest of a chunk after a line that is too long; this one skips that
    line alone.
    """

    transport: Any

    def __init__(self, factory: GraphiteFactory, sender: str) -> None:
        self._factory = factory
        self._batcher = factory.batcher
        self._lane = Lane(factory.lane_lines, lambda _: self.pause_or_resume(), sender=sender)
        self._reading = True
        self._rest = b""
        self._skipping = False  #: inside a line that is counted already: too long, or another protocol's first
        self._first = True  #: too few bytes have come to tell other protocols

    def callLater(self, period: float, func: Callable[[], None]) -> Any:
        """TimeoutMixin's clock."""
        return self._factory.clock.callLater(period, func)

    def connectionMade(self) -> None:
        self._factory.connections.add(self)
        self.setTimeout(self._factory.idle_timeout_s)
        self.pause_or_resume()

    def dataReceived(self, data: bytes) -> None:
        self.resetTimeout()
        data = self._rest + data
        if self._first and self._is_foreign(data):
            self.close()
            return
        *lines, rest = data.split(b"\n")
        for line in lines:
            self._line(line)
        if len(rest) > MAX_LINE_LENGTH:
            self._line(rest)
            self._skipping = True
            rest = b""
        self._rest = rest

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.setTimeout(None)
        self._factory.connections.discard(self)
        if self._rest and reason.check(ConnectionDone):  # a connection that broke may have cut the line
            self._line(self._rest)
        self._batcher.end(self._lane)

    def pause_or_resume(self) -> None:
        """Read no more while many lines wait, so that the client's own buffers fill up; then read on."""
        wanted = not (self._lane.paused or self._batcher.ended.paused)
        if wanted == self._reading or self not in self._factory.connections:
            return
        self._reading = wanted
        if wanted:
            self.setTimeout(self._factory.idle_timeout_s)
            self.transport.resumeProducing()
        else:
            self.setTimeout(None)
            self.transport.pauseProducing()

    def close(self) -> None:
        """End the connection from our side; half a line is the client's to send again."""
        self._rest = b""
        self.transport.loseConnection()

    def _is_foreign(self, first: bytes) -> bool:
        """Whether the connection's first bytes are of another protocol, in which no line will come."""
        foreign = recognise(first)
        self._first = foreign is None and b"\n" not in first and len(first) < FIRST_BYTES
        if foreign is None:
            return False
        self._factory.tell_of(foreign, self._lane.sender)
        self._batcher.received += 1
        self._batcher.reject(foreign.reason, first, self._lane.sender)
        self._skipping = foreign.has_lines
        return not foreign.has_lines

    def _line(self, line: bytes) -> None:
        if self._skipping:
            self._skipping = False
        elif len(line) > MAX_LINE_LENGTH:
            self._batcher.received += 1
            self._batcher.reject("line_too_long", line, self._lane.sender)
        else:
            self._batcher.take(line, self._lane)


class GraphiteFactory(Factory):
    """Makes the connections, as many as are allowed."""

    log = Logger()
    noisy = False

    def __init__(self, batcher: SampleBatcher, clock: Clock, options: ListenerOptions) -> None:
        self.batcher = batcher
        self.clock = clock
        self.idle_timeout_s = options.idle_timeout_s
        self.lane_lines = options.batches.batch_max_lines
        self.connections: set[GraphiteProtocol] = set()
        self.refused = 0
        self._max_connections = options.max_connections
        self._seldom = Seldom(clock.seconds, REFUSED_EVERY_S)
        self._told: set[tuple[str, str]] = set()  #: whom of which protocol

    def buildProtocol(self, addr: object) -> GraphiteProtocol | None:
        if len(self.connections) >= self._max_connections:
            self.refused += 1
            if self._seldom.due():
                self.log.warn(
                    "{address} and others are refused: {most} connections are open, [metric_listener] max_connections",
                    address=getattr(addr, "host", addr),
                    most=self._max_connections,
                )
            return None
        return GraphiteProtocol(self, str(getattr(addr, "host", "")))

    def tell_of(self, foreign: Foreign, sender: str) -> None:
        """Log what another protocol's client should do: once for each sender."""
        if (sender, foreign.reason) not in self._told and len(self._told) < MOST_TOLD:
            self._told.add((sender, foreign.reason))
            self.log.error("{sender}: {advice}", sender=sender, advice=foreign.advice)


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
        for line in lines:
            self._batcher.take(line, self._lane)


class MetricListener(Service):
    """Listens on one port, TCP and UDP; `port` is the real one when the option was 0."""

    log = Logger()

    def __init__(
        self, *, reactor: Reactor, bus: Bus, options: ListenerOptions, on_failure: Callable[[Failure], None]
    ) -> None:
        self._reactor = reactor
        self._bus = bus
        self._options = options
        self._tasks = Tasks(on_failure)
        self.batcher = SampleBatcher(bus, reactor, options.batches, self._tasks, self._pressure)
        self.factory = GraphiteFactory(self.batcher, reactor, options)
        self._ports: list[Any] = []
        self.port = 0

    def privilegedStartService(self) -> None:
        """Bind the port.  Raises `StartError` when it is taken."""
        super().privilegedStartService()
        self._ports = listen(
            lambda: list(self._bind()),
            f"{self._options.host}:{self._options.port}",
            "choose another one with --graphite-port or [metric_listener] port",
        )
        self.port = self._ports[0].getHost().port
        self.log.info("listening for Graphite lines on {host}:{port}", host=self._options.host, port=self.port)

    async def close(self) -> None:
        """Take no more, let the clients go, and publish what was taken, unless the bus takes nothing for too long."""
        for port in self._ports:
            await _fired(port.stopListening())
        self._ports = []
        for connection in list(self.factory.connections):
            connection.close()
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
        batcher, clients = self.batcher, self.factory
        yield counter("htmengine_listener_lines", "Lines that came, accepted or not", batcher.received)
        yield counter("htmengine_listener_rejected", "Lines that the listener rejected", batcher.rejected, by="reason")
        yield counter("htmengine_listener_batches", "Messages published to the samples queue", batcher.batches)
        yield histogram("htmengine_listener_batch_lines", "Lines in a message", batcher.batch_lines)
        yield histogram(
            "htmengine_listener_publish_seconds", "Time until messages are durable", batcher.publish_seconds
        )
        yield gauge("htmengine_listener_connections", "Connected clients", len(clients.connections))
        yield counter("htmengine_listener_refused_connections", "Clients beyond the limit", clients.refused)
        yield gauge("htmengine_listener_paused", "1 while clients have to wait for the bus", batcher.under_pressure)

    def checks(self) -> Mapping[str, Probe]:
        """Whether it listens."""
        return {"MetricListener": runs(self)}

    def _bind(self) -> Iterable[Any]:
        options = self._options
        accepting = PausingFactory(self.factory, self._reactor, what="the Graphite port")
        accepting.port = tcp = self._reactor.listenTCP(options.port, accepting, interface=options.host)
        yield tcp
        if options.udp:
            port = tcp.getHost().port
            yield self._reactor.listenUDP(
                port, GraphiteDatagrams(self.batcher), interface=options.host, maxPacketSize=65_536
            )

    def _pressure(self, _: bool) -> None:
        for connection in self.factory.connections:
            connection.pause_or_resume()


async def _fired(result: Deferred[None] | None) -> None:
    if result is not None:
        await result


if __name__ == "__main__":
    from htmengine.taps import LISTENER

    LISTENER.run()
