# SPDX-License-Identifier: MIT
"""What the operator should know of: written by services while it lasts, read by ``htmengine troubles``,
``htmengine status`` and ``/healthz``.

As in `queries`, each function takes ``conn`` first and runs in the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, delete, func, insert, select

from htmengine.repository.schema import trouble


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something is wrong now, and the engine goes on nevertheless."""

    source: str  #: who says so
    message: str
    since: int  #: epoch seconds


def replace(conn: Connection, source: str, messages: Sequence[str], now: int) -> None:
    """All that a source has to tell now; none: it is well again."""
    conn.execute(delete(trouble).where(trouble.c.source == source))
    if messages:
        conn.execute(
            insert(trouble),
            [{"source": source, "number": n, "message": m, "since": now} for n, m in enumerate(messages)],
        )


def list_of(conn: Connection) -> list[Trouble]:
    """Everybody's troubles."""
    c = trouble.c
    return [Trouble(*row) for row in conn.execute(select(c.source, c.message, c.since).order_by(c.source, c.number))]


def count(conn: Connection) -> int:
    """How many there are."""
    return int(conn.execute(select(func.count()).select_from(trouble)).scalar_one())
