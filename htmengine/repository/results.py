# SPDX-License-Identifier: MIT
"""What is kept of results beside the rows themselves: the anomalies of all metrics, and the order of all results.

Written by the Anomaly Service in the transaction that stores the scores; read by the HTTP API and the alerts.  The
results are counted through, whatever their metric: result number n is the n-th that was ever stored.  The table
result_log says for each transaction which rows it scored, so that a reader who knows the number of the last
result it has seen gets those that came since.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import msgspec
from msgspec import UNSET
from sqlalchemy import Connection, delete, insert, select

from htmengine.messages import ScoredRow, Why
from htmengine.repository import counts
from htmengine.repository.queries import in_parts
from htmengine.repository.schema import anomaly, ledger_total, metric, metric_data, result_log
from htmengine.repository.times import from_datetime, to_datetime

#: The log reaches back this many results.
KEPT_RESULTS = 100_000
#: The counter in the table ledger_total.
RESULTS = "results"


class RowSpan(NamedTuple):
    """Rows of one metric, ``first`` to ``last``."""

    uid: str
    first: int
    last: int

    @property
    def rows(self) -> int:
        return self.last - self.first + 1


class Result(NamedTuple):
    """A scored row; ``number`` counts the results of all metrics."""

    number: int
    uid: str
    name: str
    rowid: int
    timestamp: int
    value: float
    raw_anomaly_score: float
    anomaly_score: float


@dataclass(frozen=True, slots=True)
class LogEntry:
    """The results of one transaction, in order; the last of them has the number ``number``."""

    number: int
    spans: tuple[RowSpan, ...]

    @property
    def first_number(self) -> int:
        return self.number - sum(span.rows for span in self.spans) + 1


# --- written with the scores ----------------------------------------------------------------------------


def save_anomalies(conn: Connection, scores: Sequence[tuple[str, ScoredRow]], floor: float) -> None:
    """Keep those of (uid, row) whose score is at least ``floor``, and those that are reported with their reasons."""
    great = [(uid, row) for uid, row in scores if row.anomaly >= floor or row.why is not UNSET]
    for uid, row in great:
        conn.execute(delete(anomaly).where(anomaly.c.uid == uid, anomaly.c.rowid == row.rowid))
    if great:
        conn.execute(
            insert(anomaly),
            [
                {
                    "uid": uid,
                    "rowid": row.rowid,
                    "timestamp": to_datetime(row.timestamp),
                    "metric_value": row.value,
                    "anomaly_score": row.anomaly,
                    "why": None if row.why is UNSET else msgspec.json.encode(row.why).decode(),
                    "height": None if row.why is UNSET else row.why.height,
                }
                for uid, row in great
            ],
        )


def whys_of(conn: Connection, uid: str, first: int, last: int) -> dict[int, Why]:
    """What was stored of the reasons for a metric's rows, by rowid."""
    c = anomaly.c
    query = select(c.rowid, c.why).where(c.uid == uid, c.rowid.between(first, last), c.why.is_not(None))
    return {rowid: msgspec.json.decode(why, type=Why) for rowid, why in conn.execute(query)}


def forget_anomalies(conn: Connection, uid: str, after: int = 0) -> None:
    """A metric gets a new model, which will score the rows after that one."""
    conn.execute(delete(anomaly).where(anomaly.c.uid == uid, anomaly.c.rowid > after))


def append_log(conn: Connection, scores: Sequence[tuple[str, ScoredRow]]) -> None:
    """Number the results of this transaction."""
    if not scores:
        return
    counts.add_total(conn, RESULTS, len(scores))  # the counter's row stays locked: numbers are committed in order
    number = last_number(conn)
    body = zlib.compress(json.dumps(spans_of(scores), separators=(",", ":")).encode(), 1)
    conn.execute(insert(result_log), {"number": number, "spans": body})
    conn.execute(delete(result_log).where(result_log.c.number <= number - KEPT_RESULTS))


def spans_of(scores: Sequence[tuple[str, ScoredRow]]) -> list[RowSpan]:
    """Rows that follow each other, together.

    >>> spans_of([("a", ScoredRow(rowid, 0, 0.0, 0.0, 0.0)) for rowid in (1, 2, 4)])
    [RowSpan(uid='a', first=1, last=2), RowSpan(uid='a', first=4, last=4)]
    """
    spans: list[RowSpan] = []
    for uid, row in scores:
        if spans and spans[-1].uid == uid and spans[-1].last == row.rowid - 1:
            spans[-1] = spans[-1]._replace(last=row.rowid)
        else:
            spans.append(RowSpan(uid, row.rowid, row.rowid))
    return spans


# --- read -----------------------------------------------------------------------------------------------


def last_number(conn: Connection) -> int:
    """The number of the newest result; 0: there is none."""
    c = ledger_total.c
    return int(conn.execute(select(c["count"]).where(c.name == RESULTS)).scalar() or 0)


def first_number(conn: Connection) -> int | None:
    """The number of the oldest result that the log knows."""
    row = conn.execute(select(result_log).order_by(result_log.c.number).limit(1)).first()
    return None if row is None else _entry(row.number, row.spans).first_number


def results_after(conn: Connection, number: int, most: int) -> tuple[list[Result], int]:
    """Results after the one with that number, and the number they reach.

    About ``most`` at a time: whole transactions, at least one.  Rows that are gone are left out.
    """
    found: list[Result] = []
    reached = number
    query = select(result_log).where(result_log.c.number > number).order_by(result_log.c.number)
    for row in conn.execute(query.limit(most)).all():
        entry = _entry(row.number, row.spans)
        found += [result for result in _results(conn, entry) if result.number > number]
        reached = entry.number
        if len(found) >= most:
            break
    return found, reached


def _entry(number: int, spans: bytes) -> LogEntry:
    return LogEntry(number, tuple(RowSpan(*span) for span in json.loads(zlib.decompress(spans))))


def _results(conn: Connection, entry: LogEntry) -> list[Result]:
    names = _names(conn, sorted({span.uid for span in entry.spans}))
    number = entry.first_number
    found = []
    for span in entry.spans:
        if span.uid in names:
            found += _rows(conn, span, names[span.uid], number)
        number += span.rows
    return found


def _names(conn: Connection, uids: Sequence[str]) -> dict[str, str]:
    names: dict[str, str] = {}
    for part in in_parts(uids):
        query = select(metric.c.uid, metric.c.name).where(metric.c.uid.in_(part))
        names.update((uid, name) for uid, name in conn.execute(query))
    return names


def _rows(conn: Connection, span: RowSpan, name: str, number: int) -> list[Result]:
    c = metric_data.c
    rows = conn.execute(
        select(c.rowid, c.timestamp, c.metric_value, c.raw_anomaly_score, c.anomaly_score)
        .where(c.uid == span.uid, c.rowid.between(span.first, span.last), c.anomaly_score.is_not(None))
        .order_by(c.rowid)
    )
    return [
        Result(number + rowid - span.first, span.uid, name, rowid, from_datetime(timestamp), value, raw, score)
        for rowid, timestamp, value, raw, score in rows
    ]
