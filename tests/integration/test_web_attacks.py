# SPDX-License-Identifier: MIT
"""Requests that no decent client sends, over plain sockets: the service refuses them, and the engine goes on."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import httpx
import pytest

from tests.support.engine import Engine, running_engine, wait_for

HOST = b"Host: localhost\r\n"
POST = b"POST /api/v1/samples HTTP/1.1\r\n" + HOST
#: The connection is closed, with 400 or without a word.
MALFORMED = {
    "negative length": POST + b"Content-Length: -5\r\n\r\n",
    "two lengths": POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
    "length and chunks": POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunk size": POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    "chunk extension": POST + b"Transfer-Encoding: chunked\r\n\r\n1;" + b"a" * 100_000 + b"\r\n",
    "long header": b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 100_000 + b"\r\n\r\n",
    "many headers": b"GET / HTTP/1.1\r\n" + HOST + b"".join(b"X%d: a\r\n" % n for n in range(2000)) + b"\r\n",
    "long line": b"GET /" + b"a" * 70_000,
    "bytes": bytes(range(256)) * 10 + b"\r\n\r\n",
}
#: Get this status.
REFUSED = {
    "other host": (b"GET /api/v1/status HTTP/1.1\r\nHost: localhost.evil.example\r\n\r\n", 403),
    "user in host": (b"GET /api/v1/status HTTP/1.1\r\nHost: localhost@evil.example\r\n\r\n", 403),
    "two hosts": (b"GET /api/v1/status HTTP/1.1\r\nHost: evil.example\r\n" + HOST + b"\r\n", 400),
    "proxy": (b"GET http://evil.example/ HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "tunnel": (b"CONNECT localhost:22 HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "long body": (POST + b"Content-Type: text/plain\r\nContent-Length: 1200000\r\n\r\n" + b"a 1 1\n" * 200_000, 413),
    "up": (b"GET /static/../../etc/passwd HTTP/1.1\r\n" + HOST + b"\r\n", 404),
    "encoded up": (b"GET /static/%2e%2e/..%2fetc/passwd HTTP/1.1\r\n" + HOST + b"\r\n", 404),
}


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with running_engine(tmp_path_factory.mktemp("attacked") / "data", "--workers", "1", "--no-auto-monitor") as started:
        yield started
        assert "Traceback" not in started.log_path.read_text()


def connect(engine: Engine) -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(engine.url.rpartition(":")[2])), timeout=60)


def answer(engine: Engine, request: bytes, most: int | None = None) -> bytes:
    """What comes back until the connection is closed, or until that many bytes are there."""
    with connect(engine) as connection:
        received = b""
        with contextlib.suppress(ConnectionError):
            connection.sendall(request)
            while most is None or len(received) < most:
                part = connection.recv(65_536)
                if not part:
                    break
                received += part
        return received


@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_no_request_ends_its_connection(engine: Engine, name: str) -> None:
    # A line or header that is too long is told so; what cannot be read at all is a bare 400, or a closed connection.
    answered = answer(engine, MALFORMED[name])
    assert answered == b"" or answered[9:12] in (b"400", b"414", b"431")
    assert httpx.get(f"{engine.url}/api/v1/status").status_code == 200


@pytest.mark.parametrize("name", REFUSED)
def test_a_request_that_is_none_of_ours_is_refused(engine: Engine, name: str) -> None:
    request, status = REFUSED[name]
    assert answer(engine, request, most=12)[:12] == b"HTTP/1.1 %d" % status


@pytest.mark.parametrize(
    "name", ["a\x1b[31mb", "a\nb", "a b", "\u202eabc", "a\u2028b", "a\x7f", "a\0b", "a\u200bb", ""]
)
def test_a_name_that_would_deceive_a_reader_is_refused(engine: Engine, name: str) -> None:
    response = httpx.post(f"{engine.url}/api/v1/metrics", json={"metricSpec": {"metric": name}})
    assert response.status_code in (400, 422)
    assert response.text.isprintable()


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"samples":' + b"[" * 5000 + b"]" * 5000 + b"}", b'"\\ud800"'])
def test_json_that_is_deep_or_no_text_is_refused(engine: Engine, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    assert httpx.post(f"{engine.url}/api/v1/samples", content=body, headers=headers).status_code == 400


@pytest.mark.parametrize("pattern", ["*a" * 100 + "b", "?" * 200, "{a,b}" * 12, "[a-" * 50])
def test_no_pattern_keeps_the_service_busy(engine: Engine, pattern: str) -> None:
    engine.send(["a" * 200 + " 1 1400000000"])
    for path, name in (("metrics/find", "query"), ("render", "target"), ("api/v1/metrics", "search")):
        response = httpx.get(f"{engine.url}/{path}", params={name: pattern}, timeout=10)
        assert response.status_code in (200, 400)


@pytest.mark.parametrize("expression", ["(a+)+$", "(aa|aa)" * 60, "a?" * 60 + "a" * 60])
def test_no_expression_keeps_the_service_busy(engine: Engine, expression: str) -> None:
    engine.send(["a" * 200 + " 1 1400000000"])
    target = f"aliasSub(*, '{expression}', 'b')"
    assert httpx.get(f"{engine.url}/render", params={"target": target}, timeout=10).status_code == 200


def test_clients_that_send_byte_by_byte_hold_a_bounded_number_of_connections(engine: Engine) -> None:
    with contextlib.ExitStack() as opened:
        slow = [opened.enter_context(connect(engine)) for _ in range(300)]
        for connection in slow:
            with contextlib.suppress(ConnectionError):
                connection.sendall(b"GET /")
            connection.setblocking(False)
        wait_for(lambda: sum(map(is_closed, slow)) >= 40, "the refusals")
        assert sum(map(is_closed, slow)) < 60
        engine.send(["meanwhile 1 1400000000"])
        wait_for(lambda: engine.query("SELECT 1 FROM metric WHERE name = 'meanwhile'"), "a sample meanwhile")
    wait_for(lambda: answer(engine, b"GET /healthz HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.0 200"), "an answer")


def is_closed(connection: socket.socket) -> bool:
    try:
        return connection.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True
