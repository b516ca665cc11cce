# SPDX-License-Identifier: MIT
"""Rows of maintenance that are not learnt.

In: rows that were stored, and which windows of time there are.  Out: which rows the models do not learn, and a fine
span for each of their spans that has ended, so that the evidence does not learn it either.  Called by the Metric
Storer in the transaction that stores the rows: what is learnt follows from the database alone, whatever becomes of the
windows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import structs
from sqlalchemy import Connection

from htmengine.messages import InputRow
from htmengine.repository import fine_spans, queries
from htmengine.repository.queries import Tail
from htmengine.repository.row_spans import RowSpan, WindowAt, spans_of, unlearnt_rows


def leave_out(
    conn: Connection, tails: Iterable[Tail], rows: dict[str, list[InputRow]], window_at: WindowAt | None
) -> dict[str, list[InputRow]]:
    """Mark the rows of windows: the models do not learn them, nor does the evidence from the first row after them on.

    The rows as the models are to have them.  ``tails``: before the rows, which are stored; both by metric.
    """
    if window_at is None and not unlearnt_rows.any_spans(conn):
        return rows
    before = {tail.uid: tail for tail in tails if tail.uid in rows}
    marked = {uid: [_marked(row, tail.name, window_at) for row in rows[uid]] for uid, tail in before.items()}
    known = unlearnt_rows.newest_spans(conn, list(marked))
    unlearnt = {uid: [row.rowid for row in each if not row.learn] for uid, each in marked.items()}
    spans = {uid: spans_of(_open(before[uid], known.get(uid)), rowids) for uid, rowids in unlearnt.items()}
    unlearnt_rows.put(conn, {uid: each for uid, each in spans.items() if each}, known)
    _end(conn, [(uid, span) for uid, each in spans.items() for span in each if span.last < marked[uid][-1].rowid])
    return marked


def _marked(row: InputRow, name: str, window_at: WindowAt | None) -> InputRow:
    if window_at is None or window_at(name, row.timestamp) is None:
        return row
    return structs.replace(row, learn=False)


def _open(tail: Tail, newest: RowSpan | None) -> RowSpan | None:
    """A metric's newest span, if its next row decides whether that goes on."""
    return newest if newest is not None and newest.last == tail.last_rowid else None


def _end(conn: Connection, ended: Sequence[tuple[str, RowSpan]]) -> None:
    """Spans that a row follows which is learnt: a fine span for each."""
    metrics = {each.uid: each for each in queries.get_metrics(conn, sorted({uid for uid, _ in ended}))}
    for uid, span in ended:
        if fine_spans.replays(conn, metrics[uid]):
            fine_spans.put(conn, [fine_spans.of_maintenance(uid, *span)])
