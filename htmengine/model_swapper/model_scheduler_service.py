# SPDX-License-Identifier: MIT
"""The Model Scheduler: feeds many models in few processes and publishes their raw scores.

In: rows and commands from the model input queues of the shards that it has (`shard_claims`).  Out: messages on the
results queue.  The decisions are `swap_controller`'s; this service performs its instructions: turns go to the workers
(`worker_pool`), missing rows and definitions come from the database, results go to the bus, and a message is
acknowledged when all results that it asked for are confirmed.
"""

from __future__ import annotations

import base64
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, assert_never

from msgspec import structs
from sqlalchemy import Connection
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from htmengine.bus.interface import Bus, Delivery, Subscription
from htmengine.errors import BusClosed
from htmengine.messages import (
    CommandResult,
    InputRow,
    ModelCommand,
    ModelError,
    ModelResult,
    ModelSnapshot,
    decode_model_message,
    encode_command_result,
    encode_model_error,
    encode_model_snapshot,
    encode_results,
)
from htmengine.model_swapper import proofs
from htmengine.model_swapper.model_cache import RunnerOptions
from htmengine.model_swapper.progress import MessageToken
from htmengine.model_swapper.shard_claims import ShardClaims
from htmengine.model_swapper.swap_controller import (
    DEFAULT_LIMITS,
    Acknowledge,
    FetchDefinition,
    FetchProof,
    FetchRows,
    Instruction,
    Limits,
    Publish,
    RunTurn,
    SwapController,
)
from htmengine.model_swapper.turns import Outcome, Verdict
from htmengine.model_swapper.worker_pool import OWN_WORKER, WorkerPool
from htmengine.process import crash_points
from htmengine.process.figures import Figure, counter, gauge
from htmengine.process.probes import Probe, runs
from htmengine.process.tasks import Tasks, repeated
from htmengine.process.twisted_types import Reactor
from htmengine.repository import queries, snapshots, troubles
from htmengine.repository.engine import Database
from htmengine.repository.quarantine import BLAMELESS, Quarantine, reason_of
from htmengine.repository.row_spans import unlearnt_rows
from htmengine.sharding import ShardQueues

T = TypeVar("T")
#: What the controller may ask the database for.
Asked = TypeVar("Asked", FetchRows, FetchDefinition, FetchProof)

#: Messages of one shard that may be unacknowledged.
PREFETCH = 500
#: Reading from the queues pauses at this many rows in memory.
ROWS_AHEAD = 50_000
#: Rows in one message on the results queue.
ROWS_IN_MESSAGE = 2000
#: How often schedulers look whether they have their share of the shards.
BALANCE_S = 1.0
#: A stop waits this long for the turns in flight.
DRAIN_S = 2.0


@dataclass(frozen=True, slots=True)
class SchedulerOptions:
    """model-swapper.conf and model-checkpoint.conf, as far as this service uses them."""

    shards: ShardQueues
    group: str  #: names all schedulers of the engine
    results_queue: str
    workers: int
    runner: RunnerOptions
    host: str = "localhost"  #: where it runs, for the operator
    worker_command: Sequence[str] = OWN_WORKER
    worker_timeout_s: float = 60.0
    limits: Limits = field(default=DEFAULT_LIMITS)


