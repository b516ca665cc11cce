# SPDX-License-Identifier: MIT
"""Publishing to RabbitMQ: confirmed, in order, and no faster than the queue is emptied.

In: publications of `amqp.AmqpBus`.  Out: messages that the broker has taken responsibility for.  A message whose
confirmation did not come before the connection was lost is sent again: it may be there twice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from pika import BasicProperties, DeliveryMode
from pika.adapters.twisted_connection import ReceivedMessage, TwistedChannel
from pika.exceptions import NackError, UnroutableError
from twisted.internet.defer import Deferred, DeferredList, DeferredLock, fail
from twisted.logger import Logger
from twisted.python.failure import Failure

from htmengine.bus.amqp_link import LOST, RETRY_S, Link
from htmengine.bus.interface import QueueLimits
from htmengine.errors import BusClosed, BusError, UnroutableMessage
from htmengine.process.seldom import Seldom
from htmengine.process.twisted_types import Clock

#: Messages, and their bytes, that wait for their confirmation.
WINDOW_MESSAGES = 500
WINDOW_BYTES = 8 << 20
#: A full queue is asked for its length this often.
FULL_POLL_S = 0.1
#: A broadcast that a bound queue refuses is made so often.
BROADCAST_ATTEMPTS = 3
#: What a queue has said of its length holds this long, and for half of the room that it had.
ROOM_S = 0.5


@dataclass(frozen=True, slots=True)
class Destination:
    """A queue, through the default exchange, or a fanout exchange."""

    exchange: str = ""
    queue: str = ""

    @property
    def name(self) -> str:
        """As it was declared."""
        return self.exchange or self.queue


@dataclass(slots=True, eq=False)
class _Publication:
    bodies: Sequence[bytes]
    headers: Mapping[str, str]
    done: Deferred[None] = field(default_factory=Deferred)


#: Publications to one destination, one after the other.
_Lane: TypeAlias = "deque[_Publication]"


@dataclass(slots=True)
class _Room:
    """Of a queue: what may be sent before it is asked for its length again."""

    messages: int = 0
    asked_at: float = 0.0
    mean_bytes: float = 0.0  #: of the bodies that were sent


class Publisher:
    """Publishes on its link.  ``limits_of(queue)`` and ``depth_of(queue)`` are the bus's."""

    log = Logger()

    def __init__(
        self,
        link: Link,
        *,
        clock: Clock,
        limits_of: Callable[[str], QueueLimits],
        depth_of: Callable[[str], Awaitable[int]],
        check_exchange: Callable[[str], Awaitable[None]],
    ) -> None:
        self._link = link
        self._clock = clock
        self._limits_of = limits_of
        self._depth_of = depth_of
        self._check_exchange = check_exchange
        self._lanes: dict[Destination, _Lane] = {}
        self._rooms: dict[str, _Room] = {}
        self._channel: TwistedChannel | None = None
        self._opening = DeferredLock()
        self._checked: set[str] = set()  #: exchanges that were there when the channel was opened, or later
        self._serial = 0
        self._in_flight: set[str] = set()
        self._returned: set[str] = set()
        self._seldom = Seldom(clock.seconds)
        self.refused = 0  #: broadcast messages that a bound queue did not take

    async def publish(self, destination: Destination, bodies: Sequence[bytes], headers: Mapping[str, str]) -> None:
        """Returns when all are confirmed.  Raises `UnroutableMessage`, `BusClosed`."""
        publication = _Publication(tuple(bodies), dict(headers))
        lane = self._lanes.get(destination)
        if lane is not None:
            lane.append(publication)
        else:
            lane = self._lanes[destination] = deque([publication])
            Deferred.fromCoroutine(self._run(destination, lane)).addErrback(self._failed, lane)
        await publication.done

    def waits_for_room(self, queue: str) -> bool:
        """Whether the queue had none when it was last asked."""
        room = self._rooms.get(queue)
        return room is not None and room.asked_at > 0.0 and room.messages < 1

    async def _run(self, destination: Destination, lane: _Lane) -> None:
        """Make the publications of a lane, until none is left."""
        while lane:
            publication = lane[0]
            try:
                for window in _windows(publication.bodies):
                    await self._send_window(destination, window, publication.headers)
            except BusError as error:
                lane.popleft().done.errback(error)
            else:
                lane.popleft().done.callback(None)
        del self._lanes[destination]

    def _failed(self, failure: Failure, lane: _Lane) -> None:
        self.log.failure("publishing failed", failure=failure)
        while lane:
            lane.popleft().done.errback(BusError(failure.getErrorMessage()))

    async def _send_window(self, destination: Destination, bodies: Sequence[bytes], headers: Mapping[str, str]) -> None:
        """Send, and send again what was not confirmed.

        An application's queue may refuse what is broadcast when it is full (``reject-publish``): it does without.
        """
        attempts = 0
        while bodies:
            if destination.queue:
                await self._wait_for_room(destination.queue, bodies)
            left = await self._send(destination, bodies, headers)
            attempts += 1
            if destination.exchange and attempts >= BROADCAST_ATTEMPTS:
                self._count_refused(destination.exchange, sum(refused for _, refused in left))
                left = [(body, refused) for body, refused in left if not refused]
            bodies = [body for body, _ in left]
            if bodies:
                await self._link.sleep(RETRY_S)

    def _count_refused(self, exchange: str, messages: int) -> None:
        self.refused += messages
        if messages and self._seldom.due():
            self.log.warn(
                "a queue bound to {exchange} refuses messages: {count} so far did not reach it",
                exchange=exchange,
                count=self.refused,
            )

    async def _wait_for_room(self, queue: str, bodies: Sequence[bytes]) -> None:
        """Wait while the queue is at its bound.  Others publish too, so we take half of the room at most."""
        room = self._rooms.setdefault(queue, _Room())
        size = sum(map(len, bodies)) / len(bodies)
        room.mean_bytes += (size - room.mean_bytes) * (0.1 if room.mean_bytes else 1.0)
        while room.messages < 1 or self._clock.seconds() - room.asked_at > ROOM_S:
            free = _free(self._limits_of(queue), await self._depth_of(queue), room.mean_bytes)
            room.messages = (free + 1) // 2
            room.asked_at = self._clock.seconds()
            if room.messages < 1:
                await self._link.sleep(FULL_POLL_S)
        room.messages -= len(bodies)

    async def _send(
        self, destination: Destination, bodies: Sequence[bytes], headers: Mapping[str, str]
    ) -> list[tuple[bytes, bool]]:
        """Send all at once; those that were not confirmed, in their order, and whether a queue refused them."""
        channel = await self._confirming_channel()
        if destination.exchange and destination.exchange not in self._checked:
            await self._check_exchange(destination.exchange)
            self._checked.add(destination.exchange)
        ids = [self._next_id() for _ in bodies]
        self._in_flight.update(ids)
        try:
            sent = [_publish(channel, destination, body, headers, id_) for body, id_ in zip(bodies, ids, strict=True)]
            outcomes: Any = await DeferredList(sent, consumeErrors=True)
            if not self._returned.isdisjoint(ids):
                raise UnroutableMessage(destination.name)
        finally:
            self._in_flight.difference_update(ids)
            self._returned.difference_update(ids)
        return [
            (body, outcome.check(NackError) is not None)
            for body, (done, outcome) in zip(bodies, outcomes, strict=True)
            if not (done or _is_confirmed(outcome))
        ]

    def _next_id(self) -> str:
        self._serial += 1
        return f"{self._serial:x}"

    async def _confirming_channel(self) -> TwistedChannel:
        """The channel for all publications, opened again when it was closed."""
        async with self._opening:
            while self._channel is None or not self._channel.is_open:
                channel = await self._link.channel()
                self._checked.clear()
                try:
                    await channel.confirm_delivery()
                except LOST:
                    continue
                channel.add_on_return_callback(self._was_returned)
                self._channel = channel
            return self._channel

    def _was_returned(self, message: ReceivedMessage) -> None:
        """An unroutable message comes back, before its confirmation."""
        if message.properties.message_id in self._in_flight:
            self._returned.add(message.properties.message_id)


