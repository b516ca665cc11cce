# SPDX-License-Identifier: MIT
"""Late samples become rows of their metric: in the order of time, under new rowids.

In: the samples that table late_sample keeps.  Out: rows of metric_data, dense up to the metric's newest rowid, and the
rowids that other tables keep moved along.  A new row is not learnt if it is in the middle of rows that are not, or in a
window of maintenance by now.  Rows that are moved lose their scores: whoever joins them starts a new
generation of the model in the same transaction.  As in `queries`: synchronous, ``conn`` first.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import NamedTuple

from sqlalchemy import Column, Connection, delete, select, update

from htmengine.repository import counts, fine_spans, late_samples, queries, unlearnt_rows
from htmengine.repository.queries import Metric
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
from htmengine.repository.unlearnt_rows import UnlearntSpan, WindowAt, spans_of

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


class Joined(NamedTuple):
    """What became of a metric's late samples."""

    rows: int  #: new ones
    duplicates: int  #: samples whose times had rows already
    moved_to: Callable[[int], int]  #: the new rowid of a row


class _Row(NamedTuple):
    timestamp: int
    value: float
    rowid: int = 0  #: 0: new
    learn: bool = True


def join_late(conn: Connection, metric: Metric, now: int, window_at: WindowAt | None = None) -> Joined:
    """Make rows of all late samples of a metric, which the caller has locked."""
    c = late_sample.c
    query = select(c.timestamp, c.value).where(c.uid == metric.uid).order_by(c.timestamp)
    late = [_Row(timestamp, value) for timestamp, value in conn.execute(query)]
    if not late:
        return Joined(0, 0, lambda rowid: rowid)
    later = _rows_from(conn, metric.uid, late[0].timestamp)
    known = {row.timestamp for row in later}
    new = [row for row in late if row.timestamp not in known]
    moved_to = _renumber(conn, metric, later, new, window_at) if new else lambda rowid: rowid
    conn.execute(delete(late_sample).where(c.uid == metric.uid))
    duplicates = len(late) - len(new)
    if duplicates:
        counts.add_rejects(conn, {(metric.uid, "timestamp_duplicate"): duplicates}, now)
    return Joined(len(new), duplicates, moved_to)


def stage(conn: Connection, uid: str, samples: Sequence[tuple[int, float]]) -> int:
    """Keep loaded samples as late ones if their times have no rows; how many have none.

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
    d = metric_data.c
    span = d.timestamp.between(to_datetime(first), to_datetime(last))
    return set(map(from_datetime, conn.execute(select(d.timestamp).where(d.uid == uid, span)).scalars()))


def late_metrics(conn: Connection) -> list[str]:
    """Names of the metrics that have late samples."""
    uids = conn.execute(select(late_sample.c.uid).distinct()).scalars().all()
    return sorted(each.name for each in queries.get_metrics(conn, uids))


def _rows_from(conn: Connection, uid: str, timestamp: int) -> list[_Row]:
    d = metric_data.c
    query = select(d.timestamp, d.metric_value, d.rowid).where(d.uid == uid, d.timestamp >= to_datetime(timestamp))
    return [_Row(from_datetime(at), value, rowid) for at, value, rowid in conn.execute(query.order_by(d.rowid))]


def _renumber(
    conn: Connection, metric: Metric, later: Sequence[_Row], new: Sequence[_Row], window_at: WindowAt | None
) -> Callable[[int], int]:
    """Put new rows between the later ones; the last of all gets the metric's next rowids.  Where each row has moved."""
    last = metric.last_rowid + len(new)
    first = metric.last_rowid - len(later) + 1
    unlearnt = unlearnt_rows.among(conn, metric.uid, first - 1, metric.last_rowid)
    spans = unlearnt_rows.take_from(conn, metric.uid, first)
    fine_spans.remove_maintenance(conn, metric.uid, [each.last for each in spans])
    rows = sorted([*_marked(later, unlearnt), *_marked_new(metric.name, new, later, first, unlearnt, window_at)])
    d = metric_data.c
    if later:
        conn.execute(delete(metric_data).where(d.uid == metric.uid, d.rowid >= first))
    for part in _parts(rows):
        values = [(metric.uid, first + place, row.timestamp, row.value) for place, row in part]
        queries.insert_samples(conn, values)
    newest = max(rows[-1].timestamp, metric.last_timestamp or 0)
    queries.update_tails(conn, [(metric.uid, last, newest)])
    moved_to = _move(conn, metric.uid, [(row.rowid, first + place) for place, row in enumerate(rows) if row.rowid])
    _leave_out(conn, metric.uid, spans, first, rows)
    return moved_to


def _marked(rows: Sequence[_Row], unlearnt: Collection[int]) -> Iterator[_Row]:
    return (row._replace(learn=row.rowid not in unlearnt) for row in rows)


def _marked_new(
    name: str,
    new: Sequence[_Row],
    later: Sequence[_Row],
    first: int,
    unlearnt: Collection[int],
    window_at: WindowAt | None,
) -> Iterator[_Row]:
    """New rows; those between two rows that are not learnt are not learnt, whatever has become of the window."""
    times = [row.timestamp for row in later]
    for row in new:
        following = first + bisect_right(times, row.timestamp)
        within = following - 1 in unlearnt and following in unlearnt
        outside = window_at is None or window_at(name, row.timestamp) is None
        yield row._replace(learn=outside and not within)


def _leave_out(conn: Connection, uid: str, spans: Sequence[UnlearntSpan], first: int, rows: Sequence[_Row]) -> None:
    """Keep which of the rows from ``first`` on are not learnt.  ``spans``: those that there were before."""
    before = next((each._replace(last=first - 1) for each in spans if each.first < first), None)
    now = spans_of(before, [first + place for place, row in enumerate(rows) if not row.learn])
    unlearnt_rows.put(conn, {uid: now}, {})
    ended = [each for each in now if each.last < first + len(rows) - 1]
    fine_spans.put(conn, [fine_spans.of_maintenance(uid, *each) for each in ended])


def _parts(rows: Sequence[_Row]) -> Iterator[list[tuple[int, _Row]]]:
    numbered = list(enumerate(rows))
    for at in range(0, len(numbered), ROWS_AT_ONCE):
        yield numbered[at : at + ROWS_AT_ONCE]


def _move(conn: Connection, uid: str, moves: Sequence[tuple[int, int]]) -> Callable[[int], int]:
    """Move the rowids that other tables keep: (old, new), in order."""
    old = [before for before, _ in moves]

    def moved_to(rowid: int) -> int:
        place = bisect_right(old, rowid)
        return rowid if not place else rowid + moves[place - 1][1] - moves[place - 1][0]

    for of, column in _KEPT:
        _move_column(conn, of, column, uid, moved_to)
    return moved_to


def _move_column(
    conn: Connection, of: Column[str], column: Column[int], uid: str, moved_to: Callable[[int], int]
) -> None:
    """The greatest first: rows move up only, so none meets another."""
    rowids = conn.execute(select(column).where(of == uid, column.is_not(None)).distinct()).scalars()
    for rowid in sorted(rowids, reverse=True):
        if moved_to(rowid) != rowid:
            where = (of == uid) & (column == rowid)
            conn.execute(update(column.table).where(where).values({column.name: moved_to(rowid)}))
