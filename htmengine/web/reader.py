# SPDX-License-Identifier: MIT
"""Reading for requests: a few at a time, however many clients ask.

In: functions of `repository.reading` and the like.  Out: their results.  The service has a database connection of its
own, so that its readers never take a thread away from the engine.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection
from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.python.failure import Failure

from htmengine.repository.engine import Database
from htmengine.web.refused import Refused

P = ParamSpec("P")
T = TypeVar("T")

#: Reads at a time, and reads that may wait for their turn.
RUNNING = 4
WAITING = 200
#: Reads at a time that compute much: each takes the interpreter from the reactor for milliseconds, again and again.
COMPUTING = 2


class Reader:
    """The database as requests read it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._places = DeferredSemaphore(RUNNING)
        self._computing = DeferredSemaphore(COMPUTING)

    async def read(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """``fn(conn, ...)`` in a thread.  Raises `Refused` when too many wait, and what ``fn`` raises."""
        await _acquired(self._places)
        return await shielded(self._read(self._places, fn, *args, **kwargs))

    async def compute(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """As `read`, for what computes much."""
        await _acquired(self._computing)
        return await shielded(self._read(self._computing, fn, *args, **kwargs))

    async def _read(self, places: DeferredSemaphore, fn: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        try:
            return await self._database.read(fn, *args, **kwargs)
        finally:
            places.release()


async def _acquired(places: DeferredSemaphore) -> None:
    if len(places.waiting) >= WAITING:
        raise Refused(429, "too many requests at a time", headers={"Retry-After": "1"})
    await places.acquire()


def shielded(work: Coroutine[Deferred[Any], Any, T]) -> Deferred[T]:
    """Fires with a coroutine's end.  Cancelling it stops the waiting, not the work: a thread cannot be stopped, and
    a change is done shielded although the client has gone.
    """
    waiter: Deferred[T] = Deferred()

    def ended(result: T | Failure) -> None:
        if not waiter.called:
            waiter.callback(result)

    Deferred.fromCoroutine(work).addBoth(ended)
    return waiter
