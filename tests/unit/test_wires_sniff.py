# SPDX-License-Identifier: MIT
"""Other protocols on the Graphite line port are recognised; Graphite's own lines never are."""

from __future__ import annotations

import pickle
import ssl
import struct
from unittest import TestCase

from hypothesis import given
from hypothesis import strategies as st

from htmengine.wires.sniff import recognise

NAMES = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=60)


def framed(body: bytes) -> bytes:
    return struct.pack("!L", len(body)) + body


def tls_hello() -> bytes:
    context = ssl.create_default_context()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname="metrics.example.org")
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        return outgoing.read()
    raise AssertionError("a handshake ended without an answer")


class SniffTest(TestCase):
    def test_each_protocol_is_recognised_by_its_first_bytes(self) -> None:
        points = [(f"servers.web{number}.cpu", (1400000000, 0.5)) for number in range(500)]
        cases = [
            *((framed(pickle.dumps(points, protocol)), "pickle") for protocol in range(6)),
            (framed(b"\x0a\x10\x0a\x03cpu\x12\x09\x11"), "protobuf"),
            (tls_hello(), "tls"),
            (b"PROXY TCP4 192.0.2.1 192.0.2.2 5000 2003\r\ncpu 1 60\n", "proxy"),
            (b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c", "proxy"),
            (b"GET / HTTP/1.1\r\nHost: x\r\n", "http"),
            (b"POST /api/v1/write HTTP/1.1\r\n", "http"),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "http"),
            (b"AMQP\x00\x00\x09\x01", "amqp"),
            (b"logins:1|c", "statsd"),
            (b"page:320|ms|@0.1\n", "statsd"),
            (b"cpu,host=a,dc=b usage=1.5,n=2i 1700000000000000000\n", "influx"),
            (b"cpu usage=1.5\n", "influx"),
        ]
        found = [(first, foreign.reason if (foreign := recognise(first)) else None) for first, _ in cases]
        self.assertEqual(found, cases)

    def test_each_sentence_says_what_comes_and_what_to_do(self) -> None:
        foreign = recognise(b"GET / HTTP/1.1\r\n")
        self.assertEqual(
            foreign.advice, "an HTTP client comes to the line port; send HTTP to the port of the web service"
        )

    @given(name=NAMES, value=st.floats(allow_nan=False, allow_infinity=False), timestamp=st.integers(-1, 2**32))
    def test_no_graphite_line_is_taken_for_another_protocol(self, name: str, value: float, timestamp: int) -> None:
        self.assertIsNone(recognise(f"{name} {value!r} {timestamp}\n".encode()))

    def test_lines_with_tags_and_lines_of_nonsense_are_left_to_the_listener(self) -> None:
        for first in (
            b"disk;host=h1;dc=a 1 1400000000\n",
            b"GET 1 60\n",
            b"PROXY 1 60\n",
            b"cpu one 60\n",
            b"",
            b"\n",
            b"a",
        ):
            self.assertIsNone(recognise(first))

    @given(st.binary(max_size=600))
    def test_any_bytes_are_looked_at(self, first: bytes) -> None:
        recognise(first)
