# SPDX-License-Identifier: MIT
"""Receivers of alerts: a section ``[receiver:NAME]`` of alerts.conf each."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, TypeAlias
from urllib.parse import urlsplit

from htmengine.alerts.kinds import listed
from htmengine.config import ANY_TEXT, PORT, TEXT, URL, Kind, one_of, option, real, whole

_ADDRESS = re.compile(r"[^\s@<>,]+@[^\s@<>,]+")


ADDRESS = Kind("an e-mail address", lambda text: listed(text, _ADDRESS.fullmatch)[0])
ADDRESSES = Kind("e-mail addresses, separated by commas", partial(listed, fits=_ADDRESS.fullmatch))
TIMEOUT = real(0.1, 120)


@dataclass(frozen=True, slots=True, kw_only=True)
class _OverHttp:
    timeout_s: float = option(10.0, TIMEOUT, "an answer takes at most this long")
    tls_ca_file: str = option("", ANY_TEXT, "PEM file with the authorities to trust; empty: the system's")


@dataclass(frozen=True, slots=True)
class Webhook(_OverHttp):
    """[receiver:NAME] with ``type = webhook``: JSON, signed when there is a secret."""

    type: ClassVar[str] = "webhook"
    needed: ClassVar[tuple[str, ...]] = ("url",)
    name: str = ""
    url: str = option("", URL, "where to POST", secret=True)
    secret: str = option("", ANY_TEXT, "key of the signature (HMAC-SHA256); empty: not signed", secret=True)
    authorization: str = option("", ANY_TEXT, "value of the header Authorization", secret=True)
    form: str = option("json", one_of("json", "cloudevents"), "of the body: ours, or an event of CloudEvents with it")
    template: str = option("", ANY_TEXT, "file of a template that makes the body (Jinja2, the extra templates)")
    content_type: str = option("application/json", TEXT, "of a body by a template")


@dataclass(frozen=True, slots=True)
class Alertmanager(_OverHttp):
    """[receiver:NAME] with ``type = alertmanager``: Prometheus Alertmanager, API v2."""

    type: ClassVar[str] = "alertmanager"
    needed: ClassVar[tuple[str, ...]] = ("url",)
    name: str = ""
    url: str = option("", URL, "of the Alertmanager, without /api/v2", secret=True)
    authorization: str = option("", ANY_TEXT, "value of the header Authorization", secret=True)


@dataclass(frozen=True, slots=True)
class Email:
    """[receiver:NAME] with ``type = email``."""

    type: ClassVar[str] = "email"
    needed: ClassVar[tuple[str, ...]] = ("sender", "to")
    name: str = ""
    host: str = option("localhost", TEXT, "SMTP server")
    port: int = option(25, PORT, "its port")
    tls: str = option("starttls", one_of("starttls", "implicit", "no"), "how the connection is encrypted")
    tls_ca_file: str = option("", ANY_TEXT, "PEM file with the authorities to trust; empty: the system's")
    user: str = option("", ANY_TEXT, "user; empty: no login")
    password: str = option("", ANY_TEXT, "the user's password", secret=True)
    sender: str = option("", ADDRESS, "address that the mail comes from")
    to: tuple[str, ...] = option((), ADDRESSES, "addresses that it goes to")
    timeout_s: float = option(30.0, TIMEOUT, "a delivery takes at most this long")


@dataclass(frozen=True, slots=True)
class Slack(_OverHttp):
    """[receiver:NAME] with ``type = slack``: a Slack-compatible incoming webhook."""

    type: ClassVar[str] = "slack"
    needed: ClassVar[tuple[str, ...]] = ("url",)
    name: str = ""
    url: str = option("", URL, "of the incoming webhook", secret=True)


@dataclass(frozen=True, slots=True)
class PagerDuty(_OverHttp):
    """[receiver:NAME] with ``type = pagerduty``: PagerDuty's Events API v2."""

    type: ClassVar[str] = "pagerduty"
    needed: ClassVar[tuple[str, ...]] = ("routing_key",)
    name: str = ""
    url: str = option("https://events.pagerduty.com/v2/enqueue", URL, "where to POST", secret=True)
    routing_key: str = option("", ANY_TEXT, "the integration key", secret=True)
    severity: str = option("error", one_of("critical", "error", "warning", "info"), "of its events")


