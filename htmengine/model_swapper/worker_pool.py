# SPDX-License-Identifier: MIT
"""Long-lived worker processes: started, spoken to in frames, watched, replaced when they die.

In: turns from `model_scheduler_service`.  Out: calls of its three callbacks.  What a dead worker had not
answered is the swap controller's to give out again.
"""

from __future__ import annotations

import os
import shlex
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from twisted.internet import error
from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from htmengine.errors import StartError
from htmengine.model_swapper import frames
from htmengine.model_swapper.model_cache import RunnerOptions
from htmengine.model_swapper.turns import Outcome, Slice
from htmengine.process.figures import SECONDS, Figure, Observations, counter, gauge, histogram
from htmengine.process.probes import Probe, condition
from htmengine.process.twisted_types import Reactor, Timer

#: A worker that dies is replaced after this.
RESTART_DELAY_S = 0.5
#: A worker has at least this long to become ready: on a busy machine its imports take their time.
START_PATIENCE_S = 60.0
#: A worker that is killed so often in a row before it is ready is not replaced any more.
START_ATTEMPTS = 10
#: After a stop's frame a worker writes its models; then it is killed.
STOP_MARGIN_S = 1.0
#: How often a worker that should answer is looked at while it may be silent.
LOOKS = 4
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
#: The engine's own worker.  -P: nothing is imported from the working folder.
OWN_WORKER = (sys.executable, "-P", "-m", "htmengine.model_swapper.model_runner")
#: What is shown of `ModelCache.statistics`: its key, and what makes it the unit that is shown.
_WORKER_FIGURES = (
    (gauge, "htmengine_worker_models", "Models in memory", "models", 1),
    (gauge, "htmengine_worker_model_bytes", "Memory of the models", "memory_bytes", 1),
    (counter, "htmengine_worker_swapped_in", "Models read from disk", "swapped_in", 1),
    (counter, "htmengine_worker_swapped_out", "Models that made room", "swapped_out", 1),
    (counter, "htmengine_worker_checkpoints", "Checkpoints written", "checkpoints", 1),
    (counter, "htmengine_worker_checkpoint_bytes", "Bytes of checkpoints written", "checkpoint_bytes", 1),
    (counter, "htmengine_worker_checkpoints_refused", "Checkpoints that the disk refused", "checkpoints_refused", 1),
    (counter, "htmengine_worker_checkpoints_damaged", "Damaged checkpoints, skipped", "checkpoints_damaged", 1),
    (
        *(counter, "htmengine_worker_checkpoints_contradicted", "Checkpoints of rows that the database no longer has"),
        *("checkpoints_contradicted", 1),
    ),
    (counter, "htmengine_worker_cpu_seconds", "Processor time", "cpu_us", 1e-6),
)


