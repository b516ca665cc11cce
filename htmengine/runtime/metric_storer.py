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
from dataclasses import dataclass, field
from types import MappingProxyType

from msgspec import structs
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from twisted.internet.defer import DeferredLock
from twisted.logger import Logger
from twisted.python.failure import Failure

from htmengine.adapters.datasource import custom
from htmengine.adapters.datasource.custom import ModelSpec
from htmengine.bus.interface import SAMPLES_LIMITS, Bus, Delivery
from htmengine.bus.queue_consumer import QueueConsumer
from htmengine.errors import InvalidMessage, InvalidSample
from htmengine.labels import identity, is_short
from htmengine.messages import (
    MAX_FUTURE_S,
    InputRow,
    ModelInput,
    Reject,
    Sample,
    SampleBatch,
    decode_samples,
    encode_model_inputs,
    shown_line,
)
from htmengine.process import crash_points
from htmengine.process.figures import SECONDS, SIZES, Figure, Observations, counter, histogram
from htmengine.process.probes import Probe, runs
from htmengine.process.reject_log import RejectLog
from htmengine.process.tasks import in_coroutine, repeated, together
from htmengine.process.twisted_types import Clock
from htmengine.repository import counters, counts, durability, late_samples, queries, rejects
from htmengine.repository.engine import Database
from htmengine.repository.quarantine import BLAMELESS, Quarantine, each_alone, reason_of
from htmengine.repository.queries import MetricStatus, OutboxMessage, Tail
from htmengine.runtime.counter_rates import rates_of
from htmengine.runtime.late_window import SUM, Cadence, LateWindow
from htmengine.runtime.maintenance import WindowAt, leave_out
from htmengine.runtime.sample_order import Came, in_order
from htmengine.sharding import ShardQueues
from htmengine.wires.admission import OPEN_GATE, Admission, Gate, NewMetrics, Verdict

#: Messages of the samples queue that may be unacknowledged, and in one transaction.  Few, since RabbitMQ does not count
#: them for the queue's bound.
PREFETCH = 10
#: Samples in one transaction; a message is never split.
SAMPLES_IN_TRANSACTION = 5000
#: Models that are asked for scores in one message.
MODELS_IN_MESSAGE = 1000
#: Ids of batches are remembered this long after they were stored; no broker redelivers later.
REMEMBER_BATCHES_S = 86_400
#: Rejected lines of one reason that are shown of one transaction.
SHOWN_REJECTS = 5
#: How often samples are looked for that have waited long enough, and of how many metrics at once.
RELEASE_S = 1.0
METRICS_DUE = 5000
#: Metrics whose cadences are remembered; those of others are learnt from their rows.
CADENCES = 1_000_000
DEFAULT_WINDOW = LateWindow()
NONE_KNOWN: Mapping[str, Cadence] = MappingProxyType({})
#: How often what other processes left in the outbox is looked for, and old batch ids are forgotten.
HOUSEKEEPING_S = 30.0


@dataclass(frozen=True, slots=True)
class StorerOptions:
    """Section [metric_storer] of application.conf, as far as this service uses it."""

    samples_queue: str
    shards: ShardQueues
    auto_monitor: bool
    pending_samples: int = 288
    max_future_s: float = MAX_FUTURE_S
    allow: Sequence[str] = ()  #: globs
    deny: Sequence[str] = ()
    rules: Sequence[str] = ()  #: of `htmengine.wires.admission`
    new_metrics_a_minute: int = 0  #: 0: no limit
    max_metrics: int = 0
    late_window: LateWindow = DEFAULT_WINDOW
    late_samples: int = 10_000  #: late samples of a metric that are kept
    unlearnt_window: WindowAt | None = None


