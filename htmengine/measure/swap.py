# SPDX-License-Identifier: MIT
"""How many models the swapper carries: more than fit into memory, each fed a row in turn.

In: a number of models, all of the same age, as checkpoints on disk.  Out: rows and swaps a second, bytes written,
memory and latency.  The worker processes, the swap controller and the checkpoints are the engine's own; bus and
database are left out: a `Feeder` stands in for them.  Called by ``htmengine benchmark swap`` and
``htmengine capacity``.
"""

from __future__ import annotations

import os
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import assert_never

from twisted.internet.defer import Deferred

from htmengine.errors import BenchmarkFailed
from htmengine.measure.models import Template
from htmengine.messages import ModelInput
from htmengine.model_swapper.checkpoints import Checkpoint, CheckpointStore
from htmengine.model_swapper.model_cache import RunnerOptions
from htmengine.model_swapper.swap_controller import (
    DEFAULT_LIMITS,
    Acknowledge,
    FetchDefinition,
    FetchProof,
    FetchRows,
    Instruction,
    Publish,
    RunTurn,
    SwapController,
    worker_of,
)
from htmengine.model_swapper.turns import Outcome, Verdict
from htmengine.model_swapper.worker_pool import WorkerPool, at_work
from htmengine.process.twisted_types import Reactor

SHARDS = 16
#: Models in one message, as the Metric Storer makes them from its batches.
MODELS_IN_MESSAGE = 100
#: A worker without a sign of life for this long ends the benchmark.
TIMEOUT_S = 60.0

#: Files that are written to learn what the disk takes.
_PLAIN_FILES = 50

#: Called for each step that is done, with the number of models made, or rows run.
Progress = Callable[[int], object]


