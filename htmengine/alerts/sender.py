# SPDX-License-Identifier: MIT
"""Sends notifications: one attempt each, over HTTP, SMTP or by Apprise, with a time limit.

In: a receiver and a notification.  Out: what the receiver answered, in a few words, or `DeliveryFailed`.  Called by
`htmengine.alerts.courier`, and by ``htmengine alert test``.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.mail.smtp import ESMTPSenderFactory, SMTPClientError

from htmengine.alerts import apprise, formats, vendors
from htmengine.alerts.formats import HttpRequest
from htmengine.alerts.incident_messages import Message
from htmengine.alerts.receivers import Alertmanager, Apprise, Email, Receiver, Slack, Vendor, Webhook
from htmengine.errors import DeliveryFailed
from htmengine.process.extras import TLS, optional
from htmengine.process.http_client import HttpClient, in_words, shown, trusted
from htmengine.process.twisted_types import Reactor, in_thread, within

T = TypeVar("T")


class Sender:
    """Sends through one reactor."""

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor
        self._http = HttpClient(reactor)
        self._in_threads: set[str] = set()  #: receivers that Apprise is busy with

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
            case Apprise():
                return await self._by_apprise(receiver, notification)
            case _:
                return await self._post(receiver, vendors.request_for(receiver, notification))

    async def send_all(self, receiver: Alertmanager, notifications: Sequence[Message]) -> str:
        """Several alerts in one request.  Raises `DeliveryFailed`."""
        request = formats.alertmanager_request(receiver, notifications, self._reactor.seconds())
        return await self._post(receiver, request)

    # --- HTTP ------------------------------------------------------------------------------------------

    async def _post(self, receiver: Webhook | Alertmanager | Slack | Vendor, request: HttpRequest) -> str:
        headers = {"Content-Type": "application/json", **request.headers}
        answer = await self._http.post(
            request.url, request.body, headers, timeout_s=receiver.timeout_s, tls_ca_file=receiver.tls_ca_file
        )
        if not answer.good:
            raise DeliveryFailed(answer.said, answer.retry_after_s)
        return answer.said

    # --- Apprise ---------------------------------------------------------------------------------------

    async def _by_apprise(self, receiver: Apprise, notification: Message) -> str:
        """In a thread, which goes on when the time is over: until then no other one of this receiver begins."""
        if receiver.name in self._in_threads:
            raise DeliveryFailed("the attempt before still hangs")
        self._in_threads.add(receiver.name)
        pool = self._reactor.getThreadPool()
        sending = in_thread(self._reactor, pool, apprise.notify, receiver, notification)
        sending.addBoth(self._left_thread, receiver.name)
        answer: Deferred[str] = Deferred()
        sending.addBoth(lambda result: None if answer.called else answer.callback(result))
        try:
            return await within(answer, receiver.timeout_s, self._reactor)
        except (TimeoutError, CancelledError) as error:
            raise DeliveryFailed(in_words(error, receiver.timeout_s)) from None

    def _left_thread(self, result: T, name: str) -> T:
        self._in_threads.discard(name)
        return result

    # --- SMTP ------------------------------------------------------------------------------------------

    async def _mail(self, receiver: Email, message: bytes) -> str:
        # The factory's deferred is its own: one that is cancelled is one that it has no more, and trips over.
        answer: Deferred[Any] = Deferred()
        done: Deferred[Any] = Deferred()
        answer.addBoth(lambda result: None if done.called else done.callback(result))
        tls = _client_tls(receiver) if receiver.tls != "no" else None
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
            raise DeliveryFailed(shown(f"{error.code} {_text(error.resp)}")) from None
        except Exception as error:
            if connector.state == "connected":  # a server that hangs would never take the last bytes
                connector.transport.abortConnection()
            raise DeliveryFailed(in_words(error, receiver.timeout_s)) from None
        finally:
            connector.disconnect()
        refused = [f"{_text(address)}: {code} {_text(answer)}" for address, code, answer in answers if code >= 300]
        if refused and not taken:
            raise DeliveryFailed(shown("; ".join(refused)))
        return shown("; ".join([f"taken for {taken} of {len(receiver.to)} addresses", *refused]))


def _client_tls(receiver: Email) -> Any:
    return optional(TLS, "tls").optionsForClientTLS(receiver.host, trustRoot=trusted(receiver.tls_ca_file))


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