@dataclass(slots=True)
class Stored:
    """What one transaction did."""

    outbox: list[OutboxMessage] = field(default_factory=list)
    received: int = 0
    stored: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    rejects: list[Reject] = field(default_factory=list)  #: some of them, to be shown
    failed: dict[str, str] = field(default_factory=dict)  #: metrics whose models could not be defined, and why
    late: int = 0  #: samples that came too late and are kept
    waiting: bool = False  #: whether samples of some metric wait for earlier ones
    cadences: dict[str, Cadence] = field(default_factory=dict)  #: of the metrics, with the rows that were stored


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
        self._published: list[OutboxMessage] = []  #: to be removed from the outbox
        self.stored = 0
        self.received = 0
        self.rejected: Counter[str] = Counter()
        self._reject_log = RejectLog(clock.seconds)
        self._gate = Gate(
            Admission(options.rules, options.allow, options.deny),
            NewMetrics(options.new_metrics_a_minute, options.max_metrics),
        )
        self._one_at_a_time = DeferredLock()
        self._cadences: dict[str, Cadence] = {}
        self._waiting = True  #: whether samples may wait for earlier ones
        self.late = 0
        self.transaction_samples = Observations(SIZES)
        self.transaction_seconds = Observations(SECONDS)
        self.received_to_stored_seconds = Observations(SECONDS)

    def figures(self) -> Iterable[Figure]:
        """What was stored and rejected, and how long it took."""
        yield counter("htmengine_storer_samples", "Samples that came, accepted or not", self.received)
        yield counter("htmengine_storer_stored", "Samples that were stored", self.stored)
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
                [message.id for message in self._published],
                self._gate,
                self._cadences,
                due,
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
        self._published += outbox

    async def _tidy(self) -> None:
        """Publish what a crash, or another process that adds models, left in the outbox."""
        known = {message.id for message in self._published}
        left = await self._database.read(queries.pending_outbox)
        await self._publish([message for message in left if message.id not in known])
        forget_before = int(self._clock.seconds()) - REMEMBER_BATCHES_S
        await self._database.run(_clean, [message.id for message in self._published], forget_before)
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


# --- the transaction ------------------------------------------------------------------------------------


def store_batches(
    conn: Connection,
    batches: Sequence[SampleBatch],
    options: StorerOptions,
    now: float,
    published_outbox: Sequence[int],
    gate: Gate = OPEN_GATE,
    cadences: Mapping[str, Cadence] = NONE_KNOWN,
    due: Sequence[str] = (),
) -> Stored:
    """Store batches: the path of the data, once for each batch id; and what has waited of the metrics ``due``."""
    queries.delete_outbox(conn, published_outbox)
    done = Stored()
    fresh = _unknown_batches(conn, batches, now)
    came = _judge(_parse(fresh, now, options, done), gate.rules, done, options)
    tails, kept_out = _tails_of(conn, came, options, gate.new, now, due)
    came = _keep_out(came, kept_out, done, options)
    ordered = in_order(conn, came, tails, options.late_window, cadences, now)
    came, done.cadences, done.waiting = ordered.taken, ordered.cadences, ordered.waiting
    merged = _count_merged(ordered.merged, tails, done, options)
    came, without_rate = _with_rates(conn, came, tails, done, options)
    rows, late, counted = _number(came, tails, done, options)
    counted += merged + without_rate + _keep_late(conn, late, tails, done, options)
    _count_rejects(conn, fresh, counted, done, int(now))
    rejects.add(conn, [reject for batch in fresh for reject in batch.rejects] + done.rejects, int(now))
    counts.add_total(conn, counts.RECEIVED, done.received)
    if rows:
        queries.insert_samples(
            conn, [(uid, row.rowid, row.timestamp, row.value) for uid, each in rows.items() for row in each]
        )
        queries.update_tails(conn, [(uid, each[-1].rowid, each[-1].timestamp) for uid, each in rows.items()])
        if options.unlearnt_window is not None:
            leave_out(conn, tails.values(), rows, options.unlearnt_window)
        newest = max((batch.received_at for batch in fresh if batch.received_at is not None), default=None)
        messages = _feed(conn, {tail.uid: tail for tail in tails.values()}, rows, options, newest, done)
        done.outbox = queries.add_outbox(conn, messages)
        done.stored = sum(len(each) for each in rows.values())
    crash_points.reached("storer.storing")
    return done


