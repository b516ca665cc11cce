# SPDX-License-Identifier: MIT
"""The Graphite port: which lines get through, how they are batched, and when reading pauses."""

from __future__ import annotations

import pickle
import struct
from collections import Counter
from collections.abc import Mapping, Sequence

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionLost
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from htmengine.bus.interface import SAMPLES_LIMITS, QueueLimits
from htmengine.messages import MESSAGE_BYTES, Reject, SampleBatch, decode_samples, line_bytes
from htmengine.process.progress import Progress
from htmengine.runtime.connections import Connection
from htmengine.runtime.metric_listener import (
    FLUSH_S,
    GraphiteDatagrams,
    ListenerOptions,
    MetricListener,
)
from htmengine.runtime.sample_batcher import BatcherOptions

QUEUE = "samples"
LONG_LINE = b"m" + b" " * 4000 + b"1 60\n"


class SlowBus:
    """A bus whose publications are confirmed when the test says so."""

    def __init__(self) -> None:
        self.progress = Progress(lambda: 0.0)
        self.bodies: list[bytes] = []
        self.waiting: list[Deferred[None]] = []
        self.slow = False

    async def declare_queue(self, name: str, *, limits: QueueLimits) -> None:
        pass

    async def publish(self, queue: str, bodies: Sequence[bytes], headers: Mapping[str, str] | None = None) -> None:
        self.bodies += bodies
        await self._confirmed()

    def _confirmed(self) -> Deferred[None]:
        if not self.slow:
            return succeed(None)
        self.waiting.append(Deferred())
        return self.waiting[-1]

    def confirm(self) -> None:
        """The publication that waits, if one does."""
        for waiting in [self.waiting.pop() for _ in self.waiting[:1]]:
            waiting.callback(None)

    @property
    def batches(self) -> list[SampleBatch]:
        return [decode_samples(body) for body in self.bodies]

    @property
    def lines(self) -> list[str]:
        return [line for batch in self.batches for line in batch.lines]


class ListenerTestCase(SynchronousTestCase):
    options = ListenerOptions(BatcherOptions(QUEUE, batch_max_lines=10), idle_timeout_s=60.0, max_connections=2)

    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.bus = SlowBus()
        self.failures: list[Failure] = []
        self.listener = MetricListener(
            reactor=self.reactor, bus=self.bus, options=self.options, on_failure=self.failures.append
        )
        self.batcher = self.listener.batcher

    def tearDown(self) -> None:
        self.assertEqual(self.failures, [])
        self.assertEqual([call for call in self.reactor.getDelayedCalls() if call.active()], [])

    def connect(self, host: str = "10.0.0.1") -> tuple[Connection, StringTransport]:
        peer = IPv4Address("TCP", host, 4711)
        protocol = self.listener.factory.buildProtocol(peer)
        assert protocol is not None
        transport = StringTransport(peerAddress=peer)
        protocol.makeConnection(transport)
        return protocol, transport

    def hang_up(self, protocol: Connection) -> None:
        protocol.connectionLost()
        self.reactor.advance(1)


