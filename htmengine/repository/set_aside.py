# SPDX-License-Identifier: MIT
"""Messages that were set aside since no service could process them: the newest reasons of each queue, and how many.

The reasons stand in the table of troubles, each with the time when it was first seen, until they are dismissed; the
count is the ledger's.  As in `queries`, each function takes ``conn`` first and runs in the caller's transaction.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from sqlalchemy import Connection, delete, insert, select

from htmengine.repository import counts
from htmengine.repository.schema import trouble

#: Reasons of one queue that are kept.
KEPT_REASONS = 20
#: How the source of such a trouble begins.
_SOURCE = "messages of queue "


def add(conn: Connection, queue: str, reasons: Sequence[str], now: int) -> None:
    """A message of the queue was set aside for each of the reasons."""
    c = trouble.c
    source = f"{_SOURCE}{queue}"[:200]
    counts.add_total(conn, counts.SET_ASIDE, len(reasons))  # whose row stays locked, so that one adds at a time
    known = {n for (n,) in conn.execute(select(c.number).where(c.source == source))}
    for reason in dict.fromkeys(reasons):
        message = "set aside: " + reason.replace("\0", "\ufffd")
        number = zlib.crc32(message.encode("utf-8", "replace")) >> 1
        if number not in known:
            known.add(number)
            conn.execute(insert(trouble), {"source": source, "number": number, "message": message, "since": now})
    surplus = conn.execute(select(c.number).where(c.source == source).order_by(c.since.desc()).offset(KEPT_REASONS))
    oldest = [number for (number,) in surplus.all()]
    if oldest:
        conn.execute(delete(trouble).where(c.source == source, c.number.in_(oldest)))


def dismiss(conn: Connection) -> int:
    """Forget the reasons of all queues; how many there were."""
    return conn.execute(delete(trouble).where(trouble.c.source.startswith(_SOURCE))).rowcount
