# SPDX-License-Identifier: MIT
"""The watchdog for progress: tells the operator what has begun and does not end.

In: the process's `Progress`.  Out: the log (once, then hourly), a trouble, a readiness check and a figure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from twisted.logger import Logger
from twisted.python.failure import Failure

from htmengine.process.figures import Figure, gauge
from htmengine.process.probes import Probe, condition
from htmengine.process.progress import Progress
from htmengine.process.tasks import PeriodicService
from htmengine.process.twisted_types import Clock
from htmengine.repository import troubles
from htmengine.repository.engine import Database

#: How often it looks.
WATCH_S = 10.0
#: What stands still is told again after this.
REMIND_S = 3600.0


class ProgressWatch(PeriodicService):
    """Of one process, which ``name`` names; without a database it writes no troubles."""

    log = Logger()

    def __init__(
        self,
        *,
        name: str,
        progress: Progress,
        patience_s: float,
        clock: Clock,
        database: Database | None,
        on_failure: Callable[[Failure], None],
    ) -> None:
        super().__init__(clock=clock, interval_s=WATCH_S, on_failure=on_failure)
        self._name = name
        self._progress = progress
        self._patience_s = patience_s
        self._clock = clock
        self._database = database
        self._told: dict[str, float] = {}  #: when it was last in the log
        self._written: list[str] = []

    @property
    def stalled(self) -> list[str]:
        """What stands still now."""
        return self._progress.stalled(self._patience_s)

    async def work(self) -> None:
        stalled, now = self.stalled, self._clock.seconds()
        self._told = {what: at for what, at in self._told.items() if what in stalled}
        for what in stalled:
            if now - self._told.get(what, -REMIND_S) >= REMIND_S:
                self._told[what] = now
                self.log.error("{name} stands still: {what}", name=self._name, what=what)
        if self._database is not None and stalled != self._written:
            await self._database.run(troubles.replace, f"{self._name} stands still", stalled, int(now))
            self._written = stalled

    def figures(self) -> Iterable[Figure]:
        """How much stands still."""
        yield gauge("htmengine_stalled", "What has begun and has not ended for a minute", len(self.stalled))

    def checks(self) -> Mapping[str, Probe]:
        """Whether all goes on."""
        return {"progress": condition(lambda: not self.stalled, lambda: "; ".join(self.stalled))}
