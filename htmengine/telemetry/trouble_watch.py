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
        self._clock = clock
        self._database = database
        self._written: list[str] | None = None  #: None: what an earlier process has left

    async def work(self) -> None:
        """Look once."""
        found = list(await self._look())
        for message in found:
            if message not in (self._written or []):
                self.log.error("{source}: {message}", source=self._source, message=message)
        if found != self._written:
            await self._database.run(troubles.replace, self._source, found, int(self._clock.seconds()))
            self._written = found

    def stopService(self) -> Deferred[Any]:
        """What ended the process is told, too."""
        self._tasks.start(self.work())
        return super().stopService()
