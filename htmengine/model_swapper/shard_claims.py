# SPDX-License-Identifier: MIT
"""Which shards this scheduler has: its fair share of them, however many schedulers there are.

In: from the bus, how many schedulers have joined, and which queues nobody reads.  Out: shards claimed, and shards given
back.  Used by `model_scheduler_service`.

There is no master and no list of members.  Once a second each scheduler compares what it has with
shards / schedulers, rounded up: what it has too much it gives back, what it has too little it takes from the queues
that nobody reads.  That a queue has one reader is the bus's to hold, and a scheduler that dies is gone from both
counts at once.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

from htmengine.bus.interface import Bus, Subscription
from htmengine.process.tasks import together
from htmengine.sharding import ShardQueues


def fair_share(shards: int, schedulers: int) -> int:
    """The shards that one scheduler may have.

    >>> [fair_share(16, schedulers) for schedulers in (0, 1, 2, 3, 20)]
    [16, 16, 8, 6, 1]
    """
    return -(-shards // max(schedulers, 1))


class ShardClaims:
    """The subscriptions of the shards that are ours.

    ``on_claimed(shard, subscription)`` starts work on a shard; ``release(shard)`` ends it, in good order, before the
    subscription is closed and another scheduler can have the shard.
    """

    def __init__(
        self,
        *,
        bus: Bus,
        shards: ShardQueues,
        group: str,
        prefetch: int,
        on_claimed: Callable[[int, Subscription], None],
        release: Callable[[int], Awaitable[None]],
    ) -> None:
        self._bus = bus
        self._shards = shards
        self._group = group
        self._prefetch = prefetch
        self._on_claimed = on_claimed
        self._release = release
        self._order = list(enumerate(shards.queues))
        random.shuffle(self._order)  # those that start together do not go for the same shards
        self._balancing = False
        self.held: dict[int, Subscription] = {}

    async def join(self) -> None:
        """Be counted."""
        for queue in self._shards.queues:
            await self._bus.declare_queue(queue)
        await self._bus.join(self._group)

    async def balance(self) -> None:
        """Give back what is too much, take what is too little; a call while another one is at it does nothing."""
        if self._balancing:
            return
        self._balancing = True
        try:
            share = fair_share(self._shards.count, await self._bus.members(self._group))
            while len(self.held) > share:
                await self._give_back()
            for shard, queue in self._order:
                if len(self.held) >= share:
                    break
                if shard not in self.held:
                    await self._take(shard, queue)
        finally:
            self._balancing = False

    def has(self, shard: int, subscription: Subscription) -> bool:
        """Whether the shard is still held by that subscription."""
        return self.held.get(shard) is subscription

    def lost(self, shard: int, subscription: Subscription) -> None:
        """The subscription has ended by itself."""
        if self.has(shard, subscription):
            del self.held[shard]

    async def close(self) -> None:
        """Let others have all shards."""
        held, self.held = self.held, {}
        await together(subscription.close() for subscription in held.values())

    async def _give_back(self) -> None:
        shard, subscription = self.held.popitem()
        await self._release(shard)
        await subscription.close()

    async def _take(self, shard: int, queue: str) -> None:
        subscription = await self._bus.claim(queue, prefetch=self._prefetch)
        if subscription is not None:
            self.held[shard] = subscription
            self._on_claimed(shard, subscription)