class WorkerProcess(ProcessProtocol):
    """One worker: its pipe, what it is at, and the watch on it."""

    transport: Any

    def __init__(self, pool: WorkerPool, number: int) -> None:
        self._pool = pool
        self.number = number
        self.page = _open_page()  #: where the worker notes the place of the slice that it runs
        self.statistics: dict[str, int] = {}
        self.ready = False  #: whether it has said that it waits for turns
        self.gone: Deferred[None] = Deferred()
        self._received = bytearray()
        self._turns: dict[int, tuple[float, Sequence[Slice]]] = {}  #: not answered; when they were sent
        self._released: dict[int, Deferred[None]] = {}
        self._stopping = False
        self._watch: Timer | None = None
        self._patience_s = max(pool.timeout_s, START_PATIENCE_S)
        self._quiet_looks = 0  #: since its last sign of life
        self._seen = b""  #: its page then

    def connectionMade(self) -> None:
        self._pool.started(self.number)
        self._watch_on()  # until it is ready

    @property
    def running_model(self) -> str | None:
        """The model that it is running, or was when it died."""
        place = os.pread(self.page, frames.PLACE.size, 0)
        if not place:
            return None
        turn, number = frames.PLACE.unpack(place)
        return self._turns[turn][1][number].model_id if turn in self._turns else None

    def send_turn(self, turn: int, slices: Sequence[Slice]) -> None:
        """The worker answers turns in the order in which they are sent."""
        self._turns[turn] = (self._pool.reactor.seconds(), slices)
        self._expect_life()
        self.transport.write(frames.pack_turn(turn, slices))

    def release(self, shard: int, shards: int) -> Deferred[None]:
        """Ask it to write and forget a shard's models; fires when it has, or is gone."""
        released = self._released.setdefault(shard, Deferred())
        self._expect_life()
        self._write({"release": shard, "shards": shards})
        return released

    def doubt(self, shard: int, shards: int) -> None:
        """Tell it that the results of a shard's last rows may have been lost."""
        self._write({"doubt": shard, "shards": shards})

    def stop(self) -> None:
        """Ask it to write its models and end; `gone` fires when it has."""
        self._write({"stop": True})
        self._stopping = True
        self._patience_s = self._pool.options.stop_seconds + STOP_MARGIN_S
        self._watch_off()  # it was more patient
        self._expect_life()

    def kill(self) -> None:
        """End it at once, as a crash would."""
        try:
            if self.transport is not None:
                self.transport.signalProcess("KILL")
        except error.ProcessExitedAlready:
            pass

    def outReceived(self, data: bytes) -> None:
        self._received += data
        head = frames.LENGTH.size
        while len(self._received) >= head:
            (length,) = frames.LENGTH.unpack_from(self._received)
            if length > frames.MAX_FRAME_BYTES:
                self._pool.log.error(
                    "worker {worker} sent a frame of {length} bytes", worker=self.number, length=length
                )
                self.kill()
                return
            if len(self._received) < head + length:
                return
            body = bytes(self._received[head : head + length])
            del self._received[: head + length]
            self._frame_received(*frames.unpack(body))

    def processEnded(self, reason: Failure) -> None:
        self._watch_off()
        self._pool.ended(self, reason)
        os.close(self.page)
        for shard in list(self._released):
            self._has_released(shard)
        self.gone.callback(None)

    def _frame_received(self, head: dict[str, Any], columns: frames.Columns) -> None:
        if "ready" in head:
            self._is_ready(head["ready"])
            return
        self._expect_life()
        if "released" in head:
            self._has_released(head["released"])
            return
        self.statistics = head["statistics"]
        self._pool.troubled(self.number, head["troubles"])
        sent_at, _ = self._turns.pop(head["turn"])
        self._pool.turn_seconds.observe(self._pool.reactor.seconds() - sent_at)
        self._pool.answered(self.number, head["turn"], frames.outcomes_of(head, columns))

    def _is_ready(self, version: int) -> None:
        if version != frames.VERSION:
            self._pool.speaks_otherwise(self.number, version)
            self.kill()
            return
        self.ready = True
        self._pool.ready(self.number)
        if self._stopping:
            return
        self._patience_s = self._pool.timeout_s
        self._watch_off()
        if self._turns or self._released:
            self._expect_life()

    def _has_released(self, shard: int) -> None:
        self._released.pop(shard).callback(None)

    def _write(self, head: dict[str, Any]) -> None:
        self.transport.write(frames.pack(head))

    # --- the watch

    def _expect_life(self) -> None:
        """A worker that should answer has some time for each sign of life: an answer, or the next model begun."""
        self._quiet_looks = 0 if self._watch is None else -1  # the next look comes early
        self._watch_on()

    def _watch_on(self) -> None:
        if self._watch is None:
            self._watch = self._pool.reactor.callLater(self._patience_s / LOOKS, self._look)

    def _watch_off(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    def _look(self) -> None:
        self._watch = None
        if self.ready and not (self._turns or self._released or self._stopping):
            return
        page = os.pread(self.page, frames.PLACE.size, 0)
        self._quiet_looks += 1
        if page != self._seen:
            self._seen, self._quiet_looks = page, 0
        if self._quiet_looks < LOOKS:
            self._watch_on()
            return
        if self.ready or self._stopping:
            self._pool.log.error(
                "worker {worker} hangs {where}: killed", worker=self.number, where=at_work(self.running_model)
            )
        else:
            self._pool.is_late(self.number, self._patience_s)
        self.kill()


def at_work(model: str | None) -> str:
    """What a worker was doing, for the log.

    >>> at_work("a1b2"), at_work(None)
    ('at model a1b2', 'while idle')
    """
    return "while idle" if model is None else f"at model {model}"


def _open_page() -> int:
    """A file of nobody else's in memory, or on disk where there is no such thing (macOS)."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("htmengine-worker")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


class WorkerPool:
    """``workers`` processes, numbered from 0.

    ``on_started(worker)``, ``on_answer(worker, turn, outcomes)``, ``on_death(worker, culprit)`` and
    ``on_troubles(worker, texts)`` are called in the reactor; between a worker's death and its successor's start no
    turn may be sent to it.  ``on_failure`` is called with a `StartError` when workers end before they are ready.
    ``command`` starts a worker; it gets the options as one more argument.
    """

    log = Logger()

    def __init__(
        self,
        *,
        reactor: Reactor,
        workers: int,
        options: RunnerOptions,
        command: Sequence[str] = OWN_WORKER,
        timeout_s: float,
        on_started: Callable[[int], None],
        on_answer: Callable[[int, int, Sequence[Outcome]], None],
        on_death: Callable[[int, str | None], None],
        on_troubles: Callable[[int, Sequence[str]], object],
        on_failure: Callable[[Failure], None],
    ) -> None:
        self.reactor = reactor
        self.options = options
        self.timeout_s = timeout_s
        self._count = workers
        self._command = command
        self._on_answer = on_answer
        self._on_started = on_started
        self._on_death = on_death
        self._on_troubles = on_troubles
        self._on_failure = on_failure
        self._failed_starts: Counter[int] = Counter()  #: of each worker, in a row
        self._troubles: dict[int, Sequence[str]] = {}
        self._workers: dict[int, WorkerProcess] = {}
        self._restarts: dict[int, Timer] = {}
        self._stopping = False
        self.deaths = 0
        self.turn_seconds = Observations(SECONDS)

    def start(self) -> None:
        """Start all workers."""
        for number in range(self._count):
            self._spawn(number)

    def send_turn(self, worker: int, turn: int, slices: Sequence[Slice]) -> None:
        """Give a running worker a turn."""
        self._workers[worker].send_turn(turn, slices)

    def release(self, worker: int, shard: int, shards: int) -> Deferred[None]:
        """Fires when a worker, if it runs, has written and forgotten the models of a shard."""
        if worker not in self._workers:
            return succeed(None)
        return self._workers[worker].release(shard, shards)

    def doubt(self, worker: int, shard: int, shards: int) -> None:
        """Have a worker, if it runs, give the results of a shard's last rows again when it is asked."""
        if worker in self._workers:
            self._workers[worker].doubt(shard, shards)

    def stop(self) -> Deferred[Any]:
        """Fires when all workers have written their models and are gone."""
        self._stopping = True
        for call in self._restarts.values():
            call.cancel()
        self._restarts.clear()
        for worker in self._workers.values():
            worker.stop()
        if not self._workers:
            return succeed(None)
        return DeferredList([worker.gone for worker in self._workers.values()])

    @property
    def count(self) -> int:
        """How many workers there should be."""
        return self._count

    def statistics(self) -> dict[int, dict[str, int]]:
        """Each running worker's latest figures (`ModelRunner.statistics`)."""
        return {number: worker.statistics for number, worker in self._workers.items()}

    def pids(self) -> dict[int, int]:
        """Each running worker's process id."""
        return {
            number: worker.transport.pid
            for number, worker in self._workers.items()
            if worker.transport is not None and worker.transport.pid is not None
        }

    def figures(self) -> Iterable[Figure]:
        """How many workers run, and what each has told with its latest answer."""
        pids = self.pids()
        yield histogram("htmengine_scheduler_turn_seconds", "A turn, with its wait for others", self.turn_seconds)
        yield gauge("htmengine_workers", "Worker processes that run", len(pids))
        yield gauge("htmengine_workers_wanted", "Worker processes that should run", self.count)
        yield counter("htmengine_worker_deaths", "Worker processes that died", self.deaths)
        resident = {str(number): _resident_bytes(pid) for number, pid in pids.items()}
        yield gauge("htmengine_worker_resident_bytes", "Memory of a worker process", resident, by="worker")
        told = self.statistics()
        for make, name, help, key, scale in _WORKER_FIGURES:
            values = {str(number): each[key] * scale for number, each in told.items() if key in each}
            yield make(name, help, values, by="worker")

    def checks(self) -> Mapping[str, Probe]:
        """Whether all workers are ready."""
        ready = condition(lambda: self._ready() == self.count, lambda: f"{self._ready()} of {self.count} are ready")
        return {"workers": ready}

    def _ready(self) -> int:
        return sum(worker.ready for worker in self._workers.values())

    def kill(self, number: int) -> None:
        """End a worker at once; its models are not written."""
        self._workers[number].kill()

    def _spawn(self, number: int) -> None:
        self._restarts.pop(number, None)
        worker = self._workers[number] = WorkerProcess(self, number)
        command = [*self._command, self.options.to_argument()]
        files: dict[int, Any] = {0: "w", 1: "r", 2: 2, frames.PAGE_FD: worker.page}
        try:
            self.reactor.spawnProcess(worker, command[0], command, env=None, childFDs=files)
        except OSError as error:
            del self._workers[number]
            self._on_failure(Failure(StartError(f"worker {number} cannot be started: {command[0]}: {error.strerror}")))

    def started(self, number: int) -> None:
        """Called by a worker whose process runs."""
        self._on_started(number)

    def ready(self, number: int) -> None:
        """Called by a worker that waits for turns."""
        del self._failed_starts[number]
        if self._troubles.get(number):
            self.troubled(number, [])

    def is_late(self, number: int, patience_s: float) -> None:
        """Called by a worker that is killed because it has not become ready."""
        why = f"the worker ({shlex.join(self._command)}) was not ready within {patience_s:g} s: killed"
        self.log.error("worker {worker}: {why}", worker=number, why=why)
        self.troubled(number, [why])

    def speaks_otherwise(self, number: int, version: object) -> None:
        """Called by a worker whose frames are of another version: it cannot be used."""
        why = f"worker {number} ({shlex.join(self._command)}) speaks frames of version {version!r}"
        self._on_failure(Failure(StartError(f"{why}; this engine speaks {frames.VERSION}")))

    def answered(self, number: int, turn: int, outcomes: Sequence[Outcome]) -> None:
        """Called by a worker that has answered a turn."""
        self._on_answer(number, turn, outcomes)

    def troubled(self, number: int, troubles: Sequence[str]) -> None:
        """Called by a worker with what the operator should know of; passed on when it has changed."""
        if self._troubles.get(number) != troubles:
            self._troubles[number] = troubles
            self._on_troubles(number, troubles)

    def ended(self, worker: WorkerProcess, reason: Failure) -> None:
        """Called by a worker whose process is gone."""
        if self._stopping:
            return
        self.deaths += 1
        del self._workers[worker.number]
        if not worker.ready and self._cannot_start(worker, reason):
            return
        self.log.error(
            "worker {worker} died {where}: {reason}; it is replaced",
            worker=worker.number,
            where=at_work(worker.running_model),
            reason=reason.getErrorMessage().rstrip("."),
        )
        self._on_death(worker.number, worker.running_model)
        self._restarts[worker.number] = self.reactor.callLater(RESTART_DELAY_S, self._spawn, worker.number)

    def _cannot_start(self, worker: WorkerProcess, reason: Failure) -> bool:
        """Whether a worker that ended before it was ready is not replaced: it gave up, or was killed often."""
        self._failed_starts[worker.number] += 1
        killed = getattr(reason.value, "signal", None) is not None
        if killed and self._failed_starts[worker.number] < START_ATTEMPTS:
            return False
        why = f"worker {worker.number} ended before it was ready: {reason.getErrorMessage().rstrip('.')}"
        self._on_failure(Failure(StartError(f"{why}; its standard error says why")))
        return True


def _resident_bytes(pid: int) -> int:
    """Of a process; 0 when it is gone, or the system does not say."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES
    except OSError:
        return 0
