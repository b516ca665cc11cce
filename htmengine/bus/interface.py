# SPDX-License-Identifier: MIT
"""What every bus does: durable queues in order, and fanout exchanges.

In: bodies from the services.  Out: the same bodies, at least once, in order, to one active consumer a queue.
`embedded` keeps them on disk, `amqp` in RabbitMQ; ``htmengine.testing.MemoryBus`` in memory.  One suite of
contract tests runs on all three.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from twisted.internet.defer import Deferred


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message as a subscription gives it; ``tag`` is the bus's own."""

    body: bytes
    headers: Mapping[str, str]
    tag: Any


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """The bounds of a queue, and what happens at them.

    ``wait``: a publication waits until there is room.  ``drop-head``: the oldest messages go, for followers that
    may miss some.  A queue with ``expires_s`` is deleted when it had no subscriber for so long.
    """

    max_messages: int = 10_000
    max_bytes: int = 256 * 1024 * 1024
    overflow: Literal["wait", "drop-head"] = "wait"
    expires_s: float | None = None


DEFAULT_LIMITS = QueueLimits()


class Subscription(Protocol):
    """The consumer of a queue.  Of several, one is active; the next takes over when it closes."""

    async def get(self, most: int) -> list[Delivery]:
        """Wait for messages; 1 to ``most`` of them, in the queue's order.  Raises `BusClosed`."""
        ...

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        """They are done: fires when they are gone for good.  Those of a connection that was lost come again."""
        ...

    async def nack(self, deliveries: Sequence[Delivery]) -> None:
        """Back to the head of the queue; they are given again."""
        ...

    async def close(self) -> None:
        """What is not acknowledged goes to the next subscriber.  A waiting `get` raises `BusClosed`."""
        ...


class Bus(Protocol):
    """A bus; the concrete ones are Twisted services too."""

    async def declare_queue(self, name: str, *, limits: QueueLimits = DEFAULT_LIMITS) -> None:
        """Make a durable queue, or nothing if it exists."""
        ...

    async def declare_fanout(self, name: str) -> None:
        """Make a durable fanout exchange, or nothing if it exists."""
        ...

    async def bind(self, queue: str, exchange: str) -> None:
        """From now on the queue gets what is broadcast on the exchange."""
        ...

    async def delete_queue(self, name: str) -> None:
        """Remove a queue with its messages and bindings, or nothing if there is none."""
        ...

    async def publish(self, queue: str, bodies: Sequence[bytes], headers: Mapping[str, str] | None = None) -> None:
        """Fires when all bodies are durable, in order; waits while the queue is full.

        Raises `UnroutableMessage` when there is no such queue, `BusClosed`.
        """
        ...

    async def broadcast(
        self, exchange: str, bodies: Sequence[bytes], headers: Mapping[str, str] | None = None
    ) -> None:
        """`publish` to every queue that is bound to the exchange; none is fine."""
        ...

    async def subscribe(self, queue: str, *, prefetch: int) -> Subscription:
        """Become a consumer of a queue, with at most ``prefetch`` messages unacknowledged."""
        ...

    async def depth(self, queue: str) -> int:
        """Messages in the queue, given out or not.  Raises `UnroutableMessage`."""
        ...


class BusService(Bus, Protocol):
    """A bus with its life as a service."""

    def startService(self) -> None:
        """Connect, or open the file."""
        ...

    def stopService(self) -> Deferred[None]:
        """Finish what was begun; then every waiting call raises `BusClosed`."""
        ...
