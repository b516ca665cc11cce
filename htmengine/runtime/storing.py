# SPDX-License-Identifier: MIT
"""The Metric Storer's transaction: samples to rows, and what the models are told.

In: batches of samples, in the order of arrival.  Out: `Stored`.  It decides which samples may come in, makes new
metrics, puts counters' rates in place of their totals and samples into the order of time, numbers the rows, fills gaps,
keeps late samples, counts the rejects, and leaves messages for the models in the table outbox.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from types import MappingProxyType
from typing import TypeAlias

from msgspec import structs
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from htmengine.adapters.datasource import custom
from htmengine.adapters.datasource.custom import ModelSpec
from htmengine.adapters.datasource.siblings import KNOWN_ROWS, Kin
from htmengine.cadence import Cadence
from htmengine.errors import InvalidSample
from htmengine.gaps import NO_FILLING, GapRules
from htmengine.labels import identity, is_short
from htmengine.messages import (
    COUNTER,
    DELTA,
    GAUGE,
    MAX_FUTURE_S,
    InputRow,
    ModelInput,
    Reject,
    Sample,
    SampleBatch,
    encode_model_inputs,
    shown_line,
)
from htmengine.process import crash_points
from htmengine.repository import counters, counts, late_samples, queries, rejects
from htmengine.repository.quarantine import BLAMELESS, reason_of
from htmengine.repository.queries import Metric, MetricStatus, OutboxMessage, Tail
from htmengine.repository.row_spans import WindowAt
from htmengine.runtime.counter_rates import rates_of, without_totals
from htmengine.runtime.gap_filling import filled
from htmengine.runtime.late_window import SUM, LateWindow
from htmengine.runtime.maintenance import leave_out
from htmengine.runtime.sample_order import Came, Learnt, in_order
from htmengine.sharding import ShardQueues
from htmengine.wires.admission import OPEN_GATE, Admission, Gate, NewMetrics, Verdict
from htmengine.wires.counters import SaidCounters

#: Rejected lines of one reason that are shown of one transaction.
SHOWN_REJECTS = 5
DEFAULT_WINDOW = LateWindow()
NONE_LEARNT: Mapping[str, Learnt] = MappingProxyType({})
#: Defines a metric's model, by connection, metric, pending_samples and newest rowid: the message about it.
Define: TypeAlias = Callable[[Connection, Metric, int, int], bytes | None]


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
    counters: Sequence[str] = ()  #: selectors
    new_metrics_a_minute: int = 0  #: 0: no limit
    max_metrics: int = 0
    late_window: LateWindow = DEFAULT_WINDOW
    late_samples: int = 10_000  #: late samples of a metric that are kept
    gaps: GapRules = NO_FILLING
    unlearnt_windows: Callable[[Connection], WindowAt | None] = lambda conn: None


@dataclass(slots=True)
class Stored:
    """What one transaction did."""

    outbox: list[OutboxMessage] = field(default_factory=list)
    received: int = 0
    stored: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    rejected_of: Counter[tuple[str, str]] = field(default_factory=Counter)  #: by uid and reason; "": of no metric
    rejects: list[Reject] = field(default_factory=list)  #: some of them, to be shown
    failed: dict[str, str] = field(default_factory=dict)  #: metrics whose models could not be defined, and why
    late: int = 0  #: samples that came too late and are kept
    filled: int = 0  #: rows that fill gaps
    waiting: bool = False  #: whether samples of some metric wait for earlier ones
    cadences: dict[str, Learnt] = field(default_factory=dict)  #: of the metrics, with the rows that were stored


def store_batches(
    conn: Connection,
    batches: Sequence[SampleBatch],
    options: StorerOptions,
    now: float,
    published_outbox: Sequence[int],
    gate: Gate = OPEN_GATE,
    cadences: Mapping[str, Learnt] = NONE_LEARNT,
    due: Sequence[str] = (),
    kin: Kin | None = None,
) -> Stored:
    """Store batches: the path of the data, once for each batch id; and what has waited of the metrics ``due``.

    ``kin``: finds what siblings of metrics that begin show; None: nobody asks them.
    """
    queries.delete_outbox(conn, published_outbox)
    done = Stored()
    fresh = _unknown_batches(conn, batches, now)
    came = _judge(_parse(fresh, now, options, done), gate.rules, done, options)
    came = _as_said(came, gate.counters)
    tails, kept_out = _tails_of(conn, came, options, gate.new, now, due)
    came = _keep_out(came, kept_out, done, options)
    tails = _without_totals(conn, came, tails, done)
    ordered = in_order(conn, came, tails, options.late_window, cadences, now)
    came, done.waiting = ordered.taken, ordered.waiting
    _reject_merged(ordered.merged, tails, done, options)
    came = _with_rates(conn, came, tails, done, options)
    rows, late = _number(came, tails, done, options)
    rows, done.filled = filled(conn, tails.values(), rows, options.gaps)
    done.cadences = _learnt(ordered.cadences, tails.values(), rows)
    _keep_late(conn, late, tails, done, options)
    _add_rejected(fresh, done)
    counts.add_rejects(conn, done.rejected_of, int(now))
    rejects.add(conn, [reject for batch in fresh for reject in batch.rejects] + done.rejects, int(now))
    counts.add_total(conn, counts.RECEIVED, done.received + done.filled)
    if rows:
        queries.insert_samples(
            conn, [(uid, row.rowid, row.timestamp, row.value) for uid, each in rows.items() for row in each]
        )
        queries.update_tails(conn, [(uid, each[-1].rowid, each[-1].timestamp) for uid, each in rows.items()])
        if kin is not None:
            kin.learn(tail.name for tail in tails.values() if _reaches(KNOWN_ROWS, tail, rows))
        rows = leave_out(conn, tails.values(), rows, options.unlearnt_windows(conn))
        newest = max((batch.received_at for batch in fresh if batch.received_at is not None), default=None)
        define = partial(_define_from_data, kin=kin, now=now)
        messages = _feed(conn, {tail.uid: tail for tail in tails.values()}, rows, options, newest, done, define)
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


def _reject(done: Stored, reason: str, batch: SampleBatch, number: int, options: StorerOptions, uid: str = "") -> None:
    """Count a line, for its metric where that is known, and show it if it is one of the first of its reason."""
    done.rejected[reason] += 1
    done.rejected_of[uid, reason] += 1
    if done.rejected[reason] <= SHOWN_REJECTS:
        sender = batch.sender_of(number) or f"queue {options.samples_queue}"
        done.rejects.append(Reject(reason, shown_line(batch.lines[number]), sender))


def _without_totals(conn: Connection, came: Sequence[Came], tails: Mapping[str, Tail], done: Stored) -> dict[str, Tail]:
    """The metrics; rows of those that turn out to be counters become rejects."""
    found = without_totals(conn, [each.sample for each in came], tails)
    for tail in found.values():
        done.rejected["counter_untold"] += tail.last_rowid
        done.rejected_of[tail.uid, "counter_untold"] += tail.last_rowid
    return {**tails, **{name: replace(tail, last_rowid=0, last_timestamp=None) for name, tail in found.items()}}


def _with_rates(
    conn: Connection, came: Sequence[Came], tails: Mapping[str, Tail], done: Stored, options: StorerOptions
) -> list[Came]:
    """Samples with rates in place of counters' totals; totals without a rate are rejected."""
    kept = []
    for each, rate in zip(came, rates_of(conn, [each.sample for each in came], tails), strict=True):
        if isinstance(rate, Sample):
            kept.append(each if rate is each.sample else each._replace(sample=rate))
        else:
            _reject(done, rate, each.batch, each.number, options, tails[each.sample.name].uid)
    return kept


