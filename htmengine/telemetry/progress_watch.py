# SPDX-License-Identifier: MIT
"""The watchdog for progress: tells the operator what has begun and does not end, and of queues that nobody reads.

In: the process's `Progress`, and the queues that somebody should read.  Out: the log (once, then hourly), a trouble, a
readiness check and a figure.  It goes on when the database and the bus, which it asks and tells, stand still.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferTimeout
from twisted.logger import Logger
from twisted.python.failure import Failure

from htmengine.bus.interface import Bus
from htmengine.errors import BusError, DatabaseFailed
from htmengine.process.figures import Figure, gauge
from htmengine.process.probes import Probe, condition
from htmengine.process.progress import Progress
from htmengine.process.tasks import PeriodicService
from htmengine.process.twisted_types import Clock, within
from htmengine.repository.engine import Database
from htmengine.telemetry.health import PROGRESS
from htmengine.telemetry.trouble_watch import TroublesOf

#: How often it looks.
WATCH_S = 10.0
#: What stands still is told again after this.
REMIND_S = 3600.0


class ProgressWatch(PeriodicService):
    """Of one process, which ``name`` names."""

    log = Logger()

    def __init__(
        self,
        *,
        name: str,
        progress: Progress,
        patience_s: float,
        clock: Clock,
        bus: Bus,
        queues: Sequence[str],
        database: Database,
        on_failure: Callable[[Failure], None],
    ) -> None:
        super().__init__(clock=clock, interval_s=WATCH_S, on_failure=on_failure)
        self._name = name
        self._progress = progress
        self._patience_s = patience_s
        self._clock = clock
        self._bus = bus
        self._queues = queues
        self._troubles = TroublesOf(f"{name} stands still", database, clock)
        self._unread: set[str] = set()  #: queues with messages and without a reader
        self._told: dict[str, float] = {}  #: when it was last in the log
        self._in_flight: set[str] = set()
        for queue in queues:
            progress.stage(f"queue {queue!r} has messages and no reader", partial(self._is_unread, queue))

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
        self._begin("writing", self._write)
        self._begin("looking", self._look_at_queues)

    def stopService(self) -> Deferred[Any]:
        """What it waits for may never come."""
        stopped = super().stopService()
        self._tasks.cancel()
        return stopped

    def figures(self) -> Iterable[Figure]:
        """How much stands still."""
        yield gauge("htmengine_stalled", "Stages that have work and have finished none for a minute", len(self.stalled))

    def checks(self) -> Mapping[str, Probe]:
        """Whether all goes on."""
        return {PROGRESS: condition(lambda: not self.stalled, lambda: "; ".join(self.stalled))}

    def _begin(self, what: str, work: Callable[[], Coroutine[Deferred[Any], Any, None]]) -> None:
        """Unless it is in flight from the last time."""
        if what not in self._in_flight:
            self._in_flight.add(what)
            self._tasks.start(work()).addBoth(lambda _: self._in_flight.discard(what))

    async def _write(self) -> None:
        """Let all processes know, if anything has changed; the listener may run where it cannot reach the database."""
        with contextlib.suppress(DatabaseFailed):
            await self._troubles.write(self.stalled)

    async def _look_at_queues(self) -> None:
        """A bus that does not answer reports itself."""
        if not self._queues:
            return
        with contextlib.suppress(BusError, DeferTimeout):
            asked = Deferred.fromCoroutine(self._bus.inspect(self._queues))
            states = await within(asked, WATCH_S, self._clock)
            self._unread = {state.name for state in states if state.messages and not state.has_reader}

    def _is_unread(self, queue: str) -> bool:
        return queue in self._unread
