# SPDX-License-Identifier: MIT
"""Clients' connections to the ports that take metrics: each has a lane of its own, and waits while that is full.

In: bytes.  Out: lines or frames, to whoever makes a subclass.  A client that sends more than its share is read from no
more for a while (`sample_batcher`); the others go on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.protocols.policies import TimeoutMixin
from twisted.python.failure import Failure

from htmengine.messages import MAX_LINE_LENGTH
from htmengine.process.refusals import Refusals
from htmengine.process.twisted_types import Clock
from htmengine.runtime.sample_batcher import Lane, SampleBatcher

#: Senders that are told what they do wrong.
MOST_TOLD = 1000


class Connection(Protocol, TimeoutMixin):
    """One client's connection."""

    transport: Any

    def __init__(self, factory: ConnectionFactory, sender: str) -> None:
        self._factory = factory
        self.batcher = factory.batcher
        self.lane = Lane(factory.lane_lines, lambda _: self.pause_or_resume(), sender=sender)
        self._reading = True
        self.busy = False  #: with what has come already

    def callLater(self, period: float, func: Callable[[], None]) -> Any:
        """TimeoutMixin's clock."""
        return self._factory.clock.callLater(period, func)

    def connectionMade(self) -> None:
        self._factory.connections.add(self)
        self.setTimeout(self._factory.idle_timeout_s)
        self.pause_or_resume()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.setTimeout(None)
        self._factory.connections.discard(self)
        self.batcher.end(self.lane)

    def pause_or_resume(self) -> None:
        """Read no more while many lines wait, so that the client's own buffers fill up; then read on."""
        wanted = not (self.busy or self.lane.paused or self.batcher.ended.paused)
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
        """End the connection from our side; what has come of a line or frame is the client's to send again."""
        self.transport.loseConnection()

    def reject(self, reason: str, detail: bytes | str) -> None:
        """Count what is neither a line nor a frame."""
        self.batcher.received += 1
        self.batcher.reject(reason, detail, self.lane.sender)


class LineConnection(Connection):
    """A connection of lines, each of which harms itself alone.

    Twisted's LineOnlyReceiver drops the rest of a chunk after a line that is too long; this one skips that
    line alone.
    """

    def __init__(self, factory: ConnectionFactory, sender: str) -> None:
        super().__init__(factory, sender)
        self.rest = b""
        self.skipping = False  #: inside a line that is counted already

    def dataReceived(self, data: bytes) -> None:
        self.resetTimeout()
        *lines, rest = (self.rest + data).split(b"\n")
        if self.skipping or max(map(len, lines), default=0) > MAX_LINE_LENGTH:
            for line in lines:
                self._line(line)
        else:
            self.take(lines)
        if len(rest) > MAX_LINE_LENGTH:
            self._line(rest)
            self.skipping = True
            rest = b""
        self.rest = rest

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.rest and reason.check(ConnectionDone):  # a connection that broke may have cut the line
            self._line(self.rest)
        super().connectionLost(reason)

    def close(self) -> None:
        self.rest = b""
        super().close()

    def take(self, lines: Sequence[bytes]) -> None:
        """Lines without their ends, none of them too long."""
        self.batcher.take(lines, self.lane)

    def _line(self, line: bytes) -> None:
        if self.skipping:
            self.skipping = False
        elif len(line) > MAX_LINE_LENGTH:
            self.reject("line_too_long", line)
        else:
            self.take([line])


class ConnectionFactory(Factory):
    """Makes the connections of one port, as many as are allowed."""

    log: ClassVar[Any] = Logger()
    noisy = False

    def __init__(
        self,
        make: Callable[[ConnectionFactory, str], Connection],
        batcher: SampleBatcher,
        clock: Clock,
        *,
        lane_lines: int,
        max_connections: int,
        refusals: Refusals,
        idle_timeout_s: float | None,
    ) -> None:
        self.batcher = batcher
        self.clock = clock
        self.idle_timeout_s = idle_timeout_s
        self.lane_lines = lane_lines
        self.connections: set[Connection] = set()
        self._make = make
        self._max_connections = max_connections
        self._refusals = refusals
        self._told: set[tuple[str, str]] = set()  #: whom of which fault

    def buildProtocol(self, addr: object) -> Connection | None:
        if len(self.connections) >= self._max_connections:
            self._refusals.refuse(addr)
            return None
        return self._make(self, str(getattr(addr, "host", "")))

    def advise(self, sender: str, reason: str, advice: str) -> None:
        """Log what a sender should do: once for each sender and reason."""
        if (sender, reason) not in self._told and len(self._told) < MOST_TOLD:
            self._told.add((sender, reason))
            self.log.error("{sender}: {advice}", sender=sender, advice=advice)
