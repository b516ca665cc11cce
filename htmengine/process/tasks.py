# SPDX-License-Identifier: MIT
"""Coroutines that a service runs beside its caller: none is forgotten, none fails unheard.

Used by every service.  A service owns one `Tasks`, starts its loops in it, and at its stop waits for what is
still in flight.  A service that does one thing now and then is a `PeriodicService`.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from typing import Any, ParamSpec, TypeVar

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from htmengine.errors import BusClosed, DatabaseClosed
from htmengine.process.twisted_types import Clock, every

#: How what is in flight ends when its process stops.
REGULAR_ENDS = (BusClosed, DatabaseClosed, CancelledError)

P = ParamSpec("P")
T = TypeVar("T")


class Tasks:
    """The coroutines in flight.  ``on_failure`` gets an unexpected end: the service cannot go on."""

    log = Logger()

    def __init__(self, on_failure: Callable[[Failure], None]) -> None:
        self._on_failure = on_failure
        self._running: set[Deferred[Any]] = set()

    def start(self, coroutine: Coroutine[Deferred[Any], Any, Any]) -> Deferred[None]:
        """Run it to its end; fires then, and never fails.

        A closed bus or database and a cancellation are regular ends, anything else a failure.
        """
        deferred = Deferred.fromCoroutine(coroutine)
        self._running.add(deferred)
        deferred.addErrback(self._failed)
        return deferred.addBoth(lambda _: self._running.discard(deferred))

    def cancel(self) -> None:
        """Cancel what waits for something that will not come any more."""
        for deferred in list(self._running):
            deferred.cancel()

    def finished(self) -> Deferred[Any]:
        """Fires when all that runs now has ended."""
        return DeferredList([_watched(deferred) for deferred in self._running], consumeErrors=True)

    def _failed(self, failure: Failure) -> None:
        if isinstance(failure.value, REGULAR_ENDS):
            return
        self.log.failure("a task failed", failure=failure)
        self._on_failure(failure)


def repeated(work: Callable[[], Coroutine[Deferred[Any], Any, Any]], tasks: Tasks, clock: Clock) -> LoopingCall:
    """A timer that runs ``work`` in ``tasks`` each time, never while the last time's is still in flight."""
    return every(clock, lambda: tasks.start(work()))


class PeriodicService(Service):
    """Does its `work` at the start and every ``interval_s`` seconds; its stop waits for what is in flight."""

    def __init__(self, *, clock: Clock, interval_s: float, on_failure: Callable[[Failure], None]) -> None:
        self._interval_s = interval_s
        self._tasks = Tasks(on_failure)
        self._timer = repeated(self.work, self._tasks, clock)

    async def work(self) -> None:
        """What there is to do each time; it ends soon when the service is not ``running`` any more."""
        raise NotImplementedError

    def startService(self) -> None:
        super().startService()
        self._timer.start(self._interval_s)

    def stopService(self) -> Deferred[Any]:
        super().stopService()
        self._timer.stop()
        return self._tasks.finished()


def in_coroutine(call: Callable[P, Coroutine[Deferred[Any], Any, T]]) -> Callable[P, Deferred[T]]:
    """The same as a function that returns a Deferred, as Twisted's own functions call them."""

    def run(*args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        return Deferred.fromCoroutine(call(*args, **kwargs))

    return run


async def together(coroutines: Iterable[Coroutine[Deferred[Any], Any, Any]]) -> None:
    """Run coroutines side by side, all to their end; raises the first one's error, if any."""
    outcomes = await DeferredList([Deferred.fromCoroutine(each) for each in coroutines], consumeErrors=True)
    for _, outcome in outcomes:
        if isinstance(outcome, Failure):
            outcome.raiseException()


def _watched(deferred: Deferred[Any]) -> Deferred[None]:
    """Fires with ``deferred`` without taking its result away."""
    watcher: Deferred[None] = Deferred()

    def ended(result: Any) -> Any:
        watcher.callback(None)
        return result

    deferred.addBoth(ended)
    return watcher
