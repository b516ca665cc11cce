# SPDX-License-Identifier: MIT
"""The worker process: many models in memory, the least recently used of them on disk.

In: turns as frames on standard input (`frames`).  Out: each turn's outcomes as a frame on standard output, and
before each slice a frame that names its model, so that the scheduler knows whom to blame for a crash.
Started by `worker_pool` as ``python -m htmengine.model_swapper.model_runner OPTIONS``; ends when the scheduler
says stop or goes away.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import time
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from htmengine import crash_points
from htmengine.errors import CheckpointError, HtmEngineError
from htmengine.htm.model import Model
from htmengine.htm.params import ModelParams
from htmengine.messages import CLONE_MODEL, DEFINE_MODEL, DELETE_MODEL, ModelCommand, Predictions, ResultRow
from htmengine.model_swapper import frames
from htmengine.model_swapper.checkpoints import Checkpoint, CheckpointStore
from htmengine.model_swapper.swap_controller import SNAPSHOT_MODEL, Need, Outcome, Slice

log = logging.getLogger("htmengine.model_runner")


@dataclass(frozen=True, slots=True)
class RunnerOptions:
    """What a worker is told at its start."""

    checkpoint_root: str
    memory_bytes: int = 1 << 30  #: models that do not fit are swapped out
    checkpoint_rows: int = 1000  #: a model is written when it has run this many rows since the last time
    checkpoint_seconds: float = 300.0  #: or when its oldest unwritten row is this old
    stop_seconds: float = 5.0  #: models not written within this at a stop are replayed at the next start

    def to_argument(self) -> str:
        """The command line's argument."""
        return json.dumps(asdict(self))

    @classmethod
    def from_argument(cls, text: str) -> RunnerOptions:
        """What `to_argument` made."""
        return cls(**json.loads(text))


@dataclass(slots=True)
class Resident:
    """A model in memory."""

    model: Model
    generation: int
    rowid: int  #: its last row
    saved_rowid: int  #: its last row in the newest checkpoint; -1: none
    dirty_since: float = 0.0  #: when its first unwritten row ran (monotonic seconds)
    memory_bytes: int = 0
    #: Results up to ``rowid`` that are not known to be published: a checkpoint has to carry them.
    results: list[ResultRow] = field(default_factory=list)
    #: Loaded from a checkpoint: its results may never have left the worker that made it.
    restored: bool = False


