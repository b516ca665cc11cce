# SPDX-License-Identifier: MIT
"""Who sent a request: the connection's peer, or whom a trusted proxy names.

>>> sender_of("10.0.0.5", "203.0.113.7, 192.0.2.1", {"10.0.0.5", "192.0.2.1"})
'203.0.113.7'
>>> sender_of("203.0.113.9", "spoofed", {"10.0.0.5"})
'203.0.113.9'
"""

from __future__ import annotations

from collections.abc import Collection


def sender_of(peer: str, forwarded_for: str | None, trusted: Collection[str]) -> str:
    """An address.  ``forwarded_for`` is the header X-Forwarded-For, to which each proxy adds whom it was asked by."""
    sender = peer
    hops = [hop.strip() for hop in (forwarded_for or "").split(",")]
    while sender in trusted and hops and hops[-1]:
        sender = hops.pop()
    return sender
