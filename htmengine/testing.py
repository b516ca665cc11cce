# SPDX-License-Identifier: MIT
"""For the tests of applications built on HTM Engine: a bus without files, threads and waiting.

It passes the same tests as the real buses.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, execute
from twisted.internet.task import Clock

from htmengine.bus.embedded import EmbeddedBus
from htmengine.process.twisted_types import for_twisted

T = TypeVar("T")


class _ThisThread:
    """Does at once what is asked."""

    def start(self) -> None:
        pass

    def run(self, function: Callable[..., T], *args: Any) -> Deferred[T]:
        return execute(function, *args)

    def stop(self) -> None:
        pass


class MemoryBus(EmbeddedBus):
    """The embedded bus in memory, for one process: what can be done is done before a call returns.

    Only the expiry of queues waits for ``clock``.

    >>> from twisted.internet.defer import Deferred
    >>> async def exchange():
    ...     bus = MemoryBus()
    ...     bus.startService()
    ...     await bus.declare_queue("samples")
    ...     await bus.publish("samples", [b"one", b"two"])
    ...     subscription = await bus.subscribe("samples", prefetch=10)
    ...     return [delivery.body for delivery in await subscription.get(10)]
    >>> Deferred.fromCoroutine(exchange()).result
    [b'one', b'two']
    """

    def __init__(self, clock: Clock | None = None) -> None:
        super().__init__(":memory:", reactor=for_twisted(clock or Clock()), thread=_ThisThread())
