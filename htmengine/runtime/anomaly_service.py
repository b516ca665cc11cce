# SPDX-License-Identifier: MIT
"""The Anomaly Service: raw scores to anomaly scores, stored and broadcast.

In: messages of the results queue.  Out: raw_anomaly_score, anomaly_score and display_value in metric_data; scored
rows and commands' results on the results exchange; a metric's status when its model is made or fails.

Each metric's detector is a state that every row advances by one step (`detector_states`).  Rows that come twice are
not scored twice, but broadcast again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from msgspec import UNSET
from sqlalchemy import Connection
from twisted.logger import Logger
from twisted.python.failure import Failure

from htmengine.bus.interface import Bus, Delivery
from htmengine.bus.queue_consumer import QueueConsumer
from htmengine.errors import InvalidMessage
from htmengine.evidence.explaining import why_great
from htmengine.evidence.scale import display_value
from htmengine.messages import (
    CLONE_MODEL,
    COMMAND_RESULT_TYPE,
    DATA_TYPE_HEADER,
    DEFINE_MODEL,
    SNAPSHOT_MODEL,
    CommandResult,
    MetricInfo,
    ModelError,
    ModelResult,
    ModelSnapshot,
    ResultRow,
    ScoredRow,
    decode_result_message,
    encode_command_outcome,
    encode_inference,
)
from htmengine.process import crash_points
from htmengine.process.figures import SECONDS, SIZES, Figure, Observations, counter, histogram
from htmengine.process.probes import Probe, runs
from htmengine.repository import counts, queries, results, snapshots
from htmengine.repository.counts import MetricScore
from htmengine.repository.engine import Database
from htmengine.repository.quarantine import Quarantine, reason_of
from htmengine.repository.queries import Metric, MetricStatus, Score
from htmengine.repository.snapshots import SavedModel
from htmengine.runtime import detector_states
from htmengine.runtime.detector_states import DetectorStates, MetricState, last_rowid
from htmengine.runtime.lost_results import Gap, LostResults
from htmengine.sharding import ShardQueues

#: Messages of the results queue that may be unacknowledged, and in one transaction.
PREFETCH = 100

#: What stands by itself in the results queue.
Part: TypeAlias = ModelResult | ModelSnapshot | CommandResult | ModelError


@dataclass(frozen=True, slots=True)
class AnomalyOptions:
    """Sections [metric_streamer] and [anomaly_likelihood] of application.conf, as far as they matter here."""

    results_queue: str
    results_exchange: str
    shards: ShardQueues
    chunk_size: int = 4000  #: rows in one message on the results exchange
    states_in_memory: int = 100_000  #: some 35 KB each
    sequence_only: bool = False  #: HTM Engine's scores
    anomaly_floor: float = 0.99  #: rows with at least this score are listed as anomalies


@dataclass(frozen=True, slots=True)
class TakenSnapshot:
    """A model's state, and the state of its metric after the same row."""

    model: ModelSnapshot
    scored: int
    detector: bytes


#: Expected value and band of a row of which nothing was known.
_NOTHING_KNOWN = (None, None, None)


class _ModelReplaced(Exception):
    """There is another model, or none: what was computed for the model before must not be stored."""


@dataclass(slots=True)
class Batch:
    """What a batch of messages leads to."""

    snapshots: list[TakenSnapshot] = field(default_factory=list)
    scores: list[tuple[str, ScoredRow]] = field(default_factory=list)
    touched: dict[str, MetricState] = field(default_factory=dict)
    broadcasts: list[tuple[bytes, dict[str, str] | None]] = field(default_factory=list)
    gaps: dict[str, Gap] = field(default_factory=dict)  #: by uid

    def raws_of(self, uid: str) -> dict[int, float]:
        """A metric's raw scores, by rowid."""
        return {row.rowid: row.raw for each, row in self.scores if each == uid}

    @property
    def news(self) -> list[tuple[str, ScoredRow]]:
        """The scores but for those that a young model's rows had before: they are the same."""
        return [(uid, row) for uid, row in self.scores if row.rowid > self.touched[uid].told]

    @property
    def newest(self) -> list[MetricScore]:
        """How far each metric's model is now."""
        rows = dict(self.scores)  # of each metric the last
        return [_newest(uid, row, self.touched[uid]) for uid, row in rows.items()]


def _newest(uid: str, row: ScoredRow, state: MetricState) -> MetricScore:
    expected, lower, upper = state.detector.expected or _NOTHING_KNOWN
    return MetricScore(
        *(uid, state.generation, row.rowid, state.scored, row.timestamp, row.value, row.raw, row.anomaly),
        *(state.evidence_from, state.digest, expected, lower, upper),
        interval_s=state.detector.interval if state.detector.rows > 1 else None,
        interval_since=state.detector.changed_at,
    )