def _unknown_batches(conn: Connection, batches: Sequence[SampleBatch], now: float) -> list[SampleBatch]:
    """Those that no earlier transaction stored; from now on they are known."""
    known = queries.known_batches(conn, [batch.batch_id for batch in batches if batch.batch_id])
    fresh = []
    for batch in batches:
        if batch.batch_id not in known:
            fresh.append(batch)
            if batch.batch_id:
                known.add(batch.batch_id)
    queries.add_batches(conn, [batch.batch_id for batch in fresh if batch.batch_id], int(now))
    return fresh


def _parse(batches: Sequence[SampleBatch], now: float, options: StorerOptions, done: Stored) -> list[Came]:
    came = []
    for batch in batches:
        done.received += len(batch.lines) + sum(batch.rejected.values())
        for number in range(len(batch.lines)):
            try:
                came.append(Came(batch.sample(number, now, options.max_future_s), batch, number))
            except InvalidSample as refused:
                _reject(done, refused.reason, batch, number, options)
    return came


def _reject(done: Stored, reason: str, batch: SampleBatch, number: int, options: StorerOptions) -> None:
    """Count a line, and show it if it is one of the first of its reason."""
    done.rejected[reason] += 1
    if done.rejected[reason] <= SHOWN_REJECTS:
        sender = batch.sender_of(number) or f"queue {options.samples_queue}"
        done.rejects.append(Reject(reason, shown_line(batch.lines[number]), sender))


def _with_rates(
    conn: Connection, came: Sequence[Came], tails: Mapping[str, Tail], done: Stored, options: StorerOptions
) -> tuple[list[Came], Counter[tuple[str, str]]]:
    """Samples with rates in place of counters' totals, and the others' rejects by (uid, reason)."""
    kept = []
    counted: Counter[tuple[str, str]] = Counter()
    for each, rate in zip(came, rates_of(conn, [each.sample for each in came], tails), strict=True):
        if isinstance(rate, Sample):
            kept.append(each._replace(sample=rate))
        else:
            _reject(done, rate, each.batch, each.number, options)
            counted[tails[each.sample.name].uid, rate] += 1
    return kept, counted


def _judge(came: list[Came], rules: Admission, done: Stored, options: StorerOptions) -> list[Came]:
    """Without the samples of metrics whose names may not come in; the others under the names that the rules give."""
    if rules.takes_all:
        return came
    texts = {each.sample.name: each.batch.texts.get(each.sample.name, each.sample.name) for each in came}
    verdicts = {name: rules.judge(text) for name, text in texts.items()}
    renamed = {name: _renamed(name, verdict) for name, verdict in verdicts.items() if verdict.name != texts[name]}
    reasons = {name: verdict.reason for name, verdict in renamed.items() if verdict.reason}
    return [
        each if (verdict := renamed.get(each.sample.name)) is None else _named(each, verdict.name or each.sample.name)
        for each in _keep_out(came, reasons, done, options)
    ]


def _renamed(name: str, verdict: Verdict) -> Verdict:
    """What becomes of a metric that does not stay as it is; one whose name stands for a longer text keeps it."""
    if verdict.name is None:
        return verdict
    if is_short(name):
        return Verdict(name)
    return verdict if identity(verdict.name) == verdict.name else Verdict(None, "name_too_long", verdict.rule)


def _named(came: Came, name: str) -> Came:
    return came._replace(sample=structs.replace(came.sample, name=name))


def _keep_out(came: list[Came], reasons: Mapping[str, str], done: Stored, options: StorerOptions) -> list[Came]:
    """Without the samples of some metrics, each of which counts as a reject."""
    if not reasons:
        return came
    kept = []
    for each in came:
        reason = reasons.get(each.sample.name)
        if reason is None:
            kept.append(each)
        else:
            _reject(done, reason, each.batch, each.number, options)
    return kept


