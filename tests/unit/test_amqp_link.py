# SPDX-License-Identifier: MIT
"""What becomes of a broker that does not answer or takes no more, and what the log tells of it."""

from __future__ import annotations

from typing import Any

from pika.exceptions import ConnectionClosedByBroker
from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import ConnectionAborted
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from htmengine.bus import amqp_link
from htmengine.bus.amqp_link import HANDSHAKE_S, AmqpParams, Link
from htmengine.process.seldom import LOG_INTERVAL_S

#: The second attempt comes sooner: 0.2 s, by half more with each, and up to a second by chance.
RETRIED_S = 2.0


class LinkTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = MemoryReactorClock()
        self.link = Link(AmqpParams(), "publishing", reactor=self.clock, on_lost=lambda: None)
        self.logged: list[str] = []
        globalLogPublisher.addObserver(self.observe)
        self.addCleanup(globalLogPublisher.removeObserver, self.observe)

    def observe(self, event: Any) -> None:
        if "purpose" in event:
            self.logged.append(event["log_format"].format(**event))


class SilentTest(LinkTestCase):
    def setUp(self) -> None:
        def endpoint(params: AmqpParams, reactor: MemoryReactorClock) -> TCP4ClientEndpoint:
            return TCP4ClientEndpoint(reactor, params.host, params.port)

        self.patch(amqp_link, "_endpoint", endpoint)
        super().setUp()
        self.link.startService()

    def accept(self) -> tuple[Any, StringTransport]:
        """The newest attempt has a connection, on which nothing comes."""
        protocol, transport = self.clock.tcpClients.pop()[2].buildProtocol(None), StringTransport()
        protocol.makeConnection(transport)
        return protocol, transport

    def let_it_fail(self) -> None:
        protocol, transport = self.accept()
        self.clock.advance(HANDSHAKE_S - 1)
        self.assertFalse(transport.disconnecting)
        self.clock.advance(1)
        self.assertTrue(transport.disconnecting)
        protocol.connectionLost(Failure(ConnectionAborted()))

    def test_a_broker_that_never_answers_is_given_up_told_and_tried_again(self) -> None:
        self.let_it_fail()
        told = "RabbitMQ at 127.0.0.1:5672 is away for {} s (publishing): TimeoutError: no handshake within 10 s"
        self.assertEqual(self.logged, [told.format(0)])
        self.clock.advance(RETRIED_S)
        self.let_it_fail()
        self.clock.advance(RETRIED_S)
        self.accept()
        self.clock.advance(5)
        self.assertEqual(len(self.logged), 1)

    def test_what_its_operator_is_told_depends_on_whether_the_broker_answered(self) -> None:
        self.let_it_fail()
        self.assertIn("does not answer: TimeoutError: no handshake within 10 s; is it running?", self.link.why_away())
        newest = self.link._connections.newest
        assert newest is not None
        newest.reason = ConnectionClosedByBroker(403, "ACCESS_REFUSED")
        self.assertIn("refuses the connection: ConnectionClosedByBroker: (403, 'ACCESS_REFUSED'", self.link.why_away())
        self.assertTrue(self.link.why_away().endswith("look at [credentials] and virtual_host in rabbitmq.conf"))

    def test_while_it_is_away_it_is_told_once_a_minute(self) -> None:
        self.let_it_fail()
        self.clock.pump([LOG_INTERVAL_S / 2] * 4)  # the next attempt has no answer at all
        self.assertEqual(["0 s", "60 s", "120 s"], [" ".join(line.split()[6:8]) for line in self.logged])
        connection: Any = Connected()
        self.link._prepare(connection)
        self.clock.advance(LOG_INTERVAL_S)
        self.assertEqual(self.logged[3:], ["connected to RabbitMQ at 127.0.0.1:5672 (publishing)"])


class Connected:
    def __init__(self) -> None:
        self.ready = succeed(None)
        self.closed: Deferred[None] = Deferred()

    def on_blocked(self, tell: object) -> None:
        pass


class BlockedTest(LinkTestCase):
    def test_it_is_told_at_once_and_then_once_a_minute(self) -> None:
        self.link._blocked(True)
        self.clock.pump([LOG_INTERVAL_S / 2] * 4)
        self.link._blocked(True)  # another alarm beside the first
        self.link._blocked(False)
        self.clock.advance(LOG_INTERVAL_S)
        self.assertEqual(
            self.logged,
            [
                "RabbitMQ is short of memory or disk and has accepted nothing for 0 s (publishing)",
                "RabbitMQ is short of memory or disk and has accepted nothing for 60 s (publishing)",
                "RabbitMQ is short of memory or disk and has accepted nothing for 120 s (publishing)",
                "RabbitMQ accepts messages again (publishing)",
            ],
        )
        self.assertEqual(self.clock.getDelayedCalls(), [])
