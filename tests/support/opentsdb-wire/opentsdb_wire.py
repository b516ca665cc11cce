# SPDX-License-Identifier: MIT
"""OpenTSDB's lines ``put NAME TIMESTAMP VALUE TAG=VALUE ...``, with seconds or milliseconds."""

from __future__ import annotations

from htmengine.errors import InvalidSample
from htmengine.wires.plugins import LineReader
from htmengine.wires.samples import Received, number


class OpenTsdb(LineReader):
    """Reads one connection, or one request."""

    def take(self, line: str, received: Received) -> None:
        put, name, timestamp, value, *tags = line.split()
        if put != "put":
            raise InvalidSample("no_put", f"{put!r}; put is the only command")
        seconds = number(timestamp) / (1000 if len(timestamp) > 10 else 1)
        text = received.name(name, dict(tag.split("=", 1) for tag in tags))
        if text is not None:
            received.add(text, number(value), seconds)
