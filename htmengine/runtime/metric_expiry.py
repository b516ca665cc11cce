# SPDX-License-Identifier: MIT
"""Metrics that send no more lose their model, and after as long again their rows.

In: the tables metric and metric_idle (`repository.idle`).  Out: models deleted, metrics deleted; the messages for the
models go to the outbox, which the Metric Storer publishes.  Runs once an hour beside the Metric Storer when
[garbage_collection] expire_days is set.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from sqlalchemy import Connection
from twisted.logger import Logger
from twisted.python.failure import Failure

from htmengine.adapters.datasource import custom
from htmengine.process.tasks import PeriodicService
from htmengine.process.twisted_types import Clock
from htmengine.repository import counts, idle, queries
from htmengine.repository.engine import Database
from htmengine.repository.idle import Idle
from htmengine.repository.queries import MetricStatus
from htmengine.sharding import ShardQueues

DAY_S = 86_400
INTERVAL_S = 3600.0
#: A clock that was set, or a process that stood still, makes no metric idle.
LONGEST_STEP_S = 2 * INTERVAL_S


class MetricExpiry(PeriodicService):
    """Looks once an hour."""

    log = Logger()

    def __init__(
        self,
        *,
        clock: Clock,
        database: Database,
        shards: ShardQueues,
        expire_days: float,
        on_failure: Callable[[Failure], None],
    ) -> None:
        super().__init__(clock=clock, interval_s=INTERVAL_S, on_failure=on_failure)
        self._clock = clock
        self._database = database
        self._shards = shards
        self._expire_days = expire_days
        self._looked_at: float | None = None
        self._received = 0

    async def work(self) -> None:
        """Look at all metrics, and expire those whose time has come, each in a transaction of its own."""
        passed_s = await self._passed_s()
        expired: Counter[str] = Counter()
        after: str | None = ""
        while self.running and after is not None:
            found, after = await self._database.run(idle.look, after=after, passed_s=passed_s)
            for each in found:
                if self.running and each.seconds >= self._expire_days * DAY_S:
                    expired[await self._database.run(_expire, each, self._expire_days, self._shards)] += 1
        for what, metrics in expired.items():
            self.log.info("{what} of {n} metrics removed: no samples came", what=what, n=metrics)

    async def _passed_s(self) -> float:
        """For how long metrics may have sent nothing; no time if no metric has."""
        now, received = self._clock.seconds(), (await self._database.read(counts.get_totals))[counts.RECEIVED]
        passed_s = 0.0 if self._looked_at is None or received == self._received else now - self._looked_at
        self._looked_at, self._received = now, received
        return min(max(passed_s, 0.0), LONGEST_STEP_S)


def _expire(conn: Connection, found: Idle, days: float, shards: ShardQueues) -> str:
    """Remove what it is time for; returns what that was."""
    metric = queries.find_metric_by_uid(conn, found.uid, lock=True)
    if metric is None or (metric.status, metric.last_rowid) != (found.status, found.last_rowid):
        return "nothing"  # it has changed since it was looked at
    if metric.status is MetricStatus.EXPIRED:
        what, body = "rows", custom.remove_expired(conn, metric)
    else:
        idle.start_again(conn, metric.uid)
        what, body = "model", custom.expire_metric(conn, metric, f"no samples for {days:g} days")
    queries.add_outbox(conn, [(shards.queue_of(metric.uid), body)])
    return what