def _publish(
    channel: TwistedChannel, destination: Destination, body: bytes, headers: Mapping[str, str], id_: str
) -> Deferred[None]:
    properties = BasicProperties(
        delivery_mode=DeliveryMode.Persistent, message_id=id_, headers=dict(headers) if headers else None
    )
    try:
        done: Deferred[None] = channel.basic_publish(
            destination.exchange, destination.queue, body, properties, mandatory=bool(destination.queue)
        )
    except LOST as error:
        return fail(error)
    return done


def _is_confirmed(failure: Failure) -> bool:
    """pika may tell the wrong message that it was unroutable: the id of the one that came back says which."""
    error = failure.value
    if isinstance(error, UnroutableError):
        return True
    if isinstance(error, (*LOST, NackError, BusClosed)):
        return False
    failure.raiseException()
    raise AssertionError("unreachable")


def _free(limits: QueueLimits, depth: int, mean_bytes: float) -> int:
    """Messages of that size that a queue has room for.  An empty one has room for any."""
    if limits.overflow == "drop-head":
        return WINDOW_MESSAGES
    by_bytes = limits.max_bytes - depth * mean_bytes
    free = min(limits.max_messages - depth, int(by_bytes / max(mean_bytes, 1.0)))
    return free if depth else max(free, 1)


def _windows(bodies: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """Parts that may be in flight at once."""
    window: list[bytes] = []
    size = 0
    for body in bodies:
        if window and (len(window) == WINDOW_MESSAGES or size + len(body) > WINDOW_BYTES):
            yield window
            window, size = [], 0
        window.append(body)
        size += len(body)
    if window:
        yield window
