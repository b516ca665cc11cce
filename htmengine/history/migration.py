# SPDX-License-Identifier: MIT
"""HTM Engine's alarms beside this engine's, on the rows of a database that it left.

In: a database whose old scores are kept (`htm_engine_scores`).  Out: `Moved`, a metric each.  This engine's scores are
made here, by the very model and evidence that will run; nothing of them is written.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from sqlalchemy import Connection

from htmengine.errors import InvalidModelSpec
from htmengine.history.agreement import ALARM, Alarms, matched, starts
from htmengine.history.processes import in_processes
from htmengine.history.rescoring import Past, Wanted, rescore
from htmengine.history.stored import past_of
from htmengine.repository import htm_engine_scores, queries
from htmengine.repository.engine import Database
from htmengine.repository.queries import Metric, MetricStatus


@dataclass(frozen=True, slots=True)
class Moved:
    """A metric's alarms, by their rows: both engines', only the old one's, only the new one's."""

    name: str
    alarms: Alarms
    times: dict[int, int]  #: when each of these rows was, epoch seconds


def keep_scores(database: Database) -> tuple[list[Metric], int, list[Metric]]:
    """Keep HTM Engine's scores.  The metrics that have some, how many scores, and the metrics whose scores are gone.

    Raises `DatabaseFailed` for a database that HTM Engine did not make.
    """
    database.run_sync(htm_engine_scores.make_table)
    kept, scores, gone = list[Metric](), 0, list[Metric]()
    for each in database.read_sync(queries.list_metrics):
        count = database.run_sync(htm_engine_scores.keep, each)
        if count is None:
            gone.append(each)
        elif count:
            kept.append(each)
            scores += count
    return kept, scores, gone


def without_model(metrics: Sequence[Metric]) -> list[tuple[Metric, str]]:
    """Those that get no model from HTM Engine's description, and why."""
    return [(each, _reason(each)) for each in metrics if each.definition is None]


def _reason(each: Metric) -> str:
    if each.status is MetricStatus.UNMONITORED:
        return "not monitored"
    return each.message or "has no description of its model: it learns its range from its first rows"


def moved(
    database: Database, metrics: Sequence[Metric], days: int, jobs: int, *, sequence_only: bool
) -> Iterator[Moved | InvalidModelSpec]:
    """The alarms of the last days before the newest row, a metric after the other, in any order."""
    newest = max((each.last_timestamp or 0 for each in metrics), default=0)
    wanted = Wanted(newest - 86_400 * days, ALARM, sequence_only)
    pasts = (past for each in metrics if (past := database.read_sync(past_of, each.uid, {})) is not None)
    for found in in_processes(partial(_alarms, wanted=wanted), pasts, jobs):
        if isinstance(found, InvalidModelSpec):
            yield found
        else:
            yield database.read_sync(_beside, *found, wanted.since)


def _alarms(past: Past, wanted: Wanted) -> tuple[str, str, list[int]] | InvalidModelSpec:
    """This engine's: uid, name and rows.  A metric whose rows its model cannot take harms no other."""
    try:
        found = rescore(past, wanted)
    except InvalidModelSpec as error:
        return error
    return past.uid, past.name, [each.row.rowid for each in found.unusual if each.row.anomaly >= ALARM]


def _beside(conn: Connection, uid: str, name: str, ours: Sequence[int], since: int) -> Moved:
    theirs = htm_engine_scores.alarms(conn, uid, since, ALARM)
    alarms = matched(starts(theirs), starts(ours))
    rows = [*alarms.both, *alarms.only, *alarms.only_other]
    return Moved(name, alarms, {row: _time_of(conn, uid, row) for row in rows})


def _time_of(conn: Connection, uid: str, row: int) -> int:
    return queries.get_rows(conn, uid, row - 1, 1)[0].timestamp
