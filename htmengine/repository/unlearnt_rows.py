# SPDX-License-Identifier: MIT
"""Rows that a metric's model scores without learning: those of maintenance windows with ``learning = no``.

Who stores a row says so in the same transaction.  So a model learns the same rows whenever it runs them.

As in `queries`, each function takes ``conn`` first and runs in the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from sqlalchemy import Connection, func, select

from htmengine.repository.bulk import bulk_insert, bulk_update
from htmengine.repository.queries import in_parts
from htmengine.repository.schema import unlearnt_span


def add(conn: Connection, rowids: Mapping[str, Sequence[int]]) -> None:
    """Rows by uid, in order, newer than those that were added before."""
    newest = _newest_spans(conn, list(rowids))
    longer, new = [], []
    for uid, mine in rowids.items():
        first, last = newest.get(uid, (0, -1))
        for start, end in _runs(mine):
            if start == last + 1:
                longer.append((uid, first, end))
            else:
                new.append((uid, start, end))
    bulk_update(conn, unlearnt_span, ["uid", "first"], ["last"], longer)
    bulk_insert(conn, unlearnt_span, ["uid", "first", "last"], new)


def among(conn: Connection, uid: str, first: int, last: int) -> frozenset[int]:
    """Those of a metric's rows ``first`` to ``last``."""
    c = unlearnt_span.c
    query = select(c.first, c.last).where(c.uid == uid, c.first <= last, c.last >= first)
    spans = [(max(start, first), min(end, last)) for start, end in conn.execute(query)]
    return frozenset(rowid for start, end in spans for rowid in range(start, end + 1))


def _newest_spans(conn: Connection, uids: Sequence[str]) -> dict[str, tuple[int, int]]:
    c = unlearnt_span.c
    found: dict[str, tuple[int, int]] = {}
    for part in in_parts(uids):
        query = select(c.uid, func.max(c.first), func.max(c.last)).where(c.uid.in_(part)).group_by(c.uid)
        found |= {uid: (first, last) for uid, first, last in conn.execute(query)}
    return found


def _runs(rowids: Iterable[int]) -> Iterator[tuple[int, int]]:
    """First and last of rows that follow each other.

    >>> list(_runs([2, 3, 4, 7]))
    [(2, 4), (7, 7)]
    """
    start = end = None
    for rowid in rowids:
        if start is None or end is None:
            start = rowid
        elif rowid != end + 1:
            yield start, end
            start = rowid
        end = rowid
    if start is not None and end is not None:
        yield start, end