class ModelScheduler(Service):
    """Runs the models of the shards that it has."""

    log = Logger()

    def __init__(
        self,
        *,
        reactor: Reactor,
        bus: Bus,
        database: Database,
        options: SchedulerOptions,
        on_failure: Callable[[Failure], None],
    ) -> None:
        self._reactor = reactor
        self._bus = bus
        self._database = database
        self._options = options
        self._tasks = Tasks(on_failure)
        self.controller = SwapController(shards=options.shards.count, workers=options.workers, limits=options.limits)
        self.pool = WorkerPool(
            reactor=reactor,
            workers=options.workers,
            options=options.runner,
            command=options.worker_command,
            timeout_s=options.worker_timeout_s,
            on_started=lambda worker: self._perform(self.controller.worker_started(worker)),
            on_answer=self._answered,
            on_death=lambda worker, culprit: self._perform(self.controller.worker_died(worker, culprit)),
            on_troubles=lambda worker, texts: self._tasks.start(self._tell_of(worker, texts)),
            on_failure=on_failure,
        )
        self.claims = ShardClaims(
            bus=bus,
            shards=options.shards,
            group=options.group,
            prefetch=PREFETCH,
            on_claimed=self._claimed,
            release=self._release,
        )
        self._balancing = repeated(self.claims.balance, self._tasks, reactor)
        self._deliveries: dict[MessageToken, tuple[int, Subscription, Delivery]] = {}
        self._serial = 0
        self._unpublished: deque[Publish] = deque()
        self._publishing = False
        self._room: list[Deferred[None]] = []
        self._at_rest: Deferred[None] | None = None
        self._progress = bus.progress.stage(
            "models have rows, but no worker ends a turn", lambda: bool(self._deliveries)
        )
        self._received: dict[str, tuple[int, float]] = {}  #: of some models: a rowid, and when it was received
        self.rejected = 0  #: messages that are not model input
        self.scored = 0  #: rows whose results are confirmed

    # --- life ------------------------------------------------------------------------------------------

    def startService(self) -> None:
        super().startService()
        self.pool.start()
        self._tasks.start(self._join())

    def stopService(self) -> Deferred[None]:
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        if self._balancing.running:
            self._balancing.stop()
        self.controller.drain()
        if not self.controller.at_rest:
            self._at_rest = Deferred()
            timer = self._reactor.callLater(DRAIN_S, self._rest)
            await self._at_rest
            if timer.active():
                timer.cancel()
        await self.pool.stop()
        await self.claims.close()
        self._make_room()
        await self._tasks.finished()

    def _rest(self) -> None:
        if self._at_rest is not None:
            waiting, self._at_rest = self._at_rest, None
            waiting.callback(None)

    def figures(self) -> Iterable[Figure]:
        """What was scored, what waits, and the workers' figures."""
        yield counter("htmengine_scheduler_scored", "Rows whose raw scores are published", self.scored)
        yield counter("htmengine_scheduler_rejected", "Messages that are not model input", self.rejected)
        yield gauge("htmengine_scheduler_waiting_rows", "Rows in memory that wait", self.controller.cached_rows)
        yield from self.pool.figures()

    def checks(self) -> Mapping[str, Probe]:
        """Whether it runs, and all its workers."""
        return {"ModelScheduler": runs(self), **self.pool.checks()}

    # --- shards ----------------------------------------------------------------------------------------

    async def _join(self) -> None:
        await self._bus.declare_queue(self._options.results_queue)
        await self.claims.join()
        if self.running:
            self._balancing.start(BALANCE_S)

    def _claimed(self, shard: int, subscription: Subscription) -> None:
        self.log.info("shard {shard} taken", shard=shard)
        self._tasks.start(self._consume(shard, subscription))

    async def _release(self, shard: int) -> None:
        """Another scheduler is to have the shard: it finds the models on disk, and what is not done in the queue."""
        self.log.info("shard {shard} given to another scheduler", shard=shard)
        self._leave(shard)
        shards = self._options.shards.count
        await self.pool.release(shard % self._options.workers, shard, shards)

    def _lost(self, shard: int, subscription: Subscription) -> None:
        """The connection is lost.  The shard may come back: its models stay in memory, where they are right, if old."""
        if self.claims.has(shard, subscription):
            self.log.warn("shard {shard} lost", shard=shard)
            self.claims.lost(shard, subscription)
            self._leave(shard)
            self.pool.doubt(shard % self._options.workers, shard, self._options.shards.count)

    def _leave(self, shard: int) -> None:
        """Do no more for a shard, and acknowledge nothing."""
        for token in [token for token, (of, _, _) in self._deliveries.items() if of == shard]:
            del self._deliveries[token]
        self._perform(self.controller.shard_left(shard))

    # --- messages in -----------------------------------------------------------------------------------

    async def _consume(self, shard: int, subscription: Subscription) -> None:
        try:
            await self._read(shard, subscription)
        except BusClosed:
            self._lost(shard, subscription)

    async def _read(self, shard: int, subscription: Subscription) -> None:
        while self.running and self.claims.has(shard, subscription):
            if self.controller.cached_rows > ROWS_AHEAD:
                waiting: Deferred[None] = Deferred()
                self._room.append(waiting)
                await waiting
                continue
            deliveries = await subscription.get(100)
            if not self.claims.has(shard, subscription):
                break  # they go back to the queue
            for delivery in deliveries:
                self._message_arrived(shard, subscription, delivery)

    def _message_arrived(self, shard: int, subscription: Subscription, delivery: Delivery) -> None:
        crash_points.reached("scheduler.received")
        self._serial += 1
        token = self._serial
        self._deliveries[token] = (shard, subscription, delivery)
        try:
            message = decode_model_message(delivery.body)
        except Exception as error:
            self.rejected += 1
            self._tasks.start(self._reject(token, shard, error))
            return
        if isinstance(message, ModelCommand):
            self._perform(self.controller.command_arrived(token, message))
        else:
            self._received |= {
                each.model_id: (each.last_rowid, each.received_at) for each in message if each.received_at is not None
            }
            self._perform(self.controller.inputs_arrived(token, message))

    async def _reject(self, token: MessageToken, shard: int, error: Exception) -> None:
        queue = self._options.shards.queues[shard]
        await Quarantine(self._database, queue, self._reactor.seconds).note([error])
        self._acknowledge((token,))

    # --- instructions ----------------------------------------------------------------------------------

    def _perform(self, instructions: Sequence[Instruction]) -> None:
        for instruction in instructions:
            match instruction:
                case RunTurn(worker, turn, slices):
                    self.pool.send_turn(worker, turn, slices)
                case Publish(notices=notices):
                    for notice in notices:
                        if isinstance(notice, ModelError):
                            self.log.error("model {model} failed: {why}", model=notice.model_id, why=notice.message)
                    self._unpublished.append(instruction)
                    if not self._publishing:
                        self._tasks.start(self._publish())
                case Acknowledge(messages):
                    self._acknowledge(messages)
                case FetchRows():
                    self._tasks.start(self._fetch(instruction, self._rows, self.controller.rows_fetched))
                case FetchDefinition():
                    self._tasks.start(self._fetch(instruction, self._definition_of, self.controller.definition_fetched))
                case FetchProof():
                    self._tasks.start(self._fetch(instruction, self._judge, self.controller.proof_fetched))
                case _:
                    assert_never(instruction)
        if self.controller.at_rest:
            self._rest()

    def _answered(self, worker: int, turn: int, outcomes: Sequence[Outcome]) -> None:
        crash_points.reached("scheduler.answered")
        self._progress.finished()
        self._perform(self.controller.turn_done(worker, turn, outcomes))
        if self.controller.cached_rows <= ROWS_AHEAD // 2:
            self._make_room()

    def _make_room(self) -> None:
        waiting, self._room = self._room, []
        for deferred in waiting:
            deferred.callback(None)

    async def _publish(self) -> None:
        """One at a time, so that a model's results stay in order over lost connections too."""
        self._publishing = True
        try:
            while self._unpublished:
                publications = list(self._unpublished)
                self._unpublished.clear()
                failed: list[ModelError] = []
                bodies = [body for each in publications for body in _bodies(each, self._with_received_at, failed)]
                if bodies:
                    await self._bus.publish(self._options.results_queue, bodies)
                crash_points.reached("scheduler.published")
                for publication in publications:
                    self.scored += sum(len(result.rows) for result in publication.results)
                    self._perform(self.controller.published(publication.publication))
                for each in failed:
                    self._perform(self.controller.model_failed(each.model_id, each.generation, each.message))
        finally:
            self._publishing = False

    def _with_received_at(self, result: ModelResult) -> ModelResult:
        """A result tells when its rows were received, if it has the row that this is known of."""
        received = self._received.get(result.model_id)
        if received is None or not result.rows or result.rows[-1].rowid < received[0]:
            return result
        del self._received[result.model_id]
        return structs.replace(result, received_at=received[1])

    def _acknowledge(self, messages: Sequence[MessageToken]) -> None:
        by_subscription: dict[int, tuple[Subscription, list[Delivery]]] = {}
        for message in messages:
            if message not in self._deliveries:
                continue  # of a shard that another scheduler has now
            _, subscription, delivery = self._deliveries.pop(message)
            by_subscription.setdefault(id(subscription), (subscription, []))[1].append(delivery)
        for subscription, deliveries in by_subscription.values():
            self._tasks.start(_acknowledge(subscription, deliveries))

    async def _tell_of(self, worker: int, messages: Sequence[str]) -> None:
        """Let the operator know what is wrong with a worker's checkpoints; a new worker begins with nothing wrong."""
        source = f"worker {worker} of the scheduler on {self._options.host}"
        await self._database.run(troubles.replace, source, messages, int(self._reactor.seconds()))

    async def _fetch(
        self,
        asked: Asked,
        read: Callable[[Asked], Coroutine[Deferred[Any], Any, T]],
        fetched: Callable[[Asked, T], list[Instruction]],
    ) -> None:
        """Read what the controller asked for, and tell it, or that it cannot be read."""
        try:
            found = await read(asked)
        except BLAMELESS:
            raise
        except Exception as error:
            self._perform(self.controller.fetch_failed(asked, reason_of(error)))
            return
        self._perform(fetched(asked, found))

    async def _rows(self, asked: FetchRows) -> list[InputRow]:
        return await self._database.read(_stored_rows, asked.model_id, asked.after, asked.limit)

    async def _definition_of(self, asked: FetchDefinition) -> dict[str, Any] | None:
        return await self._database.read(_definition, asked.model_id, asked.generation)

    async def _judge(self, asked: FetchProof) -> Verdict | None:
        return await self._database.read(proofs.judge, asked.model_id, asked.generation, asked.claim)


