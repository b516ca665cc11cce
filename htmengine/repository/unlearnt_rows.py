# SPDX-License-Identifier: MIT
"""Rows that a metric's model scores without learning: those of maintenance windows with ``learning = no``.

Who stores a row says so in the same transaction.  So a model learns the same rows whenever it runs them.

As in `queries`, each function takes ``conn`` first and runs in the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from sqlalchemy import Connection, delete, func, select

from htmengine.repository.bulk import bulk_insert, bulk_update
from htmengine.repository.queries import in_parts
from htmengine.repository.schema import unlearnt_span

#: The window, if any, whose rows a metric is not to learn, by its name and an epoch second: start and end.
WindowAt: TypeAlias = Callable[[str, float], tuple[float, float] | None]


class UnlearntSpan(NamedTuple):
    """Rows ``first`` to ``last`` of a metric, both included."""

    first: int
    last: int


def spans_of(going_on: UnlearntSpan | None, rowids: Iterable[int]) -> list[UnlearntSpan]:
    """The spans of rows that are not learnt, in their order, with one that goes on.

    >>> spans_of(UnlearntSpan(2, 3), [4, 6, 7])
    [UnlearntSpan(first=2, last=4), UnlearntSpan(first=6, last=7)]
    """
    spans = [] if going_on is None else [going_on]
    for rowid in rowids:
        if spans and spans[-1].last == rowid - 1:
            spans[-1] = spans[-1]._replace(last=rowid)
        else:
            spans.append(UnlearntSpan(rowid, rowid))
    return spans


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


def take_from(conn: Connection, uid: str, first: int) -> list[UnlearntSpan]:
    """Remove a metric's spans that reach the row before ``first`` or later ones, and return them."""
    c = unlearnt_span.c
    reaching = (c.uid == uid) & (c.last >= first - 1)
    spans = [UnlearntSpan(*row) for row in conn.execute(select(c.first, c.last).where(reaching).order_by(c.first))]
    conn.execute(delete(unlearnt_span).where(reaching))
    return spans


def prune(conn: Connection, uid: str, last: int) -> None:
    """Remove those of a metric's spans that have no row after ``last``."""
    conn.execute(delete(unlearnt_span).where(unlearnt_span.c.uid == uid, unlearnt_span.c.last <= last))


def among(conn: Connection, uid: str, first: int, last: int) -> frozenset[int]:
    """Those of a metric's rows ``first`` to ``last``."""
    c = unlearnt_span.c
    query = select(c.first, c.last).where(c.uid == uid, c.first <= last, c.last >= first)
    spans = [(max(start, first), min(end, last)) for start, end in conn.execute(query)]
    return frozenset(rowid for start, end in spans for rowid in range(start, end + 1))