class AnomalyService(QueueConsumer):
    """Scores batch after batch, in the order in which they came."""

    log = Logger()

    def __init__(
        self,
        *,
        bus: Bus,
        database: Database,
        options: AnomalyOptions,
        on_failure: Callable[[Failure], None],
        now: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(bus=bus, on_failure=on_failure)
        self._database = database
        self._options = options
        self._states = DetectorStates(database, options.states_in_memory)
        self._now = now
        self._quarantine = Quarantine(database, options.results_queue, now)
        self._lost = LostResults(bus, database, options.shards)
        self.scored = 0
        self.rejected = 0  #: messages that are not results
        self.transaction_rows = Observations(SIZES)
        self.transaction_seconds = Observations(SECONDS)
        self.received_to_scored_seconds = Observations(SECONDS)

    async def finish(self) -> None:
        await self._states.write_all()

    def figures(self) -> Iterable[Figure]:
        """What was scored, and how long it took."""
        yield counter("htmengine_anomaly_scored", "Rows whose anomaly scores are stored", self.scored)
        yield counter("htmengine_anomaly_rejected", "Messages that are not results", self.rejected)
        yield histogram("htmengine_anomaly_transaction_rows", "Rows in a transaction", self.transaction_rows)
        yield histogram("htmengine_anomaly_transaction_seconds", "A transaction", self.transaction_seconds)
        yield histogram(
            "htmengine_received_to_scored_seconds",
            "From a line at the listener to its anomaly score in the database, one line a message",
            self.received_to_scored_seconds,
        )

    def checks(self) -> Mapping[str, Probe]:
        """Whether it scores."""
        return {"AnomalyService": runs(self)}

    async def consume(self) -> None:
        await self._bus.declare_queue(self._options.results_queue)
        await self._bus.declare_fanout(self._options.results_exchange)
        self._subscription = await self._bus.subscribe(self._options.results_queue, prefetch=PREFETCH)
        while self.running:
            deliveries = await self._subscription.get(PREFETCH)
            crash_points.reached("anomaly.received")
            with self._bus.progress.doing("scoring results"):
                await self._handle(deliveries)
                crash_points.reached("anomaly.broadcast")
                await self._subscription.ack(deliveries)
            crash_points.reached("anomaly.acknowledged")

    async def _handle(self, deliveries: Sequence[Delivery]) -> None:
        """Score what came, store it in one transaction, broadcast it."""
        await self._quarantine.each(await self._decode(deliveries), self._process, self._fail_metric)

    async def _process(self, parts: Sequence[Part]) -> None:
        while True:
            try:
                return await self._process_together(parts)
            except _ModelReplaced:
                self._states.clear()  # without them, results of the model before are left out
            except Exception:
                self._states.clear()  # they may have advanced by rows that were not stored; the database has what was
                raise

    async def _fail_metric(self, part: Part, error: Exception) -> None:
        """A metric whose results cannot be processed is in ERROR; a message that was never valid harms no metric."""
        if not isinstance(error, InvalidMessage):
            failure = ModelError(part.model_id, part.generation, reason_of(error))
            await self._database.run(_store, Batch(), self._options.anomaly_floor, [], [failure])

    async def _process_together(self, parts: Sequence[Part]) -> None:
        results = [part for part in parts if isinstance(part, ModelResult | ModelSnapshot)]
        notices = [
            _end_of(part) if isinstance(part, ModelSnapshot) else part
            for part in parts
            if not isinstance(part, ModelResult)
        ]
        batch = Batch()
        await self._states.load(results)
        for result in results:
            if result.model_id in batch.gaps:
                continue  # the model is made again
            if isinstance(result, ModelSnapshot):
                await self._complete(result, batch)
            else:
                await self._score(result, batch)
        due = [state for state in batch.touched.values() if state.due]
        with self.transaction_seconds.timed(self._now):
            command_metrics = await self._database.run(_store, batch, self._options.anomaly_floor, due, notices)
        crash_points.reached("anomaly.committed")
        for state in due:
            state.saved_rowid = state.rowid
        for notice in notices:
            if isinstance(notice, CommandResult) and notice.model_id in command_metrics:
                info = _info(command_metrics[notice.model_id])
                batch.broadcasts.append((encode_command_outcome(notice, info), {DATA_TYPE_HEADER: COMMAND_RESULT_TYPE}))
        await self._broadcast(batch.broadcasts)
        await self._close(batch.gaps)
        self.scored += len(batch.news)
        self._observe(results, len(batch.scores))
        await self._states.shrink()

    async def _close(self, gaps: Mapping[str, Gap]) -> None:
        """Have the models made again whose results were lost."""
        for uid, gap in gaps.items():
            self._states.forget(uid)
            await self._quarantine.note([InvalidMessage(str(gap))])
            await self._lost.make_again(uid, gap)

    def _observe(self, results: Sequence[ModelResult | ModelSnapshot], rows: int) -> None:
        """Note how many rows were scored, and how long those took that say when they were received."""
        self.transaction_rows.observe(rows)
        for result in results:
            if isinstance(result, ModelResult) and result.received_at is not None:
                self.received_to_scored_seconds.observe(self._now() - result.received_at)

    async def _decode(self, deliveries: Sequence[Delivery]) -> list[Part]:
        """What the messages hold, in order."""
        parts: list[Part] = []
        refused = []
        for delivery in deliveries:
            try:
                message = decode_result_message(delivery.body)
            except InvalidMessage as error:
                refused.append(error)
            else:
                parts += message if isinstance(message, list) else [message]
        self.rejected += len(refused)
        await self._quarantine.note(refused)
        return parts

    # --- scoring ---------------------------------------------------------------------------------------

    async def _score(self, result: ModelResult, batch: Batch) -> None:
        state = self._states.find(result.model_id, result.generation)
        if state is None:
            return  # the metric, or this model of it, is gone
        _check_stored(result, state)
        await self._states.catch_up(state, state.counted)
        known = [row for row in result.rows if row.rowid <= state.rowid]
        failed = state.metric.status is MetricStatus.ERROR  # rows are missing before those that come now
        if not failed and await self._lacks(result.follows, state, batch):
            return
        new = [row for row in result.rows if row.rowid > state.rowid and not failed]
        heard = self._bus.is_heard(self._options.results_exchange)
        rows = await self._stored_rows(state, known if heard else ())
        if new:
            await self._states.catch_up(state, new[0].rowid - 1)
        scored: list[ScoredRow] = []
        for row in new:
            if state.turns:
                await self._states.turn(state, batch.raws_of(result.model_id))
            scored.append(self._advance(state, row))
            batch.scores.append((result.model_id, scored[-1]))
        batch.touched[result.model_id] = state
        rows += scored
        for at in range(0, len(rows) if heard else 0, self._options.chunk_size):
            chunk = rows[at : at + self._options.chunk_size]
            batch.broadcasts.append((encode_inference(_info_of(state), chunk), None))

    async def _complete(self, snapshot: ModelSnapshot, batch: Batch) -> None:
        """A snapshot of a model comes after the results of its rows: the detector is at the same row."""
        state = self._states.find(snapshot.model_id, snapshot.generation)
        if state is None:
            return  # the metric, or this model of it, is gone
        _check_stored(snapshot, state)
        await self._states.catch_up(state, state.counted)
        if await self._lacks(snapshot.rowid, state, batch):
            return
        if state.rowid != snapshot.rowid:  # made by a scheduler that was behind what was scored before a crash
            state = await self._states.at_row(snapshot.model_id, snapshot.generation, snapshot.rowid)
            if state is None:
                return
        batch.snapshots.append(TakenSnapshot(snapshot, state.scored, state.detector.save()))

    async def _lacks(self, rowid: int, state: MetricState, batch: Batch) -> bool:
        """Whether results of rows up to that one never came; they come in order."""
        uid = state.metric.uid
        if rowid <= state.counted or not await self._database.read(queries.lacks_scores, uid, state.counted, rowid):
            return False
        batch.gaps[uid] = Gap(state.metric.name, state.generation, state.counted, rowid)
        return True

    def _advance(self, state: MetricState, row: ResultRow) -> ScoredRow:
        """The scored row; one with a great score or height with its reasons."""
        anomaly = state.advance(row, sequence_only=self._options.sequence_only)
        why = why_great(state.detector, anomaly, self._options.anomaly_floor)
        return ScoredRow(row.rowid, row.timestamp, row.value, row.raw, anomaly, row.predictions, why)

    async def _stored_rows(self, state: MetricState, known: Sequence[ResultRow]) -> list[ScoredRow]:
        """Rows that were scored before, with their stored scores: perhaps nobody was told of them."""
        if not known:
            return []
        first, last = known[0].rowid, known[-1].rowid
        stored = await self._database.read(queries.get_rows, state.metric.uid, first - 1, last - first + 1)
        whys = await self._database.read(results.whys_of, state.metric.uid, first, last)
        return [
            ScoredRow(
                *(row.rowid, row.timestamp, row.value, row.raw, row.anomaly, row.predictions),
                why=whys.get(row.rowid, UNSET),
            )
            for row in stored
            if row.rowid <= last and row.raw is not None and row.anomaly is not None
        ]

    async def _broadcast(self, broadcasts: Sequence[tuple[bytes, dict[str, str] | None]]) -> None:
        """In order; messages with the same headers go together."""
        plain = [body for body, headers in broadcasts if headers is None]
        if plain:
            await self._bus.broadcast(self._options.results_exchange, plain)
        for body, headers in broadcasts:
            if headers is not None:
                await self._bus.broadcast(self._options.results_exchange, [body], headers)


def _check_stored(result: ModelResult | ModelSnapshot, state: MetricState) -> None:
    """Raises `InvalidMessage` for rows that do not exist: a state that took them would pass by those that will."""
    last = last_rowid(result)
    if last > state.stored:
        raise InvalidMessage(f"row {last} of {state.metric.name}, which has {state.stored} rows")


def _info_of(state: MetricState) -> MetricInfo:
    """What messages say of its metric, read once."""
    if state.info is None:
        state.info = _info(state.metric)
    return state.info


def _info(metric: Metric) -> MetricInfo:
    return MetricInfo(
        uid=metric.uid,
        name=metric.name,
        description=metric.description,
        resource=metric.server,
        location=metric.location,
        datasource=metric.datasource,
        spec=json.loads(metric.parameters) if metric.parameters else {},
    )


def _end_of(snapshot: ModelSnapshot) -> CommandResult:
    """What applications hear of a snapshot."""
    return CommandResult(SNAPSHOT_MODEL, snapshot.model_id, snapshot.generation, snapshot.command_id)


# --- transactions ---------------------------------------------------------------------------------------


def _store(
    conn: Connection,
    batch: Batch,
    anomaly_floor: float,
    states: Sequence[MetricState],
    notices: Sequence[CommandResult | ModelError],
) -> dict[str, Metric]:
    """Store scores, states and statuses; returns the metrics of the commands' results."""
    _save_scores(conn, batch.scores)
    if counts.save_scores(conn, batch.newest) < len(batch.newest):
        _check_current(conn, batch.touched)
    results.save_anomalies(conn, batch.scores, anomaly_floor)
    results.append_log(conn, batch.news)
    detector_states.save(conn, states)
    for each in batch.snapshots:
        model = each.model
        state = SavedModel(model.model, each.detector)
        snapshots.fill(conn, model.model_id, model.version, model.rowid, each.scored, state)
    metrics = {}
    for notice in notices:
        metric = queries.find_metric_by_uid(conn, notice.model_id, lock=True)
        if metric is not None:
            metrics[metric.uid] = metric
            if metric.definition is not None and metric.definition.generation == notice.generation:
                _apply(conn, metric, notice)
    crash_points.reached("anomaly.storing")
    return metrics


def _save_scores(conn: Connection, scores: Sequence[tuple[str, ScoredRow]]) -> None:
    """Raises `InvalidMessage` if one of them is of a row that the database does not have."""
    stored = queries.save_scores(
        conn,
        [
            Score(*(uid, r.rowid, r.timestamp, r.value, r.raw, r.anomaly), display_value(r.anomaly), r.predictions)
            for uid, r in scores
        ],
    )
    if stored < len(scores):
        for uid in dict.fromkeys(uid for uid, _ in scores):
            _check_rows(conn, uid, [row for of, row in scores if of == uid])


def _check_current(conn: Connection, states: Mapping[str, MetricState]) -> None:
    """Raises `_ModelReplaced` if a model has been replaced since its state was loaded."""
    for uid, state in states.items():
        metric = queries.find_metric_by_uid(conn, uid, lock=True)
        if metric is None or metric.definition is None or metric.definition.generation != state.generation:
            raise _ModelReplaced


def _check_rows(conn: Connection, uid: str, rows: Sequence[ScoredRow]) -> None:
    """Raises `InvalidMessage` for a row that the database does not have so; a metric that is gone had them once."""
    metric = queries.find_metric_by_uid(conn, uid)
    if metric is None:
        return
    first, last = rows[0].rowid, rows[-1].rowid
    stored = {row.rowid: (row.timestamp, row.value) for row in queries.get_rows(conn, uid, first - 1, last - first + 1)}
    for row in rows:
        if stored.get(row.rowid) != (row.timestamp, row.value):
            raise InvalidMessage(
                f"row {row.rowid} of {metric.name} was scored as {row.value!r} at {row.timestamp}, and the database"
                " has no such row: it is older than the queues"
            )


def _apply(conn: Connection, metric: Metric, notice: CommandResult | ModelError) -> None:
    """A model that is made makes its metric ACTIVE; one that failed puts it into ERROR.  A refused snapshot is gone."""
    if isinstance(notice, ModelError):
        queries.set_status(conn, metric.uid, MetricStatus.ERROR, notice.message)
    elif notice.method in (DEFINE_MODEL, CLONE_MODEL) and metric.status is MetricStatus.CREATE_PENDING:
        queries.set_status(conn, metric.uid, MetricStatus.ACTIVE, None)
    elif notice.method == SNAPSHOT_MODEL and notice.error_message is not None:
        snapshots.forget_waiting(conn, metric.uid)


if __name__ == "__main__":
    from htmengine.taps import ANOMALY

    ANOMALY.run()
