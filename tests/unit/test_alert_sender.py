# SPDX-License-Identifier: MIT
"""Mail to a server that hangs."""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionAborted
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from htmengine.alerts.receivers import Email
from htmengine.alerts.sender import Sender
from htmengine.errors import DeliveryFailed
from tests.support.notifications import FIRING


class Connection(Clock):
    """A reactor with one connection, which is its own connector."""

    state = "connected"

    def connectTCP(self, _host: str, _port: int, factory: Any, **_options: Any) -> Connection:
        self.factory = factory
        self.protocol = factory.buildProtocol(None)
        self.transport = StringTransport()
        self.transport.abortConnection = self.disconnect  # type: ignore[method-assign]
        self.protocol.makeConnection(self.transport)
        return self

    def disconnect(self) -> None:
        if self.state == "connected":
            self.state = "disconnected"
            self.callLater(0, self.lost)

    def lost(self) -> None:
        self.protocol.connectionLost(Failure(ConnectionAborted()))
        self.factory.clientConnectionLost(self, Failure(ConnectionAborted()))


class HangingMailServerTest(SynchronousTestCase):
    def test_it_is_given_up_in_time_wherever_it_hangs_and_nothing_else_is_heard_of_it(self) -> None:
        answers = [
            b"220 mail.example.com\r\n",
            b"250 good day\r\n",
            b"250 sender\r\n",
            b"250 recipient\r\n",
            b"354 go\r\n",
        ]
        receiver = Email("mail", host="mail.example.com", tls="none", sender="a@x.org", to=("b@x.org",), timeout_s=5.0)
        for given in range(len(answers) + 1):
            connection = Connection()
            sending = Deferred.fromCoroutine(Sender(cast("Any", connection)).send(receiver, FIRING, "id"))
            for answer in answers[:given]:
                connection.protocol.dataReceived(answer)
            connection.advance(4.9)
            self.assertNoResult(sending)
            connection.advance(0.2)
            self.assertEqual(str(self.failureResultOf(sending, DeliveryFailed).value), "no answer within 5 s")
            connection.advance(0)
            connection.advance(10)
            self.assertEqual(connection.state, "disconnected")
