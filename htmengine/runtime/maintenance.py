# SPDX-License-Identifier: MIT
"""Rows of maintenance that are not learnt.

In: rows that were stored, and which windows of time there are.  Out: a fine span for each window that has ended.
Called by the Metric Storer in the transaction that stores the rows, so that what is learnt follows from the database
alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TypeAlias

from sqlalchemy import Connection

from htmengine.messages import InputRow
from htmengine.repository import fine_spans, queries, reading
from htmengine.repository.fine_spans import FineSpan
from htmengine.repository.queries import Tail

#: The window, if any, whose rows a metric is not to learn, by its name and an epoch second: start and end.
WindowAt: TypeAlias = Callable[[str, float], tuple[float, float] | None]


def leave_out(
    conn: Connection, tails: Iterable[Tail], rows: Mapping[str, Sequence[InputRow]], window_at: WindowAt
) -> None:
    """The first row after a window ends it.  ``tails``: before the rows, which are stored; both by metric."""
    ended = [(tail.uid, each) for tail in tails for each in _ended(tail, rows.get(tail.uid, ()), window_at)]
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