def _stored_rows(conn: Connection, uid: str, after: int, limit: int) -> list[InputRow]:
    stored = queries.get_rows(conn, uid, after, limit)
    unlearnt = unlearnt_rows.among(conn, uid, after + 1, stored[-1].rowid) if stored else frozenset()
    return [InputRow(row.rowid, row.timestamp, row.value, row.rowid not in unlearnt) for row in stored]


def _definition(conn: Connection, uid: str, generation: int) -> dict[str, Any] | None:
    """What a worker makes a model of: its parameters, and the snapshot that it starts from; None: there is none."""
    metric = queries.find_metric_by_uid(conn, uid)
    found = metric.definition if metric is not None and metric.status.has_model else None
    if found is None or found.generation != generation:
        return None
    start = snapshots.state_of(conn, uid, found.snapshot) if found.snapshot is not None else None
    if start is None:
        return {"params": found.params}
    return {"params": found.params, "model": base64.b64encode(start.model).decode(), "after": found.after}


async def _acknowledge(subscription: Subscription, deliveries: Sequence[Delivery]) -> None:
    await subscription.ack(deliveries)
    crash_points.reached("scheduler.acknowledged")


def _bodies(
    publication: Publish, marked: Callable[[ModelResult], ModelResult], failed: list[ModelError]
) -> list[bytes]:
    """The messages of one publication: results in parts of bounded size, then notices.

    Models whose results cannot be told go into ``failed``.
    """
    bodies: list[bytes] = []
    part: list[ModelResult] = []
    rows = 0
    for result in publication.results:
        part.append(marked(result))
        rows += len(result.rows)
        if rows >= ROWS_IN_MESSAGE:
            bodies += _encoded(part, failed)
            part, rows = [], 0
    bodies += _encoded(part, failed)
    for notice in publication.notices:
        match notice:
            case CommandResult():
                bodies.append(encode_command_result(notice))
            case ModelSnapshot():
                bodies.append(encode_model_snapshot(notice))
            case ModelError():
                bodies.append(encode_model_error(notice))
    return bodies


def _encoded(results: Sequence[ModelResult], failed: list[ModelError]) -> list[bytes]:
    """One message, or, if that cannot be, one for each model that has one."""
    if not results:
        return []
    try:
        return [encode_results(results)]
    except Exception as error:
        if len(results) > 1:
            return [body for each in results for body in _encoded([each], failed)]
        failed.append(ModelError(results[0].model_id, results[0].generation, reason_of(error)))
        return []


if __name__ == "__main__":
    from htmengine.taps import SCHEDULER

    SCHEDULER.run()
