# SPDX-License-Identifier: MIT
"""Worker processes as the scheduler sees them: answers, deaths, and who is to blame."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from signal import SIGKILL
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessTerminated
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from htmengine.errors import StartError
from htmengine.model_swapper import frames
from htmengine.model_swapper.model_cache import RunnerOptions
from htmengine.model_swapper.turns import Outcome, Slice
from htmengine.model_swapper.worker_pool import (
    RESTART_DELAY_S,
    START_ATTEMPTS,
    START_PATIENCE_S,
    STOP_MARGIN_S,
    WorkerPool,
    WorkerProcess,
)
from htmengine.process.probes import Unhealthy

TIMEOUT_S = 10.0


class FakeTransport:
    """A process's pipe; a signal only notes it."""

    pid = 7

    def __init__(self) -> None:
        self.written = io.BytesIO()
        self.signals: list[str] = []

    def write(self, data: bytes) -> None:
        self.written.write(data)

    def signalProcess(self, name: str) -> None:
        self.signals.append(name)


class SpawningReactor(MemoryReactorClock):
    """Starts no process, and connects its protocol."""

    def __init__(self) -> None:
        super().__init__()
        self.spawned: list[tuple[WorkerProcess, FakeTransport]] = []
        self.started_by: tuple[object, ...] = ()
        self.refuses: OSError | None = None

    def spawnProcess(
        self,
        worker: WorkerProcess,
        *command: object,
        childFDs: dict[int, Any],  # noqa: N803 - Twisted's name
        **options: object,
    ) -> None:
        assert childFDs[frames.PAGE_FD] == worker.page
        if self.refuses is not None:
            raise self.refuses
        self.started_by = command
        transport = FakeTransport()
        worker.makeConnection(transport)
        self.spawned.append((worker, transport))


