# SPDX-License-Identifier: MIT
"""Who reads the log of results on: each reader's place in it, and whose turn it is where several processes could read.

A turn ends by itself, so that another process goes on after one that died.  As `queries`: synchronous, ``conn``
first, in the caller's transaction.  Times are epoch seconds.
"""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import Connection, insert, select, update
from sqlalchemy.exc import IntegrityError

from htmengine.repository import results
from htmengine.repository.schema import result_reader


class Turn(NamedTuple):
    """It reads on after the result ``number``, until then."""

    number: int
    until_ms: int


def take_turn(conn: Connection, name: str, held: Turn | None, now: float, seconds: float) -> Turn | None:
    """Take a turn, or make the one that is held longer; None while it is another's.

    A reader that is new begins with the results that come from now on.
    """
    c = result_reader.c
    until_ms = int((now + seconds) * 1000)
    found = conn.execute(select(c.number, c.turn_until).where(c.name == name).with_for_update()).first()
    if found is None:
        return _begin(conn, name, Turn(results.last_number(conn), until_ms))
    if found.turn_until > now * 1000 and (held is None or found.turn_until != held.until_ms):
        return None
    conn.execute(update(result_reader).where(c.name == name).values(turn_until=until_ms))
    return Turn(found.number, until_ms)


def _begin(conn: Connection, name: str, turn: Turn) -> Turn | None:
    try:
        with conn.begin_nested():
            conn.execute(insert(result_reader), {"name": name, "number": turn.number, "turn_until": turn.until_ms})
    except IntegrityError:
        return None  # another process was first
    return turn


def advance(conn: Connection, name: str, held: Turn, number: int) -> Turn | None:
    """The results up to that number are done; None if the turn has become another's meanwhile."""
    c = result_reader.c
    mine = (c.name == name) & (c.turn_until == held.until_ms)
    if not conn.execute(update(result_reader).where(mine).values(number=number)).rowcount:
        return None
    return held._replace(number=number)


def end_turn(conn: Connection, name: str, held: Turn) -> None:
    """Another process need not wait."""
    c = result_reader.c
    conn.execute(update(result_reader).where(c.name == name, c.turn_until == held.until_ms).values(turn_until=0))
