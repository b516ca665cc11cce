# SPDX-License-Identifier: MIT
"""Whether the engine's clock can be believed: samples are rejected by it when they are too far ahead.

In: the clock, the monotonic clock, the metrics' newest samples.  Out: troubles, and the log when they change.
"""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection
from twisted.logger import Logger
from twisted.python.failure import Failure

from htmengine.process.steady_timers import monotonic
from htmengine.process.tasks import PeriodicService
from htmengine.process.twisted_types import Clock
from htmengine.repository import queries
from htmengine.repository.engine import Database
from htmengine.repository.times import to_datetime
from htmengine.telemetry.trouble_watch import TroublesOf

#: How often it looks.
WATCH_S = 30.0
#: A jump is told for this long; then the clock is believed again.
TOLD_S = 3600.0
SOURCE = "clock"


class Jumps:
    """How far the clock has jumped against the monotonic one.

    >>> jumps = Jumps(allowed_s=600.0, now=10_000.0, steady=0.0)
    >>> jumps.look(now=10_030.0, steady=30.0), jumps.look(now=2860.0, steady=60.0), jumps.look(now=2890.0, steady=90.0)
    (0.0, -7200.0, -7200.0)
    >>> jumps.look(now=2860.0 + TOLD_S, steady=60.0 + TOLD_S)
    0.0
    """

    def __init__(self, allowed_s: float, now: float, steady: float) -> None:
        self._allowed_s = allowed_s
        self._offset = now - steady
        self._jumped_at: float | None = None  #: on the monotonic clock

    def look(self, now: float, steady: float) -> float:
        """Seconds, negative when it went back; 0.0 when it goes right."""
        jump = now - steady - self._offset
        if abs(jump) <= self._allowed_s:
            self._jumped_at = None
            return 0.0
        if self._jumped_at is None:
            self._jumped_at = steady
        if steady - self._jumped_at < TOLD_S:
            return jump
        self._offset, self._jumped_at = now - steady, None
        return 0.0


class ClockWatch(PeriodicService):
    """Looks every `WATCH_S`; ``allowed_s``: what is no trouble yet."""

    log = Logger()

    def __init__(
        self,
        *,
        clock: Clock,
        database: Database,
        allowed_s: float,
        on_failure: Callable[[Failure], None],
        steady: Callable[[], float] = monotonic,
    ) -> None:
        super().__init__(clock=clock, interval_s=WATCH_S, on_failure=on_failure)
        self._clock = clock
        self._database = database
        self._allowed_s = allowed_s
        self._steady = steady
        self._jumps = Jumps(allowed_s, clock.seconds(), steady())
        self._troubles = TroublesOf(SOURCE, database, clock)

    async def work(self) -> None:
        now = self._clock.seconds()
        found = [*self._jumped(now), *await self._database.read(_ahead, now + self._allowed_s)]
        for message in self._troubles.new(found):
            self.log.error("clock: {message}", message=message)
        await self._troubles.write(found)

    def _jumped(self, now: float) -> list[str]:
        jump = self._jumps.look(now, self._steady())
        if not jump:
            return []
        way, seconds = "forward" if jump > 0 else "back", round(abs(jump), -1)
        return [f"it has jumped {way} by {seconds:.0f} s; samples too far ahead of it are rejected: set it right"]


def _ahead(conn: Connection, latest: float) -> list[str]:
    count, newest = queries.metrics_ahead(conn, int(latest))
    if newest is None:
        return []
    name, timestamp = newest
    others = f" and {count - 1} more" if count > 1 else ""
    return [
        f"it is behind the newest sample of {name} ({to_datetime(timestamp)} UTC){others}, which take no older ones: "
        "set the clock right, or free the metric with `htmengine repair`"
    ]
