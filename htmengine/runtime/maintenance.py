# SPDX-License-Identifier: MIT
"""Rows of maintenance that are not learnt.

In: rows that were stored, and which windows of time there are.  Out: which rows the models do not learn, and a fine
span for each window that has ended.
Called by the Metric Storer in the transaction that stores the rows, so that what is learnt follows from the database
alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TypeAlias

from msgspec import structs
from sqlalchemy import Connection

from htmengine.messages import InputRow
from htmengine.repository import fine_spans, queries, reading, unlearnt_rows
from htmengine.repository.fine_spans import FineSpan
from htmengine.repository.queries import Tail

#: The window, if any, whose rows a metric is not to learn, by its name and an epoch second: start and end.
WindowAt: TypeAlias = Callable[[str, float], tuple[float, float] | None]


def leave_out(
    conn: Connection, tails: Iterable[Tail], rows: Mapping[str, Sequence[InputRow]], window_at: WindowAt
) -> dict[str, list[InputRow]]:
    """Mark the rows of windows: the models do not learn them, nor does the evidence from the first row after them on.

    The rows as the models are to have them.  ``tails``: before the rows, which are stored; both by metric.
    """
    by_uid = {tail.uid: tail for tail in tails if tail.uid in rows}
    marked = {uid: [_marked(row, tail.name, window_at) for row in rows[uid]] for uid, tail in by_uid.items()}
    unlearnt = {uid: [row.rowid for row in each if not row.learn] for uid, each in marked.items()}
    unlearnt_rows.add(conn, {uid: rowids for uid, rowids in unlearnt.items() if rowids})
    _end_windows(conn, [(uid, each) for uid, tail in by_uid.items() for each in _ended(tail, rows[uid], window_at)])
    return marked


def _marked(row: InputRow, name: str, window_at: WindowAt) -> InputRow:
    return row if window_at(name, row.timestamp) is None else structs.replace(row, learn=False)


def _end_windows(conn: Connection, ended: Sequence[tuple[str, tuple[float, float]]]) -> None:
    """The first row after a window ends it: a fine span for each."""
    metrics = {each.uid: each for each in queries.get_metrics(conn, sorted({uid for uid, _ in ended}))}
    for uid, (start, end) in ended:
        if fine_spans.replays(conn, metrics[uid]):
            first, last = reading.span_of(conn, uid, math.ceil(start), math.ceil(end) - 1)
            fine_spans.put(conn, [FineSpan(uid, f"maintenance {start:.0f}", first, last, after=last)])


def _ended(tail: Tail, rows: Sequence[InputRow], window_at: WindowAt) -> Iterator[tuple[float, float]]:
    known = () if tail.last_timestamp is None else (tail.last_timestamp,)
    for before, timestamp in pairwise([*known, *(row.timestamp for row in rows)]):
        window = window_at(tail.name, before)
        if window is not None and timestamp >= window[1]:
            yield window
