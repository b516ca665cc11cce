# SPDX-License-Identifier: MIT
"""The worker process: many models in memory, the least recently used of them on disk.

In: turns as frames on standard input (`frames`).  Out: each turn's outcomes as a frame on standard output, and
before each slice its place in a page of memory that the scheduler has too, so that it knows whom to blame for a crash.
Started by `worker_pool` as ``python -P -m htmengine.model_swapper.model_runner OPTIONS``; it says that it is ready, and
ends when the scheduler says stop or goes away.
"""

from __future__ import annotations

import base64
import logging
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import IO, Any

import numpy as np

from htmengine.errors import HtmEngineError
from htmengine.htm.model import Model
from htmengine.htm.params import ModelParams
from htmengine.messages import DELETE_MODEL, SNAPSHOT_MODEL, InputRow, ModelCommand, Predictions, ResultRow
from htmengine.model_swapper import frames
from htmengine.model_swapper.checkpoints import CheckpointStore
from htmengine.model_swapper.model_cache import ModelCache, Resident, RunnerOptions, Unproven
from htmengine.model_swapper.turns import Need, Outcome, Slice
from htmengine.process import crash_points


class ModelRunner:
    """Runs slices on the models of a cache."""

    def __init__(self, cache: ModelCache) -> None:
        self.cache = cache

    def run(self, sent: Slice) -> Outcome:
        """One model's part of a turn.  What goes wrong with the model is the outcome's ``error``."""
        failure = self.cache.failure(sent.model_id, sent.generation)
        if failure is not None:
            return Outcome(sent.model_id, sent.generation, error=failure)
        try:
            outcome = self._command(sent, sent.command) if sent.command else self._rows(sent)
        except Unproven as unproven:
            return Outcome(sent.model_id, sent.generation, need=Need.PROOF, claim=unproven.claim)
        except (OSError, MemoryError):
            raise  # this process's trouble, not the model's
        except Exception as error:
            self.cache.discard(sent.model_id)
            return Outcome(sent.model_id, sent.generation, error=f"{type(error).__name__}: {error}")
        self.cache.keep_within_budget()
        return outcome

    # --- slices

    def _rows(self, sent: Slice) -> Outcome:
        resident = self._resident(sent)
        if resident is not None and resident.rowid < sent.after and self.cache.is_overtaken(sent.model_id, resident):
            self.cache.discard(sent.model_id)
            resident = self._resident(sent)
        if resident is None:
            return Outcome(sent.model_id, sent.generation, need=Need.DEFINITION)
        again = _carried(resident, sent.confirmed)
        if resident.rowid < sent.after:
            return Outcome(sent.model_id, sent.generation, resident.rowid, tuple(again), Need.ROWS)
        rows = [row for row in sent.rows if row.rowid > resident.rowid]
        crash_points.reached("worker.running", [row.value for row in sent.rows])
        new = _scored(resident.model, rows)
        crash_points.reached("worker.ran")
        resident.results = resident.results + new
        if rows:
            self.cache.ran(sent.model_id, resident, rows)
        return Outcome(sent.model_id, sent.generation, resident.rowid, (*again, *new))

    def _command(self, sent: Slice, command: ModelCommand) -> Outcome:
        model_id = sent.model_id
        if command.method == DELETE_MODEL:
            self.cache.delete(model_id)
            return Outcome(model_id, sent.generation)
        resident = self._resident(sent)
        if resident is None and "params" in command.args:
            resident = self._define(model_id, sent.generation, command.args)
        if resident is None:
            return Outcome(model_id, sent.generation, need=Need.DEFINITION)
        state = resident.model.save() if command.method == SNAPSHOT_MODEL else None
        again = tuple(_carried(resident, sent.confirmed))
        return Outcome(model_id, sent.generation, resident.rowid, again, model=state)

    # --- models

    def _resident(self, sent: Slice) -> Resident | None:
        """The model of the slice's generation: from the cache, or the definition that the slice brings."""
        if sent.definition is not None or sent.verdict is not None:
            self.cache.is_current(sent.model_id, sent.generation)
        resident = self.cache.find(sent.model_id, sent.generation, sent.verdict)
        if resident is None and sent.definition:
            return self._define(sent.model_id, sent.generation, sent.definition)
        return resident

    def _define(self, model_id: str, generation: int, definition: Mapping[str, Any]) -> Resident:
        """A new model, or one that goes on from a state that the definition brings."""
        if "model" in definition:
            model = Model.restore(base64.b64decode(definition["model"]))
        else:
            model = Model(ModelParams.from_json(definition["params"]))
        rowid = int(definition.get("after", 0))
        return self.cache.define(model_id, generation, model, rowid)


