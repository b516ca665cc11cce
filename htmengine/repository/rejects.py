# SPDX-License-Identifier: MIT
"""The last rejected samples of each reason, with their senders: written by the storer, read by the API and the command.

As in `queries`, each function takes ``conn`` first and runs in the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select

from htmengine.messages import MAX_REASON_LENGTH, MAX_SENDER_LENGTH, Reject, shown_line
from htmengine.repository.queries import in_parts
from htmengine.repository.schema import reject_sample

#: Samples that are kept of each reason.
KEPT = 20
#: And of all; other programs have reasons of their own.
KEPT_IN_ALL = 1000


@dataclass(frozen=True, slots=True)
class RejectedSample:
    """What was rejected; texts are printable."""

    reason: str
    sender: str
    line: str
    rejected_at: int  #: epoch seconds


def add(conn: Connection, rejects: Sequence[Reject], now: int) -> None:
    """Keep these, and forget the oldest beyond the bounds."""
    if not rejects:
        return
    rows = [
        {
            "reason": shown_line(each.reason)[:MAX_REASON_LENGTH],
            "sender": shown_line(each.sender)[:MAX_SENDER_LENGTH],
            "line": shown_line(each.line),
            "rejected_at": now,
        }
        for each in rejects
    ]
    conn.execute(insert(reject_sample), rows)
    c = reject_sample.c
    newest_first = select(c.id).order_by(c.id.desc())
    surplus = list(conn.execute(newest_first.offset(KEPT_IN_ALL).limit(KEPT_IN_ALL)).scalars())
    for reason in {str(row["reason"]) for row in rows}:
        surplus += conn.execute(newest_first.where(c.reason == reason).offset(KEPT).limit(KEPT_IN_ALL)).scalars()
    for part in in_parts(surplus):
        conn.execute(delete(reject_sample).where(c.id.in_(part)))


def list_of(conn: Connection, reason: str | None = None) -> list[RejectedSample]:
    """Of one reason, or of all; the newest first."""
    c = reject_sample.c
    query = select(c.reason, c.sender, c.line, c.rejected_at).order_by(c.id.desc())
    if reason is not None:
        query = query.where(c.reason == reason)
    return [RejectedSample(*row) for row in conn.execute(query)]
