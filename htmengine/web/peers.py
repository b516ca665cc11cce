# SPDX-License-Identifier: MIT
"""What the engine's other processes tell about themselves, for a distributed engine's health page and its troubles.

In: the addresses at which they answer ([telemetry] peers).  Out: each one's checks and figures, or why there are none.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.defer import TimeoutError as DeferTimeout
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import Agent
from twisted.web.http_headers import Headers

from htmengine.process.twisted_types import Reactor, for_twisted, within
from htmengine.telemetry.health import PROGRESS

#: A process has this long; its own checks take 3 seconds at most.
ANSWER_S = 5.0
LONGEST_ANSWER = 1024 * 1024


class Peers:
    """Asks all of them at once.  ``token``: one that may read, if they want one."""

    def __init__(self, reactor: Reactor, addresses: Sequence[str], token: str = "") -> None:
        self._reactor = reactor
        self._addresses = addresses
        self._headers = Headers({"Authorization": [f"Bearer {token}"]} if token else {})
        self._agent: Any = Agent(for_twisted(reactor), connectTimeout=ANSWER_S)

    async def ask(self, *, figures: bool = True) -> list[dict[str, Any]]:
        """One object a process, as the API shows it."""
        asking = [Deferred.fromCoroutine(self._one(each, figures=figures)) for each in self._addresses]
        return [answer for _, answer in await DeferredList(asking)]

    async def troubles(self) -> list[str]:
        """In sentences: those that do not answer, and what is wrong with the others."""
        answers = await self.ask(figures=False)
        return [f"{answer['address']}: {why}" for answer in answers for why in _wrong(answer)]

    async def _one(self, address: str, *, figures: bool) -> dict[str, Any]:
        shown: dict[str, Any] = {"address": address, "detail": "", "checks": {}, "figures": ""}
        try:
            shown["checks"] = json.loads(await self._get(address, "readyz"))["checks"]
            if figures:
                shown["figures"] = (await self._get(address, "metrics")).decode()
        except DeferTimeout:
            shown["detail"] = f"no answer within {ANSWER_S:g} s"
        except Exception as error:
            shown["detail"] = f"no answer: {type(error).__name__}"
        return shown

    def _get(self, address: str, path: str) -> Deferred[bytes]:
        return within(Deferred.fromCoroutine(self._exchange(f"http://{address}/{path}")), ANSWER_S, self._reactor)

    async def _exchange(self, url: str) -> bytes:
        response = await self._agent.request(b"GET", url.encode(), self._headers)
        body = _Body()
        response.deliverBody(body)
        return await body.whole


def _wrong(answer: dict[str, Any]) -> list[str]:
    """A process that has a database tells by itself what stands still in it."""
    if answer["detail"]:
        return [answer["detail"]]
    checks: dict[str, Any] = answer["checks"]
    told = {PROGRESS} if "database" in checks else set()
    return [f"{name}: {each['detail']}" for name, each in checks.items() if not each["ok"] and name not in told]


class _Body(Protocol):
    """A body, cut where it becomes too long."""

    def __init__(self) -> None:
        self.whole: Deferred[bytes] = Deferred(lambda _: self._end())
        self._received = bytearray()

    def dataReceived(self, data: bytes) -> None:
        self._received += data
        if len(self._received) > LONGEST_ANSWER:
            self._end()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self.whole.called:
            self.whole.callback(bytes(self._received[:LONGEST_ANSWER]))

    def _end(self) -> None:
        transport: Any = self.transport
        transport.loseConnection()
