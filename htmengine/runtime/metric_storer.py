# SPDX-License-Identifier: MIT
"""The Metric Storer: samples to rows, new metrics, and the models' food.

In: messages of the samples queue.  Out: rows in metric_data, rows and commands in the shards' model input queues.

Each batch is one transaction: the rows, the metrics' tails, the counts of rejects, the batch's id, and in the
table outbox the messages for the models.  These are published after the commit and then removed, before the
batch is acknowledged.  So a crash at any moment repeats work and loses nothing: a redelivered batch is known
by its id, and what the outbox still holds at the start is published again; models skip rows they know.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

from msgspec import structs
from sqlalchemy import Connection
from twisted.internet.defer import DeferredLock
from twisted.logger import Logger
from twisted.python.failure import Failure

from htmengine.adapters.datasource import custom
from htmengine.adapters.datasource.siblings import Kin
from htmengine.bus.interface import SAMPLES_LIMITS, Bus, Delivery
from htmengine.bus.queue_consumer import QueueConsumer
from htmengine.errors import InvalidMessage
from htmengine.messages import (
    ModelInput,
    SampleBatch,
    decode_samples,
    encode_model_inputs,
)
from htmengine.process import crash_points
from htmengine.process.figures import SECONDS, SIZES, Figure, Observations, counter, histogram
from htmengine.process.probes import Probe, runs
from htmengine.process.reject_log import RejectLog
from htmengine.process.tasks import in_coroutine, repeated, together
from htmengine.process.twisted_types import Clock
from htmengine.repository import counts, durability, late_samples, queries
from htmengine.repository.engine import Database
from htmengine.repository.quarantine import BLAMELESS, Quarantine, each_alone, reason_of
from htmengine.repository.queries import OutboxMessage
from htmengine.runtime.sample_order import Learnt
from htmengine.runtime.storing import Stored, StorerOptions, store_batches
from htmengine.selectors import of_option
from htmengine.sharding import ShardQueues
from htmengine.wires.admission import Admission, Gate, NewMetrics
from htmengine.wires.counters import SaidCounters

#: Messages of the samples queue that may be unacknowledged, and in one transaction.  Few, since RabbitMQ does not count
#: them for the queue's bound.
PREFETCH = 10
#: Samples in one transaction; a message is never split.
SAMPLES_IN_TRANSACTION = 5000
#: Models that are asked for scores in one message.
MODELS_IN_MESSAGE = 1000
#: Ids of batches are remembered this long after they were stored; no broker redelivers later.
REMEMBER_BATCHES_S = 86_400
#: How often samples are looked for that have waited long enough, and of how many metrics at once.
RELEASE_S = 1.0
METRICS_DUE = 5000
#: Metrics whose cadences are remembered; those of others are learnt from their rows.
CADENCES = 1_000_000
#: How often what other processes left in the outbox is looked for, and old batch ids are forgotten.
HOUSEKEEPING_S = 30.0


class MetricStorer(QueueConsumer):
    """Stores batch after batch, in the order in which they came."""

    log = Logger()

    def __init__(
        self,
        *,
        clock: Clock,
        bus: Bus,
        database: Database,
        options: StorerOptions,
        on_failure: Callable[[Failure], None],
    ) -> None:
        super().__init__(bus=bus, on_failure=on_failure)
        self._clock = clock
        self._database = database
        self._options = options
        self._quarantine = Quarantine(database, options.samples_queue, clock.seconds)
        self._published: list[int] = []  #: to be removed from the outbox
        self.stored = 0
        self.received = 0
        self.rejected: Counter[str] = Counter()
        self._reject_log = RejectLog(clock.seconds)
        self._gate = _gate(options)
        self._one_at_a_time = DeferredLock()
        self._cadences: dict[str, Learnt] = {}
        self._kin = Kin()
        self._waiting = True  #: whether samples may wait for earlier ones
        self.late = 0
        self.filled = 0
        self.transaction_samples = Observations(SIZES)
        self.transaction_seconds = Observations(SECONDS)
        self.received_to_stored_seconds = Observations(SECONDS)

    def figures(self) -> Iterable[Figure]:
        """What was stored and rejected, and how long it took."""
        yield counter("htmengine_storer_samples", "Samples that came, accepted or not", self.received)
        yield counter("htmengine_storer_stored", "Samples that were stored", self.stored)
        yield counter("htmengine_storer_filled", "Rows that fill gaps", self.filled)
        yield counter("htmengine_storer_late", "Samples that came too late and are kept for a rebuild", self.late)
        rejected = "Samples that were rejected, by the listener too"
        yield counter("htmengine_storer_rejected", rejected, self.rejected, by="reason")
        yield histogram("htmengine_storer_transaction_samples", "Samples in a transaction", self.transaction_samples)
        yield histogram("htmengine_storer_transaction_seconds", "A transaction", self.transaction_seconds)
        yield histogram(
            "htmengine_received_to_stored_seconds",
            "From a batch's first line at the listener to its rows in the database",
            self.received_to_stored_seconds,
        )

    def checks(self) -> Mapping[str, Probe]:
        """Whether it stores."""
        return {"MetricStorer": runs(self)}

    async def consume(self) -> None:
        await self._bus.declare_queue(self._options.samples_queue, limits=SAMPLES_LIMITS)
        for queue in self._options.shards.queues:
            await self._bus.declare_queue(queue)
        for weakness in await self._database.read(durability.weaknesses):
            self.log.warn("{weakness}", weakness=weakness)
        await self._database.run(ask_for_scores, self._options.shards)
        await self._tidy()
        tidied_at = self._clock.seconds()
        self._subscription = await self._bus.subscribe(self._options.samples_queue, prefetch=PREFETCH)
        releasing = repeated(self._release, self._tasks, self._clock)
        releasing.start(RELEASE_S)
        try:
            while self.running:
                deliveries = await self._subscription.get(PREFETCH)
                with self._bus.progress.doing("storing samples"):
                    await self._one_at_a_time.run(in_coroutine(self._take), deliveries)
                if self._clock.seconds() - tidied_at > HOUSEKEEPING_S:
                    await self._one_at_a_time.run(in_coroutine(self._tidy))
                    tidied_at = self._clock.seconds()
        finally:
            releasing.stop()

    async def _take(self, deliveries: Sequence[Delivery]) -> None:
        for batch in _in_transactions(await self._decode(deliveries)):
            await self._quarantine.each(batch, self._store, self._store_without_culprits)

    async def _store(self, batch: Sequence[tuple[Delivery, SampleBatch]]) -> None:
        """One transaction and what follows from it."""
        crash_points.reached("storer.received")
        await self._transact([each for _, each in batch])
        crash_points.reached("storer.published")
        assert self._subscription is not None
        await self._subscription.ack([delivery for delivery, _ in batch])
        crash_points.reached("storer.acknowledged")

    async def _transact(self, batches: Sequence[SampleBatch], due: Sequence[str] = ()) -> None:
        """Store batches, and what has waited long enough of the metrics ``due``; then publish the models' messages."""
        with self.transaction_seconds.timed(self._clock.seconds):
            stored = await self._database.run(
                store_batches,
                batches,
                self._options,
                self._clock.seconds(),
                self._published,
                self._gate,
                self._cadences,
                due,
                self._kin,
            )
        crash_points.reached("storer.committed")
        self._published = []
        self._learn(stored)
        self._count(stored)
        for received_at in (each.received_at for each in batches if each.received_at is not None):
            self.received_to_stored_seconds.observe(self._clock.seconds() - received_at)
        await self._publish(stored.outbox)

    def _learn(self, stored: Stored) -> None:
        self._waiting = stored.waiting
        if len(self._cadences) > CADENCES:
            self._cadences.clear()
        self._cadences |= stored.cadences

    def _count(self, stored: Stored) -> None:
        for name, reason in stored.failed.items():
            self.log.error("metric {name} gets no model: {reason}", name=name, reason=reason)
        self.received += stored.received
        self.stored += stored.stored
        self.late += stored.late
        self.filled += stored.filled
        self.rejected.update(stored.rejected)
        for reject in stored.rejects:
            self._reject_log.tell(reject.reason, reject.sender, reject.line)
        self.transaction_samples.observe(stored.received)

    async def _release(self) -> None:
        """Store samples that have waited long enough for earlier ones."""
        if self._waiting:
            await self._one_at_a_time.run(in_coroutine(self._store_due))

    async def _store_due(self) -> None:
        due = await self._database.read(late_samples.metrics_due, self._clock.seconds(), METRICS_DUE)
        if due:
            await each_alone(due, self._store_waited, self._give_up)
        else:
            self._waiting = await self._database.read(late_samples.any_held)

    async def _store_waited(self, names: Sequence[str]) -> None:
        await self._transact([], names)

    async def _give_up(self, name: str, error: Exception) -> None:
        """Reject what has waited of a metric that makes its transaction fail."""
        self.log.error("samples of {name} rejected: {reason}", name=name, reason=reason_of(error))
        self.rejected["not_storable"] += await self._database.run(_drop_held, name, int(self._clock.seconds()))

    async def _publish(self, outbox: Sequence[OutboxMessage]) -> None:
        """Publish in order within each queue.  The next transaction removes them from the outbox."""
        by_queue: defaultdict[str, list[bytes]] = defaultdict(list)
        for message in outbox:
            by_queue[message.queue].append(message.body)
        await together(self._bus.publish(queue, bodies) for queue, bodies in by_queue.items())
        self._published += [message.id for message in outbox]

    async def _tidy(self) -> None:
        """Publish what a crash, or another process that adds models, left in the outbox."""
        known, after = set(self._published), 0
        while left := await self._database.read(queries.pending_outbox, after):
            await self._publish([message for message in left if message.id not in known])
            after = left[-1].id
        forget_before = int(self._clock.seconds()) - REMEMBER_BATCHES_S
        await self._database.run(_clean, self._published, forget_before)
        self._published = []

    async def _decode(self, deliveries: Sequence[Delivery]) -> list[tuple[Delivery, SampleBatch]]:
        batches = []
        refused = []
        for delivery in deliveries:
            try:
                batches.append((delivery, decode_samples(delivery.body)))
            except InvalidMessage as error:
                refused.append(error)
                batches.append((delivery, SampleBatch([], rejected={"invalid_message": 1})))
        await self._quarantine.note(refused)
        return batches

    # --- what cannot be stored -------------------------------------------------------------------------

    async def _store_without_culprits(self, item: tuple[Delivery, SampleBatch], _error: Exception) -> None:
        """Store a batch but for the samples of those metrics that make its transaction fail."""
        delivery, batch = item
        names = list(dict.fromkeys(map(_name_of, batch.lines)))
        culprits = await self._culprits(batch, names)
        kept = [number for number, line in enumerate(batch.lines) if _name_of(line) not in culprits]
        rejected = Counter(batch.rejected) + Counter(not_storable=len(batch.lines) - len(kept))
        await self._store([(delivery, structs.replace(batch.only(kept), rejected=dict(rejected)))])

    async def _culprits(self, batch: SampleBatch, names: Sequence[str]) -> set[str]:
        """Those of the names whose lines cannot be stored.  Raises if not even nothing can be."""
        chosen = set(names)
        numbers = [number for number, line in enumerate(batch.lines) if _name_of(line) in chosen]
        tried = structs.replace(batch.only(numbers), batch_id="", rejected={}, rejects=[])
        try:
            await self._database.run(_try, tried, self._options, self._clock.seconds())
        except _Undone:
            return set()
        except BLAMELESS:
            raise
        except Exception:
            if not names:
                raise
            if len(names) == 1:
                await self._culprits(batch, [])
                return chosen
        half = len(names) // 2
        return await self._culprits(batch, names[:half]) | await self._culprits(batch, names[half:])


