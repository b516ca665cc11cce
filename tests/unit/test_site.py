# SPDX-License-Identifier: MIT
"""HTTP connections with bounds: bodies, numbers, and the time that a request may take to arrive."""

from __future__ import annotations

from typing import Any

from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource

from htmengine.web import site
from htmengine.web.site import ARRIVAL_S, LONGEST_BODY, MOST_THROWN_AWAY, BoundedSite


class _Length(Resource):
    """Answers with the length of the body that was kept, and whether there was more."""

    isLeaf = True

    def render(self, request: Any) -> bytes:
        return b"%d %r" % (len(request.content.read()), request.too_long)


class Transport(StringTransport):
    aborted = False

    def abortConnection(self) -> None:
        self.aborted = True

    def setTcpNoDelay(self, enabled: bool) -> None:
        pass


class SiteTest(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.site = BoundedSite(_Length(), self.reactor)
        self.site.startFactory()
        self.opened: list[Any] = []

    def tearDown(self) -> None:
        self.site.stopFactory()
        for protocol in self.opened:
            protocol.connectionLost(Failure(ConnectionError()))
        self.assertEqual(self.site.connections, 0)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def connect(self) -> tuple[Any, Transport]:
        protocol, transport = self.site.buildProtocol(None), Transport()
        protocol.makeConnection(transport)
        self.opened.append(protocol)
        return protocol, transport

    def post(self, *body: bytes, length: int | None = None) -> bytes:
        protocol, transport = self.connect()
        size = sum(map(len, body)) if length is None else length
        protocol.dataReceived(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size)
        for part in body:
            protocol.dataReceived(part)
        self.aborted = transport.aborted
        return bytes(transport.value().rpartition(b"\r\n\r\n")[2])

    def test_a_body_is_kept_up_to_its_bound(self) -> None:
        self.assertEqual(self.post(b"x" * LONGEST_BODY), b"%d False" % LONGEST_BODY)
        self.assertEqual(self.post(b"x" * LONGEST_BODY, b"y"), b"%d True" % LONGEST_BODY)

    def test_a_body_without_end_ends_the_connection(self) -> None:
        megabytes = MOST_THROWN_AWAY // 2**20 + 1
        self.post(*[b"x" * 2**20] * megabytes, length=2**40)
        self.assertTrue(self.aborted)

    def test_a_request_that_comes_byte_by_byte_is_ended(self) -> None:
        protocol, transport = self.connect()
        for _ in range(int(ARRIVAL_S) + 1):
            protocol.dataReceived(b"G")
            self.reactor.advance(1)
        self.assertTrue(transport.aborted)

    def test_each_request_of_a_connection_has_its_own_time(self) -> None:
        protocol, transport = self.connect()
        for _ in range(3):
            self.reactor.advance(ARRIVAL_S - 1)
            protocol.dataReceived(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        self.assertFalse(transport.aborted)
        self.reactor.advance(ARRIVAL_S)
        self.assertTrue(transport.aborted)

    def test_connections_beyond_the_bound_are_refused(self) -> None:
        self.patch(site, "MOST_CONNECTIONS", 2)
        self.connect()
        self.connect()
        self.assertIs(self.site.buildProtocol(None), None)
        self.assertEqual(self.site.refusals.count, 1)

    def test_a_url_that_is_too_long_is_answered(self) -> None:
        for length in (20_000, 70_000, 1_000_000):
            protocol, transport = self.connect()
            protocol.dataReceived(b"GET /render?target=" + b"a" * length)
            protocol.dataReceived(b" HTTP/1.1\r\nHost: a\r\n\r\n")
            self.assertTrue(transport.value().startswith(b"HTTP/1.1 414 "))
            self.assertIn(b"the URL is too long", transport.value())
            self.assertEqual(transport.value().count(b"HTTP/1.1"), 1)
            self.reactor.advance(site.LINGER_S)
            self.assertTrue(transport.aborted)

    def test_a_header_that_is_too_long_is_answered(self) -> None:
        protocol, transport = self.connect()
        protocol.dataReceived(b"GET / HTTP/1.1\r\nHost: a\r\nX-Long: " + b"a" * 20_000)
        self.assertTrue(transport.value().startswith(b"HTTP/1.1 431 "))

    def test_what_comes_after_a_line_that_is_too_long_is_bounded(self) -> None:
        protocol, transport = self.connect()
        for _ in range(MOST_THROWN_AWAY // 2**20 + 1):
            protocol.dataReceived(b"a" * 2**20)
        self.assertTrue(transport.aborted)
