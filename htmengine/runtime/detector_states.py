# SPDX-License-Identifier: MIT
"""The detectors of many metrics: some in memory, all in the table anomaly_state.

In: results and snapshots of models.  Out: the state of each one's metric after its last row.  Used by
`anomaly_service`.

A state is written now and then, in the same transaction as the scores that led to it; the rows after it are in
metric_data, from which it is brought up to date again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from sqlalchemy import Connection
from twisted.logger import Logger

from htmengine.adapters.datasource.why import NONE_UNSTORED, columns, detector_before
from htmengine.errors import CorruptCheckpoint, UnknownCheckpointVersion
from htmengine.evidence import Detector
from htmengine.evidence.scoring import detector_for, is_likelihood, restored, row_score
from htmengine.htm.params import ModelParams
from htmengine.messages import MetricInfo, ModelResult, ModelSnapshot, ResultRow
from htmengine.messages.digest import extended
from htmengine.repository import counts, fine_spans, queries, snapshots
from htmengine.repository.engine import Database
from htmengine.repository.fine_spans import FineSpan, begins, resumes, turns
from htmengine.repository.quarantine import each_alone
from htmengine.repository.queries import Definition, Metric, Row

#: A state is written when this many rows have advanced it since the last time: a sum that costs a row next to
#: nothing, and after a crash no more rows than these are read again.
STATE_EVERY_ROWS = 200
#: Rows read at once when a state is brought up to date.
ROWS_AT_ONCE = 5000


@dataclass(slots=True, eq=False)
class MetricState:
    """A metric's detector after the row ``rowid``."""

    metric: Metric  #: without its model's definition
    generation: int
    rowid: int
    detector: Detector
    saved_rowid: int
    stored: int = 0  #: the newest row that is known to be in metric_data
    scored: int = 0  #: rows that this model has scored, up to the row ``counted``
    counted: int = 0
    evidence_from: int | None = None  #: from this row on the stored scores are the evidence's
    digest: int | None = None  #: of the rows up to ``counted``; None: not known
    fine: tuple[FineSpan, ...] = ()  #: not learnt
    info: MetricInfo | None = None  #: what messages say of the metric; None: nobody has asked yet
    told: int = 0  #: rows up to this one have had their scores before
    kept: tuple[int, bytes] | None = None  #: the row before maintenance, and the detector after it

    def advance(self, row: ResultRow, *, sequence_only: bool) -> float:
        """The row's anomaly score; ``sequence_only``: HTM Engine's."""
        self._keep()
        score = self.detector.update(row.timestamp, row.value, row.raw)
        self._digest([row])
        self._count(row.rowid, 1)
        if sequence_only:
            self.evidence_from = None
        elif self.evidence_from is None:
            self.evidence_from = row.rowid
        return row_score(score, self.detector.likelihood, sequence_only=sequence_only)

    def pass_over(self, rows: Sequence[Row]) -> None:
        """Take in rows that are stored with their raw scores, at once."""
        self._keep()
        self.detector.update_many(*columns(rows))
        self._digest(rows)
        self._count(rows[-1].rowid, sum(row.raw is not None and row.rowid > self.counted for row in rows))

    def _keep(self) -> None:
        """Before a row: keep the detector if it is wanted again after maintenance."""
        if self.fine and begins(self.fine, self.rowid):
            self.kept = self.rowid, self.detector.save()

    def resume(self) -> bool:
        """Go on as before the maintenance that ends here, if the detector of then is known."""
        if self.kept is None or not resumes(self.fine, self.rowid, self.kept[0]):
            return False
        self.detector = Detector.restore(self.kept[1])
        return True

    def _digest(self, rows: Sequence[Row | ResultRow]) -> None:
        """Rows that were removed as too old before they were run leave a gap, over which it goes on."""
        for row in rows:
            if self.digest is not None and row.rowid > self.counted:
                self.digest = extended(self.digest, row.rowid, row.timestamp, row.value)

    def _count(self, rowid: int, rows: int) -> None:
        self.rowid = rowid
        if rowid > self.counted:
            self.scored += rows
            self.counted = rowid

    @property
    def turns(self) -> bool:
        """Whether the next row's detector is one that learnt other rows, since somebody called some fine."""
        return bool(self.fine) and self.rowid in turns(self.fine)

    @property
    def due(self) -> bool:
        """Whether it has advanced far enough to be written."""
        return self.rowid - self.saved_rowid >= STATE_EVERY_ROWS


