# SPDX-License-Identifier: MIT
"""Ports of wires that other packages bring (`htmengine.wires.plugins`).

In: a connection's bytes, which the wire's reader takes.  Out: samples, in the connection's lane as those of every wire.
A reader that fails ends its connection and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from htmengine.errors import InvalidBody
from htmengine.runtime.connections import Connection, ConnectionFactory
from htmengine.wires.plugins import Wire
from htmengine.wires.samples import Kind, Received


class WireConnection(Connection):
    """One client's bytes."""

    log = Logger()

    def __init__(self, name: str, wire: Wire, factory: ConnectionFactory, sender: str) -> None:
        super().__init__(factory, sender)
        self._name = name
        self._reader = wire()
        self._ended = False

    def dataReceived(self, data: bytes) -> None:
        self.resetTimeout()
        self._take(lambda: self._reader.feed(data))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if reason.check(ConnectionDone):  # a connection that broke may have cut the last sample
            self._take(self._reader.end)
        super().connectionLost(reason)

    def _take(self, read: Callable[[], Iterable[Received]]) -> None:
        if self._ended:
            return
        try:
            for part in read():
                self.batcher.take_received(gauges(part), self.lane)
        except InvalidBody as bad:
            self.reject(bad.reason, bad.detail)
            self._end()
        except Exception as error:  # the other package's
            self.log.failure("the wire {name} has failed", name=self._name)
            self.reject("wire_failed", f"{self._name}: {error!r}")
            self._end()

    def _end(self) -> None:
        self._ended = True
        self.close()


def gauges(received: Received) -> Received:
    """Without totals, which a port's messages cannot carry: over HTTP they become rates."""
    kept = []
    for sample in received.samples:
        if sample.kind is Kind.GAUGE:
            kept.append(sample)
        else:
            received.reject("total_over_port", f"{sample.name}: a {sample.kind.value}; send it over HTTP, or its rate")
    received.samples = kept
    return received