class _Undone(Exception):
    """A transaction that was only tried."""


def _try(conn: Connection, batch: SampleBatch, options: StorerOptions, now: float) -> None:
    store_batches(conn, [batch], options, now, [])
    raise _Undone


def _gate(options: StorerOptions) -> Gate:
    with of_option("[admission] rules"):
        rules = Admission(options.rules, options.allow, options.deny)
    with of_option("[admission] counters"):
        said = SaidCounters(options.counters)
    return Gate(rules, NewMetrics(options.new_metrics_a_minute, options.max_metrics), said)


def _name_of(line: str) -> str:
    return line.split(maxsplit=1)[0] if line.strip() else ""


def _in_transactions(batches: Iterable[tuple[Delivery, SampleBatch]]) -> Iterable[list[tuple[Delivery, SampleBatch]]]:
    """Parts of at most `SAMPLES_IN_TRANSACTION` samples (or one message)."""
    part: list[tuple[Delivery, SampleBatch]] = []
    samples = 0
    for delivery, batch in batches:
        if part and samples + len(batch.lines) > SAMPLES_IN_TRANSACTION:
            yield part
            part, samples = [], 0
        part.append((delivery, batch))
        samples += len(batch.lines)
    if part:
        yield part


def ask_for_scores(conn: Connection, shards: ShardQueues) -> None:
    """Ask for the scores that rows lack, and for models that are not confirmed.

    Those who were asked may have lost the message since, or the database the answer.
    """
    by_queue: defaultdict[str, list[ModelInput]] = defaultdict(list)
    for uid, generation, rowid in counts.unscored(conn):
        by_queue[shards.queue_of(uid)].append(ModelInput(uid, generation, rowid, ()))
    parts = [
        (queue, inputs[at : at + MODELS_IN_MESSAGE])
        for queue, inputs in by_queue.items()
        for at in range(0, len(inputs), MODELS_IN_MESSAGE)
    ]
    defined = [
        (shards.queue_of(uid), custom.define_again(uid, generation, rowid))
        for uid, generation, rowid in counts.unconfirmed(conn)
    ]
    queries.add_outbox(conn, defined + [(queue, encode_model_inputs(inputs)) for queue, inputs in parts])


def _drop_held(conn: Connection, name: str, now: int) -> int:
    """Reject all that waits of a metric; how many there were."""
    uid = queries.find_metric(conn, name, lock=True).uid
    held = late_samples.held_of(conn, [uid])
    late_samples.release(conn, [each.id for each in held])
    counts.add_rejects(conn, {(uid, "not_storable"): len(held)}, now)
    return len(held)


def _clean(conn: Connection, outbox_ids: Sequence[int], forget_before: int) -> None:
    queries.delete_outbox(conn, outbox_ids)
    queries.prune_batches(conn, forget_before)


if __name__ == "__main__":
    from htmengine.taps import STORER

    STORER.run()
