# SPDX-License-Identifier: MIT
"""Late samples become rows of their metric: in the order of time, under new rowids.

In: the samples that table late_sample keeps.  Out: rows of metric_data, dense up to the metric's newest rowid, and the
rowids that other tables keep moved along.  Gaps between measured rows are filled as the rules say by now.  A new row is
not learnt if it is in the middle of rows that are not, or in a window of maintenance by now.  Rows that are moved lose
their scores: whoever joins them starts a new generation of the model in the same transaction.  As in `queries`:
synchronous, ``conn`` first.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import NamedTuple

from sqlalchemy import Column, Connection, delete, func, select, update

from htmengine.gaps import NO_FILLING, Filler, Filling, GapRules
from htmengine.repository import counts, fine_spans, late_samples, queries
from htmengine.repository.counters import learn_texts
from htmengine.repository.queries import Metric
from htmengine.repository.row_spans import RowSpan, WindowAt, filled_rows, spans_of, unlearnt_rows
from htmengine.repository.schema import (
    alarm_state,
    alarm_verdict,
    alert,
    alert_state,
    fine_span,
    incident_member,
    late_sample,
    metric_data,
    metric_idle,
    model_snapshot,
)
from htmengine.repository.times import from_datetime, to_datetime

#: Rowids that are kept beside the rows; a metric has few of them, but in metric_data.
_KEPT = (
    (alert_state.c.uid, alert_state.c.rowid),
    (alarm_state.c.uid, alarm_state.c.rowid),
    (alarm_verdict.c.uid, alarm_verdict.c.rowid),
    (alert.c.uid, alert.c.rowid),
    (incident_member.c.uid, incident_member.c.rowid),
    (model_snapshot.c.uid, model_snapshot.c.rowid),
    (metric_idle.c.uid, metric_idle.c.last_rowid),
    *((fine_span.c.uid, column) for column in (fine_span.c.first, fine_span.c.last, fine_span.c.after)),
    (fine_span.c.uid, fine_span.c.until),
)
#: Rows in one statement.
ROWS_AT_ONCE = 10_000


@dataclass(frozen=True, slots=True)
class JoinRules:
    """What decides which rows there are, and which are learnt."""

    window_at: WindowAt | None = None  #: of maintenance
    gaps: GapRules = NO_FILLING


NO_RULES = JoinRules()


class Joined(NamedTuple):
    """What became of a metric's late samples."""

    rows: int  #: new ones
    duplicates: int  #: samples whose times had rows already
    moved_to: Callable[[int], int]  #: the new rowid of a row


class _Row(NamedTuple):
    timestamp: int
    value: float
    rowid: int = 0  #: 0: new
    filled: bool = False
    learn: bool = True


def join_late(conn: Connection, metric: Metric, now: int, rules: JoinRules = NO_RULES) -> Joined:
    """Make rows of all late samples of a metric, which the caller has locked, and fill the gaps that are left."""
    c = late_sample.c
    query = select(c.timestamp, c.value).where(c.uid == metric.uid).order_by(c.timestamp)
    late = [_Row(timestamp, value) for timestamp, value in conn.execute(query)]
    learn_texts(conn, [metric.name])
    filling = rules.gaps.filling_of(metric.name)
    refills = filling is not None or filled_rows.count(conn, metric.uid) > 0
    if not late and not refills:
        return Joined(0, 0, lambda rowid: rowid)
    there = _rows_from(conn, metric, None if refills else late[0].timestamp)
    measured = {row.timestamp: row for row in there if not row.filled}
    new = [row for row in late if row.timestamp not in measured]
    rows = _filled(sorted([*measured.values(), *new]), there, filling)
    moved_to = _replace(conn, metric, there, _marked(rows, there, metric.name, rules.window_at))
    conn.execute(delete(late_sample).where(c.uid == metric.uid))
    counts.add_total(conn, counts.RECEIVED, len(rows) - len(there) - len(new))
    duplicates = len(late) - len(new)
    if duplicates:
        counts.add_rejects(conn, {(metric.uid, "timestamp_duplicate"): duplicates}, now)
    return Joined(len(new), duplicates, moved_to)


