# SPDX-License-Identifier: MIT
"""Sends notifications: one attempt each, over HTTP or SMTP, with a time limit.

In: a receiver and a notification.  Out: what the receiver answered, in a few words, or `DeliveryFailed`.  Called by
`htmengine.alerts.courier`, and by ``htmengine alert test``.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, TimeoutError, succeed
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.ssl import Certificate, optionsForClientTLS, platformTrust, trustRootFromCertificates
from twisted.mail.smtp import ESMTPSenderFactory, SMTPClientError
from twisted.python.failure import Failure
from twisted.web.client import Agent, BrowserLikePolicyForHTTPS, HTTPConnectionPool, _HTTP11ClientFactory
from twisted.web.http_headers import Headers
from twisted.web.iweb import IBodyProducer
from zope.interface import implementer

from htmengine.alerts import formats, vendors
from htmengine.alerts.formats import HttpRequest
from htmengine.alerts.incident_messages import Message
from htmengine.alerts.receivers import Alertmanager, Email, Receiver, Slack, Vendor, Webhook
from htmengine.errors import DeliveryFailed
from htmengine.process.twisted_types import Reactor, for_twisted, within

#: No more of an answer is read.
ANSWER_BYTES = 4096
#: What a log or a table shows of it.
SHOWN_CHARACTERS = 200
#: A receiver's wish to be left alone is granted up to this.
LONGEST_RETRY_AFTER_S = 3600.0


class Sender:
    """Sends through one reactor.  HTTP redirects are not followed: they would carry an alert elsewhere."""

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor
        self._pool = HTTPConnectionPool(for_twisted(reactor), persistent=False)
        self._pool._factory = _QuietFactory

    async def send(self, receiver: Receiver, notification: Message, delivery_id: str) -> str:
        """One attempt.  Raises `DeliveryFailed`."""
        now = self._reactor.seconds()
        match receiver:
            case Webhook():
                request = formats.webhook_request(receiver, notification, delivery_id, now)
                return await self._post(receiver, request)
            case Alertmanager():
                return await self.send_all(receiver, [notification])
            case Slack():
                return await self._post(receiver, formats.slack_request(receiver, notification))
            case Email():
                message = formats.email_message(receiver, notification, delivery_id, now)
                return await self._mail(receiver, message.as_bytes())
            case _:
                return await self._post(receiver, vendors.request_for(receiver, notification))

    async def send_all(self, receiver: Alertmanager, notifications: Sequence[Message]) -> str:
        """Several alerts in one request.  Raises `DeliveryFailed`."""
        request = formats.alertmanager_request(receiver, notifications, self._reactor.seconds())
        return await self._post(receiver, request)

    # --- HTTP ------------------------------------------------------------------------------------------

    async def _post(self, receiver: Webhook | Alertmanager | Slack | Vendor, request: HttpRequest) -> str:
        try:
            exchange = Deferred.fromCoroutine(self._exchange(receiver, request))
            status, reason, retry_after, answer = await within(exchange, receiver.timeout_s, self._reactor)
        except Exception as error:
            raise DeliveryFailed(_in_words(error, receiver.timeout_s)) from None
        said = f"{status} {reason} {answer}".strip()
        if not 200 <= status < 300:
            raise DeliveryFailed(said, retry_after)
        return said

    async def _exchange(
        self, receiver: Webhook | Alertmanager | Slack | Vendor, request: HttpRequest
    ) -> tuple[int, str, float, str]:
        policy = BrowserLikePolicyForHTTPS(trustRoot=_trust(receiver.tls_ca_file))
        agent: Any = Agent(for_twisted(self._reactor), policy, receiver.timeout_s, pool=self._pool)
        headers = Headers({"Content-Type": ["application/json"], "User-Agent": ["HTM Engine"]})
        for name, value in request.headers.items():
            headers.setRawHeaders(name, [value])
        response: Any = await agent.request(b"POST", request.url.encode(), headers, _Body(request.body))
        answer = _Answer()
        response.deliverBody(answer)
        text = (await answer.done).decode(errors="replace")
        retry_after = response.headers.getRawHeaders("Retry-After", ["0"])[0]
        phrase = _shown(response.phrase.decode(errors="replace"))
        return response.code, phrase, _seconds(retry_after), _shown(text)

    # --- SMTP ------------------------------------------------------------------------------------------

    async def _mail(self, receiver: Email, message: bytes) -> str:
        # The factory's deferred is its own: one that is cancelled is one that it has no more, and trips over.
        answer: Deferred[Any] = Deferred()
        done: Deferred[Any] = Deferred()
        answer.addBoth(lambda result: None if done.called else done.callback(result))
        tls = optionsForClientTLS(receiver.host, trustRoot=_trust(receiver.tls_ca_file))
        factory = ESMTPSenderFactory(
            receiver.user.encode() or None,
            receiver.password.encode() or None,
            receiver.sender,
            list(receiver.to),
            BytesIO(message),
            answer,
            retries=0,
            timeout=None,  # the time limit is below
            contextFactory=tls if receiver.tls == "starttls" else None,
            requireAuthentication=bool(receiver.user),
            requireTransportSecurity=receiver.tls == "starttls",
        )
        factory.noisy = False
        if receiver.tls == "implicit":
            connector = self._reactor.connectSSL(receiver.host, receiver.port, factory, tls, timeout=None)
        else:
            connector = self._reactor.connectTCP(receiver.host, receiver.port, factory, timeout=None)
        try:
            taken, answers = await within(done, receiver.timeout_s, self._reactor)
        except SMTPClientError as error:
            # Its text is the whole conversation, with the password.
            raise DeliveryFailed(_shown(f"{error.code} {_text(error.resp)}")) from None
        except Exception as error:
            if connector.state == "connected":  # a server that hangs would never take the last bytes
                connector.transport.abortConnection()
            raise DeliveryFailed(_in_words(error, receiver.timeout_s)) from None
        finally:
            connector.disconnect()
        refused = [f"{_text(address)}: {code} {_text(answer)}" for address, code, answer in answers if code >= 300]
        if refused and not taken:
            raise DeliveryFailed(_shown("; ".join(refused)))
        return _shown("; ".join([f"taken for {taken} of {len(receiver.to)} addresses", *refused]))


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


class _Answer(Protocol):
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


def _trust(ca_file: str) -> Any:
    """The authorities of a PEM file, or the system's."""
    if not ca_file:
        return platformTrust()
    marker = b"-----END CERTIFICATE-----"
    parts = Path(ca_file).read_bytes().split(marker)[:-1]
    return trustRootFromCertificates([Certificate.loadPEM(part + marker) for part in parts])


def _in_words(error: BaseException, timeout_s: float) -> str:
    """An error without addresses of objects, and without the URL."""
    reasons = getattr(error, "reasons", None)  # Twisted's ResponseFailed and ResponseNeverReceived
    if reasons:
        return "; ".join(_in_words(reason.value, timeout_s) for reason in reasons)
    if isinstance(error, (TimeoutError, CancelledError)):
        return f"no answer within {timeout_s:g} s"
    return _shown(str(error) or type(error).__name__)


def _seconds(text: str) -> float:
    """A header Retry-After in seconds; its other form, a date, is not worth reading."""
    return min(float(text), LONGEST_RETRY_AFTER_S) if text.isdecimal() else 0.0


def _shown(text: str) -> str:
    """One printable line."""
    line = " ".join(text.split())
    return "".join(sign if sign.isprintable() else "?" for sign in line)[:SHOWN_CHARACTERS]


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