def _tails_of(
    conn: Connection,
    came: Sequence[Came],
    options: StorerOptions,
    limits: NewMetrics,
    now: float,
    due: Sequence[str],
) -> tuple[dict[str, Tail], dict[str, str]]:
    """The metrics of the samples by name, and those that are due, locked, and why others are kept out.

    Those of the samples that are new are made.
    """
    names = list(dict.fromkeys(each.sample.name for each in came))
    tails = queries.lock_tails(conn, list({*names, *due}))
    new = [name for name in names if name not in tails]
    kept_out = _beyond(conn, new, limits, now)
    specs = [ModelSpec.for_name(name) for name in sorted(new) if name not in kept_out]
    made = custom.create_metrics(conn, specs, monitor=options.auto_monitor)
    texts = [(made[name].uid, each.batch.texts.get(name)) for each in came if (name := each.sample.name) in made]
    counters.add_texts(conn, {uid: text for uid, text in texts if text is not None})
    return tails | {name: Tail(metric.uid, name, metric.status) for name, metric in made.items()}, kept_out


def _beyond(conn: Connection, new: Sequence[str], limits: NewMetrics, now: float) -> dict[str, str]:
    """New metrics that are too many, with the reason."""
    if not new or limits.none:
        return {}
    known = queries.count_metrics(conn)
    kept_out = {}
    for name in new:
        reason = limits.admit(known, now)
        if reason is None:
            known += 1
        else:
            kept_out[name] = reason
    return kept_out


def _count_merged(
    merged: Sequence[Came], tails: Mapping[str, Tail], done: Stored, options: StorerOptions
) -> Counter[tuple[str, str]]:
    """The rejects of samples whose time another one has: they are no rows of their own."""
    reason = "timestamp_summed" if options.late_window.same_time == SUM else "timestamp_duplicate"
    for each in merged:
        _reject(done, reason, each.batch, each.number, options)
    return Counter((tails[each.sample.name].uid, reason) for each in merged)


def _number(
    came: Sequence[Came], tails: Mapping[str, Tail], done: Stored, options: StorerOptions
) -> tuple[dict[str, list[InputRow]], list[Came], Counter[tuple[str, str]]]:
    """Rows by uid with their rowids, samples that are older than the newest row, and the rejects by (uid, reason)."""
    rows: dict[str, list[InputRow]] = {}
    late = []
    counted: Counter[tuple[str, str]] = Counter()
    for each in came:
        sample, batch, number = each
        tail = tails[sample.name]
        mine = rows.get(tail.uid)
        newest = mine[-1].timestamp if mine else tail.last_timestamp
        if newest is not None and sample.timestamp <= newest:
            if sample.timestamp < newest:
                late.append(each)
            else:
                counted[tail.uid, "timestamp_duplicate"] += 1
                _reject(done, "timestamp_duplicate", batch, number, options)
            continue
        rowid = (mine[-1].rowid if mine else tail.last_rowid) + 1
        rows.setdefault(tail.uid, []).append(InputRow(rowid, sample.timestamp, sample.value))
    return rows, late, counted


def _keep_late(
    conn: Connection, late: Sequence[Came], tails: Mapping[str, Tail], done: Stored, options: StorerOptions
) -> Counter[tuple[str, str]]:
    """Keep samples for the next rebuild of their metrics; the others' rejects by (uid, reason).

    Those that are stored or kept already count as duplicates, and those that there is no room for as old.
    """
    counted: Counter[tuple[str, str]] = Counter()
    by_metric: defaultdict[str, list[Came]] = defaultdict(list)
    for each in late:
        by_metric[each.sample.name].append(each)
    for name, mine in by_metric.items():
        kept, refused = _with_room(conn, tails[name], mine, options)
        late_samples.keep(conn, tails[name].uid, kept)
        done.late += len(kept)
        for each, reason in refused:
            counted[tails[name].uid, reason] += 1
            _reject(done, reason, each.batch, each.number, options)
    return counted


