# SPDX-License-Identifier: MIT
"""Messages that a service cannot process are set aside, alone: told of with the reason, counted, and got over.

Used by the services that consume queues.  What is handled together and fails is taken apart until the culprit is found.
Errors that no message can be to blame for, such as a bus or a database that is away, end the service as ever: its
messages come again.  So do errors that meet a batch without any message.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeVar

from sqlalchemy.exc import InterfaceError, OperationalError
from twisted.internet.defer import CancelledError
from twisted.logger import Logger

from htmengine.errors import BusError, DatabaseClosed
from htmengine.repository import set_aside

#: Errors that say nothing of a message.
BLAMELESS = (BusError, DatabaseClosed, CancelledError, OperationalError, InterfaceError, OSError, MemoryError)

T = TypeVar("T")


class Transactions(Protocol):
    """The part of `Database` that is used here."""

    async def run(self, fn: Callable[..., Any], *args: Any) -> Any:
        """Call in a transaction."""


class Quarantine:
    """What one service sets aside of one queue.  ``now`` gives epoch seconds."""

    log = Logger()

    def __init__(self, database: Transactions, queue: str, now: Callable[[], float]) -> None:
        self._database = database
        self._queue = queue
        self._now = now
        self.messages = 0  #: set aside since the start

    async def note(self, errors: Sequence[Exception]) -> None:
        """Tell of messages that are set aside; before they are acknowledged."""
        if not errors:
            return
        self.messages += len(errors)
        for error in errors:
            self.log.error("message of {queue} rejected: {error}", queue=self._queue, error=error)
        reasons = [reason_of(error) for error in errors]
        await self._database.run(set_aside.add, self._queue, reasons, int(self._now()))

    async def each(
        self,
        items: Sequence[T],
        handle: Callable[[Sequence[T]], Awaitable[None]],
        salvage: Callable[[T, Exception], Awaitable[None]] | None = None,
    ) -> None:
        """Handle all items, together as far as that goes; ``handle`` may have done a part when it fails.

        ``salvage`` handles what can be handled of a culprit, whose error it is told.
        """

        async def set_aside(item: T, error: Exception) -> None:
            await self.note([error])
            if salvage is not None:
                await salvage(item, error)

        await each_alone(items, handle, set_aside)


async def each_alone(
    items: Sequence[T],
    handle: Callable[[Sequence[T]], Awaitable[None]],
    blame: Callable[[T, Exception], Awaitable[None]],
) -> None:
    """Handle all items, together as far as that goes; ``blame`` gets those that fail alone."""
    try:
        await handle(items)
    except BLAMELESS:
        raise
    except Exception as error:
        if len(items) > 1:
            await each_alone(items[: len(items) // 2], handle, blame)
            await each_alone(items[len(items) // 2 :], handle, blame)
            return
        if not items:
            raise
        await handle(items[:0])  # fails if no item is to blame
        await blame(items[0], error)


def reason_of(error: Exception) -> str:
    """An error in one line, as the list of troubles has it.

    >>> reason_of(ValueError("raw: 7.0 is no share"))
    'ValueError: raw: 7.0 is no share'
    """
    first, *_ = str(error).splitlines() or [""]
    return f"{type(error).__name__}: {first[:300]}"
