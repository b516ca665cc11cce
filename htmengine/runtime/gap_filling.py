# SPDX-License-Identifier: MIT
"""Gaps are filled where rows are stored: in the transaction that stores the row after a gap.

In: new rows with their rowids.  Out: the same with rows before them that fill gaps, under new rowids; table filled_span
says which they are, so that a rebuild fills the gaps of what was measured, and late samples take their places.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import Connection

from htmengine.gaps import ROWS_KNOWN, Filler, Filling, GapRules
from htmengine.messages import InputRow
from htmengine.repository.queries import Tail
from htmengine.repository.row_spans import RowSpan, filled_rows, newest_measured


def filled(
    conn: Connection, tails: Iterable[Tail], rows: dict[str, list[InputRow]], rules: GapRules
) -> tuple[dict[str, list[InputRow]], int]:
    """New rows by metric with those that fill gaps, and how many these are.  ``tails``: the metrics before the rows."""
    fillings = {tail.uid: filling for tail in tails if tail.uid in rows and (filling := rules.filling_of(tail.name))}
    found = {uid: _filled(conn, uid, rows[uid], filling) for uid, filling in fillings.items()}
    filled_rows.put(conn, {uid: spans for uid, (_, spans) in found.items()})
    count = sum(span.last - span.first + 1 for _, spans in found.values() for span in spans)
    return rows | {uid: each for uid, (each, _) in found.items()}, count


def _filled(
    conn: Connection, uid: str, rows: Sequence[InputRow], filling: Filling
) -> tuple[list[InputRow], list[RowSpan]]:
    """A metric's new rows with those that fill gaps, and the spans of these."""
    filler = Filler(filling, newest_measured(conn, uid, ROWS_KNOWN))
    found: list[InputRow] = []
    spans = []
    for row in rows:
        first = rows[0].rowid + len(found)
        between = filler.before((row.timestamp, row.value))
        if between:
            spans.append(RowSpan(first, first + len(between) - 1))
        found += [InputRow(first + place, *each) for place, each in enumerate([*between, (row.timestamp, row.value)])]
    return found, spans