def _judge(came: list[Came], rules: Admission, done: Stored, options: StorerOptions) -> list[Came]:
    """Without the samples of metrics whose names may not come in; the others under the names that the rules give."""
    if rules.takes_all:
        return came
    texts = {each.sample.name: each.sample.text for each in came}
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
    if name == came.sample.name:
        return came
    return came._replace(sample=structs.replace(came.sample, name=name, long_text=""))


def _as_said(came: list[Came], counters: SaidCounters) -> list[Came]:
    """With what the operator says of which metrics are counters in place of what their senders say."""
    if counters.none:
        return came
    texts = {each.sample.name: each.sample.text for each in came}
    said = {name: counters.says(text) for name, text in texts.items()}
    return [_of_kind(each, said[each.sample.name]) for each in came]


def _of_kind(came: Came, is_counter: bool | None) -> Came:
    """A delta stays one: it is no total."""
    kind = COUNTER if is_counter else GAUGE
    if is_counter is None or came.sample.kind in (kind, DELTA):
        return came
    return came._replace(sample=came.batch.counted(came.number, came.sample, kind))


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

    Those of the samples that are new are made.  All their labels are learnt.
    """
    names = list(dict.fromkeys(each.sample.name for each in came))
    tails = queries.lock_tails(conn, list({*names, *due}))
    new = [name for name in names if name not in tails]
    kept_out = _beyond(conn, new, limits, now)
    specs = [ModelSpec.for_name(name) for name in sorted(new) if name not in kept_out]
    made = custom.create_metrics(conn, specs, monitor=options.auto_monitor)
    long = [each.sample for each in came if each.sample.long_text and each.sample.name in made]
    counters.add_texts(conn, {made[sample.name].uid: sample.long_text for sample in long})
    counters.learn_texts(conn, (*tails, *made))
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


def _reject_merged(merged: Sequence[Came], tails: Mapping[str, Tail], done: Stored, options: StorerOptions) -> None:
    """Samples whose time another one has are no rows of their own."""
    reason = "timestamp_summed" if options.late_window.same_time == SUM else "timestamp_duplicate"
    for each in merged:
        _reject(done, reason, each.batch, each.number, options, tails[each.sample.name].uid)


def _number(
    came: Sequence[Came], tails: Mapping[str, Tail], done: Stored, options: StorerOptions
) -> tuple[dict[str, list[InputRow]], list[Came]]:
    """Rows by uid with their rowids, and samples that are older than the newest row; duplicates of it are rejected."""
    rows: dict[str, list[InputRow]] = {}
    late = []
    for each in came:
        sample, batch, number = each
        tail = tails[sample.name]
        mine = rows.get(tail.uid)
        newest = mine[-1].timestamp if mine else tail.last_timestamp
        if newest is not None and sample.timestamp <= newest:
            if sample.timestamp < newest:
                late.append(each)
            else:
                _reject(done, "timestamp_duplicate", batch, number, options, tail.uid)
            continue
        rowid = (mine[-1].rowid if mine else tail.last_rowid) + 1
        rows.setdefault(tail.uid, []).append(InputRow(rowid, sample.timestamp, sample.value))
    return rows, late


def _learnt(
    cadences: Mapping[str, Cadence], tails: Iterable[Tail], rows: Mapping[str, list[InputRow]]
) -> dict[str, Learnt]:
    """Cadences with where the metrics' rows end with their new ones, by uid."""
    ends = {tail.uid: (tail.last_rowid, tail.last_timestamp) for tail in tails}
    ends |= {uid: (each[-1].rowid, each[-1].timestamp) for uid, each in rows.items()}
    return {uid: Learnt(cadence, *ends[uid]) for uid, cadence in cadences.items()}


