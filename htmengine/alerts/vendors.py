# SPDX-License-Identifier: MIT
"""Notifications in the forms of other services: PagerDuty, Opsgenie, Microsoft Teams, Telegram, ntfy.

In: a receiver and a message.  Out: the request that tells it.  Each says what it is about by the alert's or the
incident's id, so that what fires, gets worse and is over is one thing there.  Names are names: no markup of theirs is
markup in a chat.

Sources: the services' own documentation: PagerDuty's Events API v2, Opsgenie's Alert API, Adaptive Cards 1.4 for
Teams, Telegram's Bot API, ntfy's publishing as JSON.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

from htmengine.alerts.formats import HttpRequest, json_bytes
from htmengine.alerts.incident_messages import Message
from htmengine.alerts.notifications import utc
from htmengine.alerts.receivers import Ntfy, Opsgenie, PagerDuty, Teams, Telegram, Vendor

#: The longest texts that the services take.
_PAGERDUTY_CHARACTERS = 1024
_OPSGENIE_MESSAGE = 130
_OPSGENIE_DESCRIPTION = 15_000
_TELEGRAM_CHARACTERS = 4096
_NTFY_CHARACTERS = 3500

_CARD_MARKUP = re.compile(r"([\\`*_\[\]()#~>|<])")


def request_for(receiver: Vendor, message: Message) -> HttpRequest:
    """The request that tells a receiver."""
    match receiver:
        case PagerDuty():
            return pagerduty_request(receiver, message)
        case Opsgenie():
            return opsgenie_request(receiver, message)
        case Teams():
            return teams_request(receiver, message)
        case Telegram():
            return telegram_request(receiver, message)
        case Ntfy():
            return ntfy_request(receiver, message)


def pagerduty_request(receiver: PagerDuty, message: Message) -> HttpRequest:
    """An event that triggers or resolves."""
    event: dict[str, Any] = {
        "routing_key": receiver.routing_key,
        "event_action": "resolve" if message.status == "resolved" else "trigger",
        "dedup_key": message.id,
    }
    if message.status != "resolved":
        event["payload"] = {
            "summary": message.summary[:_PAGERDUTY_CHARACTERS],
            "source": message.subject,
            "severity": receiver.severity,
            "timestamp": utc(message.created or message.started),
            "group": message.rule,
            "class": "anomaly",
            "custom_details": {**_labels(message), **_facts(message)},
        }
        if message.link:
            event["links"] = [{"href": message.link, "text": "HTM Engine"}]
    return HttpRequest(receiver.url, json_bytes(event), {})


def opsgenie_request(receiver: Opsgenie, message: Message) -> HttpRequest:
    """An alert that is made, or closed."""
    url = f"{receiver.url.rstrip('/')}/v2/alerts"
    headers = {"Authorization": f"GenieKey {receiver.api_key}"}
    if message.status == "resolved":
        close = f"{url}/{quote(message.id, safe='')}/close?identifierType=alias"
        return HttpRequest(close, json_bytes({"source": "HTM Engine", "note": message.summary}), headers)
    alert = {
        "message": message.summary[:_OPSGENIE_MESSAGE],
        "alias": message.id,
        "description": plain_text(message)[:_OPSGENIE_DESCRIPTION],
        "entity": message.subject,
        "source": "HTM Engine",
        "priority": receiver.priority,
        "tags": [message.rule],
        "details": _labels(message),
    }
    return HttpRequest(url, json_bytes(alert), headers)


def teams_request(receiver: Teams, message: Message) -> HttpRequest:
    """An adaptive card."""
    color = {"resolved": "Good", "test": "Default"}.get(message.status, "Attention")
    title = {"type": "TextBlock", "text": _card_text(message.summary), "weight": "Bolder", "wrap": True, "color": color}
    facts = [{"title": name, "value": _card_text(value)} for name, value in _facts(message).items()]
    card: dict[str, Any] = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": [title, {"type": "FactSet", "facts": facts}],
    }
    if message.link:
        card["actions"] = [{"type": "Action.OpenUrl", "title": "Show", "url": message.link}]
    attachment = {"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": None, "content": card}
    return HttpRequest(receiver.url, json_bytes({"type": "message", "attachments": [attachment]}), {})


def telegram_request(receiver: Telegram, message: Message) -> HttpRequest:
    """A message in plain text."""
    url = f"{receiver.url.rstrip('/')}/bot{receiver.token}/sendMessage"
    body = {"chat_id": receiver.chat_id, "text": plain_text(message)[:_TELEGRAM_CHARACTERS]}
    return HttpRequest(url, json_bytes({**body, "link_preview_options": {"is_disabled": True}}), {})


def ntfy_request(receiver: Ntfy, message: Message) -> HttpRequest:
    """A notification on a topic."""
    fired = message.status in ("firing", "worse")
    body: dict[str, Any] = {
        "topic": receiver.topic,
        "title": f"{message.rule}: {message.subject}",
        "message": plain_text(message)[:_NTFY_CHARACTERS],
        "priority": receiver.priority if fired else 3,
        "tags": ["rotating_light" if fired else "white_check_mark"],
    }
    if message.link:
        body["click"] = message.link
    headers = {"Authorization": f"Bearer {receiver.token}"} if receiver.token else {}
    return HttpRequest(receiver.url, json_bytes(body), headers)


def plain_text(message: Message) -> str:
    """The message in plain text, a fact a line."""
    lines = [message.summary, *(f"{name}: {value}" for name, value in _facts(message).items())]
    return "\n".join([*lines, *([message.link] if message.link else [])])


def _facts(message: Message) -> dict[str, str]:
    """Names and values; facts without a name go on the ones before."""
    found: dict[str, str] = {}
    last = ""
    for name, value in message.facts:
        last = name or last
        found[last] = f"{found[last]}; {value}" if last in found else value
    return found


def _labels(message: Message) -> dict[str, str]:
    return {**dict(message.labels), **message.identity}


def _card_text(text: str) -> str:
    """A name cannot become a link or markup in a card's Markdown."""
    return _CARD_MARKUP.sub(r"\\\1", text)
