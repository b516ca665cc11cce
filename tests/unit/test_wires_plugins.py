# SPDX-License-Identifier: MIT
"""Wires of other packages: found by name, and unable to harm more than their own connection."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from htmengine.errors import InvalidBody, StartError
from htmengine.runtime.metric_listener import ListenerOptions, MetricListener
from htmengine.runtime.sample_batcher import BatcherOptions
from htmengine.runtime.wire_port import WireConnection
from htmengine.wires import plugins
from htmengine.wires.plugins import LineReader, wires_at, wires_named
from htmengine.wires.samples import Kind, Received
from tests.unit.test_metric_listener import SlowBus


class Pairs(LineReader):
    """``name=value``, at a minute past midnight."""

    def take(self, line: str, received: Received) -> None:
        name, value = line.split("=")
        received.add(name, float(value), 60.0, Kind.COUNTER if name.endswith("_total") else Kind.GAUGE)


class Broken(Pairs):
    """Reads nothing."""

    def feed(self, data: bytes) -> Iterator[Received]:
        raise (InvalidBody("too_bad", "it is") if data == b"bad" else ZeroDivisionError)


class FindingTest(SynchronousTestCase):
    def setUp(self) -> None:
        values = {"pairs": f"{__name__}:Pairs", "gone": "no_such_module:Wire"}
        found = EntryPoints(EntryPoint(name, value, plugins.GROUP) for name, value in values.items())
        self.patch(plugins, "entry_points", lambda group: found.select(group=group))

    def test_by_name_and_port(self) -> None:
        self.assertEqual(wires_at("pairs:4242"), {"pairs": (Pairs, 4242)})
        self.assertEqual((wires_named("pairs"), wires_named("")), ({"pairs": Pairs}, {}))

    def test_what_is_not_there_is_named_with_what_is(self) -> None:
        for text, told in (
            ("other", "a wire 'other'; there are: gone, pairs"),
            ("gone", "'gone' (no_such_module:Wire)"),
        ):
            error = self.assertRaises(StartError, wires_named, text)
            self.assertIn("[web] wires: ", str(error))
            self.assertIn(told, str(error))


class PortTest(SynchronousTestCase):
    def setUp(self) -> None:
        self.bus: Any = SlowBus()
        reactor = MemoryReactorClock()
        wires = {"pairs": (Pairs, 4242), "broken": (Broken, 4243)}
        options = ListenerOptions(BatcherOptions("samples", batch_max_lines=10), udp=False, wires=wires)
        self.listener = MetricListener(reactor=reactor, bus=self.bus, options=options, on_failure=self.fail)
        self.listener.privilegedStartService()
        self.servers: dict[int, Any] = {each[0]: each[1] for each in reactor.tcpServers}

    def connect(self, port: int) -> tuple[WireConnection, StringTransport]:
        peer = IPv4Address("TCP", "10.0.0.1", 4711)
        connection, transport = self.servers[port].buildProtocol(peer), StringTransport(peerAddress=peer)
        connection.makeConnection(transport)
        return connection, transport

    def test_samples_are_in_the_connections_lane_and_bad_ones_are_counted(self) -> None:
        connection, transport = self.connect(4242)
        connection.dataReceived(b"cpu=1\nnothing\n\xff=1\nrpc_total=5\nlo")
        connection.dataReceived(b"ad=2")
        self.assertEqual(connection.lane.waiting, 1)
        connection.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.listener.batcher.ended.waiting, 2)
        rejected = {"line_form": 1, "not_utf8": 1, "total_over_port": 1}
        self.assertEqual((dict(self.listener.batcher.rejected), transport.disconnecting), (rejected, False))

    def test_a_wire_that_fails_ends_its_connection(self) -> None:
        for data, reason in ((b"bad", "too_bad"), (b"worse", "wire_failed")):
            connection, transport = self.connect(4243)
            connection.dataReceived(data)
            connection.dataReceived(data)
            self.assertEqual(self.listener.batcher.rejected[reason], 1)
            self.assertTrue(transport.disconnecting)
            connection.connectionLost()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_a_line_that_is_too_long_ends_it(self) -> None:
        connection, transport = self.connect(4242)
        connection.dataReceived(b"x" * 20_000)
        self.assertTrue(transport.disconnecting)
        self.assertEqual(dict(self.listener.batcher.rejected), {"line_too_long": 1})


class ExampleTest(SynchronousTestCase):
    def test_the_documents_have_the_whole_example(self) -> None:
        root = Path(__file__).parents[2]
        page = (root / "docs" / "sending.md").read_text()
        package = root / "tests" / "support" / "opentsdb-wire"
        for file in ("opentsdb_wire.py", "pyproject.toml"):
            self.assertIn(
                (package / file).read_text().partition("\n")[2].strip(), page, "without the line of the licence"
            )