@dataclass(frozen=True, slots=True)
class SwapPlan:
    """What is run: ``models`` copies of a model, ``rows`` rows each, in ``memory_mb`` for the models of all workers."""

    models: int
    rows: int
    workers: int
    memory_mb: int
    folder: Path
    rows_per_s: float | None = None  #: feed no faster than this
    most_s: float | None = None  #: feed no longer than this, be it fewer rows

    def runner(self) -> RunnerOptions:
        """What the workers are told."""
        return RunnerOptions(str(self.folder), memory_bytes=(self.memory_mb << 20) // self.workers)


@dataclass(frozen=True, slots=True)
class SwapReport:
    """What was measured; bytes are of all workers."""

    models: int
    rows: int
    rows_per_s: float
    swaps_per_s: float  #: models read from disk
    writes_per_s: float  #: models written to disk
    bytes_written: int
    rss_bytes: int  #: the largest that the workers had in physical memory, together
    p50_ms: float  #: from a row's arrival to its result
    p99_ms: float
    cpu_ms_per_row: float  #: of all processes: with the CPUs for itself, this is what bounds rows_per_s
    worker_ms_per_row: float  #: the workers' part of it
    model_bytes: int  #: one model in memory at the start
    checkpoint_bytes: int  #: and on disk
    disk_files_per_s: float  #: files of that size that the disk takes, each synced, when nothing else is done
    seconds: float


def model_ids(models: int) -> list[str]:
    """Names that spread over the shards as real ones do."""
    return [f"{number:032x}" for number in range(models)]


def make_checkpoints(plan: SwapPlan, template: Template, progress: Progress) -> None:
    """Write a copy of the model for each name.  Raises `BenchmarkFailed` if the disk has too little room."""
    plan.folder.mkdir(parents=True, exist_ok=True)
    needed = 2 * len(template.model) * plan.models  # each model has two slots
    free = shutil.disk_usage(plan.folder).free
    if needed > free:
        raise BenchmarkFailed(f"{plan.models} models need {needed >> 20} MB; {plan.folder} has {free >> 20} MB free")
    store = CheckpointStore(plan.folder, durable=False)
    for model_id in model_ids(plan.models):
        store.save(Checkpoint(model_id, 1, template.rowid, template.model))
        progress(1)
    os.sync()  # what this has written must not slow down what is measured


def files_per_s(folder: Path, size: int) -> float:
    """The disk's own limit: files of that size, written and synced one after the other."""
    content = os.urandom(size)
    path = folder / "plain"
    started = time.perf_counter()
    for _ in range(_PLAIN_FILES):
        with path.open("wb", buffering=0) as file:
            file.write(content)
            os.fdatasync(file.fileno())
        path.unlink()
    return _PLAIN_FILES / (time.perf_counter() - started)


class Feeder:
    """Gives each model its next row in turn; a bounded number of rows is under way at any time."""

    def __init__(self, *, reactor: Reactor, plan: SwapPlan, template: Template, progress: Progress) -> None:
        self._reactor = reactor
        self._disk_files_per_s = files_per_s(plan.folder, len(template.model))
        self._plan = plan
        self._template = template
        self._progress = progress
        self._controller = SwapController(shards=SHARDS, workers=plan.workers)
        self._pool = WorkerPool(
            reactor=reactor,
            workers=plan.workers,
            options=plan.runner(),
            timeout_s=TIMEOUT_S,
            on_started=self._started,
            on_answer=self._answered,
            on_death=self._died,
            on_troubles=lambda worker, texts: None,
            on_failure=lambda failure: self._fail(failure.getErrorMessage()),
        )
        self._waiting = 0
        #: Rows under way: what keeps every worker busy, and no more.
        self._most_waiting = plan.workers * DEFAULT_LIMITS.turns_ahead * DEFAULT_LIMITS.models_in_turn
        self._messages = _messages(plan, template)
        self._next: list[ModelInput] | None = None
        self._serial = 0
        self._done = 0
        self._given_at: dict[tuple[str, int], float] = {}
        self._latencies: deque[float] = deque()
        self._workers_started = 0
        self._finished: Deferred[None] = Deferred()
        self._started_at = 0.0
        self._cpu_at_start = 0.0

    async def run(self) -> SwapReport:
        """Feed all rows.  Raises `BenchmarkFailed` if a model or a worker fails."""
        self._pool.start()
        try:
            await self._finished
            seconds = time.perf_counter() - self._started_at
            return self._report(seconds)
        finally:
            for worker in self._pool.pids():
                self._pool.kill(worker)
            await self._pool.stop()

    def _report(self, seconds: float) -> SwapReport:
        workers = self._pool.statistics().values()
        total = {key: sum(worker[key] for worker in workers) for key in next(iter(workers))}
        ordered = sorted(self._latencies)
        return SwapReport(
            models=self._plan.models,
            rows=self._plan.rows,
            rows_per_s=self._done / seconds,
            swaps_per_s=total["swapped_in"] / seconds,
            writes_per_s=total["checkpoints"] / seconds,
            bytes_written=total["checkpoint_bytes"],
            rss_bytes=total["peak_rss_bytes"],
            p50_ms=1000 * ordered[len(ordered) // 2],
            p99_ms=1000 * ordered[len(ordered) * 99 // 100],
            cpu_ms_per_row=(total["cpu_us"] / 1e3 + 1e3 * (time.process_time() - self._cpu_at_start)) / self._done,
            worker_ms_per_row=total["cpu_us"] / 1e3 / self._done,
            model_bytes=self._template.memory_bytes,
            checkpoint_bytes=len(self._template.model),
            disk_files_per_s=self._disk_files_per_s,
            seconds=seconds,
        )

    # --- the workers' side -----------------------------------------------------------------------------

    def _started(self, worker: int) -> None:
        self._perform(self._controller.worker_started(worker))
        self._workers_started += 1
        if self._workers_started == self._plan.workers:
            self._started_at = time.perf_counter()
            self._cpu_at_start = time.process_time()
            self._feed()

    def _answered(self, worker: int, turn: int, outcomes: Sequence[Outcome]) -> None:
        failed = next((outcome for outcome in outcomes if outcome.error is not None), None)
        if failed is not None:
            self._fail(f"model {failed.model_id}: {failed.error}")
            return
        self._perform(self._controller.turn_done(worker, turn, outcomes))
        self._feed()

    def _died(self, worker: int, culprit: str | None) -> None:
        self._fail(f"worker {worker} died {at_work(culprit)}")

    def _fail(self, why: str) -> None:
        if not self._finished.called:
            self._finished.errback(BenchmarkFailed(why))

    # --- the bus's and the database's side -------------------------------------------------------------

    def _feed(self) -> None:
        while self._waiting < self._most_waiting and not self._finished.called:
            self._next = self._next or next(self._messages, None)
            if self._next is None or self._is_late():
                self._finish()
                return
            early = self._early()
            if early > 0:
                self._reactor.callLater(early, self._feed)
                return
            message, self._next = self._next, None
            now = time.perf_counter()
            for each in message:
                self._given_at[each.model_id, each.last_rowid] = now
            self._waiting += len(message)
            self._serial += 1
            self._perform(self._controller.inputs_arrived(self._serial, message))

    def _is_late(self) -> bool:
        return self._plan.most_s is not None and time.perf_counter() - self._started_at > self._plan.most_s

    def _finish(self) -> None:
        """Nothing is left to feed; what is under way comes first."""
        if self._waiting == 0 and not self._finished.called:
            self._finished.callback(None)

    def _early(self) -> float:
        """Seconds until the next rows are due."""
        if self._plan.rows_per_s is None:
            return 0.0
        given = self._done + self._waiting
        return self._started_at + given / self._plan.rows_per_s - time.perf_counter()

    def _perform(self, instructions: Sequence[Instruction]) -> None:
        for instruction in instructions:
            match instruction:
                case RunTurn(worker, turn, slices):
                    self._pool.send_turn(worker, turn, slices)
                case Publish():
                    self._published(instruction)
                case FetchRows(_, _, after, limit):
                    rows = [self._template.row(rowid) for rowid in range(after + 1, after + limit + 1)]
                    self._perform(self._controller.rows_fetched(instruction, rows))
                case FetchDefinition(model_id):
                    self._fail(f"model {model_id} has no checkpoint")
                case FetchProof(claim=claim):
                    verdict = Verdict(claim, True, claim.rowid, claim.digest)  # there is no database to contradict it
                    self._perform(self._controller.proof_fetched(instruction, verdict))
                case Acknowledge():
                    pass
                case _:
                    assert_never(instruction)

    def _published(self, publication: Publish) -> None:
        now = time.perf_counter()
        rows = 0
        for result in publication.results:
            for row in result.rows:
                self._latencies.append(now - self._given_at.pop((result.model_id, row.rowid)))
            rows += len(result.rows)
        self._waiting -= rows
        self._done += rows
        self._progress(rows)
        self._perform(self._controller.published(publication.publication))


def _messages(plan: SwapPlan, template: Template) -> Iterator[list[ModelInput]]:
    """Every model's next row, then the next round; the workers' models take turns."""
    by_worker: list[list[str]] = [[] for _ in range(plan.workers)]
    for model_id in model_ids(plan.models):
        by_worker[worker_of(model_id, SHARDS, plan.workers)].append(model_id)
    most = max(len(ids) for ids in by_worker)
    for after in range(template.rowid, template.rowid + plan.rows):
        rows = (template.row(after + 1),)
        for at in range(0, most, MODELS_IN_MESSAGE):
            for ids in by_worker:
                message = [ModelInput(each, 1, after, rows) for each in ids[at : at + MODELS_IN_MESSAGE]]
                if message:
                    yield message
