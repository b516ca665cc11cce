# SPDX-License-Identifier: MIT
"""Another protocol on the Graphite line port, recognised by its first bytes.

In: the first bytes of a connection.  Out: what they are, and the sentence that tells its sender what to do.
"""

from __future__ import annotations

import re
from typing import NamedTuple

#: No protocol needs more of its first bytes to be known.
FIRST_BYTES = 512


class Foreign(NamedTuple):
    """A protocol that is not Graphite's lines.  ``reason`` is the key it is counted under."""

    reason: str
    advice: str
    has_lines: bool = False  #: what follows its first line is lines as well


_PROXY = "a proxy sends PROXY headers to the line port; turn its PROXY protocol off (send-proxy)"
_PATTERNS = [
    (
        rb"\x00[\x00-\x10]..(?:\x80[\x00-\x05]|\(l|\(dp|\])",
        Foreign("pickle", "Graphite pickles come to the line port; send them to the pickle port (usually 2004)"),
    ),
    (
        rb"\x00[\x00-\x10]..\x0a",
        Foreign("protobuf", "carbon's protobuf comes to the line port; send it to the protobuf port (usually 2005)"),
    ),
    (
        rb"\x16\x03[\x00-\x04]",
        Foreign("tls", "a TLS client comes to the line port, which has no TLS; turn TLS off, or put a proxy before it"),
    ),
    (rb"\r\n\r\n\x00\r\nQUIT\n", Foreign("proxy", _PROXY)),
    (rb"PROXY (?:TCP4|TCP6|UNKNOWN)\b", Foreign("proxy", _PROXY, has_lines=True)),
    (
        rb"[A-Z]{3,16} \S+ HTTP/[12]\.",
        Foreign("http", "an HTTP client comes to the line port; send HTTP to the port of the web service"),
    ),
    (
        rb"AMQP[\x00-\x03]",
        Foreign("amqp", "an AMQP client comes to the line port; let it publish to the RabbitMQ server"),
    ),
    (
        rb"[^\s:|]+:[^\s|]+\|(?:c|g|ms|h|d|s)(?![^|\r\n])",
        Foreign(
            "statsd",
            "statsd's lines come to the line port; send them to the statsd port (usually 8125)",
            has_lines=True,
        ),
    ),
    (
        rb"[^\s,=]++(?:,[^\s,=]++=[^\s,=]++)*+ [^\s=]++=\S",
        Foreign(
            "influx",
            "Influx lines come to the line port; send them by HTTP, to /write of the web service",
            has_lines=True,
        ),
    ),
]
_PROTOCOLS = [(re.compile(pattern, re.DOTALL), foreign) for pattern, foreign in _PATTERNS]


def recognise(first: bytes) -> Foreign | None:
    """What these first bytes are, or None for lines, for what is unknown, and for too few bytes to tell.

    >>> recognise(b"GET /metrics HTTP/1.1\\r\\n").reason
    'http'
    >>> recognise(b"cpu.load 0.5 1400000000\\n") is None
    True
    """
    first = first[:FIRST_BYTES]
    return next((foreign for pattern, foreign in _PROTOCOLS if pattern.match(first)), None)