def _carried(resident: Resident, confirmed: int) -> list[ResultRow]:
    """The results that a model's checkpoint carried, once: whoever made it may not have lived to publish them."""
    resident.results = [row for row in resident.results if row.rowid > confirmed]
    again = resident.results if resident.may_be_unpublished else []
    resident.may_be_unpublished = False
    return again


def _scored(model: Model, rows: Sequence[InputRow]) -> list[ResultRow]:
    if model.params.classifier is not None:
        return [ResultRow(row.rowid, row.timestamp, row.value, _raw(model, row), _predictions(model)) for row in rows]
    raws = [raw for learn, part in groupby(rows, _is_learnt) for raw in _raws(model, list(part), learn=learn)]
    return [ResultRow(row.rowid, row.timestamp, row.value, raw) for row, raw in zip(rows, raws, strict=True)]


def _is_learnt(row: InputRow) -> bool:
    return row.learn


def _raws(model: Model, rows: Sequence[InputRow], *, learn: bool) -> list[float]:
    if len(rows) == 1 or not learn:  # one is what comes most often; arrays would cost more than they save
        return [_raw(model, row) for row in rows]
    timestamps = np.array([row.timestamp for row in rows], dtype=np.int64)
    values = np.array([row.value for row in rows], dtype=np.float64)
    raws: list[float] = model.learn_many(timestamps, values).tolist()
    return raws


def _raw(model: Model, row: InputRow) -> float:
    return (model.learn if row.learn else model.score)(row.timestamp, row.value)


def _predictions(model: Model) -> Predictions:
    predictions = model.predictions()
    if predictions is None:
        return None
    return {str(step): [list(pair) for pair in best] for step, best in predictions.items()}


def serve(runner: ModelRunner, incoming: IO[bytes], outgoing: IO[bytes], page: int) -> None:
    """Answer frames until the scheduler says stop (all models are written) or is gone (at once).

    ``page`` is the file descriptor that is told which slice runs.
    """
    while True:
        body = frames.read(incoming)
        if body is None:
            return
        head, columns = frames.unpack(body)
        if "stop" in head:
            runner.cache.save_all()
            return
        if "doubt" in head:
            runner.cache.doubt(head["doubt"], head["shards"])
            continue
        if "release" in head:
            runner.cache.release(head["release"], head["shards"])
            outgoing.write(frames.pack({"released": head["release"]}))
        else:
            outgoing.write(_answer(runner, head["turn"], frames.slices_of(head, columns), page))
        outgoing.flush()


def _answer(runner: ModelRunner, turn: int, slices: Sequence[Slice], page: int) -> bytes:
    """Run a turn."""
    outcomes = []
    for place, sent in enumerate(slices):
        os.pwrite(page, frames.PLACE.pack(turn, place), 0)
        outcomes.append(runner.run(sent))
    runner.cache.save_stale()
    crash_points.reached("worker.answering")
    return frames.pack_answer(turn, outcomes, runner.cache.statistics(), runner.cache.troubles())


def main() -> None:
    """The process's start."""
    logging.basicConfig(format="%(name)s: %(message)s", stream=sys.stderr)
    for number in (signal.SIGINT, signal.SIGTERM):  # terminals and supervisors tell all, and the scheduler handles them
        signal.signal(number, signal.SIG_IGN)
    crash_points.arm(os.environ)
    options = RunnerOptions.from_argument(sys.argv[1])
    try:
        store = CheckpointStore(Path(options.checkpoint_root))
        store.remove_partials(time.time())
    except (OSError, HtmEngineError) as error:
        raise SystemExit(f"htmengine worker: the models' folder {options.checkpoint_root}: {error}") from None
    runner = ModelRunner(ModelCache(options, store))
    sys.stdout.buffer.write(frames.pack({"ready": frames.VERSION}))
    sys.stdout.buffer.flush()
    serve(runner, sys.stdin.buffer, sys.stdout.buffer, frames.PAGE_FD)


if __name__ == "__main__":
    main()
