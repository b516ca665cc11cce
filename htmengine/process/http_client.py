# SPDX-License-Identifier: MIT
"""POST to another program, with a time limit and bounds on what is read of its answer.

In: a URL, headers and a body.  Out: the answer's status and beginning, or `DeliveryFailed`.  Redirects are not
followed: they would carry what is sent elsewhere.  Used by the senders of alerts and of results.
"""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, NamedTuple

from twisted.internet.defer import CancelledError, Deferred, TimeoutError, succeed
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web._newclient import ParseError
from twisted.web.client import Agent, BrowserLikePolicyForHTTPS, HTTPConnectionPool, _HTTP11ClientFactory
from twisted.web.http_headers import Headers
from twisted.web.iweb import IBodyProducer
from zope.interface import implementer

from htmengine.errors import DeliveryFailed
from htmengine.process.extras import TLS, optional, speaks_tls
from htmengine.process.twisted_types import Reactor, for_twisted, within

#: What to do about a status from 300 to 399.
_REDIRECTED = "redirects are not followed: write the URL that it leads to"
#: No more of an answer is read.
ANSWER_BYTES = 4096
#: What a log or a table shows of it.
SHOWN_CHARACTERS = 200
#: A receiver's wish to be left alone is granted up to this.
LONGEST_RETRY_AFTER_S = 3600.0


class Answer(NamedTuple):
    """What came back."""

    status: int
    said: str  #: status and beginning of the text, in one line
    retry_after_s: float

    @property
    def good(self) -> bool:
        """Whether it was taken."""
        return 200 <= self.status < 300


class HttpClient:
    """Posts through one reactor."""

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor
        self._pool = HTTPConnectionPool(for_twisted(reactor), persistent=False)
        self._pool._factory = _QuietFactory

    async def post(
        self, url: str, body: bytes, headers: Mapping[str, str], *, timeout_s: float, tls_ca_file: str = ""
    ) -> Answer:
        """One attempt.  Raises `DeliveryFailed` when there is no answer."""
        try:
            exchange = Deferred.fromCoroutine(self._exchange(url, body, headers, timeout_s, tls_ca_file))
            return await within(exchange, timeout_s, self._reactor)
        except Exception as error:
            raise DeliveryFailed(in_words(error, timeout_s)) from None

    async def _exchange(
        self, url: str, body: bytes, headers: Mapping[str, str], timeout_s: float, tls_ca_file: str
    ) -> Answer:
        policy = BrowserLikePolicyForHTTPS(trustRoot=trusted(tls_ca_file) if speaks_tls(url) else None)
        agent: Any = Agent(for_twisted(self._reactor), policy, timeout_s, pool=self._pool)
        sent = Headers({"User-Agent": ["HTM Engine"]})
        for name, value in headers.items():
            sent.setRawHeaders(name, [value])
        response: Any = await agent.request(b"POST", url.encode(), sent, _Body(body))
        beginning = _Beginning()
        response.deliverBody(beginning)
        text = shown((await beginning.done).decode(errors="replace"))
        retry_after = response.headers.getRawHeaders("Retry-After", ["0"])[0]
        phrase = shown(response.phrase.decode(errors="replace"))
        status = f"{response.code} {phrase}" + (f" ({_REDIRECTED})" if 300 <= response.code < 400 else "")
        return Answer(response.code, f"{status} {text}".strip(), _seconds(retry_after, self._reactor.seconds()))


class _QuietFactory(_HTTP11ClientFactory):
    """Writes no line to the log at each connection."""

    noisy = False


@implementer(IBodyProducer)
class _Body:
    """A request's body that is in memory."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self.length = len(body)

    def startProducing(self, consumer: Any) -> Deferred[None]:
        consumer.write(self._body)
        return succeed(None)

    def pauseProducing(self) -> None:
        """It is written already."""

    def resumeProducing(self) -> None:
        """It is written already."""

    def stopProducing(self) -> None:
        """It is written already."""


class _Beginning(Protocol):
    """The beginning of a response's body."""

    def __init__(self) -> None:
        self.done: Deferred[bytes] = Deferred(lambda _: self._end())
        self._received = b""

    def dataReceived(self, data: bytes) -> None:
        self._received += data
        if len(self._received) >= ANSWER_BYTES:
            self._finish()
            self._end()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._finish()

    def _end(self) -> None:
        transport: Any = self.transport
        transport.loseConnection()

    def _finish(self) -> None:
        if not self.done.called:
            self.done.callback(self._received[:ANSWER_BYTES])


def trusted(ca_file: str) -> Any:
    """The authorities of a PEM file, or the system's.  Raises `MissingExtra`."""
    ssl = optional(TLS, "tls")
    if not ca_file:
        return ssl.platformTrust()
    marker = b"-----END CERTIFICATE-----"
    parts = Path(ca_file).read_bytes().split(marker)[:-1]
    return ssl.trustRootFromCertificates([ssl.Certificate.loadPEM(part + marker) for part in parts])


def in_words(error: BaseException, timeout_s: float) -> str:
    """An error without addresses of objects, and without the URL.

    >>> in_words(ParseError("wrong number of parts", b"SSH-2.0"), 10.0)
    'what answers speaks no HTTP: SSH-2.0'
    """
    reasons = getattr(error, "reasons", None)  # Twisted's ResponseFailed and ResponseNeverReceived
    if reasons:
        return "; ".join(in_words(reason.value, timeout_s) for reason in reasons)
    if isinstance(error, (TimeoutError, CancelledError)):
        return f"no answer within {timeout_s:g} s"
    if isinstance(error, ParseError):
        return shown(f"what answers speaks no HTTP: {error.data.decode(errors='replace')}")
    return shown(str(error) or type(error).__name__)


def shown(text: str) -> str:
    """One printable line."""
    line = " ".join(text.split())
    return "".join(sign if sign.isprintable() else "?" for sign in line)[:SHOWN_CHARACTERS]


def _seconds(text: str, now: float) -> float:
    """A header Retry-After, which has seconds or a date; 0 if it has neither.

    >>> [_seconds(text, now=1445412400.0) for text in ("7", "Wed, 21 Oct 2015 07:28:00 GMT", "99999", "soon", "-7")]
    [7.0, 80.0, 3600.0, 0.0, 0.0]
    """
    if text.isdecimal():
        return min(float(text), LONGEST_RETRY_AFTER_S)
    try:
        until = parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError):
        return 0.0
    return min(max(until - now, 0.0), LONGEST_RETRY_AFTER_S)
