# SPDX-License-Identifier: MIT
"""The ports of carbon's frames and of statsd: what gets through, what is refused alone, and when reading pauses."""

from __future__ import annotations

import pickle
import struct
from collections import Counter
from typing import Any

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from htmengine.runtime.connections import Connection
from htmengine.runtime.frame_port import MAX_BAD_FRAMES, TURN_SAMPLES
from htmengine.runtime.metric_listener import ListenerOptions, MetricListener
from htmengine.runtime.sample_batcher import BatcherOptions
from htmengine.runtime.statsd_port import StatsdDatagrams
from htmengine.wires.statsd import StatsdOptions
from tests.unit.test_metric_listener import SlowBus

OPTIONS = ListenerOptions(
    BatcherOptions("samples", batch_max_lines=10),
    port=2003,
    udp=False,
    pickle_port=2004,
    protobuf_port=2005,
    statsd_port=8125,
    statsd=StatsdOptions(flush_interval_s=10.0),
)
#: carbon's protobuf of cpu 0.5 60.
CPU = bytes.fromhex("0a120a03637075120b083c11000000000000e03f")


def frame(body: bytes) -> bytes:
    return struct.pack("!L", len(body)) + body


def pickled(*points: Any) -> bytes:
    return frame(pickle.dumps(list(points), 2))


class PortsTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.bus = SlowBus()
        self.failures: list[Failure] = []
        bus: Any = self.bus
        self.listener = MetricListener(reactor=self.reactor, bus=bus, options=OPTIONS, on_failure=self.failures.append)
        self.listener.privilegedStartService()
        self.listener.startService()
        self.batcher = self.listener.batcher

    def tearDown(self) -> None:
        self.bus.slow = False
        self.bus.confirm()
        self.successResultOf(Deferred.fromCoroutine(self.listener.close()))
        self.assertEqual(self.failures, [])
        self.assertEqual([call for call in self.reactor.getDelayedCalls() if call.active()], [])

    def connect(self, port: int) -> tuple[Connection, StringTransport]:
        peer = IPv4Address("TCP", "10.0.0.1", 4711)
        factories: list[Any] = [each[1] for each in self.reactor.tcpServers if each[0] == port]
        protocol: Connection = factories[0].buildProtocol(peer)
        transport = StringTransport(peerAddress=peer)
        protocol.makeConnection(transport)
        self.addCleanup(protocol.connectionLost)
        return protocol, transport

    def published(self) -> list[str]:
        self.reactor.advance(1)
        return self.bus.lines


