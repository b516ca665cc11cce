# SPDX-License-Identifier: MIT
"""The near end of a subscription: messages that have come and wait to be got, and those that wait for their ack.

Used by the subscriptions of both buses, which put messages in and say what settled means.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from twisted.internet.defer import Deferred

from htmengine.bus.interface import Delivery
from htmengine.errors import BusClosed, BusError


class Inbox:
    """Deliveries in order.  At most ``prefetch`` are given out and unsettled at a time.

    >>> inbox = Inbox(prefetch=2)
    >>> inbox.put([Delivery(b"one", {}, 1), Delivery(b"two", {}, 2), Delivery(b"three", {}, 3)])
    >>> [delivery.body for delivery in Deferred.fromCoroutine(inbox.get(10)).result]
    [b'one', b'two']
    """

    def __init__(self, prefetch: int) -> None:
        self._prefetch = prefetch
        self._ready: deque[Delivery] = deque()
        self._unsettled: dict[object, Delivery] = {}
        self._getters: list[Deferred[None]] = []
        self._error: BusError | None = None
        self.ready_bytes = 0  #: of the bodies in ``_ready``

    def __len__(self) -> int:
        """Messages that wait or are unsettled."""
        return len(self._ready) + len(self._unsettled)

    @property
    def ready(self) -> int:
        """Messages that wait to be got."""
        return len(self._ready)

    @property
    def closed(self) -> bool:
        """Whether it will give nothing any more."""
        return self._error is not None

    def put(self, deliveries: Sequence[Delivery]) -> None:
        """Messages that come after all others."""
        self._ready.extend(deliveries)
        self.ready_bytes += sum(len(delivery.body) for delivery in deliveries)
        self._wake()

    def settle(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Count messages as done with; those of them that had been given out by this inbox."""
        settled = [self._unsettled.pop(delivery.tag, None) for delivery in deliveries]
        return [delivery for delivery in settled if delivery is not None]

    def put_back(self, deliveries: Sequence[Delivery]) -> None:
        """Messages that were settled, and take their old place again.  Tags tell the order."""
        self._ready = deque(sorted([*deliveries, *self._ready], key=lambda delivery: delivery.tag))
        self.ready_bytes += sum(len(delivery.body) for delivery in deliveries)
        self._wake()

    def more(self) -> None:
        """Tell the getters that messages were settled."""
        self._wake()

    def clear(self) -> None:
        """Forget everything: it will come again."""
        self._ready.clear()
        self._unsettled.clear()
        self.ready_bytes = 0

    def close(self, error: BusError | None = None) -> None:
        """From now on, `get` raises ``error``, or `BusClosed`."""
        if self._error is None:
            self._error = error or BusClosed("the subscription is closed")
            self.clear()
            self._wake()

    async def get(self, most: int) -> list[Delivery]:
        """Wait for one message, give up to ``most``."""
        while self._error is None and not self._available:
            waiting: Deferred[None] = Deferred()
            self._getters.append(waiting)
            await waiting
        if self._error is not None:
            raise self._error
        given = [self._ready.popleft() for _ in range(min(most, self._available))]
        self._unsettled.update((delivery.tag, delivery) for delivery in given)
        self.ready_bytes -= sum(len(delivery.body) for delivery in given)
        return given

    @property
    def _available(self) -> int:
        return min(len(self._ready), self._prefetch - len(self._unsettled))

    def _wake(self) -> None:
        if self._error is not None or self._available:
            getters, self._getters = self._getters, []
            for getter in getters:
                getter.callback(None)
