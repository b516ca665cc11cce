# SPDX-License-Identifier: MIT
"""Other processes are asked side by side, and one that does not answer, or answers rubbish, harms no other."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.trial.unittest import SynchronousTestCase

from htmengine.web import peers
from htmengine.web.peers import ANSWER_S, Peers

CHECKS = {"bus": {"ok": True, "detail": ""}}


class PeersTest(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()

    def tearDown(self) -> None:
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def ask(self, *addresses: str, token: str = "") -> Deferred[list[dict[str, Any]]]:
        return Deferred.fromCoroutine(Peers(self.reactor, addresses, token).ask())

    def answer(self, number: int, body: bytes, status: bytes = b"200 OK") -> bytes:
        """Answer the connection of that number; what it was asked."""
        protocol = self.reactor.tcpClients[number][2].buildProtocol(None)
        transport = StringTransport()
        transport.abortConnection = transport.loseConnection  # type: ignore[method-assign]
        protocol.makeConnection(transport)
        asked = bytes(transport.value())
        head = b"HTTP/1.1 " + status + b"\r\nContent-Length: %d\r\n\r\n" % len(body)
        protocol.dataReceived(head + body)
        return asked

    def test_checks_come_with_any_status_and_figures_with_them(self) -> None:
        asked = self.ask("10.0.0.2:9102", token="read-token")
        ready = self.answer(0, json.dumps({"status": "failing", "checks": CHECKS}).encode(), b"503 No")
        self.assertIn(b"GET /readyz HTTP/1.1\r\n", ready)
        self.assertIn(b"Authorization: Bearer read-token\r\n", ready)
        self.assertIn(b"GET /metrics HTTP/1.1\r\n", self.answer(1, b"a 1\n"))
        self.assertEqual(
            self.successResultOf(asked),
            [{"address": "10.0.0.2:9102", "detail": "", "checks": CHECKS, "figures": "a 1\n"}],
        )

    def test_one_that_is_away_or_talks_nonsense_is_told_in_its_place(self) -> None:
        asked = self.ask("10.0.0.2:1", "10.0.0.3:2", "10.0.0.4:3")
        self.answer(1, b"[]")
        self.answer(2, json.dumps({"checks": CHECKS}).encode())
        self.answer(3, b"a 1\n")
        self.assertNoResult(asked)
        self.reactor.advance(ANSWER_S)
        away, nonsense, well = self.successResultOf(asked)
        self.assertEqual((away["detail"], away["checks"]), ("no answer within 5 s", {}))
        self.assertEqual((nonsense["detail"], nonsense["figures"]), ("no answer: TypeError", ""))
        self.assertEqual((well["detail"], well["figures"]), ("", "a 1\n"))

    def test_an_answer_without_end_is_cut(self) -> None:
        self.patch(peers, "LONGEST_ANSWER", 5)
        asked = self.ask("10.0.0.2:1")
        self.answer(0, b"x" * 10)
        self.assertEqual(self.successResultOf(asked)[0]["detail"], "no answer: JSONDecodeError")

    def test_what_is_wrong_with_them_is_put_into_sentences(self) -> None:
        stalled = {"ok": False, "detail": "samples wait since 10:02"}
        away = {"ok": False, "detail": "no answer within 3 s"}
        told = Deferred.fromCoroutine(Peers(self.reactor, ["10.0.0.2:1", "10.0.0.3:2", "10.0.0.4:3"]).troubles())
        self.answer(1, json.dumps({"checks": {**CHECKS, "progress": stalled}}).encode(), b"503 No")
        self.answer(2, json.dumps({"checks": {"progress": stalled, "database": away}}).encode(), b"503 No")
        self.reactor.advance(ANSWER_S)
        self.assertEqual(
            self.successResultOf(told),
            [
                "10.0.0.2:1: no answer within 5 s",
                "10.0.0.3:2: progress: samples wait since 10:02",
                "10.0.0.4:3: database: no answer within 3 s",  # and tells of its progress by itself
            ],
        )
