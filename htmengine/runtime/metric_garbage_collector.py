# SPDX-License-Identifier: MIT
"""The garbage collector: rows older than a threshold go, a bounded batch at a time.

In: metric_data.  Out: the same with fewer rows (`repository.old_rows` says which stay).  Called by ``htmengine gc``,
and once an hour beside the Metric Storer when [garbage_collection] threshold_days is set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from twisted.logger import Logger
from twisted.python.failure import Failure

from htmengine.process.tasks import PeriodicService
from htmengine.process.twisted_types import Clock
from htmengine.repository import old_rows, queries
from htmengine.repository.engine import Database

DAY_S = 86_400
INTERVAL_S = 3600.0
#: Rows in one transaction.
ROWS_AT_ONCE = 5000


def kept_rows(checkpoint_rows: int) -> int:
    """The last scored rows of each metric that stay: those that the older one of two checkpoints may lack."""
    return 2 * checkpoint_rows


def collect(database: Database, now: float, threshold_days: int, keep: int) -> Iterator[int]:
    """Remove rows older than that, for synchronous callers; yields the size of each batch."""
    before = int(now) - threshold_days * DAY_S
    database.run_sync(old_rows.remove_anomalies, before)
    after: str | None = ""
    while after is not None:
        removed, after = database.run_sync(old_rows.remove, after=after, before=before, keep=keep, most=ROWS_AT_ONCE)
        yield removed


class MetricGarbageCollector(PeriodicService):
    """Collects once an hour."""

    log = Logger()

    def __init__(
        self, *, clock: Clock, database: Database, threshold_days: int, keep: int, on_failure: Callable[[Failure], None]
    ) -> None:
        super().__init__(clock=clock, interval_s=INTERVAL_S, on_failure=on_failure)
        self._clock = clock
        self._database = database
        self._threshold_days = threshold_days
        self._keep = keep

    async def work(self) -> None:
        """Remove what is old by now, until nothing is left or the service stops.

        If all is old, the clock is ahead or no samples come: then everything stays.
        """
        before = int(self._clock.seconds()) - self._threshold_days * DAY_S
        metrics, _ = await self._database.read(queries.metrics_ahead, before)
        if not metrics:
            self.log.warn("no metric has a row of the last {days} days: none is removed", days=self._threshold_days)
            return
        await self._database.run(old_rows.remove_anomalies, before)
        total = 0
        after: str | None = ""
        while self.running and after is not None:
            removed, after = await self._database.run(
                old_rows.remove, after=after, before=before, keep=self._keep, most=ROWS_AT_ONCE
            )
            total += removed
        if total:
            self.log.info("{rows} rows older than {days} days removed", rows=total, days=self._threshold_days)
