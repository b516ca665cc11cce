# SPDX-License-Identifier: MIT
"""The ledger: where the samples of a metric, or of the whole engine, are.  It adds up at any time.

In: the counters of `repository.counts`, read as they were at one moment.  Out: a `Ledger`, for
``htmengine ledger``, the client and the HTTP API, through `Operations.ledger`.

A sample counts as received when the Metric Storer takes it (or the listener's word that it was rejected) from the
samples queue; in the same transaction it is stored or rejected.  So the counters are the rows' own, whatever
crashes::

    received = stored + rejected + held + late
    stored   = scored + waiting + constant + unmonitored + skipped + deleted + expired

A row that fills a gap counts as received, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from sqlalchemy import Connection

from htmengine.repository import counts, late_samples, queries
from htmengine.repository.counts import DELETED, EXPIRED, RECEIVED, SET_ASIDE, MetricScore, RejectTotal, StatusTotal
from htmengine.repository.engine import as_of_now
from htmengine.repository.queries import MODEL_NOT_DUE, Metric, MetricStatus
from htmengine.repository.row_spans import filled_rows


@dataclass(frozen=True, slots=True)
class Ledger:
    """Samples by what became of them.  ``metric`` is a name; None: the whole engine.

    >>> Ledger("a", received=5, stored=4, rejected={"timestamp_old": 1}, scored=3, waiting=1).adds_up
    True
    """

    metric: str | None
    received: int
    stored: int  #: rows that were ever stored, those that were removed since included
    rejected: Mapping[str, int]  #: by reason
    scored: int  #: rows that the current model has scored
    waiting: int  #: rows that the current model, or the one that is to come, has not scored yet
    constant: int = 0  #: rows of metrics that get a model when their value changes
    unmonitored: int = 0  #: rows of metrics without a model
    skipped: int = 0  #: rows that were removed as too old before the current model could run them
    deleted: int = 0  #: rows of metrics that were deleted
    expired: int = 0  #: rows of metrics that were removed as no samples came any more
    held: int = 0  #: samples that wait for earlier ones
    late: int = 0  #: samples that came too late and are kept for the metric's next rebuild
    filled: int = 0  #: of the received, as far as they are still there: rows that fill gaps
    set_aside: int = 0  #: messages between the services that none could process; of the whole engine
    newest_stored: int | None = None  #: the newest sample's own time, epoch seconds
    newest_scored: int | None = None  #: the newest scored sample's own time, epoch seconds
    newest_rejected: int | None = None  #: when the last reject was counted, epoch seconds

    @property
    def adds_up(self) -> bool:
        """Whether each sample is in exactly one place."""
        lasting = (self.scored, self.waiting, self.constant, self.unmonitored, self.skipped)
        parts = (*lasting, self.deleted, self.expired)
        received = self.stored + sum(self.rejected.values()) + self.held + self.late
        return self.received == received and self.stored == sum(parts) and min(parts) >= 0

    def to_json(self) -> dict[str, Any]:
        """As ``htmengine ledger --json`` prints it."""
        return {**asdict(self), "adds_up": self.adds_up}


def read_ledger(conn: Connection, name: str | None) -> Ledger:
    """The ledger of a metric, or of the whole engine, in a transaction of its own.  Raises `MetricNotFound`."""
    as_of_now(conn)
    return _engine_ledger(conn) if name is None else _metric_ledger(conn, queries.find_metric(conn, name))


def _engine_ledger(conn: Connection) -> Ledger:
    totals = counts.get_totals(conn)
    by_status, rejects = counts.status_totals(conn), counts.reject_totals(conn)
    found = _sum_up(None, totals[RECEIVED], by_status, rejects, deleted=totals[DELETED], expired=totals[EXPIRED])
    held, late = late_samples.count_held(conn), late_samples.count_late(conn)
    filled = filled_rows.count(conn)
    return replace(found, held=held, late=late, filled=filled, set_aside=totals[SET_ASIDE])


def _metric_ledger(conn: Connection, metric: Metric) -> Ledger:
    score = counts.get_scores(conn, [metric.uid]).get(metric.uid, MetricScore(metric.uid, generation=0))
    rejects = counts.reject_totals(conn, metric.uid)
    total = StatusTotal(
        metric.status,
        metric.last_rowid,
        score.scored,
        score.rowid,
        metric.last_timestamp,
        score.timestamp,
    )
    held, late = late_samples.count_held(conn, metric.uid), late_samples.count_late(conn, metric.uid)
    received = metric.last_rowid + sum(each.count for each in rejects) + held + late
    filled = filled_rows.count(conn, metric.uid)
    return replace(_sum_up(metric.name, received, [total], rejects), held=held, late=late, filled=filled)


def _sum_up(
    name: str | None,
    received: int,
    totals: Sequence[StatusTotal],
    rejects: Sequence[RejectTotal],
    *,
    deleted: int = 0,
    expired: int = 0,
) -> Ledger:
    """What a model has not come to waits for it, or is unmonitored; what it passed by without a score was skipped."""
    not_run = {total.status: total.stored - total.run_to for total in totals}
    return Ledger(
        metric=name,
        received=received,
        stored=deleted + expired + sum(total.stored for total in totals),
        rejected={each.reason: each.count for each in rejects},
        scored=sum(total.scored for total in totals),
        waiting=sum(rows for status, rows in not_run.items() if status not in MODEL_NOT_DUE),
        constant=not_run.get(MetricStatus.CONSTANT, 0),
        unmonitored=not_run.get(MetricStatus.UNMONITORED, 0) + not_run.get(MetricStatus.EXPIRED, 0),
        skipped=sum(total.run_to - total.scored for total in totals),
        deleted=deleted,
        expired=expired,
        newest_stored=_newest(total.newest_stored for total in totals),
        newest_scored=_newest(total.newest_scored for total in totals),
        newest_rejected=_newest(each.last_at for each in rejects),
    )


def _newest(times: Iterable[int | None]) -> int | None:
    return max((time for time in times if time is not None), default=None)