class DetectorStates:
    """Those that were used last are in memory, at most ``in_memory`` of them after `shrink`."""

    log = Logger()

    def __init__(self, database: Database, in_memory: int) -> None:
        self._database = database
        self._in_memory = in_memory
        self._states: OrderedDict[str, MetricState] = OrderedDict()  #: by uid, the one used longest ago first

    async def load(self, results: Sequence[ModelResult | ModelSnapshot]) -> None:
        """Have in memory the state of every metric that has results of its current model."""
        wanted: dict[str, int] = {}
        for result in results:
            state = self._states.get(result.model_id)
            if state is None or state.generation < result.generation:
                wanted[result.model_id] = result.generation
        if wanted:
            for loaded in await self._database.read(_load, sorted(wanted)):
                state = self._restore(loaded)
                state.scored, state.counted, state.evidence_from = loaded.scored, loaded.counted, loaded.evidence_from
                state.digest = loaded.digest
                self._states[loaded.metric.uid] = state
        ahead = [
            each.model_id
            for each in results
            if each.model_id in self._states and last_rowid(each) > self._states[each.model_id].stored
        ]
        if ahead:
            stored, fine = await self._database.read(_tails, sorted(set(ahead)))
            for uid, rowid in stored.items():
                self._states[uid].stored, self._states[uid].fine = rowid, fine.get(uid, ())

    def find(self, uid: str, generation: int) -> MetricState | None:
        """A state in memory, which counts as used now; None: the metric, or this model of it, is gone."""
        state = self._states.get(uid)
        if state is None or state.generation != generation:
            return None
        self._states.move_to_end(uid)
        return state

    async def at_row(self, uid: str, generation: int, rowid: int) -> MetricState | None:
        """A state of its own, as it was after an earlier row; None: the metric, or this model of it, is gone."""
        found = await self._database.read(_load, [uid])
        loaded = next((each for each in found if each.definition.generation == generation), None)
        if loaded is None:
            return None
        state = self._restore(loaded, at_most=rowid)
        state.scored, state.counted = loaded.scored - (loaded.counted - rowid), rowid
        await self.catch_up(state, rowid)
        return state

    async def catch_up(self, state: MetricState, last: int) -> None:
        """Bring a state up to the row ``last`` from the raw scores in the database."""
        while state.rowid < last:
            await self.turn(state)
            ends = {*turns(state.fine), *(each.first - 1 for each in state.fine)}
            until = min([last, *(end for end in ends if end > state.rowid)])
            limit = min(ROWS_AT_ONCE, until - state.rowid)
            stored = await self._database.read(queries.get_rows, state.metric.uid, state.rowid, limit)
            rows = [row for row in stored if row.rowid <= until]
            for row in rows:
                if row.raw is None:
                    self.log.error("row {rowid} of {name} has no raw score", rowid=row.rowid, name=state.metric.name)
            if rows:
                state.pass_over(rows)
            else:
                state.rowid = until

    async def turn(self, state: MetricState, unstored: Mapping[int, float] = NONE_UNSTORED) -> None:
        """Before a metric's next row: have the detector that has learnt what counts from then on.

        ``unstored``: raw scores that the database does not have yet, by rowid.
        """
        if state.turns and not state.resume():
            state.detector = await self._database.read(_detector_before, state, unstored)

    def forget(self, uid: str) -> None:
        """A metric's model is replaced: its state is loaded when the new one's results come."""
        self._states.pop(uid, None)

    def clear(self) -> None:
        """Forget all without writing them."""
        self._states.clear()

    async def shrink(self) -> None:
        """Write and forget the states that were used least recently, if there are too many."""
        surplus = len(self._states) - self._in_memory
        if surplus > 0:
            leaving = [self._states.popitem(last=False)[1] for _ in range(surplus + self._in_memory // 10)]
            await self._write(leaving)

    async def write_all(self) -> None:
        """Write what the database does not have."""
        await self._write(list(self._states.values()))

    async def _write(self, states: Sequence[MetricState]) -> None:
        unwritten = [state for state in states if state.rowid != state.saved_rowid]
        if unwritten:
            await each_alone(unwritten, self._save, self._not_saved)

    async def _save(self, states: Sequence[MetricState]) -> None:
        await self._database.run(_save_known, states)
        for state in states:
            state.saved_rowid = state.rowid

    async def _not_saved(self, state: MetricState, error: Exception) -> None:
        """It is made again from the rows when it is needed."""
        self.log.error("state of metric {name} cannot be stored: {error!r}", name=state.metric.name, error=error)
        self._states.pop(state.metric.uid, None)

    def _restore(self, loaded: Loaded, at_most: int | None = None) -> MetricState:
        """A metric's state from the newest one that is stored, not after the row ``at_most``; else from the start."""
        metric, definition = loaded.metric, loaded.definition
        for rowid, stored in loaded.states:
            if at_most is not None and rowid > at_most:
                continue
            try:
                return self._state(loaded, rowid, restored(stored))
            except (CorruptCheckpoint, UnknownCheckpointVersion) as error:
                self.log.error("state of metric {name} is made again: {error}", name=metric.name, error=error)
        return self._state(loaded, definition.after, detector_for(ModelParams.from_json(definition.params)))

    @staticmethod
    def _state(loaded: Loaded, rowid: int, detector: Detector) -> MetricState:
        generation, told = loaded.definition.generation, loaded.definition.told
        metric = replace(loaded.metric, definition=None)  # which would be a sixth of the state
        return MetricState(metric, generation, rowid, detector, rowid, fine=loaded.fine, told=told)


def last_rowid(result: ModelResult | ModelSnapshot) -> int:
    """The last row that it is about; 0: none."""
    return result.rowid if isinstance(result, ModelSnapshot) else result.last_rowid


# --- transactions ---------------------------------------------------------------------------------------


class Loaded(NamedTuple):
    """What the database has of a metric and its current model."""

    metric: Metric
    definition: Definition
    scored: int
    counted: int
    evidence_from: int | None
    digest: int | None
    states: list[tuple[int, bytes]]  #: (rowid, detector), the newest first
    fine: tuple[FineSpan, ...]


def _load(conn: Connection, uids: Sequence[str]) -> list[Loaded]:
    states = queries.load_states(conn, uids)
    scores = counts.get_scores(conn, uids)
    fine = fine_spans.of_metrics(conn, uids)
    found = []
    for metric in queries.get_metrics(conn, uids):
        definition = metric.definition
        if definition is None:
            continue
        usable = []
        state, score = states.get(metric.uid), scores.get(metric.uid)
        # A likelihood has seen no values: its metric's rows are read again from the model's first on.
        if state is not None and state.generation == definition.generation and not is_likelihood(state.state):
            usable.append((state.rowid, state.state))
        if definition.snapshot is not None:
            start = snapshots.state_of(conn, metric.uid, definition.snapshot)
            usable += [(definition.after, start.likelihood)] if start is not None else []
        current = score if score is not None and score.generation == definition.generation else None
        scored, counted = (current.scored, current.rowid) if current else (0, 0)
        since, digest = (current.evidence_from, current.digest) if current else (None, None)
        found.append(Loaded(metric, definition, scored, counted, since, digest, usable, fine.get(metric.uid, ())))
    return found


def _detector_before(conn: Connection, state: MetricState, unstored: Mapping[int, float]) -> Detector:
    """As `detector_before` its next row; the one that it has, if the metric or this model of it is gone."""
    found = next(iter(queries.get_metrics(conn, [state.metric.uid])), None)
    if found is None or found.definition is None or found.definition.generation != state.generation:
        return state.detector
    return detector_before(conn, found, state.rowid + 1, unstored=unstored)


def _tails(conn: Connection, uids: Sequence[str]) -> tuple[dict[str, int], dict[str, tuple[FineSpan, ...]]]:
    """Each metric's newest row, and its fine spans: who adds one that counts after that row has locked the metric."""
    return queries.last_rowids(conn, uids), fine_spans.of_metrics(conn, uids)


def save(conn: Connection, states: Sequence[MetricState]) -> None:
    """Store states, in the caller's transaction."""
    queries.save_states(
        conn,
        [
            queries.AnomalyState(state.metric.uid, state.generation, state.rowid, state.detector.save())
            for state in states
        ],
    )


def _save_known(conn: Connection, states: Sequence[MetricState]) -> None:
    """Store states, but for metrics that are deleted by now."""
    known = queries.last_rowids(conn, [state.metric.uid for state in states])
    save(conn, [state for state in states if state.metric.uid in known])
