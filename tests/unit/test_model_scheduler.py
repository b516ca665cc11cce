# SPDX-License-Identifier: MIT
"""How long a checkpoint's proof waits for results that are still in the results queue."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from htmengine.errors import UnroutableMessage
from htmengine.model_swapper.model_cache import RunnerOptions
from htmengine.model_swapper.model_scheduler_service import (
    RESULTS_PATIENCE_S,
    RESULTS_POLL_S,
    ModelScheduler,
    SchedulerOptions,
)
from htmengine.model_swapper.swap_controller import FetchProof
from htmengine.model_swapper.turns import Claim, Verdict
from htmengine.process.progress import Progress
from htmengine.sharding import ShardQueues

CLAIM = Claim(40, 99, 38)


class Place:
    """A database whose scores have come to a row, and a bus with so many results that wait."""

    def __init__(self, clock: Clock) -> None:
        self.progress = Progress(clock.seconds)
        self.verdict = Verdict(CLAIM, True, 30, 99)
        self.waiting: int | None = 3

    async def read(self, _judge: Callable[..., Any], *_args: Any) -> Verdict:
        return self.verdict

    async def depth(self, queue: str) -> int:
        if self.waiting is None:
            raise UnroutableMessage(queue)
        return self.waiting


class ProofTest(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.place = Place(self.clock)
        options = SchedulerOptions(ShardQueues("shard.", 1), "group", "results", 1, RunnerOptions(self.mktemp()))
        scheduler = ModelScheduler(
            reactor=cast(Any, self.clock),
            bus=cast(Any, self.place),
            database=cast(Any, self.place),
            options=options,
            on_failure=lambda failure: self.fail(str(failure)),
        )
        scheduler.running = True
        self.judged = Deferred.fromCoroutine(scheduler._judge(FetchProof("m", 1, CLAIM)))

    def test_results_that_are_on_their_way_are_waited_for(self) -> None:
        self.clock.pump([RESULTS_POLL_S] * 5)
        self.assertNoResult(self.judged)
        self.place.verdict = replace(self.place.verdict, scored=38)
        self.clock.advance(RESULTS_POLL_S)
        self.assertEqual(self.successResultOf(self.judged), self.place.verdict)

    def test_an_empty_queue_brings_none(self) -> None:
        for waiting in (0, None):
            self.setUp()
            self.place.waiting = waiting
            self.clock.pump([RESULTS_POLL_S, 0])
            self.assertEqual(self.successResultOf(self.judged), self.place.verdict)

    def test_a_queue_that_does_not_move_is_believed_to_have_them(self) -> None:
        self.clock.pump([RESULTS_POLL_S] * (int(RESULTS_PATIENCE_S / RESULTS_POLL_S) + 2))
        self.assertEqual(self.successResultOf(self.judged), replace(self.place.verdict, scored=38))
