# SPDX-License-Identifier: MIT
"""The Metric Listener: Graphite's plaintext protocol in, batches of samples out.

In: lines ``name value timestamp`` over TCP and UDP.  Out: messages on the samples queue.  A line that breaks the
rules is rejected alone, counted by reason and logged once in a while.  While the bus takes no more, reading from
the clients' sockets pauses; what UDP brings meanwhile is counted and dropped.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError, ConnectionDone
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.protocols.policies import TimeoutMixin
from twisted.python.failure import Failure

from htmengine import crash_points
from htmengine.bus.interface import SAMPLES_LIMITS, Bus
from htmengine.errors import InvalidSample, StartError
from htmengine.messages import MAX_LINE_LENGTH, SampleBatch, encode_samples, parse_sample
from htmengine.observations import SECONDS, SIZES, Observations
from htmengine.tasks import Tasks
from htmengine.twisted_types import Clock, Reactor, Timer

#: A reason is logged at most this often; the counts are complete.
LOG_INTERVAL_S = 60.0
#: What a log shows of a rejected line.
LOGGED_CHARACTERS = 100
#: Reading pauses when this many batches wait for the bus, and goes on when half of them are gone.
BATCHES_AHEAD = 8


@dataclass(frozen=True, slots=True)
class ListenerOptions:
    """Section [metric_listener] of application.conf, as far as this service uses it."""

    queue_name: str
    host: str = "127.0.0.1"
    port: int = 2003
    udp: bool = True
    batch_max_lines: int = 1000
    batch_max_delay_s: float = 0.02
    max_connections: int = 1000
    idle_timeout_s: float | None = None


class SampleBatcher:
    """Collects accepted lines and rejects; publishes them by size and time, in order.

    ``on_pressure(True)`` asks the sockets to pause, ``on_pressure(False)`` to go on.
    """

    log = Logger()

    def __init__(
        self, bus: Bus, clock: Clock, options: ListenerOptions, tasks: Tasks, on_pressure: Callable[[bool], None]
    ) -> None:
        self._bus = bus
        self._clock = clock
        self._options = options
        self._tasks = tasks
        self._on_pressure = on_pressure
        self._lines: list[str] = []
        self._rejected_since: Counter[str] = Counter()
        self._timer: Timer | None = None
        self._publishing = False
        self._declared = False
        self._logged_at: dict[str, float] = {}
        self._batch_ids = uuid.uuid4().hex
        self._serial = 0
        self.under_pressure = False
        self.received = 0  #: lines, accepted or not
        self.batches = 0
        self.rejected: Counter[str] = Counter()
        self.batch_lines = Observations(SIZES)
        self.publish_seconds = Observations(SECONDS)
        self._since = 0.0  #: when the oldest line that waits came

    def take(self, line: bytes) -> None:
        """One line as it came, without its end; blank ones are nothing."""
        try:
            text = line.decode()
            if not text or text.isspace():
                return
            self.received += 1
            now = self._clock.seconds()
            sample = parse_sample(text, now)
        except UnicodeDecodeError:
            self.received += 1
            self.reject("not_utf8", line)
        except InvalidSample as refused:
            self.reject(refused.reason, line)
        else:
            if not self._lines:
                self._since = now
            # The storer reads the client's own digits; only "now" has to be fixed here.
            said_now = text.rsplit(maxsplit=1)[1].startswith("-")
            self._lines.append(f"{sample.name} {sample.value!r} {sample.timestamp}" if said_now else text)
            self._schedule()

    def reject(self, reason: str, line: bytes) -> None:
        """Count a line that is not accepted."""
        self.rejected[reason] += 1
        self._rejected_since[reason] += 1
        now = self._clock.seconds()
        if now - self._logged_at.get(reason, -LOG_INTERVAL_S) >= LOG_INTERVAL_S:
            self._logged_at[reason] = now
            self.log.warn(
                "line rejected ({reason}, {count} so far): {line!r}",
                reason=reason,
                count=self.rejected[reason],
                line=line[:LOGGED_CHARACTERS],
            )
        self._schedule()

    def drop(self, reason: str, lines: int) -> None:
        """Count lines that could not be kept."""
        self.received += lines
        self.rejected[reason] += lines
        self._rejected_since[reason] += lines

    async def flush(self) -> None:
        """Publish all that was taken: fires when it is durable."""
        if not self._publishing:
            await self._publish()
        else:
            await self._tasks.finished()

    def _schedule(self) -> None:
        if len(self._lines) >= self._options.batch_max_lines:
            self._start_publishing()
            self._weigh()
        elif self._timer is None and not self._publishing:
            self._timer = self._clock.callLater(self._options.batch_max_delay_s, self._start_publishing)

    def _start_publishing(self) -> None:
        self._stop_timer()
        if not self._publishing:
            self._tasks.start(self._publish())

    def _stop_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    async def _publish(self) -> None:
        self._publishing = True
        self._stop_timer()
        try:
            if not self._declared:
                await self._bus.declare_queue(self._options.queue_name, limits=SAMPLES_LIMITS)
                self._declared = True
            while self._lines or self._rejected_since:
                most = self._options.batch_max_lines
                batches = [self._lines[at : at + most] for at in range(0, len(self._lines), most)] or [[]]
                bodies = [self._body(lines) for lines in batches[:BATCHES_AHEAD]]
                del self._lines[: most * BATCHES_AHEAD]
                crash_points.reached("listener.publishing")
                with self.publish_seconds.timed(self._clock.seconds):
                    await self._bus.publish(self._options.queue_name, bodies)
                crash_points.reached("listener.published")
                self.batches += len(bodies)
                self._weigh()
        finally:
            self._publishing = False

    def _body(self, lines: list[str]) -> bytes:
        self._serial += 1
        rejected = dict(self._rejected_since)
        self._rejected_since.clear()
        self.batch_lines.observe(len(lines))
        received_at = self._since if lines else None
        return encode_samples(SampleBatch(lines, f"{self._batch_ids}-{self._serial}", rejected, received_at))

    def _weigh(self) -> None:
        """Tell the sockets when the lines that wait cross the watermarks."""
        high = self._options.batch_max_lines * BATCHES_AHEAD
        if not self.under_pressure and len(self._lines) >= high:
            self.under_pressure = True
            self._on_pressure(True)
        elif self.under_pressure and len(self._lines) <= high // 2:
            self.under_pressure = False
            self._on_pressure(False)


class GraphiteProtocol(Protocol, TimeoutMixin):
    """One client's connection.

    Twisted's LineOnlyReceiver drops the rest of a chunk after a line that is too long; this one skips that
    line alone.
    """

    transport: Any

    def __init__(self, factory: GraphiteFactory) -> None:
        self._factory = factory
        self._batcher = factory.batcher
        self._rest = b""
        self._skipping = False  #: inside a line that is too long, which is counted already

    def callLater(self, period: float, func: Callable[[], None]) -> Any:
        """TimeoutMixin's clock."""
        return self._factory.clock.callLater(period, func)

    def connectionMade(self) -> None:
        self._factory.connections.add(self)
        self.setTimeout(self._factory.idle_timeout_s)
        if self._batcher.under_pressure:
            self.pause()

    def dataReceived(self, data: bytes) -> None:
        self.resetTimeout()
        *lines, rest = (self._rest + data).split(b"\n")
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

    def pause(self) -> None:
        """Read no more: the client's own buffers fill up."""
        self.setTimeout(None)
        self.transport.pauseProducing()

    def resume(self) -> None:
        """Read on."""
        self.setTimeout(self._factory.idle_timeout_s)
        self.transport.resumeProducing()

    def close(self) -> None:
        """End the connection from our side; half a line is the client's to send again."""
        self._rest = b""
        self.transport.loseConnection()

    def _line(self, line: bytes) -> None:
        if self._skipping:
            self._skipping = False
        elif len(line) > MAX_LINE_LENGTH:
            self._batcher.received += 1
            self._batcher.reject("line_too_long", line)
        else:
            self._batcher.take(line)