def _keep_late(
    conn: Connection, late: Sequence[Came], tails: Mapping[str, Tail], done: Stored, options: StorerOptions
) -> None:
    """Keep samples for the next rebuild of their metrics.

    Those that are stored or kept already are rejected as duplicates, and those that there is no room for as old.
    """
    by_metric: defaultdict[str, list[Came]] = defaultdict(list)
    for each in late:
        by_metric[each.sample.name].append(each)
    for name, mine in by_metric.items():
        kept, refused = _with_room(conn, tails[name], mine, options)
        late_samples.keep(conn, tails[name].uid, kept)
        done.late += len(kept)
        for each, reason in refused:
            _reject(done, reason, each.batch, each.number, options, tails[name].uid)


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


def _add_rejected(batches: Sequence[SampleBatch], done: Stored) -> None:
    """Count what was rejected before it came here."""
    for batch in batches:
        done.rejected.update(batch.rejected)
        done.rejected_of.update({("", reason): count for reason, count in batch.rejected.items()})


def _feed(
    conn: Connection,
    tails: Mapping[str, Tail],
    rows: dict[str, list[InputRow]],
    options: StorerOptions,
    received_at: float | None,
    done: Stored,
    define_from_data: Define,
) -> list[tuple[str, bytes]]:
    """(queue, body) for the models: new rows by shard, and the definitions of models that can start now.

    One model's rows of each message tell when they were received, to measure how long scores take.
    """
    messages: list[tuple[str, bytes]] = []
    by_shard: defaultdict[str, list[ModelInput]] = defaultdict(list)
    generations = counts.get_generations(conn, [uid for uid in rows if tails[uid].status.has_model])
    starting, grown = _starting(conn, tails, rows, options), _grown(conn, tails, rows, options)
    for uid, each in rows.items():
        queue = options.shards.queue_of(uid)
        if uid in grown:
            definition = _define(conn, custom.define_grown, tails[uid], options, each[-1].rowid, done)
            messages += [(queue, definition)] if definition is not None else []
        elif uid in generations:
            first = not by_shard[queue]
            model_input = ModelInput(
                uid, generations[uid], each[0].rowid - 1, tuple(each), received_at if first else None
            )
            by_shard[queue].append(model_input)
        elif uid in starting:
            definition = _define(conn, define_from_data, tails[uid], options, each[-1].rowid, done)
            messages += [(queue, definition)] if definition is not None else []
    messages += [(queue, encode_model_inputs(inputs)) for queue, inputs in by_shard.items()]
    return messages