class LinesTest(ListenerTestCase):
    def received(self, *chunks: bytes) -> list[str]:
        protocol, _ = self.connect()
        for chunk in chunks:
            protocol.dataReceived(chunk)
        self.hang_up(protocol)
        return self.bus.lines

    def test_lines_arrive_in_order_however_the_bytes_are_cut(self) -> None:
        self.assertEqual(self.received(b"a 1 60\nb ", b"2 6", b"0\r\nc 3 60\n"), ["a 1 60", "b 2 60\r", "c 3 60"])

    def test_blank_lines_are_nothing(self) -> None:
        self.assertEqual(self.received(b"\n\r\n   \na 1 60\n"), ["a 1 60"])
        self.assertEqual(self.batcher.received, 1)

    def test_a_last_line_without_its_end_counts(self) -> None:
        self.assertEqual(self.received(b"a 1 60"), ["a 1 60"])

    def test_half_a_line_of_a_broken_connection_does_not_count(self) -> None:
        protocol, _ = self.connect()
        protocol.dataReceived(b"a 1 60\nb 1 1400")
        protocol.connectionLost(Failure(ConnectionLost()))
        self.reactor.advance(1)
        self.assertEqual(self.bus.lines, ["a 1 60"])

    def test_minus_one_becomes_the_time_of_arrival(self) -> None:
        self.reactor.advance(1_400_000_000.7)
        self.assertEqual(self.received(b"a 1.50 -1\nb 2 -1.0\n"), ["a 1.5 1400000000", "b 2.0 1400000000"])

    def test_a_bad_line_is_rejected_alone_and_counted_by_reason(self) -> None:
        self.assertEqual(self.received(b"a 1 60\na nan 60\n\xff 1 60\nb 2\nc 3 60\n"), ["a 1 60", "c 3 60"])
        expected = {"value_not_finite": 1, "not_utf8": 1, "field_count": 1}
        self.assertEqual(dict(self.batcher.rejected), expected)
        self.assertEqual(sum(batch.rejected["not_utf8"] for batch in self.bus.batches), 1)

    def test_a_line_from_the_future_is_rejected_by_a_reason_of_its_own(self) -> None:
        self.assertEqual(self.received(b"a 1 600\na 2 602\n"), ["a 1 600"])
        self.assertEqual(self.batcher.rejected, Counter({"timestamp_future": 1}))

    def test_another_protocol_is_told_once_for_each_sender_and_its_connection_is_closed(self) -> None:
        logged: list[str] = []
        self.patch(self.listener.factory, "log", _Recorder(logged))
        frame = pickle.dumps([(f"servers.web{n}.cpu", (1400000000, 0.5)) for n in range(500)], 2)
        for host in ("10.0.0.1", "10.0.0.1", "10.0.0.2"):
            for first in (struct.pack("!L", len(frame)) + frame, b"GET / HTTP/1.1\r\nHost: x\r\n", b"\x16\x03\x01\x02"):
                protocol, transport = self.connect(host)
                protocol.dataReceived(first[:3])
                if not transport.disconnecting:  # TLS is known by three bytes
                    protocol.dataReceived(first[3:])
                self.assertTrue(transport.disconnecting)
                self.hang_up(protocol)
        self.assertEqual(self.batcher.rejected, Counter(pickle=3, http=3, tls=3))
        self.assertEqual(len(logged), 6)
        self.assertIn("10.0.0.1: Graphite pickles come to the line port; send them to the pickle port", logged[0])

    def test_lines_after_a_proxy_header_are_read(self) -> None:
        header = b"PROXY TCP4 192.0.2.1 192.0.2.2 5000 2003\r\n"
        self.assertEqual(self.received(header[:20], header[20:] + b"a 1 60\n"), ["a 1 60"])
        self.assertEqual(self.batcher.rejected, Counter({"proxy": 1}))

    def test_a_message_tells_who_sent_each_line_and_shows_rejects(self) -> None:
        for host in ("10.0.0.1", "10.0.0.2"):
            protocol, _ = self.connect(host)
            protocol.dataReceived(b"disk;dc=a;host=h1 1 60\ndisk;dc=a;host=h1 2,25 120\ndisk;dc=a;host=h1 2 180\n")
            protocol.connectionLost()
        GraphiteDatagrams(self.batcher).datagramReceived(b"u 1 60", ("10.0.0.3", 4711))
        self.reactor.advance(1)
        [batch] = self.bus.batches
        self.assertEqual(batch.senders, [("10.0.0.1", 2), ("10.0.0.2", 2), ("10.0.0.3", 1)])
        shown = [Reject("value_not_a_number", "disk;dc=a;host=h1 2,25 120", f"10.0.0.{n}") for n in (1, 2)]
        self.assertEqual(batch.rejects, shown)

    def test_a_flood_of_rejects_makes_no_large_message(self) -> None:
        self.received(b"x" * 16_000 + b"\n" + b"\x01\xff\n" * 10_000)
        [message] = self.bus.bodies
        self.assertLess(len(message), 4096)
        self.assertEqual(self.bus.batches[0].rejected, {"field_count": 1, "not_utf8": 10_000})

    def test_rejects_without_any_accepted_line_are_told_too(self) -> None:
        self.assertEqual(self.received(b"nonsense\n"), [])
        self.assertEqual([batch.rejected for batch in self.bus.batches], [{"field_count": 1}])

    def test_a_line_of_16384_bytes_is_read_and_a_longer_one_harms_no_other(self) -> None:
        longest = b"a 1 60" + b" " * (16_384 - 6)
        self.assertEqual(self.received(longest + b"\n" + longest + b" \nb 2 60\n"), [longest.decode(), "b 2 60"])
        self.assertEqual(dict(self.batcher.rejected), {"line_too_long": 1})

    def test_a_line_without_end_is_rejected_once_and_skipped(self) -> None:
        chunks = [b"x" * 10_000] * 5
        self.assertEqual(self.received(*chunks, b"still the same\nb 2 60\n"), ["b 2 60"])
        self.assertEqual(dict(self.batcher.rejected), {"line_too_long": 1})
        self.assertEqual(self.batcher.received, 2)

    def test_a_reason_is_logged_once_a_minute_and_the_line_is_cut(self) -> None:
        logged: list[str] = []
        self.patch(self.batcher.reject_log, "log", _Recorder(logged))
        protocol, _ = self.connect()
        protocol.dataReceived(b"x" * 1000 + b"\ny\nz\n")
        self.reactor.advance(61)
        protocol.dataReceived(b"w\n")
        self.hang_up(protocol)
        self.assertEqual(len(logged), 2)
        self.assertLess(len(logged[0]), 250)
        self.assertIn("from 10.0.0.1: 'xxx", logged[0])