@pytest.mark.long
class FramesTest(PortsTestCase):
    def test_frames_are_read_however_the_bytes_are_cut(self) -> None:
        protocol, _ = self.connect(2004)
        sent = pickled(("a", (60, 1)), ("b;y=1;x=2", (60.7, "2.5"))) + pickled(("c", (120, 3)))
        for at in range(0, len(sent), 7):
            protocol.dataReceived(sent[at : at + 7])
        self.assertEqual(self.published(), ["a 1.0 60", "b;x=2;y=1 2.5 60.7", "c 3.0 120"])
        self.assertEqual(self.bus.batches[0].senders, [("10.0.0.1", 3)])

    def test_protobuf(self) -> None:
        protocol, _ = self.connect(2005)
        protocol.dataReceived(frame(CPU) * 2)
        self.assertEqual(self.published(), ["cpu 0.5 60"] * 2)

    def test_a_bad_frame_and_a_bad_sample_harm_themselves_alone(self) -> None:
        protocol, transport = self.connect(2004)
        bad = frame(pickle.dumps(OPTIONS.batches, 2))  # names a class
        future = ("late", (5000, 1))
        protocol.dataReceived(bad + pickled(("a", (60, float("nan"))), future, ("n" * 5000, (60, 1)), ("b", (60, 1))))
        self.assertEqual(self.published(), ["b 1.0 60"])
        expected = {"pickle_opcode": 1, "value_not_finite": 1, "timestamp_future": 1, "name_too_long": 1}
        self.assertEqual(dict(self.batcher.rejected), expected)
        self.assertEqual({reject.sender for reject in self.bus.batches[0].rejects}, {"10.0.0.1"})
        self.assertFalse(transport.disconnecting)

    def test_lines_on_a_port_of_frames_end_the_connection_and_are_told_once(self) -> None:
        told: list[str] = []
        factory = self.listener._factories()[1]
        factory.advise = lambda sender, reason, advice: told.append(advice)  # type: ignore[method-assign]
        protocol, transport = self.connect(2004)
        protocol.dataReceived(b"cpu.load 0.5 60\n")
        protocol.dataReceived(pickled(("a", (60, 1))))
        self.assertTrue(transport.disconnecting)
        self.assertEqual((self.published(), dict(self.batcher.rejected)), ([], {"frame_too_long": 1}))
        self.assertIn("Lines go to the line port", told[0])

    def test_damaged_frames_in_a_row_end_the_connection(self) -> None:
        protocol, transport = self.connect(2004)
        almost = frame(b"") * (MAX_BAD_FRAMES - 1)
        protocol.dataReceived(almost + pickled(("a", (60, 1))) + almost)
        self.assertFalse(transport.disconnecting)
        protocol.dataReceived(frame(b"") * 1000 + pickled(("b", (60, 1))))
        self.assertTrue(transport.disconnecting)
        self.assertEqual(self.published(), ["a 1.0 60"])
        self.assertEqual(dict(self.batcher.rejected), {"not_a_pickle": 2 * MAX_BAD_FRAMES - 1})

    def test_a_long_frame_is_taken_in_turns_and_the_next_ones_wait_behind_it(self) -> None:
        protocol, transport = self.connect(2004)
        points = [("a", (60 * row, row)) for row in range(3 * TURN_SAMPLES)]
        protocol.dataReceived(pickled(*points) + pickled(("b", (60, 1))))
        self.assertLessEqual(self.batcher.received, TURN_SAMPLES)
        self.assertEqual(transport.producerState, "paused")
        self.reactor.advance(0)
        self.assertEqual(transport.producerState, "producing")
        self.assertEqual(self.batcher.received, 3 * TURN_SAMPLES + 1)

    def test_a_long_frame_is_taken_to_its_end_when_the_connection_ends(self) -> None:
        protocol, _ = self.connect(2004)
        protocol.dataReceived(pickled(*[("a", (60 * row, row)) for row in range(3 * TURN_SAMPLES)]))
        protocol.close()
        self.assertEqual(self.batcher.received, 3 * TURN_SAMPLES)

    def test_a_long_frame_that_holds_nothing_takes_turns_too(self) -> None:
        protocol, _ = self.connect(2004)
        protocol.dataReceived(frame(b")" + b"\x85" * 100_000 + b"."))
        self.assertEqual(dict(self.batcher.rejected), {})
        self.reactor.advance(0)
        self.assertEqual(dict(self.batcher.rejected), {"pickle_form": 1})

    def test_a_client_waits_while_the_bus_is_slow(self) -> None:
        self.bus.slow = True
        protocol, transport = self.connect(2004)
        points = [(f"a{number}", (60, number)) for number in range(25)]
        protocol.dataReceived(pickled(*points))
        self.assertEqual(transport.producerState, "paused")
        self.bus.slow = False
        self.bus.confirm()
        self.assertEqual(transport.producerState, "producing")
        self.assertEqual(len(self.published()), 25)


class StatsdTest(PortsTestCase):
    def test_datagrams_and_connections_are_added_up_until_the_flush(self) -> None:
        StatsdDatagrams(self.listener.statsd).datagramReceived(b"hits:3|c\nbad\n_e{1,1}:a|b\n", ("10.0.0.2", 4711))
        protocol, _ = self.connect(8125)
        protocol.dataReceived(b"hits:2|c\nq")
        protocol.dataReceived(b":7|g\n")
        self.assertEqual(self.published(), [])
        self.reactor.advance(9)
        expected = ["stats.counters.hits.rate 0.5 10", "stats.counters.hits.count 5.0 10", "stats.gauges.q 7.0 10"]
        self.assertEqual(self.published(), expected)
        [reject] = [reject for batch in self.bus.batches for reject in batch.rejects]
        self.assertEqual((reject.reason, reject.sender), ("statsd_form", "10.0.0.2"))
        self.assertEqual(
            sum((Counter(batch.rejected) for batch in self.bus.batches), Counter()), {"statsd_form": 1, "event": 1}
        )

    def test_a_flush_that_finds_no_room_is_dropped_and_counted(self) -> None:
        self.patch(self.listener.statsd._lane, "_most", 1)
        self.bus.slow = True
        self.listener.statsd.take(b"a:1|g\nb:1|g\nc:1|g", "")
        for _ in range(3):  # published, waits, dropped
            self.reactor.advance(10)
        self.assertEqual(dict(self.batcher.rejected), {"statsd_dropped": 3})

    def test_what_no_flush_has_had_at_a_stop_is_counted(self) -> None:
        self.listener.statsd.take(b"a:1|c\nb:1|c", "")
        self.successResultOf(Deferred.fromCoroutine(self.listener.close()))
        self.assertEqual([batch.rejected for batch in self.bus.batches], [{"statsd_unflushed": 2}])
