# SPDX-License-Identifier: MIT
"""What every bus does, embedded or on RabbitMQ: durable queues, fanout exchanges, confirmed publishing.

Used by the services, the command line and the client.  `htmengine.bus.embedded` and `htmengine.bus.amqp` are the
two buses, `htmengine.testing.MemoryBus` is one for tests; all three pass the same tests.

Delivery is at least once: a message comes again when its subscriber ends, or loses its connection, before it has
acknowledged it; on RabbitMQ also when the publisher's connection was lost before the confirmation.  Receivers
recognise what they know.  Within a queue messages keep the order in which they were published.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from htmengine.process.progress import Progress


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message that a subscriber was given."""

    body: bytes
    headers: Mapping[str, str]
    tag: Any  #: the bus's own, tells it which message this is
    routing_key: str = ""  #: of a message that another program published to an exchange of RabbitMQ


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """How much a queue holds, and what happens then.

    ``overflow`` is ``"wait"``: publishers wait, or ``"drop-head"``: the oldest messages make room, which is for
    queues whose reader may miss some.  A queue with ``expires_s`` is deleted when it has had no subscriber for
    that many seconds.  A bound may be passed by what is published at once: into an empty queue a message always goes,
    however large.

    >>> QueueLimits(max_messages=0)
    Traceback (most recent call last):
    ...
    ValueError: max_messages = 0: 1 or more is allowed
    """

    max_messages: int = 10_000
    max_bytes: int = 256 * 1024 * 1024
    overflow: Literal["wait", "drop-head"] = "wait"
    expires_s: float | None = None

    def __post_init__(self) -> None:
        for name in ("max_messages", "max_bytes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)}: 1 or more is allowed")
        if self.overflow not in {"wait", "drop-head"}:
            raise ValueError(f"overflow = {self.overflow!r}: 'wait' or 'drop-head' is allowed")
        if self.expires_s is not None and self.expires_s <= 0:
            raise ValueError(f"expires_s = {self.expires_s}: None or more than 0 is allowed")


DEFAULT_LIMITS = QueueLimits()
#: Of the samples queue.  All metrics share it, so what one client piles up in it delays the rows of all others: it
#: holds two full messages (`htmengine.messages.MESSAGE_BYTES`), about a second of work, and then clients wait, each
#: with its own lines.
SAMPLES_LIMITS = QueueLimits(max_bytes=1 << 17)


@dataclass(frozen=True, slots=True)
class QueueState:
    """A queue as it is now; None: the bus cannot tell."""

    name: str
    messages: int
    has_reader: bool
    bytes: int | None = None
    oldest_s: float | None = None  #: age of the oldest message
    dropped: int | None = None  #: messages that have made room for newer ones, ever
    unread_s: float | None = None  #: since it had a reader
    exchanges: Sequence[str] = ()  #: those that it is bound to


class Subscription(Protocol):
    """The messages of one queue, in order.  At most ``prefetch`` of them are unacknowledged at a time."""

    async def get(self, most: int) -> list[Delivery]:
        """Wait for at least one message; give up to ``most``.

        Raises `BusClosed` when the subscription or the bus is closed, or the queue is deleted.
        """
        ...

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        """Remove messages for good.  Those that came before a reconnection are ignored: they come again."""
        ...

    async def nack(self, deliveries: Sequence[Delivery]) -> None:
        """Put messages back to the queue's head."""
        ...

    async def close(self) -> None:
        """End it; what is not acknowledged goes to the next subscriber."""
        ...


class Bus(Protocol):
    """A message bus.  Its classes are also Twisted services; what is asked before their start waits for it."""

    #: Of the process, which the services on this bus tell of what they do.
    progress: Progress

    async def declare_queue(self, name: str, *, limits: QueueLimits = DEFAULT_LIMITS) -> None:
        """Make a durable queue; one that exists keeps its limits."""
        ...

    async def declare_fanout(self, name: str, *, topic: bool = False) -> None:
        """Make a durable fanout exchange, if it does not exist.

        ``topic``: on RabbitMQ it has the type that others want of it; queues get all that is broadcast all the same.
        """
        ...

    async def bind(self, queue: str, exchange: str) -> None:
        """Let a queue have what is broadcast from now on.  Raises `UnroutableMessage` if either is missing."""
        ...

    async def delete_queue(self, name: str) -> None:
        """Remove a queue with its messages, if it exists."""
        ...

    async def publish(self, queue: str, bodies: Sequence[bytes], headers: Mapping[str, str] | None = None) -> None:
        """Returns when the messages are durable.  Waits while the queue is at its bound.

        Raises `UnroutableMessage` when there is no such queue, `BusClosed` when the bus stops first: the
        messages may then be in the queue or not.
        """
        ...

    async def broadcast(self, exchange: str, bodies: Sequence[bytes], headers: Mapping[str, str] | None = None) -> None:
        """Publish to every queue that is bound, if any.  Raises `UnroutableMessage` without such an exchange.

        It waits for no reader: the oldest messages of a queue at its bound make room, whatever its ``overflow`` is.
        """
        ...

    def is_heard(self, exchange: str) -> bool:
        """Whether a broadcast may reach a queue; RabbitMQ cannot tell, so there it always may.

        False only if none was bound when a message was published that has come out of a queue here by now.
        """
        ...

    async def subscribe(self, queue: str, *, prefetch: int) -> Subscription:
        """Read a queue.  A second subscriber waits until the first one ends.  Raises `UnroutableMessage`."""
        ...

    async def claim(self, queue: str, *, prefetch: int) -> Subscription | None:
        """Subscribe if nobody has; None if somebody has.  Raises `UnroutableMessage`.

        Unlike other subscriptions it ends when its connection is lost: another process may have the queue then.
        """
        ...

    async def join(self, group: str) -> None:
        """Be counted as a member of a group of processes, until the bus stops or the process ends."""
        ...

    async def members(self, group: str) -> int:
        """How many have joined, of all processes.  Raises `UnroutableMessage` if nobody ever has."""
        ...

    async def inspect(self, names: Sequence[str] = ()) -> list[QueueState]:
        """All queues, by name; on RabbitMQ, which lists none, those of these names that exist."""
        ...

    async def depth(self, queue: str) -> int:
        """Messages that wait or are unacknowledged.  Raises `UnroutableMessage`."""
        ...