class ModelRunner:
    """Runs slices; keeps the models within the memory budget, and their checkpoints recent."""

    def __init__(self, options: RunnerOptions, store: CheckpointStore) -> None:
        self._options = options
        self._store = store
        self._models: OrderedDict[str, Resident] = OrderedDict()
        self._memory = 0
        self.swapped_in = 0
        self.swapped_out = 0
        self.checkpoint_bytes = 0

    def run(self, sent: Slice) -> Outcome:
        """One model's part of a turn.  What goes wrong with the model is the outcome's ``error``."""
        try:
            outcome = self._command(sent, sent.command) if sent.command else self._rows(sent)
        except (HtmEngineError, ValueError, ArithmeticError) as error:
            self._discard(sent.model_id)
            return Outcome(sent.model_id, sent.generation, error=f"{type(error).__name__}: {error}")
        self._keep_within_budget()
        return outcome

    def save_all(self) -> None:
        """Write what is not written, the oldest first, as long as a stop may take."""
        deadline = time.monotonic() + self._options.stop_seconds
        unsaved = [(r.dirty_since, uid) for uid, r in self._models.items() if r.rowid != r.saved_rowid]
        for _, model_id in sorted(unsaved):
            if time.monotonic() > deadline:
                log.warning("stopping with models unwritten; their rows run again at the next start")
                return
            self._save(model_id, self._models[model_id])

    def save_stale(self) -> None:
        """Write the models whose unwritten rows have grown old, so that a restart replays little."""
        now = time.monotonic()
        for model_id, resident in list(self._models.items()):
            unsaved = resident.rowid != resident.saved_rowid
            if unsaved and now - resident.dirty_since > self._options.checkpoint_seconds:
                self._save(model_id, resident)

    def statistics(self) -> dict[str, int]:
        """Figures for the scheduler's self-metrics."""
        return {
            "models": len(self._models),
            "memory_bytes": self._memory,
            "swapped_in": self.swapped_in,
            "swapped_out": self.swapped_out,
            "checkpoint_bytes": self.checkpoint_bytes,
        }

    # --- slices

    def _rows(self, sent: Slice) -> Outcome:
        resident = self._resident(sent)
        if resident is None:
            return Outcome(sent.model_id, sent.generation, need=Need.DEFINITION)
        again = _carried(resident, sent.confirmed)
        if resident.rowid < sent.after:
            return Outcome(sent.model_id, sent.generation, resident.rowid, tuple(again), Need.ROWS)
        crash_points.reached("worker.running", [row.value for row in sent.rows])
        new = list(self._learn(resident, sent))
        crash_points.reached("worker.ran")
        resident.results = resident.results + new
        if resident.rowid - max(resident.saved_rowid, 0) >= self._options.checkpoint_rows:
            self._save(sent.model_id, resident)
        return Outcome(sent.model_id, sent.generation, resident.rowid, (*again, *new))

    def _learn(self, resident: Resident, sent: Slice) -> Iterator[ResultRow]:
        rows = [row for row in sent.rows if row.rowid > resident.rowid]
        if not rows:
            return
        if resident.rowid == resident.saved_rowid:
            resident.dirty_since = time.monotonic()
        model = resident.model
        if model.params.classifier is None:
            timestamps = np.array([row.timestamp for row in rows], dtype=np.int64)
            values = np.array([row.value for row in rows], dtype=np.float64)
            for row, raw in zip(rows, model.learn_many(timestamps, values).tolist(), strict=True):
                yield ResultRow(row.rowid, row.timestamp, row.value, raw)
        else:
            for row in rows:
                raw = model.learn(row.timestamp, row.value)
                yield ResultRow(row.rowid, row.timestamp, row.value, raw, _predictions(model))
        resident.rowid = rows[-1].rowid
        self._weigh(resident)

    def _command(self, sent: Slice, command: ModelCommand) -> Outcome:
        model_id = sent.model_id
        if command.method == DELETE_MODEL:
            self._discard(model_id)
            self._store.delete(model_id)
            return Outcome(model_id, sent.generation)
        resident = self._resident(sent)
        if command.method == SNAPSHOT_MODEL:
            if resident is not None and resident.rowid != resident.saved_rowid:
                self._save(model_id, resident)
        elif resident is None and command.method == DEFINE_MODEL:
            resident = self._define(model_id, sent.generation, command.args["params"])
        elif resident is None and command.method == CLONE_MODEL:
            resident = self._clone(model_id, sent.generation, command.args)
        if resident is None:
            return Outcome(model_id, sent.generation)
        return Outcome(model_id, sent.generation, resident.rowid, tuple(_carried(resident, sent.confirmed)))

    # --- models

    def _resident(self, sent: Slice) -> Resident | None:
        """The model of the slice's generation: from memory, a checkpoint, or the definition it brings."""
        resident = self._models.get(sent.model_id)
        if resident is not None and resident.generation == sent.generation:
            self._models.move_to_end(sent.model_id)
            return resident
        if resident is not None:
            self._discard(sent.model_id)
        for checkpoint in self._store.load(sent.model_id, sent.generation):
            try:
                model = Model.restore(checkpoint.model)
            except CheckpointError as error:
                log.error("checkpoint of model %s at row %d: %s", sent.model_id, checkpoint.rowid, error)
                continue
            self.swapped_in += 1
            resident = Resident(model, sent.generation, checkpoint.rowid, checkpoint.rowid)
            resident.results = list(checkpoint.results)
            resident.restored = True
            return self._add(sent.model_id, resident)
        self._report_damaged()
        return self._define(sent.model_id, sent.generation, sent.definition) if sent.definition else None

    def _define(self, model_id: str, generation: int, params: dict[str, Any]) -> Resident:
        model = Model(ModelParams.from_json(params))
        return self._add(model_id, Resident(model, generation, 0, -1, dirty_since=time.monotonic()))

    def _clone(self, model_id: str, generation: int, args: dict[str, Any]) -> Resident:
        """A copy of another model's newest checkpoint, which then goes its own way from its row 1."""
        for checkpoint in self._store.load(str(args["source"]), int(args["sourceGeneration"])):
            model = Model.restore(checkpoint.model)
            resident = self._add(model_id, Resident(model, generation, rowid=0, saved_rowid=-1))
            self._save(model_id, resident)  # the source may go; a clone's first rows cannot make it again
            return resident
        raise HtmEngineError(f"model {args['source']} has no checkpoint to clone")

    def _add(self, model_id: str, resident: Resident) -> Resident:
        self._models[model_id] = resident
        self._weigh(resident)
        return resident

    def _weigh(self, resident: Resident) -> None:
        self._memory -= resident.memory_bytes
        resident.memory_bytes = resident.model.memory_bytes
        self._memory += resident.memory_bytes

    def _discard(self, model_id: str) -> None:
        resident = self._models.pop(model_id, None)
        if resident is not None:
            self._memory -= resident.memory_bytes

    def _keep_within_budget(self) -> None:
        while self._memory > self._options.memory_bytes and len(self._models) > 1:
            model_id, resident = next(iter(self._models.items()))
            if resident.rowid != resident.saved_rowid:
                self._save(model_id, resident)
            self._discard(model_id)
            self.swapped_out += 1

    def _save(self, model_id: str, resident: Resident) -> None:
        """Write a checkpoint.  A disk that refuses it is told of; the rows since the last one run again."""
        data = resident.model.save()
        results = tuple(resident.results)
        try:
            self._store.save(Checkpoint(model_id, resident.generation, resident.rowid, data, results))
        except OSError as error:
            log.error("checkpoint of model %s cannot be written: %s", model_id, error)
            return
        resident.saved_rowid = resident.rowid
        self.checkpoint_bytes += len(data)

    def _report_damaged(self) -> None:
        while self._store.damaged:
            path, why = self._store.damaged.pop()
            log.error("checkpoint %s cannot be used: %s", path, why)


