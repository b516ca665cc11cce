# SPDX-License-Identifier: MIT
"""Notifications in the form that each kind of receiver understands.  Pure: `htmengine.alerts.sender` sends them."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Any

from htmengine.alerts.incident_messages import IncidentMessage, Message
from htmengine.alerts.notifications import LABELS, utc
from htmengine.alerts.receivers import Alertmanager, Email, Slack, Webhook
from htmengine.alerts.templates import rendered

#: Alertmanager is told again as long as an alert fires (its API asks for that), and lets go of one that it is no
#: longer told of after four times this.
RESEND_S = 60.0

#: Slack refuses a longer text in a block.
SLACK_CHARACTERS = 3000

SIGNATURE_HEADER = "HTMEngine-Signature"
TIMESTAMP_HEADER = "HTMEngine-Timestamp"
CLOUD_EVENT = "application/cloudevents+json; charset=utf-8"
DELIVERY_HEADER = "HTMEngine-Delivery"


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A POST of JSON, unless its headers say otherwise."""

    url: str
    body: bytes
    headers: Mapping[str, str]


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """HMAC-SHA256 over the header ``HTMEngine-Timestamp``, a dot and the body.

    >>> signature("secret", "1400000000", b"{}")[:20]
    'sha256=77da604df4c9e'
    """
    return "sha256=" + hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def webhook_request(receiver: Webhook, notification: Message, delivery_id: str, now: float) -> HttpRequest:
    """The alert as JSON; the delivery's id is the same at every retry."""
    data = {**notification.public(), "delivery": delivery_id}
    body, content_type = _webhook_body(receiver, notification, data)
    timestamp = str(int(now))
    headers = {DELIVERY_HEADER: delivery_id, TIMESTAMP_HEADER: timestamp, **_authorization(receiver.authorization)}
    if receiver.secret:
        headers[SIGNATURE_HEADER] = signature(receiver.secret, timestamp, body)
    if content_type:
        headers["Content-Type"] = content_type
    return HttpRequest(receiver.url, body, headers)


def _webhook_body(receiver: Webhook, message: Message, data: dict[str, Any]) -> tuple[bytes, str]:
    """The body, and its type unless it is plain JSON."""
    if receiver.template:
        return rendered(receiver.template, data), receiver.content_type
    if receiver.form == "cloudevents":
        return json_bytes(_cloud_event(message, data, data["delivery"])), CLOUD_EVENT
    return json_bytes(data), ""


def _cloud_event(message: Message, data: Mapping[str, Any], delivery_id: str) -> dict[str, Any]:
    """CloudEvents 1.0, in structured mode."""
    return {
        "specversion": "1.0",
        "id": delivery_id,
        "source": "/htmengine",
        "type": f"htmengine.alert.{message.status}",
        "subject": message.subject,
        "time": utc(message.created or message.started),
        "datacontenttype": "application/json",
        "data": data,
    }


def alertmanager_request(receiver: Alertmanager, notifications: Sequence[Message], now: float) -> HttpRequest:
    """Alerts for Alertmanager's API v2, which recognises them by their labels."""
    url = f"{receiver.url.rstrip('/')}/api/v2/alerts"
    body = json_bytes([_alertmanager_alert(each, now) for each in notifications])
    return HttpRequest(url, body, _authorization(receiver.authorization))


def _alertmanager_alert(notification: Message, now: float) -> dict[str, Any]:
    ends = notification.created if notification.status == "resolved" else now + 4 * RESEND_S
    own = {_label_name(name): value for name, value in notification.metric_labels if value}
    labels = {**own, **dict(notification.labels), "alertname": notification.rule, **notification.identity}
    if notification.status == "test":
        labels["test"] = "true"
    alert = {
        "labels": labels,
        "annotations": notification.annotations,
        "startsAt": utc(min(notification.started, ends)),
        "endsAt": utc(ends),
    }
    return {**alert, "generatorURL": notification.link} if notification.link else alert


def _label_name(name: str) -> str:
    """A tag's name as Alertmanager takes it.

    >>> _label_name("service.name"), _label_name("5xx")
    ('service_name', '_5xx')
    """
    return re.sub(r"^(?=[0-9])|[^A-Za-z0-9_]", "_", name)


_SIGNS = {
    "firing": ":red_circle:",
    "worse": ":red_circle:",
    "resolved": ":large_green_circle:",
    "test": ":white_circle:",
}


def slack_request(receiver: Slack, notification: Message) -> HttpRequest:
    """A message with what it is about as a link, and the last values as a line of bars."""
    name = _slack_text(notification.subject)
    title = f"<{notification.link}|{name}>" if notification.link else f"*{name}*"
    lines = [
        f"{_SIGNS[notification.status]} {title} {notification.words} (rule {notification.rule})",
        *_slack_facts(notification),
        *([notification.reason] if notification.reason else []),
        *([f"`{notification.sparkline}`"] if notification.recent else []),
    ]
    block = {"type": "section", "text": {"type": "mrkdwn", "text": "\n".join(lines)[:SLACK_CHARACTERS]}}
    return HttpRequest(receiver.url, json_bytes({"text": _slack_text(notification.summary), "blocks": [block]}), {})


def _slack_facts(notification: Message) -> list[str]:
    labels = [_slack_text(value) for name, value in notification.facts if name == LABELS]
    if isinstance(notification, IncidentMessage):
        since = f"*{notification.members}* metrics since {utc(notification.started)}"
        return [since, *labels, *(f"• {_slack_text(each.sentence)}" for each in notification.moved)]
    at = utc(notification.timestamp)
    return [f"value *{notification.value:g}*, anomaly score *{notification.score:.6f}* at {at}", *labels]


def _slack_text(text: str) -> str:
    """A name cannot become a link, a mention or markup."""
    for sign, stands_for in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(sign, stands_for)
    # A zero-width space keeps *, _, ~ and ` from pairing up.
    return "".join(f"{sign}\u200b" if sign in "*_~`" else sign for sign in text)


def email_message(receiver: Email, notification: Message, delivery_id: str, now: float) -> EmailMessage:
    """A mail in plain text with the plot attached.  Its Message-ID is the same at every retry."""
    message = EmailMessage()
    message["From"] = receiver.sender
    message["To"] = ", ".join(receiver.to)
    message["Subject"] = f"[{notification.status.upper()}] {notification.rule}: {notification.subject}"
    message["Date"] = format_datetime(datetime.fromtimestamp(now, UTC))
    message["Message-ID"] = f"<{delivery_id}@{receiver.sender.partition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"
    # base64: no line of the body begins with a dot, which SMTP would have to escape.
    message.set_content(_email_text(notification), cte="base64")
    message.add_attachment(notification.plot().encode(), "image", "svg+xml", filename="recent.svg")
    return message


def _email_text(notification: Message) -> str:
    rows = [
        *notification.facts,
        *((name, value) for name, value in notification.labels),
        *([("Page", notification.link)] if notification.link else []),
    ]
    table = "\n".join(f"{name + ':' if name else '':<15}{value}" for name, value in rows)
    return f"{notification.summary}\n\n{table}\n\nLast values: {notification.sparkline}\n"


def _authorization(value: str) -> dict[str, str]:
    return {"Authorization": value} if value else {}


def json_bytes(value: Any) -> bytes:
    """As short as it goes; raises ValueError for numbers that JSON does not have."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