def _with_room(
    conn: Connection, tail: Tail, late: Sequence[Came], options: StorerOptions
) -> tuple[dict[int, float], list[tuple[Came, str]]]:
    """The late samples of a metric to be kept, by their timestamps, and the others with the reason."""
    times = [each.sample.timestamp for each in late]
    taken = late_samples.times_taken(conn, tail.uid, tail.last_rowid, min(times), max(times))
    room = options.late_samples - late_samples.count_late(conn, tail.uid)
    kept: dict[int, float] = {}
    refused = []
    for each in late:
        timestamp = each.sample.timestamp
        if timestamp in taken or timestamp in kept:
            refused.append((each, "timestamp_duplicate"))
        elif len(kept) < room:
            kept[timestamp] = each.sample.value
        else:
            refused.append((each, "timestamp_old"))
    return kept, refused


def _count_rejects(
    conn: Connection, batches: Sequence[SampleBatch], counted: Counter[tuple[str, str]], done: Stored, now: int
) -> None:
    """Add to the counts in the database: by metric where it is known, else under no metric."""
    by_metric = sum((Counter({reason: n}) for (_, reason), n in counted.items()), Counter[str]())
    nameless = done.rejected - by_metric
    for batch in batches:
        nameless.update(batch.rejected)
        done.rejected.update(batch.rejected)
    counted.update({("", reason): n for reason, n in nameless.items()})
    counts.add_rejects(conn, counted, now)


def _feed(
    conn: Connection,
    tails: Mapping[str, Tail],
    rows: dict[str, list[InputRow]],
    options: StorerOptions,
    received_at: float | None,
    done: Stored,
) -> list[tuple[str, bytes]]:
    """(queue, body) for the models: new rows by shard, and the definitions of models that can start now.

    One model's rows of each message tell when they were received, to measure how long scores take.
    """
    messages: list[tuple[str, bytes]] = []
    by_shard: defaultdict[str, list[ModelInput]] = defaultdict(list)
    generations = counts.get_generations(conn, [uid for uid in rows if tails[uid].status.has_model])
    starting = _starting(conn, tails, rows, options)
    for uid, each in rows.items():
        queue = options.shards.queue_of(uid)
        if uid in generations:
            first = not by_shard[queue]
            model_input = ModelInput(
                uid, generations[uid], each[0].rowid - 1, tuple(each), received_at if first else None
            )
            by_shard[queue].append(model_input)
        elif uid in starting:
            definition = _define(conn, tails[uid], options, each[-1].rowid, done)
            messages += [(queue, definition)] if definition is not None else []
    messages += [(queue, encode_model_inputs(inputs)) for queue, inputs in by_shard.items()]
    return messages


def _starting(
    conn: Connection, tails: Mapping[str, Tail], rows: Mapping[str, list[InputRow]], options: StorerOptions
) -> set[str]:
    """Metrics that waited for rows and have enough now, constants whose value has changed, and expired ones."""
    constant = [uid for uid in rows if tails[uid].status is MetricStatus.CONSTANT]
    before = queries.values_at(conn, {uid: rows[uid][0].rowid - 1 for uid in constant})
    moved = {uid for uid in constant if any(row.value != before.get(uid) for row in rows[uid])}
    waited = {
        uid
        for uid, each in rows.items()
        if tails[uid].status is MetricStatus.PENDING_DATA and each[-1].rowid >= options.pending_samples
    }
    return moved | waited | {uid for uid in rows if tails[uid].status is MetricStatus.EXPIRED}


def _define(conn: Connection, tail: Tail, options: StorerOptions, last_rowid: int, done: Stored) -> bytes | None:
    """The message that starts a metric's model; None if it has to wait, or is in ERROR as there cannot be one."""
    try:
        metric = queries.get_metric(conn, tail.uid)
        return custom.define_from_data(conn, metric, options.pending_samples, last_rowid)
    except (*BLAMELESS, DBAPIError):
        raise  # the transaction is no more
    except Exception as error:
        done.failed[tail.name] = reason_of(error)
        queries.set_status(conn, tail.uid, MetricStatus.ERROR, done.failed[tail.name])
        return None


if __name__ == "__main__":
    from htmengine.taps import STORER

    STORER.run()