class _Recorder:
    def __init__(self, logged: list[str]) -> None:
        self._logged = logged

    def warn(self, template: str, **fields: object) -> None:
        self._logged.append(template.format(**fields))

    error = warn


class BatchesTest(ListenerTestCase):
    def test_a_single_line_is_on_its_way_within_50_ms(self) -> None:
        protocol, _ = self.connect()
        protocol.dataReceived(b"a 1 60\n")
        self.reactor.advance(0.05)
        self.assertEqual(self.bus.lines, ["a 1 60"])
        self.hang_up(protocol)

    def test_a_full_batch_does_not_wait(self) -> None:
        protocol, _ = self.connect()
        protocol.dataReceived(b"a 1 60\n" * 10)
        self.assertEqual([len(batch.lines) for batch in self.bus.batches], [10])
        self.hang_up(protocol)

    def test_each_batch_has_an_id_of_its_own(self) -> None:
        protocol, _ = self.connect()
        protocol.dataReceived(b"a 1 60\n" * 30)
        self.hang_up(protocol)
        ids = [batch.batch_id for batch in self.bus.batches]
        self.assertEqual(len(set(ids)), len(ids))
        self.assertTrue(all(ids))


class LongLinesTest(ListenerTestCase):
    options = ListenerOptions(BatcherOptions(QUEUE, batch_max_lines=1000))

    @pytest.mark.long
    def test_no_message_is_larger_than_half_of_the_queue_whatever_the_lines_have(self) -> None:
        self.assertLessEqual(2 * MESSAGE_BYTES, SAMPLES_LIMITS.max_bytes)
        names = [sign * length for length in (1, 20, 62, 63, 70, 200, 255) for sign in ("m", "ü", "指")]
        for name in names:
            protocol, _ = self.connect()
            protocol.dataReceived(f"{name} 1 60\n".encode() * 1100)
            self.hang_up(protocol)
        self.assertEqual(Counter(self.bus.lines), {f"{name} 1 60": 1100 for name in names})
        protocol, _ = self.connect()
        protocol.dataReceived(LONG_LINE * 100)
        self.hang_up(protocol)
        self.assertEqual(len(self.bus.lines), 1100 * len(names) + 100)
        overhead = 200  # of a message's id and time of arrival; and the last lane gives a line of any size
        self.assertLessEqual(max(map(len, self.bus.bodies)), MESSAGE_BYTES + overhead + len(LONG_LINE))

    def test_lines_that_just_fit_go_together_and_one_byte_more_goes_alone(self) -> None:
        name = "collectd.load.shortterm;dc=fra1;host=web{:03d}.example.net;plugin=load;role=frontend"
        lines = [f"{name.format(n)} 0.25 {60 + n}" for n in range(100)]
        for more in (-1, 0, 1):
            self.bus.bodies.clear()
            room = MESSAGE_BYTES - sum(map(line_bytes, lines)) - line_bytes(" 1 60")
            while room > 255:  # fill up with long names
                lines.append(f"{'n' * 200}{len(lines):03d};host=h 1 60")
                room -= line_bytes(lines[-1])
            last = "m" * (room + more) + " 1 60"
            protocol, _ = self.connect()
            protocol.dataReceived("".join(f"{line}\n" for line in [*lines, last]).encode())
            self.hang_up(protocol)
            self.assertEqual(self.bus.lines, [*lines, last])
            self.assertEqual(len(self.bus.bodies), 1 if more <= 0 else 2, more)

    def test_a_message_from_a_thousand_senders_fits_into_the_queue(self) -> None:
        self.patch(self.listener.factory, "_max_connections", 1000)
        protocols = [self.connect(f"2001:0db8:85a3:0000:0000:8a2e:0370:{n:04x}")[0] for n in range(1000)]
        for protocol in protocols:
            protocol.dataReceived(b"x" * 100 + b";host=h1 1 60\n" + b"rejected;line=%s x 60\n" % (b"x" * 200))
        self.reactor.advance(1)
        for protocol in protocols:
            self.hang_up(protocol)
        self.assertEqual(len(self.bus.lines), 1000)
        self.assertLess(max(map(len, self.bus.bodies)), SAMPLES_LIMITS.max_bytes)

    def test_a_client_of_long_lines_waits_as_soon_as_it_has_a_message_of_them(self) -> None:
        self.bus.slow = True
        protocol, transport = self.connect()
        protocol.dataReceived(LONG_LINE)
        self.reactor.advance(0.05)
        protocol.dataReceived(LONG_LINE * 20)
        self.assertEqual(transport.producerState, "paused")
        self.bus.slow = False
        self.bus.confirm()
        self.assertEqual(transport.producerState, "producing")
        self.hang_up(protocol)

    def test_long_lines_leave_room_for_a_neighbours_short_ones(self) -> None:
        self.bus.slow = True
        long, _ = self.connect()
        long.dataReceived(LONG_LINE * 40)
        self.reactor.advance(0.05)
        short, _ = self.connect()
        short.dataReceived(b"little 1 60\n" * 10)
        self.bus.confirm()
        self.assertEqual(self.bus.batches[1].lines.count("little 1 60"), 10)
        self.bus.slow = False
        self.bus.confirm()
        self.hang_up(long)
        self.hang_up(short)