def _carried(resident: Resident, confirmed: int) -> list[ResultRow]:
    """The results that a model's checkpoint carried, once: whoever made it may not have lived to publish them."""
    resident.results = [row for row in resident.results if row.rowid > confirmed]
    again = resident.results if resident.restored else []
    resident.restored = False
    return again


def _predictions(model: Model) -> Predictions:
    predictions = model.predictions()
    if predictions is None:
        return None
    return {str(step): [list(pair) for pair in best] for step, best in predictions.items()}


def serve(runner: ModelRunner, incoming: IO[bytes], outgoing: IO[bytes]) -> None:
    """Answer frames until the scheduler says stop (all models are written) or is gone (at once)."""
    while True:
        head = incoming.read(frames.LENGTH.size)
        if len(head) < frames.LENGTH.size:
            return
        message = json.loads(incoming.read(frames.LENGTH.unpack(head)[0]))
        if "stop" in message:
            runner.save_all()
            return
        outcomes = []
        for data in message["slices"]:
            outgoing.write(frames.pack({"begin": data["id"]}))
            outgoing.flush()
            outcomes.append(frames.outcome_to_json(runner.run(frames.slice_from_json(data))))
        runner.save_stale()
        crash_points.reached("worker.answering")
        answer = {"turn": message["turn"], "outcomes": outcomes, "statistics": runner.statistics()}
        outgoing.write(frames.pack(answer))
        outgoing.flush()


def main() -> None:
    """The process's start."""
    logging.basicConfig(format="%(name)s: %(message)s", stream=sys.stderr)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the scheduler's to handle
    crash_points.arm(os.environ)
    options = RunnerOptions.from_argument(sys.argv[1])
    runner = ModelRunner(options, CheckpointStore(Path(options.checkpoint_root)))
    serve(runner, sys.stdin.buffer, sys.stdout.buffer)


if __name__ == "__main__":
    main()
