# SPDX-License-Identifier: MIT
"""Schedulers share the shards fairly, whoever comes and goes."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from htmengine.bus.interface import Subscription
from htmengine.model_swapper.shard_claims import ShardClaims
from htmengine.sharding import ShardQueues
from htmengine.testing import MemoryBus

SHARDS = ShardQueues("input.", 8)


class ShardClaimsTest(SynchronousTestCase):
    def setUp(self) -> None:
        self.bus = MemoryBus()
        self.bus.startService()
        self.addCleanup(self.bus.stopService)
        self.events: list[tuple[str, int]] = []

    def new_scheduler(self) -> ShardClaims:
        async def release(shard: int) -> None:
            self.events.append(("released", shard))

        def claimed(shard: int, _subscription: Subscription) -> None:
            self.events.append(("claimed", shard))

        claims = ShardClaims(
            bus=self.bus, shards=SHARDS, group="group", prefetch=1, on_claimed=claimed, release=release
        )
        self.successResultOf(Deferred.fromCoroutine(claims.join()))
        return claims

    def balance(self, *schedulers: ShardClaims) -> list[int]:
        for scheduler in schedulers:
            self.successResultOf(Deferred.fromCoroutine(scheduler.balance()))
        held = sorted(shard for scheduler in schedulers for shard in scheduler.held)
        self.assertEqual(held, sorted(set(held)), "a shard has one scheduler")
        return [len(scheduler.held) for scheduler in schedulers]

    def test_a_single_scheduler_has_all(self) -> None:
        self.assertEqual(self.balance(self.new_scheduler()), [8])
        self.assertEqual(sorted(self.events), [("claimed", shard) for shard in range(8)])

    def test_one_that_comes_later_gets_its_share(self) -> None:
        first = self.new_scheduler()
        self.balance(first)
        second = self.new_scheduler()
        self.assertEqual(self.balance(first, second), [4, 4])
        self.assertEqual([event for event, _ in self.events], ["claimed"] * 8 + ["released"] * 4 + ["claimed"] * 4)
        self.assertEqual(self.balance(first, second), [4, 4])
        third = self.new_scheduler()
        self.assertEqual(self.balance(first, second, third), [3, 3, 2])

    def test_what_one_leaves_the_others_take(self) -> None:
        first, second = self.new_scheduler(), self.new_scheduler()
        self.balance(first, second)
        self.successResultOf(Deferred.fromCoroutine(first.close()))
        self.bus._members["group"] -= 1  # its process is gone
        self.assertEqual(self.balance(second), [8])

    def test_a_shard_is_released_before_another_can_have_it(self) -> None:
        first = self.new_scheduler()
        self.balance(first)
        second = self.new_scheduler()
        waiting: Deferred[None] = Deferred()

        async def slow(_shard: int) -> None:
            await waiting

        first._release = slow
        giving = Deferred.fromCoroutine(first.balance())
        self.assertEqual(self.balance(second), [0])
        waiting.callback(None)
        self.successResultOf(giving)
        self.assertEqual(self.balance(second), [4])

    def test_a_shard_whose_subscription_ended_is_claimed_again(self) -> None:
        claims = self.new_scheduler()
        self.balance(claims)
        subscription = claims.held[3]
        self.successResultOf(Deferred.fromCoroutine(subscription.close()))
        claims.lost(3, subscription)
        self.assertEqual(self.balance(claims), [8])
        self.assertEqual(self.events[8:], [("claimed", 3)])
        claims.lost(3, subscription)  # late news of the old one
        self.assertIn(3, claims.held)
