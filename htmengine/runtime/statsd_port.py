# SPDX-License-Identifier: MIT
"""The statsd port: datagrams and lines, added up (`htmengine.wires.statsd`) and given on at each flush.

While what earlier flushes gave still waits, a flush's samples are dropped and counted as ``statsd_dropped``: statsd's
clients cannot be told to wait.  What came after the last flush before a stop is counted as ``statsd_unflushed``.
"""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.protocol import DatagramProtocol

from htmengine.process.twisted_types import Clock, every
from htmengine.runtime.connections import ConnectionFactory, LineConnection
from htmengine.runtime.sample_batcher import Lane, SampleBatcher
from htmengine.wires.statsd import Aggregator, StatsdOptions

#: Samples that wait before a flush is dropped, beyond those of one flush.
WAITING_SAMPLES = 30_000


class StatsdPort:
    """What both protocols of the port feed."""

    def __init__(self, batcher: SampleBatcher, clock: Clock, options: StatsdOptions) -> None:
        self._batcher = batcher
        self._clock = clock
        self._interval_s = options.flush_interval_s
        self._aggregator = Aggregator(options)
        self._flushed = 0  #: values that have been added up and given on
        self._lane = Lane(WAITING_SAMPLES, lambda _: None, most_bytes=4 << 20)
        self._timer = every(clock, self.flush)

    def start(self) -> None:
        """Flush from now on."""
        self._timer.start(self._interval_s, now=False)

    def stop(self) -> None:
        """Flush no more: a part of an interval would give rates that are too low."""
        if self._timer.running:
            self._timer.stop()
        if lost := self._aggregator.taken - self._flushed:
            self._batcher.drop("statsd_unflushed", lost, "")

    def take(self, lines: bytes, sender: str) -> None:
        """A datagram, or a line of a connection."""
        refused = self._aggregator.take(lines, self._clock.seconds())
        self._batcher.take_rejects(refused, sender)

    def flush(self) -> None:
        """Give on what has been added up."""
        found = self._aggregator.flush(self._clock.seconds())
        self._flushed = self._aggregator.taken
        if self._lane.full:
            self._batcher.drop("statsd_dropped", len(found.samples), "")
        else:
            self._batcher.take_received(found, self._lane)


class StatsdConnection(LineConnection):
    """statsd over TCP."""

    def __init__(self, port: StatsdPort, factory: ConnectionFactory, sender: str) -> None:
        super().__init__(factory, sender)
        self._port = port

    def take(self, lines: Sequence[bytes]) -> None:
        for line in lines:
            self._port.take(line, self.lane.sender)


class StatsdDatagrams(DatagramProtocol):
    """statsd over UDP."""

    noisy = False

    def __init__(self, port: StatsdPort) -> None:
        self._port = port

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        self._port.take(datagram, addr[0])
