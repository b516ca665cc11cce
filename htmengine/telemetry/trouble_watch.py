# SPDX-License-Identifier: MIT
"""Looks now and then, and lets the operator know what is wrong.

In: whoever looks and says it in sentences.  Out: the log, what is new; the table of troubles, what is so now.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from htmengine.process.tasks import PeriodicService
from htmengine.process.twisted_types import Clock
from htmengine.repository import troubles
from htmengine.repository.engine import Database

#: How often it looks.
LOOK_S = 10.0


class TroublesOf:
    """What one ``source`` finds wrong, in the table of troubles: written when it has changed."""

    def __init__(self, source: str, database: Database, clock: Clock) -> None:
        self._source = source
        self._database = database
        self._clock = clock
        self._written: list[str] | None = None  #: None: what an earlier process has left

    def new(self, found: Sequence[str]) -> list[str]:
        """Those that were not written before."""
        return [message for message in found if message not in (self._written or ())]

    async def write(self, found: Sequence[str]) -> None:
        """These, and no others, are so now."""
        if list(found) != self._written:
            await self._database.run(troubles.replace, self._source, found, int(self._clock.seconds()))
            self._written = list(found)


class TroubleWatch(PeriodicService):
    """Tells of one ``source`` of troubles."""

    log = Logger()

    def __init__(
        self,
        *,
        source: str,
        look: Callable[[], Awaitable[Sequence[str]]],
        clock: Clock,
        database: Database,
        on_failure: Callable[[Failure], None],
    ) -> None:
        super().__init__(clock=clock, interval_s=LOOK_S, on_failure=on_failure)
        self._source = source
        self._look = look
        self._troubles = TroublesOf(source, database, clock)

    async def work(self) -> None:
        """Look once."""
        found = await self._look()
        for message in self._troubles.new(found):
            self.log.error("{source}: {message}", source=self._source, message=message)
        await self._troubles.write(found)

    def stopService(self) -> Deferred[Any]:
        """What ended the process is told, too."""
        self._tasks.start(self.work())
        return super().stopService()