def _starting(
    conn: Connection, tails: Mapping[str, Tail], rows: Mapping[str, list[InputRow]], options: StorerOptions
) -> set[str]:
    """Metrics that waited for rows and have enough now, constants whose value has changed, and expired ones."""
    least = custom.least_samples(options.pending_samples)
    constant = [uid for uid in rows if tails[uid].status is MetricStatus.CONSTANT]
    before = queries.values_at(conn, {uid: rows[uid][0].rowid - 1 for uid in constant})
    moved = {uid for uid in constant if any(row.value != before.get(uid) for row in rows[uid])}
    waited = {
        uid for uid, each in rows.items() if tails[uid].status is MetricStatus.PENDING_DATA and each[-1].rowid >= least
    }
    return moved | waited | {uid for uid in rows if tails[uid].status is MetricStatus.EXPIRED}


def _grown(
    conn: Connection, tails: Mapping[str, Tail], rows: Mapping[str, list[InputRow]], options: StorerOptions
) -> set[str]:
    """Metrics with young models that have rows enough for a range now."""
    reached = [uid for uid in rows if _reaches(options.pending_samples, tails[uid], rows)]
    return queries.young_metrics(conn, [uid for uid in reached if tails[uid].status.has_model])


def _reaches(rowid: int, tail: Tail, rows: Mapping[str, Sequence[InputRow]]) -> bool:
    """Whether a metric has so many rows now, and had not before."""
    return tail.uid in rows and tail.last_rowid < rowid <= rows[tail.uid][-1].rowid


def _define_from_data(
    conn: Connection, metric: Metric, pending_samples: int, last_rowid: int, *, kin: Kin | None, now: float
) -> bytes | None:
    """`custom.define_from_data`; a metric that begins has siblings."""
    begins = kin is not None and metric.definition is None and last_rowid < pending_samples
    siblings = kin.siblings_of(conn, metric, now) if kin is not None and begins else ()
    return custom.define_from_data(conn, metric, pending_samples, last_rowid, siblings)


def _define(
    conn: Connection, define: Define, tail: Tail, options: StorerOptions, last_rowid: int, done: Stored
) -> bytes | None:
    """The message that starts a metric's model; None if it has to wait, or is in ERROR as there cannot be one."""
    try:
        return define(conn, queries.get_metric(conn, tail.uid), options.pending_samples, last_rowid)
    except (*BLAMELESS, DBAPIError):
        raise  # the transaction is no more
    except Exception as error:
        done.failed[tail.name] = reason_of(error)
        queries.set_status(conn, tail.uid, MetricStatus.ERROR, done.failed[tail.name])
        return None
