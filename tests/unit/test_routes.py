# SPDX-License-Identifier: MIT
"""The routes: who is let in, which handler is found, and what becomes of errors."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource

from htmengine.errors import InvalidBody, MetricNotFound, MissingExtra, QueueFull
from htmengine.web import outbox
from htmengine.web.access import Access, AccessRules
from htmengine.web.http import Call, Flow, Reply, Stream, reply
from htmengine.web.outbox import PIECE, STALLED_S
from htmengine.web.routes import HEADERS, Routes
from htmengine.web.site import BoundedSite

LONG = 2 * PIECE + 1
READ, WRITE = "read-token-0123456", "write-token-012345"


class Answer:
    """One response as it went over the wire."""

    def __init__(self, data: bytes) -> None:
        head, _, self.body = data.partition(b"\r\n\r\n")
        status, *headers = head.decode().split("\r\n")
        self.status = int(status.split()[1])
        self.headers = {name.lower(): value for name, _, value in (header.partition(": ") for header in headers)}

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class SlowTransport(StringTransport):
    """Its buffer is full after each piece."""

    disconnected = False

    def write(self, data: bytes) -> None:
        super().write(data)
        if b"x" * 100 in data and self.producer is not None:
            self.producer.pauseProducing()

    def abortConnection(self) -> None:
        self.disconnected = True


class RoutesTest(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        rules = AccessRules("127.0.0.1", READ, WRITE)
        self.routes = Routes(Access(rules, self.reactor.seconds), self.reactor, 30.0)
        self.waiting: Deferred[None] = Deferred()
        self.paused = False
        for method, path, scope, handler in (
            ("GET", "/open", None, self.hello),
            ("GET", "/read/<name:metric>/tail", "read", self.hello),
            ("PUT", "/write", "admin", self.hello),
            ("GET", "/broken", None, self.broken),
            ("GET", "/missing", None, self.missing),
            ("GET", "/full", None, self.full),
            ("GET", "/body/<name:reason>", None, self.body),
            ("GET", "/extra", None, self.extra),
            ("GET", "/slow", None, self.slow),
            ("GET", "/stream", None, self.stream),
            ("GET", "/long", None, self.long),
        ):
            self.routes.add([method], path, scope, handler)
        self.site = BoundedSite(self.routes.resource, self.reactor)

    async def hello(self, call: Call) -> Reply:
        return reply({"path": dict(call.path), "name": call.client.name})

    async def broken(self, call: Call) -> Reply:
        raise RuntimeError("a secret of the inside")

    async def long(self, call: Call) -> Reply:
        return Reply(b"x" * LONG, "application/octet-stream")

    async def missing(self, call: Call) -> Reply:
        raise MetricNotFound("<b>")

    async def full(self, call: Call) -> Reply:
        raise QueueFull("samples")

    async def body(self, call: Call) -> Reply:
        raise InvalidBody(call.path["reason"], "as it is not allowed")

    async def extra(self, call: Call) -> Reply:
        raise MissingExtra("cramjam", "wires")

    async def slow(self, call: Call) -> Reply:
        await self.waiting
        return reply({})

    async def stream(self, call: Call) -> Stream:
        async def write(request: Any) -> None:
            async with Flow(request) as flow:
                for part in (b"one", b"two"):
                    request.write(part)
                    if self.paused:
                        flow.pauseProducing()
                    await flow.room()

        return Stream(write, "text/plain")

    def send(self, method: str, path: str, token: str = "", **headers: str) -> bytes:
        """What has come back until now."""
        if token:
            headers["Authorization"] = f"Bearer {token}"
        protocol, self.transport = self.site.buildProtocol(None), StringTransport()
        protocol.makeConnection(self.transport)
        fields = [f"{name}: {value}" for name, value in headers.items()]
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *fields]
        protocol.dataReceived("\r\n".join([*lines, "", ""]).encode())
        self.addCleanup(protocol.connectionLost, Failure(ConnectionError()))
        return bytes(self.transport.value())

    def ask(self, method: str, path: str, token: str = "", **headers: str) -> Answer:
        return Answer(self.send(method, path, token, **headers))

    def test_parts_of_a_path_are_decoded_after_the_route_is_found(self) -> None:
        for sent, name in (("a.b", "a.b"), ("a%2Fb", "a/b"), ("a%252Fb", "a%2Fb"), ("%C3%A4", "ä"), ("tail", "tail")):
            self.assertEqual(self.ask("GET", f"/read/{sent}/tail", READ).json["path"], {"metric": name})
        for wrong in ("/read/%ff/tail", "/read//tail", "/read/a/b/tail", "/read/ä/tail"):
            self.assertIn(self.ask("GET", wrong, READ).status, (400, 404))

    def test_each_scope_is_asked_for(self) -> None:
        self.assertEqual(self.ask("GET", "/open").json["name"], "")
        self.assertEqual(self.ask("GET", "/read/a/tail").status, 401)
        self.assertEqual(self.ask("GET", "/read/a/tail", WRITE).json["name"], "write_token")
        self.assertEqual(self.ask("PUT", "/write", READ).status, 403)
        self.assertEqual(self.ask("PUT", "/write", WRITE).status, 200)
        self.assertEqual(self.ask("PUT", "/write", WRITE, Origin="http://evil.example").status, 403)

    def test_errors_are_problem_documents(self) -> None:
        for method, path, status in (
            ("GET", "/nothing", 404),
            ("DELETE", "/open", 405),
            ("GET", "/missing", 404),
            ("GET", "/full", 503),
            ("GET", "/body/body_too_long", 413),
            ("GET", "/body/encoding", 415),
            ("GET", "/body/not_gzip", 400),
            ("GET", "/extra", 501),
            ("GET", "/" + "x" * 14000, 414),
        ):
            answer = self.ask(method, path)
            self.assertEqual(answer.status, status)
            self.assertEqual(answer.headers["content-type"], "application/problem+json")
            self.assertEqual(answer.json["status"], status)
        self.assertEqual(self.ask("DELETE", "/open").headers["allow"], "GET, HEAD")

    def test_a_second_host_is_refused(self) -> None:
        for second in ("localhost", "evil.example"):
            self.assertEqual(self.ask("GET", "/open", Host=second).status, 400)

    def test_an_error_of_ours_is_logged_and_tells_nothing_of_the_inside(self) -> None:
        answer = self.ask("GET", "/broken")
        self.assertEqual(answer.status, 500)
        self.assertNotIn(b"secret", answer.body)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_an_answer_that_takes_too_long_is_given_up(self) -> None:
        self.assertEqual(self.send("GET", "/slow"), b"")
        self.reactor.advance(30)
        answer = Answer(bytes(self.transport.value()))
        self.assertEqual((answer.status, answer.headers["retry-after"]), (503, "5"))

    def test_every_answer_has_the_strict_headers(self) -> None:
        for path in ("/open", "/nothing", "/stream"):
            headers = self.ask("GET", path).headers
            self.assertEqual({name: headers[name.lower()] for name in HEADERS}, HEADERS)

    def test_a_stream_is_written_at_the_clients_pace(self) -> None:
        self.assertTrue(self.send("GET", "/stream").endswith(b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"))
        self.assertTrue(self.send("HEAD", "/stream").endswith(b"\r\n\r\n"))

    def test_a_client_that_goes_before_a_stream_s_end_is_no_error(self) -> None:
        protocol, transport = self.site.buildProtocol(None), StringTransport()
        protocol.makeConnection(transport)
        self.paused = True
        protocol.dataReceived(b"GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
        self.assertIn(b"one", transport.value())
        self.assertNotIn(b"two", transport.value())
        protocol.connectionLost(Failure(ConnectionError()))
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_a_read_that_another_site_starts_is_refused(self) -> None:
        for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "http://evil.example"}, {"Origin": "http://["}):
            self.assertEqual(self.ask("GET", "/read/a/tail", READ, **headers).status, 403)
            self.assertEqual(self.ask("GET", "/open", **headers).status, 200)
        self.assertEqual(self.ask("GET", "/read/a/tail", READ, **{"Sec-Fetch-Site": "same-site"}).status, 200)

    def test_a_long_answer_is_written_at_the_clients_pace(self) -> None:
        protocol, transport = self.slow_client()
        self.assertEqual(transport.value().count(b"x"), PIECE)
        for pieces in (2, 3):
            protocol.resumeProducing()
            self.assertEqual(transport.value().count(b"x"), min(pieces * PIECE, LONG))
        self.assertIn(b"Content-Length: %d\r\n" % LONG, transport.value())

    def test_clients_that_do_not_read_hold_a_bounded_memory(self) -> None:
        self.patch(outbox, "MOST_HELD", 2 * LONG)
        for _ in range(2):
            self.slow_client()
        self.assertEqual(self.ask("GET", "/long").status, 503)
        self.assertEqual(self.ask("GET", "/open").status, 200)

    def test_a_client_that_does_not_read_is_let_go_and_its_place_is_free(self) -> None:
        self.patch(outbox, "MOST_HELD", LONG)
        protocol, transport = self.slow_client()
        self.reactor.advance(STALLED_S)
        self.assertTrue(transport.disconnected)
        protocol.connectionLost(Failure(ConnectionError()))
        self.assertEqual(self.ask("GET", "/long").status, 200)
        self.assertEqual(self.flushLoggedErrors(), [])

    def slow_client(self) -> tuple[Any, StringTransport]:
        """One that reads a piece of a long answer each time that its transport asks for more."""
        protocol, transport = self.site.buildProtocol(None), SlowTransport()
        protocol.makeConnection(transport)
        protocol.dataReceived(b"GET /long HTTP/1.1\r\nHost: localhost\r\n\r\n")
        self.addCleanup(protocol.connectionLost, Failure(ConnectionError()))
        return protocol, transport

    def test_other_parts_mount_their_resources(self) -> None:
        class Health(Resource):
            isLeaf = True

            def render_GET(self, request: Any) -> bytes:
                return b"well"

        self.routes.mount("/health", None, Health())
        self.routes.mount("/figures", "read", Health())
        self.assertIn(b"well", self.ask("GET", "/health").body)
        self.assertEqual(self.ask("GET", "/figures").status, 401)
        self.assertIn(b"well", self.ask("GET", "/figures", READ).body)