def stage(conn: Connection, uid: str, samples: Sequence[tuple[int, float]]) -> int:
    """Keep loaded samples as late ones if their times have no measured rows; how many have none.

    Those that were not kept before count as received.
    """
    first, last = min(samples)[0], max(samples)[0]
    stored = _times_between(conn, uid, first, last)
    waiting = {at: value for at, value in samples if at not in stored}
    c = late_sample.c
    kept = set(conn.execute(select(c.timestamp).where(c.uid == uid, c.timestamp.between(first, last))).scalars())
    new = {at: value for at, value in waiting.items() if at not in kept}
    late_samples.keep(conn, uid, new)
    counts.add_total(conn, counts.RECEIVED, len(new))
    return len(waiting)


def _times_between(conn: Connection, uid: str, first: int, last: int) -> set[int]:
    """The times of measured rows."""
    d = metric_data.c
    span = d.timestamp.between(to_datetime(first), to_datetime(last))
    found = {
        rowid: from_datetime(at) for rowid, at in conn.execute(select(d.rowid, d.timestamp).where(d.uid == uid, span))
    }
    filled = filled_rows.among(conn, uid, min(found), max(found)) if found else frozenset()
    return {at for rowid, at in found.items() if rowid not in filled}


def late_metrics(conn: Connection) -> list[str]:
    """Names of the metrics that have late samples."""
    uids = conn.execute(select(late_sample.c.uid).distinct()).scalars().all()
    return sorted(each.name for each in queries.get_metrics(conn, uids))


def _rows_from(conn: Connection, metric: Metric, timestamp: int | None) -> list[_Row]:
    """A metric's rows from a time on and the row before them, or all."""
    d = metric_data.c
    query = select(d.timestamp, d.metric_value, d.rowid).where(d.uid == metric.uid).order_by(d.rowid)
    if timestamp is not None:
        earlier = select(func.max(d.rowid)).where(d.uid == metric.uid, d.timestamp < to_datetime(timestamp))
        query = query.where(d.rowid >= func.coalesce(earlier.scalar_subquery(), 0))
    found = conn.execute(query).all()
    first = found[0].rowid if found else metric.last_rowid + 1
    filled = filled_rows.among(conn, metric.uid, first, metric.last_rowid)
    unlearnt = unlearnt_rows.among(conn, metric.uid, first, metric.last_rowid)
    return [_Row(from_datetime(at), value, rowid, rowid in filled, rowid not in unlearnt) for at, value, rowid in found]


def _filled(measured: Sequence[_Row], there: Sequence[_Row], filling: Filling | None) -> list[_Row]:
    """Measured rows and those that fill their gaps; what comes at the time of a row that is there, is that row."""
    known = {row.timestamp: row for row in there}
    filler = Filler(filling)
    found = []
    for row in measured:
        between = [_Row(*each, filled=True) for each in filler.before((row.timestamp, row.value))]
        found += [*between, row]
    return [
        row._replace(rowid=known[row.timestamp].rowid, learn=known[row.timestamp].learn)
        if row.timestamp in known
        else row
        for row in found
    ]


def _marked(rows: Sequence[_Row], there: Sequence[_Row], name: str, window_at: WindowAt | None) -> list[_Row]:
    """The rows, the new ones with whether they are learnt.

    Those between two rows that are not learnt are not learnt either, whatever has become of the window.
    """
    times = [row.timestamp for row in there]

    def marked(row: _Row) -> _Row:
        if row.rowid:
            return row
        place = bisect_right(times, row.timestamp)
        within = 0 < place < len(there) and not there[place - 1].learn and not there[place].learn
        outside = window_at is None or window_at(name, row.timestamp) is None
        return row._replace(learn=outside and not within)

    return list(map(marked, rows))


