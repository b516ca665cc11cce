# SPDX-License-Identifier: MIT
"""Rows that are something else than usual, as spans: those that the model scores without learning, as they are of
maintenance windows with ``learning = no``, and those that fill gaps.

Who stores a row says so in the same transaction.  So a model learns the same rows whenever it runs them, and a rebuild
knows what was measured.

As in `queries`, each function takes ``conn`` first and runs in the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

from sqlalchemy import Connection, Table, and_, delete, exists, func, select

from htmengine.repository.bulk import bulk_insert, bulk_update
from htmengine.repository.queries import in_parts
from htmengine.repository.schema import filled_span, metric_data, unlearnt_span
from htmengine.repository.times import from_datetime

#: The window, if any, whose rows a metric is not to learn, by its name and an epoch second: start and end.
WindowAt: TypeAlias = Callable[[str, float], tuple[float, float] | None]


#: Gaps that a picture shows.
MOST_GAPS = 1000


class RowSpan(NamedTuple):
    """Rows ``first`` to ``last`` of a metric, both included."""

    first: int
    last: int


NONE_KNOWN: Mapping[str, RowSpan] = MappingProxyType({})


def spans_of(going_on: RowSpan | None, rowids: Iterable[int]) -> list[RowSpan]:
    """The spans of rows, in their order, with one that goes on.

    >>> spans_of(RowSpan(2, 3), [4, 6, 7])
    [RowSpan(first=2, last=4), RowSpan(first=6, last=7)]
    """
    spans = [] if going_on is None else [going_on]
    for rowid in rowids:
        if spans and spans[-1].last == rowid - 1:
            spans[-1] = spans[-1]._replace(last=rowid)
        else:
            spans.append(RowSpan(rowid, rowid))
    return spans


@dataclass(frozen=True, slots=True)
class RowSpans:
    """The rows that one table tells of."""

    table: Table

    def any_spans(self, conn: Connection) -> bool:
        """Whether any metric has some."""
        return conn.execute(select(self.table.c.uid).limit(1)).first() is not None

    def newest_spans(self, conn: Connection, uids: Sequence[str]) -> dict[str, RowSpan]:
        """The last span of each metric that has one."""
        c = self.table.c
        found: dict[str, RowSpan] = {}
        for part in in_parts(uids):
            query = select(c.uid, func.max(c.first), func.max(c.last)).where(c.uid.in_(part)).group_by(c.uid)
            found |= {uid: RowSpan(first, last) for uid, first, last in conn.execute(query)}
        return found

    def put(
        self, conn: Connection, spans: Mapping[str, Sequence[RowSpan]], known: Mapping[str, RowSpan] = NONE_KNOWN
    ) -> None:
        """Keep spans by uid; one that begins as the metric's ``known`` one is that, and has become longer."""
        begun = {(uid, each.first) for uid, each in known.items()}
        values = [(uid, *each) for uid, mine in spans.items() for each in mine]
        longer = [each for each in values if each[:2] in begun]
        new = [each for each in values if each[:2] not in begun]
        bulk_update(conn, self.table, ["uid", "first"], ["last"], longer)
        bulk_insert(conn, self.table, ["uid", "first", "last"], new)

    def take_from(self, conn: Connection, uid: str, first: int) -> list[RowSpan]:
        """Remove a metric's spans that reach the row before ``first`` or later ones, and return them."""
        c = self.table.c
        reaching = (c.uid == uid) & (c.last >= first - 1)
        spans = [RowSpan(*row) for row in conn.execute(select(c.first, c.last).where(reaching).order_by(c.first))]
        conn.execute(delete(self.table).where(reaching))
        return spans

    def prune(self, conn: Connection, uid: str, last: int) -> None:
        """Remove those of a metric's spans that have no row after ``last``."""
        conn.execute(delete(self.table).where(self.table.c.uid == uid, self.table.c.last <= last))

    def among(self, conn: Connection, uid: str, first: int, last: int) -> frozenset[int]:
        """Those of a metric's rows ``first`` to ``last``."""
        c = self.table.c
        query = select(c.first, c.last).where(c.uid == uid, c.first <= last, c.last >= first)
        spans = [(max(start, first), min(end, last)) for start, end in conn.execute(query)]
        return frozenset(rowid for start, end in spans for rowid in range(start, end + 1))

    def count(self, conn: Connection, uid: str | None = None) -> int:
        """Rows of a metric, or of all."""
        c = self.table.c
        query = select(func.coalesce(func.sum(c.last - c.first + 1), 0))
        return int(conn.execute(query if uid is None else query.where(c.uid == uid)).scalar_one())


def newest_measured(conn: Connection, uid: str, most: int) -> list[tuple[int, float]]:
    """Timestamps and values of so many of a metric's newest rows that fill no gap, the oldest first."""
    d, c = metric_data.c, filled_span.c
    fills = exists().where(c.uid == d.uid, c.first <= d.rowid, c.last >= d.rowid)
    query = select(d.timestamp, d.metric_value).where(d.uid == uid, ~fills).order_by(d.rowid.desc()).limit(most)
    return [(from_datetime(at), value) for at, value in reversed(conn.execute(query).all())]


def filled_gaps(conn: Connection, uid: str, first: int, last: int) -> list[tuple[int, int]]:
    """The gaps among a metric's rows ``first`` to ``last`` that rows fill, in order; of many the newest.

    Each by the epoch seconds of the measured rows before and after it.
    """
    c, before, after = filled_span.c, metric_data.alias(), metric_data.alias()
    query = (
        select(before.c.timestamp, after.c.timestamp)
        .select_from(filled_span)
        .join(before, and_(before.c.uid == c.uid, before.c.rowid == c.first - 1))
        .join(after, and_(after.c.uid == c.uid, after.c.rowid == c.last + 1))
        .where(c.uid == uid, c.first <= last, c.last >= first)
    )
    found = conn.execute(query.order_by(c.first.desc()).limit(MOST_GAPS))
    return [(from_datetime(start), from_datetime(end)) for start, end in reversed(found.all())]


#: Scored without learning.
unlearnt_rows = RowSpans(unlearnt_span)
#: Not measured: they fill gaps.
filled_rows = RowSpans(filled_span)
