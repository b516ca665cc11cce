# SPDX-License-Identifier: MIT
"""Rows that a metric's model scores without learning: those of maintenance windows with ``learning = no``.

Who stores a row says so in the same transaction.  So a model learns the same rows whenever it runs them.

As in `queries`, each function takes ``conn`` first and runs in the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sqlalchemy import Connection, func, select

from htmengine.repository.bulk import bulk_insert, bulk_update
from htmengine.repository.queries import in_parts
from htmengine.repository.schema import unlearnt_span


class UnlearntSpan(NamedTuple):
    """Rows ``first`` to ``last`` of a metric, both included."""

    first: int
    last: int


def any_spans(conn: Connection) -> bool:
    """Whether any metric has some."""
    return conn.execute(select(unlearnt_span.c.uid).limit(1)).first() is not None


def newest_spans(conn: Connection, uids: Sequence[str]) -> dict[str, UnlearntSpan]:
    """The last span of each metric that has one."""
    c = unlearnt_span.c
    found: dict[str, UnlearntSpan] = {}
    for part in in_parts(uids):
        query = select(c.uid, func.max(c.first), func.max(c.last)).where(c.uid.in_(part)).group_by(c.uid)
        found |= {uid: UnlearntSpan(first, last) for uid, first, last in conn.execute(query)}
    return found


def put(conn: Connection, spans: Mapping[str, Sequence[UnlearntSpan]], known: Mapping[str, UnlearntSpan]) -> None:
    """Keep spans by uid; one that begins as the metric's ``known`` one is that, and has become longer."""
    begun = {(uid, each.first) for uid, each in known.items()}
    values = [(uid, *each) for uid, mine in spans.items() for each in mine]
    longer = [each for each in values if each[:2] in begun]
    new = [each for each in values if each[:2] not in begun]
    bulk_update(conn, unlearnt_span, ["uid", "first"], ["last"], longer)
    bulk_insert(conn, unlearnt_span, ["uid", "first", "last"], new)


def among(conn: Connection, uid: str, first: int, last: int) -> frozenset[int]:
    """Those of a metric's rows ``first`` to ``last``."""
    c = unlearnt_span.c
    query = select(c.first, c.last).where(c.uid == uid, c.first <= last, c.last >= first)
    spans = [(max(start, first), min(end, last)) for start, end in conn.execute(query)]
    return frozenset(rowid for start, end in spans for rowid in range(start, end + 1))
