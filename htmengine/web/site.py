# SPDX-License-Identifier: MIT
"""The site: HTTP connections with bounds, on top of Twisted Web's.

In: bytes from anybody.  Out: requests whose body is in memory and not too long.
"""

from __future__ import annotations

from http import HTTPStatus
from io import BytesIO
from typing import Any

from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from htmengine.process.refusals import Refusals
from htmengine.process.twisted_types import Reactor, Timer, for_twisted
from htmengine.web.http import problem
from htmengine.web.refused import Refused

LONGEST_BODY = 1024 * 1024
#: What a client goes on sending after too much is thrown away up to here, so that it can read the answer.
MOST_THROWN_AWAY = 64 * 1024 * 1024
#: A request has to arrive within this time, and a connection without one is closed after it.
ARRIVAL_S = 60.0
#: How long a client whose first lines are too long has to read the answer.
LINGER_S = 2.0
#: Each may hold a body of LONGEST_BODY before anybody knows whose it is.
MOST_CONNECTIONS = 250


class BoundedRequest(Request):
    """A request that keeps at most LONGEST_BODY of its body; ``too_long`` tells that there was more."""

    channel: Any
    too_long = False
    _length = 0

    def gotLength(self, length: int | None) -> None:  # noqa: N802 - Twisted's name
        self.too_long = length is not None and length > LONGEST_BODY
        self.content = BytesIO()

    def handleContentChunk(self, data: bytes) -> None:  # noqa: N802 - Twisted's name
        self._length += len(data)
        if self._length > LONGEST_BODY:
            self.too_long = True
            if self._length > MOST_THROWN_AWAY:
                self.channel.transport.abortConnection()
        else:
            super().handleContentChunk(data)


class BoundedChannel(HTTPChannel):
    """A connection that is counted, and that is not kept by sending a request byte by byte."""

    factory: Any
    transport: Any
    totalHeadersSize = 32 * 1024  # noqa: N815 - Twisted's name
    _arrival: Timer | None = None
    _thrown_away = 0  #: bytes; from 1 on everything that comes is

    def connectionMade(self) -> None:
        super().connectionMade()
        self.factory.connections += 1
        self._wait()

    def allContentReceived(self) -> None:  # noqa: N802 - Twisted's name
        self._stop_waiting()
        super().allContentReceived()

    def requestDone(self, request: Request) -> None:  # noqa: N802 - Twisted's name
        super().requestDone(request)
        self._wait()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._stop_waiting()
        self.factory.connections -= 1
        super().connectionLost(reason)

    def lineLengthExceeded(self, line: bytes) -> None:
        """Answer, then throw away what still comes: a connection closed on unread bytes loses the answer."""
        refused = Refused(431, "a header is too long") if self.requests else Refused(414, "the URL is too long")
        answer = problem(refused)
        head = f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}\r\nContent-Type: {answer.content_type}\r\n"
        length = f"Content-Length: {len(answer.body)}\r\nConnection: close\r\n\r\n"
        self.transport.write(f"{head}{length}".encode() + answer.body)
        self._thrown_away = 1
        self._wait(LINGER_S)

    def dataReceived(self, data: bytes) -> None:
        if not self._thrown_away:
            super().dataReceived(data)
            return
        self._thrown_away += len(data)
        if self._thrown_away > MOST_THROWN_AWAY:
            self.transport.abortConnection()

    def _wait(self, seconds: float = ARRIVAL_S) -> None:
        self._stop_waiting()
        self._arrival = self.callLater(seconds, self.transport.abortConnection)

    def _stop_waiting(self) -> None:
        if self._arrival is not None and self._arrival.active():
            self._arrival.cancel()
        self._arrival = None


class BoundedSite(Site):
    """Makes connections, as many as are allowed."""

    noisy = False
    protocol: Any = BoundedChannel  #: HTTP/1.1 alone, no negotiation

    def __init__(self, resource: Resource, reactor: Reactor) -> None:
        super().__init__(resource, requestFactory=BoundedRequest, timeout=ARRIVAL_S, reactor=for_twisted(reactor))
        self.connections = 0
        self.refusals = Refusals(reactor, f"the HTTP port serves {MOST_CONNECTIONS} connections at a time")

    def buildProtocol(self, addr: object) -> Any:
        if self.connections >= MOST_CONNECTIONS:
            self.refusals.refuse(addr)
            return None
        return super().buildProtocol(addr)

    def log(self, request: object) -> None:
        """No access log: it would hold what clients sent, and nobody reads it."""