class TurnsTest(ListenerTestCase):
    """While the bus takes one batch after the other, ten lines each."""

    def setUp(self) -> None:
        super().setUp()
        self.bus.slow = True

    def tearDown(self) -> None:
        self.bus.slow = False
        self.bus.confirm()
        for connection in list(self.listener.factory.connections):
            self.hang_up(connection)
        super().tearDown()

    def test_reading_pauses_while_many_lines_wait_and_goes_on_after(self) -> None:
        protocol, transport = self.connect()
        protocol.dataReceived(b"a 1 60\n" * 10)  # this batch is being published
        protocol.dataReceived(b"a 1 60\n" * 9)
        self.assertEqual(transport.producerState, "producing")
        protocol.dataReceived(b"a 1 60\n" * 2)
        self.assertEqual(transport.producerState, "paused")
        self.assertTrue(self.batcher.under_pressure)
        self.bus.confirm()
        self.assertEqual(transport.producerState, "producing")
        self.assertFalse(self.batcher.under_pressure)

    def test_a_client_that_sends_little_passes_one_that_sends_much(self) -> None:
        greedy, transport = self.connect()
        greedy.dataReceived(b"much 1 60\n" * 1000)
        modest, other_transport = self.connect()
        modest.dataReceived(b"little 1 60\n")
        self.assertEqual((transport.producerState, other_transport.producerState), ("paused", "producing"))
        self.bus.confirm()
        self.assertIn("little 1 60", self.bus.batches[1].lines)

    def test_clients_that_send_much_share_each_batch(self) -> None:
        one, _ = self.connect()
        one.dataReceived(b"one 1 60\n" * 100)
        two, _ = self.connect()
        two.dataReceived(b"two 1 60\n" * 100)
        self.bus.confirm()
        self.assertEqual(Counter(self.bus.batches[1].lines), {"one 1 60": 5, "two 1 60": 5})

    def test_a_clients_lines_stay_in_order_in_full_batches(self) -> None:
        protocol, _ = self.connect()
        sent = [f"a {number} {number}" for number in range(35)]
        protocol.dataReceived("".join(f"{line}\n" for line in sent).encode())
        self.bus.slow = False
        self.bus.confirm()
        self.assertEqual(self.bus.lines, sent)
        self.assertEqual([len(batch.lines) for batch in self.bus.batches], [10, 10, 10, 5])

    def test_lines_of_a_client_that_is_gone_are_published_and_it_is_read_no_more(self) -> None:
        protocol, transport = self.connect()
        protocol.dataReceived(b"a 1 60\n" * 100)
        protocol.connectionLost()
        self.bus.slow = False
        self.bus.confirm()
        self.assertEqual(len(self.bus.lines), 100)
        self.assertEqual(transport.producerState, "paused")

    def test_who_connects_next_does_not_overtake_what_was_sent_before(self) -> None:
        other, _ = self.connect()
        sent = [f"a {number} {number}" for number in range(90)]
        for first in range(0, 90, 30):
            protocol, _ = self.connect()
            protocol.dataReceived("".join(f"{line}\n" for line in sent[first : first + 30]).encode())
            protocol.connectionLost()
            other.dataReceived(b"other 1 60\n")
        self.bus.slow = False
        self.bus.confirm()
        self.assertEqual([line for line in self.bus.lines if line.startswith("a ")], sent)
        self.assertEqual(self.bus.lines.count("other 1 60"), 3)

    def test_nobody_is_read_while_many_short_connections_have_left_too_much(self) -> None:
        _, early_transport = self.connect()
        for _ in range(6):
            short, _ = self.connect()
            short.dataReceived(b"a 1 60\n" * 10)
            short.connectionLost()
        _, late_transport = self.connect()
        self.assertEqual((early_transport.producerState, late_transport.producerState), ("paused", "paused"))
        self.assertTrue(self.batcher.under_pressure)
        self.bus.slow = False
        self.bus.confirm()
        self.assertEqual((early_transport.producerState, late_transport.producerState), ("producing", "producing"))
        self.assertFalse(self.batcher.under_pressure)

    def test_a_batch_tells_when_its_oldest_line_came(self) -> None:
        protocol, _ = self.connect()
        protocol.dataReceived(b"a 1 60\n" * 11)
        self.reactor.advance(1)
        protocol.dataReceived(b"a 1 60\n" * 10)
        for _ in range(2):
            self.bus.confirm()
        self.assertEqual([batch.received_at for batch in self.bus.batches], [0.0, 0.0, 1.0])

    def test_datagrams_beyond_their_room_are_dropped_and_counted(self) -> None:
        datagrams = GraphiteDatagrams(self.batcher, most_lines=20)
        datagrams.datagramReceived(b"a 1 60\n" * 10, ("10.0.0.9", 4711))
        datagrams.datagramReceived(b"a 1 60\n" * 20, ("10.0.0.9", 4711))
        datagrams.datagramReceived(b"b 1 60\nb 2 60", ("10.0.0.9", 4711))
        self.assertEqual(dict(self.batcher.rejected), {"udp_dropped": 2})
        self.bus.confirm()
        datagrams.datagramReceived(b"c 1 60", ("10.0.0.9", 4711))
        self.assertEqual(self.batcher.rejected.total(), 2)