@dataclass(frozen=True, slots=True)
class Opsgenie(_OverHttp):
    """[receiver:NAME] with ``type = opsgenie``: Opsgenie's Alert API."""

    type: ClassVar[str] = "opsgenie"
    needed: ClassVar[tuple[str, ...]] = ("api_key",)
    name: str = ""
    url: str = option("https://api.opsgenie.com", URL, "of the API, without /v2", secret=True)
    api_key: str = option("", ANY_TEXT, "the integration's key", secret=True)
    priority: str = option("P3", one_of("P1", "P2", "P3", "P4", "P5"), "of its alerts")


@dataclass(frozen=True, slots=True)
class Teams(_OverHttp):
    """[receiver:NAME] with ``type = teams``: a Microsoft Teams workflow that posts adaptive cards."""

    type: ClassVar[str] = "teams"
    needed: ClassVar[tuple[str, ...]] = ("url",)
    name: str = ""
    url: str = option("", URL, "of the workflow", secret=True)


@dataclass(frozen=True, slots=True)
class Telegram(_OverHttp):
    """[receiver:NAME] with ``type = telegram``: a bot's messages in a chat."""

    type: ClassVar[str] = "telegram"
    needed: ClassVar[tuple[str, ...]] = ("token", "chat_id")
    name: str = ""
    url: str = option("https://api.telegram.org", URL, "of the Bot API", secret=True)
    token: str = option("", ANY_TEXT, "the bot's token", secret=True)
    chat_id: str = option("", ANY_TEXT, "the chat's id, or @channel")


@dataclass(frozen=True, slots=True)
class Ntfy(_OverHttp):
    """[receiver:NAME] with ``type = ntfy``: notifications on a topic of ntfy."""

    type: ClassVar[str] = "ntfy"
    needed: ClassVar[tuple[str, ...]] = ("topic",)
    name: str = ""
    url: str = option("https://ntfy.sh", URL, "of the server, without the topic", secret=True)
    topic: str = option("", ANY_TEXT, "the topic", secret=True)
    token: str = option("", ANY_TEXT, "access token; empty: none", secret=True)
    priority: int = option(4, whole(1, 5), "of what fires")


@dataclass(frozen=True, slots=True)
class Apprise:
    """[receiver:NAME] with ``type = apprise``: any service that Apprise knows."""

    type: ClassVar[str] = "apprise"
    needed: ClassVar[tuple[str, ...]] = ("url",)
    name: str = ""
    url: str = option("", ANY_TEXT, "Apprise's URL of the service: matrix://..., pover://...", secret=True)
    timeout_s: float = option(10.0, TIMEOUT, "a delivery takes at most this long")


Vendor: TypeAlias = PagerDuty | Opsgenie | Teams | Telegram | Ntfy
Receiver: TypeAlias = Webhook | Alertmanager | Email | Slack | Vendor | Apprise
RECEIVERS: Mapping[str, type[Receiver]] = {
    each.type: each
    for each in (Webhook, Alertmanager, Email, Slack, PagerDuty, Opsgenie, Teams, Telegram, Ntfy, Apprise)
}


def described(receiver: Receiver) -> str:
    """A receiver in a log or a terminal, without what could be secret in its URL.

    >>> described(Slack("ops", "https://hooks.example.com/services/T0/B0/secret"))
    'ops (slack, https://hooks.example.com)'
    """
    if isinstance(receiver, Email):
        return f"{receiver.name} (email, {', '.join(receiver.to)} by {receiver.host}:{receiver.port})"
    if isinstance(receiver, Apprise):  # what stands for a host may be a token
        return f"{receiver.name} (apprise, {receiver.url.partition(':')[0]})"
    parts = urlsplit(receiver.url)
    return f"{receiver.name} ({receiver.type}, {parts.scheme}://{parts.netloc})"
