# SPDX-License-Identifier: MIT
"""What the services that work on a queue's messages share: a loop from start to stop, and an orderly stop.

Used by the metric storer, the anomaly service and the alert service.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from htmengine.bus.interface import Bus, Subscription
from htmengine.process.tasks import Tasks


class QueueConsumer(Service):
    """Runs `consume` while it runs; its stop ends the subscription and waits for what is in flight."""

    def __init__(self, *, bus: Bus, on_failure: Callable[[Failure], None]) -> None:
        self._bus = bus
        self._tasks = Tasks(on_failure)
        self._subscription: Subscription | None = None

    async def consume(self) -> None:
        """Subscribe, and work on what comes while the service is ``running``."""
        raise NotImplementedError

    async def finish(self) -> None:
        """What there is to do at the stop, when nothing is in flight any more."""

    def startService(self) -> None:
        super().startService()
        self._tasks.start(self.consume())

    def stopService(self) -> Deferred[None]:
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        if self._subscription is not None:
            await self._subscription.close()
        await self._tasks.finished()
        await self.finish()
