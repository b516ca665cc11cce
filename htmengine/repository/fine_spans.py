# SPDX-License-Identifier: MIT
"""Spans of rows that somebody called fine, or of maintenance: they are not learnt, and their like may raise less.

A span counts for the rows of its metric after the row ``after``, up to the row ``until``.  So what a detector knows at
any row follows from the stored rows and spans alone, whenever and by whom it is asked.

As in `queries`, each function takes ``conn`` first and runs in the caller's transaction.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import Connection, and_, delete, insert, or_, select, update

from htmengine.repository.queries import Metric, get_rows, in_parts
from htmengine.repository.schema import fine_span

#: What made a span that is no incident's.
MAINTENANCE = "maintenance"


@dataclass(frozen=True, slots=True)
class FineSpan:
    """Rows ``first`` to ``last`` of a metric, both included; none if ``first`` is greater.

    ``origin``: the incident that was marked, or what else made the span.  ``direction`` and ``height`` are those of its
    alarms; a height of None: nothing is like it.
    """

    uid: str
    origin: str
    first: int
    last: int
    after: int
    until: int | None = None
    direction: str | None = None
    height: float | None = None

    def counts_at(self, rowid: int) -> bool:
        """Whether it counts for a row.

        >>> span = FineSpan("u", "i", first=5, last=7, after=9, until=20)
        >>> [span.counts_at(rowid) for rowid in (9, 10, 20, 21)]
        [False, True, True, False]
        """
        return self.after < rowid and (self.until is None or rowid <= self.until)


def of_maintenance(uid: str, first: int, last: int) -> FineSpan:
    """The span of maintenance that has ended: it counts from the first row after it on."""
    return FineSpan(uid, MAINTENANCE, first, last, after=last)


def turns(spans: Iterable[FineSpan]) -> frozenset[int]:
    """Rows after which other rows are learnt.

    >>> sorted(turns([FineSpan("u", "i", 5, 7, after=9, until=20)]))
    [9, 20]
    """
    with_rows = [each for each in spans if each.first <= each.last]
    return frozenset(turn for each in with_rows for turn in (each.after, each.until) if turn is not None)


def begins(spans: Iterable[FineSpan], rowid: int) -> bool:
    """Whether rows begin after that one which are not learnt from their own end on, as those of maintenance.

    What a detector knows before them it knows after them, too: see `resumes`.

    >>> [begins([FineSpan("u", "i", 5, 7, after=7)], rowid) for rowid in (3, 4, 5)]
    [False, True, False]
    """
    return any(each.first == rowid + 1 and each.first <= each.last == each.after for each in spans)


def resumes(spans: Sequence[FineSpan], rowid: int, kept: int) -> bool:
    """Whether a detector goes on after a row as it was after the row ``kept``: nothing but what began then has ended.

    >>> span = FineSpan("u", "i", 5, 7, after=7)
    >>> resumes([span], 7, 4), resumes([span], 7, 3), resumes([span, FineSpan("u", "j", 1, 2, after=6)], 7, 4)
    (True, False, False)
    """
    turning = [each for each in spans if each.first <= each.last and rowid in (each.after, each.until)]
    alone = len(turning) == 1 and turning[0].after == turning[0].last == rowid and turning[0].first == kept + 1
    return alone and not any(kept < turn < rowid for turn in turns(spans))


def learnt_at(spans: Iterable[FineSpan], rowid: int) -> Callable[[int], bool]:
    """Which earlier rows are learnt when a row comes.

    >>> learnt = learnt_at([FineSpan("u", "i", 5, 7, after=9)], 10)
    >>> [row for row in range(1, 10) if learnt(row)]
    [1, 2, 3, 4, 8, 9]
    """
    counting = [(each.first, each.last) for each in spans if each.counts_at(rowid)]
    return lambda row: not any(first <= row <= last for first, last in counting)


def replays(conn: Connection, metric: Metric) -> bool:
    """Whether all that a metric's detector has learnt is still stored, so that it can learn it again without a span."""
    if metric.definition is None:
        return True
    rows = get_rows(conn, metric.uid, metric.definition.after, 1)
    return not rows or rows[0].rowid == metric.definition.after + 1


def put(conn: Connection, spans: Sequence[FineSpan]) -> None:
    """Keep spans; one of the same metric, origin and row is replaced."""
    c = fine_span.c
    for span in spans:
        conn.execute(delete(fine_span).where(c.uid == span.uid, c.origin == span.origin, c.after == span.after))
        conn.execute(insert(fine_span), asdict(span))


def end(conn: Connection, uid: str, origin: str, until: int) -> None:
    """A metric's spans of an origin do not count after a row."""
    c = fine_span.c
    still = and_(c.uid == uid, c.origin == origin, or_(c.until.is_(None), c.until > until))
    conn.execute(update(fine_span).where(still).values(until=until))


def prune(conn: Connection, uid: str, last: int) -> None:
    """Remove those of a metric's spans that say nothing of rows after ``last``; what quiets its like stays."""
    c = fine_span.c
    nothing = or_(c.until <= last, and_(c.after <= last, c.height.is_(None)))
    conn.execute(delete(fine_span).where(c.uid == uid, nothing))


def remove_maintenance(conn: Connection, uid: str, lasts: Collection[int]) -> None:
    """Remove a metric's spans of maintenance that ended with these rows."""
    c = fine_span.c
    for part in in_parts(lasts):
        conn.execute(delete(fine_span).where(c.uid == uid, c.origin == MAINTENANCE, c.after.in_(part)))


def of_metrics(conn: Connection, uids: Sequence[str]) -> dict[str, tuple[FineSpan, ...]]:
    """By uid, of metrics that have some."""
    c = fine_span.c
    found: defaultdict[str, list[FineSpan]] = defaultdict(list)
    for part in in_parts(uids):
        for row in conn.execute(select(fine_span).where(c.uid.in_(part)).order_by(c.uid, c.after, c.origin)):
            found[row.uid].append(FineSpan(**row._asdict()))
    return {uid: tuple(spans) for uid, spans in found.items()}
