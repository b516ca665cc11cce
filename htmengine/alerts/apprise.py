# SPDX-License-Identifier: MIT
"""Notifications by Apprise, which knows a hundred services by their URLs; it comes with the extra ``apprise``.

In: a receiver and a message.  Out: delivered, or `DeliveryFailed` with what Apprise logged.  Its calls block, so each
is made in a thread; it limits its own connections in time.  Called by `htmengine.alerts.sender`.
"""

from __future__ import annotations

import logging
from typing import Any

from htmengine.alerts.incident_messages import Message
from htmengine.alerts.receivers import Apprise
from htmengine.alerts.vendors import plain_text
from htmengine.errors import DeliveryFailed
from htmengine.process.extras import optional
from htmengine.process.http_client import shown

#: Names of Apprise's types of notifications.
_TYPES = {"firing": "FAILURE", "worse": "FAILURE", "resolved": "SUCCESS", "test": "INFO"}


def is_known(url: str) -> bool:
    """Whether Apprise knows what the URL means.  Raises `MissingExtra`."""
    return optional("apprise", "apprise").Apprise.instantiate(url) is not None


def notify(receiver: Apprise, message: Message) -> str:
    """Blocks until the service has taken the message.  Raises `DeliveryFailed`."""
    apprise: Any = optional("apprise", "apprise")
    service = apprise.Apprise()
    if not service.add(receiver.url):
        raise DeliveryFailed("Apprise does not know what the URL means")
    service[0].socket_connect_timeout = service[0].socket_read_timeout = receiver.timeout_s
    with apprise.LogCapture(level=logging.WARNING, fmt="%(message)s") as logged:
        taken = service.notify(
            body=plain_text(message),
            title=f"{message.rule}: {message.subject}",
            notify_type=getattr(apprise.NotifyType, _TYPES[message.status]),
            body_format=apprise.NotifyFormat.TEXT,
        )
        why = shown(logged.getvalue())
    if not taken:
        raise DeliveryFailed(why or "Apprise has not delivered it")
    return "delivered by Apprise"