class GraphiteFactory(Factory):
    """Makes the connections, as many as are allowed."""

    noisy = False

    def __init__(self, batcher: SampleBatcher, clock: Clock, options: ListenerOptions) -> None:
        self.batcher = batcher
        self.clock = clock
        self.idle_timeout_s = options.idle_timeout_s
        self.connections: set[GraphiteProtocol] = set()
        self.refused = 0
        self._max_connections = options.max_connections

    def buildProtocol(self, addr: object) -> GraphiteProtocol | None:
        if len(self.connections) >= self._max_connections:
            self.refused += 1
            return None
        return GraphiteProtocol(self)


class GraphiteDatagrams(DatagramProtocol):
    """UDP: many lines a datagram; dropped and counted while the bus takes no more."""

    noisy = False

    def __init__(self, batcher: SampleBatcher) -> None:
        self._batcher = batcher

    def datagramReceived(self, datagram: bytes, addr: object) -> None:
        lines = [line for line in datagram.split(b"\n") if line.strip()]
        if self._batcher.under_pressure:
            self._batcher.drop("udp_dropped", len(lines))
            return
        for line in lines:
            self._batcher.take(line)


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
        self.batcher = SampleBatcher(bus, reactor, options, self._tasks, self._pressure)
        self.factory = GraphiteFactory(self.batcher, reactor, options)
        self._ports: list[Any] = []
        self.port = 0

    def privilegedStartService(self) -> None:
        """Bind the port.  Raises `StartError` when it is taken."""
        super().privilegedStartService()
        self._ports = list(self._bind())
        self.port = self._ports[0].getHost().port
        self.log.info("listening for Graphite lines on {host}:{port}", host=self._options.host, port=self.port)

    async def close(self) -> None:
        """Take no more, let the clients go, and publish what was taken."""
        for port in self._ports:
            await _fired(port.stopListening())
        self._ports = []
        for connection in list(self.factory.connections):
            connection.close()
        await self.batcher.flush()

    def stopService(self) -> Deferred[None]:
        super().stopService()
        return Deferred.fromCoroutine(self.close())

    def _bind(self) -> Iterable[Any]:
        options = self._options
        try:
            tcp = self._reactor.listenTCP(options.port, self.factory, interface=options.host)
            yield tcp
            if options.udp:
                port = tcp.getHost().port
                yield self._reactor.listenUDP(
                    port, GraphiteDatagrams(self.batcher), interface=options.host, maxPacketSize=65_536
                )
        except CannotListenError as error:
            raise StartError(
                f"cannot listen on {options.host}:{options.port}: {error.socketError}; "
                "choose another with --graphite-port or [metric_listener] port"
            ) from None

    def _pressure(self, on: bool) -> None:
        for connection in self.factory.connections:
            if on:
                connection.pause()
            else:
                connection.resume()


async def _fired(result: Deferred[None] | None) -> None:
    if result is not None:
        await result


if __name__ == "__main__":
    from htmengine.services import LISTENER

    LISTENER.run()