def _replace(conn: Connection, metric: Metric, there: Sequence[_Row], rows: Sequence[_Row]) -> Callable[[int], int]:
    """Put rows in the place of those that are there, which are the metric's last.  Where each row has moved."""
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(there, rows, strict=False)))
    there, rows = there[same:], rows[same:]
    if not there and not rows:
        return lambda rowid: rowid
    begin = there[0].rowid if there else metric.last_rowid + 1
    last = metric.last_rowid + len(rows) - len(there)
    placed = list(enumerate(rows, last - len(rows) + 1))
    unlearnt, filled = (spans.take_from(conn, metric.uid, begin) for spans in (unlearnt_rows, filled_rows))
    fine_spans.remove_maintenance(conn, metric.uid, [each.last for each in unlearnt])
    _insert(conn, metric, begin, placed, last)
    moved_to = _move(conn, metric.uid, there, [(row.rowid, rowid) for rowid, row in placed if row.rowid])
    filled_rows.put(conn, {metric.uid: _spans(filled, begin, [rowid for rowid, row in placed if row.filled])})
    unlearnt = _spans(unlearnt, begin, [rowid for rowid, row in placed if not row.learn])
    unlearnt_rows.put(conn, {metric.uid: unlearnt})
    ended = [each for each in unlearnt if each.last < last]
    fine_spans.put(conn, [fine_spans.of_maintenance(metric.uid, *each) for each in ended])
    return moved_to


def _insert(conn: Connection, metric: Metric, begin: int, placed: Sequence[tuple[int, _Row]], last: int) -> None:
    """Rows with their rowids in the place of those from ``begin`` on."""
    conn.execute(delete(metric_data).where(metric_data.c.uid == metric.uid, metric_data.c.rowid >= begin))
    for at in range(0, len(placed), ROWS_AT_ONCE):
        part = placed[at : at + ROWS_AT_ONCE]
        queries.insert_samples(conn, [(metric.uid, rowid, row.timestamp, row.value) for rowid, row in part])
    newest = max([metric.last_timestamp or 0, *(row.timestamp for _, row in placed[-1:])])
    queries.update_tails(conn, [(metric.uid, last, newest)])


def _spans(before: Sequence[RowSpan], begin: int, rowids: Sequence[int]) -> list[RowSpan]:
    """Spans of rows from ``begin`` on, and what there was of spans of earlier rows."""
    earlier = [each._replace(last=min(each.last, begin - 1)) for each in before if each.first < begin]
    return spans_of(earlier[0] if earlier else None, rowids)


def _move(conn: Connection, uid: str, there: Sequence[_Row], moves: Sequence[tuple[int, int]]) -> Callable[[int], int]:
    """Move the rowids that other tables keep: (old, new), in order.  A row that is gone counts as the one before it."""
    old = [before for before, _ in moves]
    gone = {row.rowid for row in there}.difference(old)

    def moved_to(rowid: int) -> int:
        while rowid in gone:
            rowid -= 1
        place = bisect_right(old, rowid)
        return rowid if not place else rowid + moves[place - 1][1] - moves[place - 1][0]

    for part in queries.in_parts(gone):
        conn.execute(delete(alarm_verdict).where(alarm_verdict.c.uid == uid, alarm_verdict.c.rowid.in_(part)))
    for of, column in _KEPT:
        _move_column(conn, of, column, uid, moved_to)
    return moved_to


def _move_column(
    conn: Connection, of: Column[str], column: Column[int], uid: str, moved_to: Callable[[int], int]
) -> None:
    """First what moves down, the least first, then what moves up, the greatest first: so none meets another."""
    rowids = sorted(conn.execute(select(column).where(of == uid, column.is_not(None)).distinct()).scalars())
    down = [rowid for rowid in rowids if moved_to(rowid) < rowid]
    up = [rowid for rowid in reversed(rowids) if moved_to(rowid) > rowid]
    for rowid in down + up:
        where = (of == uid) & (column == rowid)
        conn.execute(update(column.table).where(where).values({column.name: moved_to(rowid)}))