class WorkerPoolTest(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = SpawningReactor()
        self.started: list[int] = []
        self.answers: list[tuple[int, int, Sequence[Outcome]]] = []
        self.deaths: list[tuple[int, str | None]] = []
        self.troubles: list[tuple[int, Sequence[str]]] = []
        self.failures: list[Failure] = []
        self.logged: list[dict[str, Any]] = []
        globalLogPublisher.addObserver(self.logged.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.logged.append)
        self.pool = WorkerPool(
            reactor=self.reactor,
            workers=1,
            options=RunnerOptions("nowhere"),
            command=("/opt/worker", "-v"),
            timeout_s=TIMEOUT_S,
            on_started=self.started.append,
            on_answer=lambda *answer: self.answers.append(answer),
            on_death=lambda *death: self.deaths.append(death),
            on_troubles=lambda *trouble: self.troubles.append(trouble),
            on_failure=self.failures.append,
        )
        self.pool.start()
        self.addCleanup(self.end_all)

    def end_all(self) -> None:
        stopped = self.pool.stop()
        worker, _ = self.reactor.spawned[-1]
        if not worker.gone.called:
            self.dies()
        self.successResultOf(stopped)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def dies(self, signal: int | None = SIGKILL) -> None:
        self.reactor.spawned[-1][0].processEnded(Failure(ProcessTerminated(None if signal else 1, signal)))

    def is_ready(self) -> None:
        self.says(frames.pack({"ready": frames.VERSION}))

    def begins(self, turn: int, place: int) -> None:
        """The worker notes what it runs."""
        os.pwrite(self.reactor.spawned[-1][0].page, frames.PLACE.pack(turn, place), 0)

    def says(self, frame: bytes) -> None:
        """A frame in two pieces, as pipes are."""
        worker, _ = self.reactor.spawned[-1]
        worker.outReceived(frame[:7])
        worker.outReceived(frame[7:])

    def signals(self) -> list[str]:
        return self.reactor.spawned[-1][1].signals

    def send(self, turn: int, *model_ids: str) -> None:
        self.pool.send_turn(0, turn, [Slice(each, 1) for each in model_ids])

    def answer(self, turn: int, *model_ids: str) -> None:
        self.says(frames.pack_answer(turn, [Outcome(each, 1) for each in model_ids], {"models": 2}, []))

    def test_an_answer_is_passed_on_with_the_statistics(self) -> None:
        self.send(1, "a", "b")
        self.answer(1, "a", "b")
        self.assertEqual(self.answers, [(0, 1, [Outcome("a", 1), Outcome("b", 1)])])
        self.assertEqual(self.pool.statistics(), {0: {"models": 2}})

    def test_the_model_that_a_worker_ran_is_to_blame_for_its_death(self) -> None:
        self.send(1, "a", "b")
        self.begins(1, 1)
        self.dies()
        self.assertEqual(self.deaths, [(0, "b")])

    def test_nobody_is_to_blame_before_the_first_model_and_between_turns(self) -> None:
        self.send(1, "a")
        self.dies()
        self.reactor.advance(RESTART_DELAY_S)
        self.send(2, "a")
        self.begins(2, 0)
        self.answer(2, "a")
        self.dies()
        self.assertEqual(self.deaths, [(0, None), (0, None)])

    def test_the_log_says_what_a_dead_worker_was_doing(self) -> None:
        self.dies()
        self.reactor.advance(RESTART_DELAY_S)
        self.send(1, "a")
        self.begins(1, 0)
        self.dies()
        places = [event["where"] for event in self.logged if "died" in event["log_format"]]
        self.assertEqual(places, ["while idle", "at model a"])

    def test_a_dead_worker_is_replaced(self) -> None:
        self.dies()
        self.assertEqual(self.started, [0])
        self.reactor.advance(RESTART_DELAY_S)
        self.assertEqual(self.started, [0, 0])

    def test_a_worker_that_gives_up_before_it_is_ready_is_a_failed_start(self) -> None:
        self.dies(signal=None)
        [failure] = self.failures
        failure.trap(StartError)
        self.assertIn("worker 0 ended before it was ready", failure.getErrorMessage())
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_a_command_that_cannot_be_run_is_a_failed_start_and_nothing_waits_for_its_worker(self) -> None:
        self.is_ready()
        self.dies()
        self.reactor.refuses = FileNotFoundError(2, "No such file or directory")
        self.reactor.advance(RESTART_DELAY_S)
        [failure] = self.failures
        failure.trap(StartError)
        self.assertIn(": No such file or directory", failure.getErrorMessage())
        self.successResultOf(self.pool.stop())

    def test_a_worker_that_gives_up_later_is_replaced(self) -> None:
        self.is_ready()
        self.dies(signal=None)
        self.reactor.advance(RESTART_DELAY_S)
        self.assertEqual((self.started, self.failures), ([0, 0], []))

    def test_a_worker_that_is_always_killed_before_it_is_ready_is_a_failed_start(self) -> None:
        for _ in range(START_ATTEMPTS - 1):
            self.dies()
            self.reactor.advance(RESTART_DELAY_S)
        self.assertEqual(self.failures, [])
        self.dies()
        self.assertEqual(len(self.failures), 1)

    def test_a_worker_that_was_ready_may_be_killed_again(self) -> None:
        for _ in range(START_ATTEMPTS):
            self.dies()
            self.reactor.advance(RESTART_DELAY_S)
            self.is_ready()
        self.assertEqual(self.failures, [])

    def test_a_worker_may_take_its_time_to_become_ready(self) -> None:
        self.send(1, "a")
        self.reactor.pump([1.0] * int(START_PATIENCE_S - 1))
        self.assertEqual(self.signals(), [])
        self.reactor.pump([1.0] * int(START_PATIENCE_S))
        self.assertEqual(self.signals(), ["KILL"])

    def test_a_worker_that_does_not_become_ready_is_killed_and_told_even_without_work(self) -> None:
        self.reactor.pump([1.0] * int(START_PATIENCE_S - 1))
        self.assertEqual((self.signals(), self.troubles), ([], []))
        self.reactor.pump([1.0] * 2)
        self.assertEqual(self.signals(), ["KILL"])
        why = f"the worker (/opt/worker -v) was not ready within {START_PATIENCE_S:g} s: killed"
        self.assertEqual(self.troubles, [(0, [why])])
        self.dies()
        self.reactor.advance(RESTART_DELAY_S)
        self.is_ready()
        self.assertEqual(self.troubles[1:], [(0, [])])

    def test_workers_count_as_soon_as_they_are_ready(self) -> None:
        ready = self.pool.checks()["workers"]
        failure = self.failureResultOf(Deferred.fromCoroutine(ready()), Unhealthy)
        self.assertEqual(failure.getErrorMessage(), "0 of 1 are ready")
        self.is_ready()
        self.successResultOf(Deferred.fromCoroutine(ready()))

    def test_a_worker_that_stays_at_one_model_is_killed(self) -> None:
        self.is_ready()
        self.send(1, "a")
        self.begins(1, 0)
        self.reactor.pump([1.0] * int(1.5 * TIMEOUT_S))
        self.assertEqual(self.signals(), ["KILL"])

    def test_a_worker_that_gets_on_may_take_its_time(self) -> None:
        self.is_ready()
        self.send(1, *map(str, range(100)))
        for place in range(10):
            self.begins(1, place)
            self.reactor.pump([1.0] * int(0.6 * TIMEOUT_S))
        self.assertEqual(self.signals(), [])
        self.reactor.pump([1.0] * int(1.5 * TIMEOUT_S))
        self.assertEqual(self.signals(), ["KILL"])

    def test_a_worker_without_work_may_be_silent(self) -> None:
        self.is_ready()
        self.send(1, "a")
        self.answer(1, "a")
        self.reactor.pump([1.0] * int(5 * TIMEOUT_S))
        self.assertEqual(self.signals(), [])
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_a_shard_is_released_when_the_worker_says_so_or_is_gone(self) -> None:
        first: Deferred[None] = self.pool.release(0, 3, 16)
        self.assertNoResult(first)
        self.says(frames.pack({"released": 3}))
        self.successResultOf(first)
        second = self.pool.release(0, 4, 16)
        self.dies()
        self.successResultOf(second)

    def test_a_worker_is_started_by_the_command_with_its_options(self) -> None:
        self.assertEqual(
            self.reactor.started_by, ("/opt/worker", ["/opt/worker", "-v", self.pool.options.to_argument()])
        )

    def test_a_worker_of_other_frames_is_refused(self) -> None:
        self.says(frames.pack({"ready": frames.VERSION + 1}))
        self.assertEqual(self.signals(), ["KILL"])
        [failure] = self.failures
        self.assertIn(f"(/opt/worker -v) speaks frames of version {frames.VERSION + 1}", failure.getErrorMessage())

    def test_a_worker_that_does_not_stop_is_killed(self) -> None:
        self.pool.stop()
        self.reactor.pump([1.0] * int(1.5 * (RunnerOptions("").stop_seconds + STOP_MARGIN_S)))
        self.assertEqual(self.signals(), ["KILL"])

    def test_troubles_are_told_when_they_change(self) -> None:
        for turn, troubles in enumerate(([], ["full"], ["full"], [])):
            self.send(turn, "a")
            self.says(frames.pack_answer(turn, [Outcome("a", 1)], {}, troubles))
        self.assertEqual(self.troubles, [(0, []), (0, ["full"]), (0, [])])

    def test_a_frame_that_is_far_too_long_ends_the_worker(self) -> None:
        self.reactor.spawned[-1][0].outReceived(frames.LENGTH.pack(frames.MAX_FRAME_BYTES + 1))
        self.assertEqual(self.signals(), ["KILL"])