class ConnectionsTest(ListenerTestCase):
    def test_no_more_connections_than_allowed(self) -> None:
        first, _ = self.connect()
        second, _ = self.connect()
        self.assertIsNone(self.listener.factory.buildProtocol(None))
        self.assertEqual(self.listener.refusals.count, 1)
        told = "clients are refused: 2 are connected to a port, [metric_listener] max_connections since"
        self.assertTrue(any(each.startswith(told) for each in self.bus.progress.stalled(0.0)))
        self.hang_up(first)
        third, _ = self.connect()
        self.hang_up(second)
        self.hang_up(third)

    def test_an_idle_connection_is_closed(self) -> None:
        protocol, transport = self.connect()
        self.reactor.advance(59)
        protocol.dataReceived(b"a 1 60\n")
        self.reactor.advance(59)
        self.assertFalse(transport.disconnecting)
        self.reactor.advance(2)
        self.assertTrue(transport.disconnecting)
        self.hang_up(protocol)

    def test_closing_publishes_what_was_taken(self) -> None:
        protocol, transport = self.connect()
        protocol.dataReceived(b"a 1 60\n")
        closed = Deferred.fromCoroutine(self.listener.close())
        self.successResultOf(closed)
        self.assertEqual(self.bus.lines, ["a 1 60"])
        self.assertTrue(transport.disconnecting)
        self.hang_up(protocol)

    def test_closing_gives_up_a_bus_that_takes_nothing_and_tells_how_many_lines_are_lost(self) -> None:
        told: list[str] = []
        self.patch(self.listener, "log", ErrorLog(told))
        for slow_at_first in (True, False):
            self.bus.slow = slow_at_first
            protocol, _ = self.connect()
            protocol.dataReceived(b"a 1 60\n" * (15 if slow_at_first else 1))
            self.bus.slow = True
            closed = Deferred.fromCoroutine(self.listener.close())
            self.reactor.advance(FLUSH_S - 0.1)
            self.assertNoResult(closed)
            self.reactor.advance(0.2)
            self.successResultOf(closed)
            self.hang_up(protocol)
        self.bus.slow = False
        self.bus.confirm()
        self.assertEqual(told, ["15 lines are lost", "16 lines are lost"])


class ErrorLog:
    def __init__(self, told: list[str]) -> None:
        self._told = told

    def error(self, template: str, **fields: object) -> None:
        self._told.append(template.format(**fields).partition(":")[0])
