# SPDX-License-Identifier: MIT
"""The models of one worker: some in memory, the others swapped out, all of them on disk sooner or later.

In: calls of `model_runner`, a model at a time.  Out: models in memory, exactly as their last row left them.

A model that is swapped out need not be written each time: running a few rows again costs less than a checkpoint.
So its rows since the last checkpoint are kept here, 16 bytes each, and run again when it comes back; every
``replay_rows`` rows it is written.  The rows are in metric_data too, should this process die.  A disk that refuses
checkpoints makes the replays longer, and stops no model.

Who leaves first?  Metrics come round after round, so the model that was used least recently is often the next to
be used again.  Of a few models chosen at random, the one leaves whose next row is expected latest.

A checkpoint of another process needs proof that it fits the database (`proofs`): a power cut or an older backup may
have taken its rows.
"""

from __future__ import annotations

import contextlib
import json
import logging
import random
import resource
import struct
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field

from htmengine.errors import CheckpointError
from htmengine.htm.model import Model
from htmengine.messages import CHECKPOINTS_REFUSED, InputRow, ResultRow
from htmengine.messages.digest import START, after_rows
from htmengine.model_swapper.checkpoints import Checkpoint, CheckpointStore
from htmengine.model_swapper.turns import Claim, Verdict
from htmengine.process.seldom import Seldom
from htmengine.sharding import shard_of

log = logging.getLogger("htmengine.model_runner")

#: Models that are looked at to find the one to swap out.
_CANDIDATES = 16
#: A model with a row that has been unwritten for this long is written when it is swapped out: rows of old days
#: may be removed from metric_data.
_UNWRITTEN_S = 6 * 3600.0
#: Writing what has grown old takes at most this much of a turn.
_SAVING_S = 0.05

#: The ``saved_rowid`` of a model that is not on disk.
_NO_CHECKPOINT = -1

#: Timestamp and value of a row, and whether it is learnt.
_ROW = struct.Struct("<qd?")


@dataclass(frozen=True, slots=True)
class RunnerOptions:
    """What a worker is told at its start."""

    checkpoint_root: str
    memory_bytes: int = 1 << 30  #: models that do not fit are swapped out
    replay_rows: int = 16  #: a swapped-out model lacks fewer rows than this in its checkpoint
    checkpoint_rows: int = 1000  #: a model is written when it has run this many rows since the last time
    checkpoint_seconds: float = 900.0  #: or when its oldest unwritten row is this old
    stop_seconds: float = 5.0  #: models not written within this at a stop are replayed at the next start

    def to_argument(self) -> str:
        """The command line's argument."""
        return json.dumps(asdict(self))

    @classmethod
    def from_argument(cls, text: str) -> RunnerOptions:
        """What `to_argument` made."""
        return cls(**json.loads(text))


class Unproven(Exception):
    """A model's checkpoint is not used before the database has spoken."""

    def __init__(self, claim: Claim) -> None:
        super().__init__(claim)
        self.claim = claim


@dataclass(slots=True)
class Resident:
    """A model in memory."""

    model: Model
    generation: int
    rowid: int  #: its last row
    saved_rowid: int  #: its last row in the newest checkpoint, or `_NO_CHECKPOINT`
    digest: int | None = START  #: of its rows (`messages.digest`); None: not known
    memory_bytes: int = 0
    #: Results up to ``rowid`` that are not known to be published: a checkpoint has to carry them.
    results: list[ResultRow] = field(default_factory=list)
    #: Loaded from a checkpoint, or of a shard that was lost: its results may never have been published.
    may_be_unpublished: bool = False
    unwritten: bytearray = field(default_factory=bytearray)  #: the rows since the checkpoint, as `_ROW`
    unwritten_since: float = 0.0  #: when the first of them ran
    used_at: float = 0.0  #: when its last rows ran
    interval_s: float = 0.0  #: between its last two uses; 0: not known

    @property
    def is_written(self) -> bool:
        """Whether its checkpoint has all its rows."""
        return self.rowid == self.saved_rowid

    @property
    def unwritten_rows(self) -> int:
        """How many rows a checkpoint would spare whoever restores the model."""
        return len(self.unwritten) // _ROW.size

    def wait_s(self, now: float) -> float:
        """A guess at the time until it is used again; one that is overdue may not be used for as long again."""
        return abs(self.used_at + self.interval_s - now)


@dataclass(frozen=True, slots=True)
class SwappedOut:
    """What a model's checkpoint does not tell of it."""

    generation: int
    rowid: int
    saved_rowid: int
    digest: int | None
    results: list[ResultRow]
    unwritten: bytearray
    unwritten_since: float
    used_at: float


class ModelCache:
    """Models within a memory budget.  ``clock`` gives seconds that never go back."""

    def __init__(
        self, options: RunnerOptions, store: CheckpointStore, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._options = options
        self._store = store
        self._clock = clock
        self._residents: dict[str, Resident] = {}
        self._order: list[str] = []  #: the residents' ids, to choose from at random
        self._place: dict[str, int] = {}  #: where each stands in it
        self._unwritten: dict[str, Resident] = {}  #: the one with the oldest unwritten row first
        self._swapped_out: dict[str, SwappedOut] = {}
        self._failed: dict[str, tuple[int, str]] = {}  #: generations of models that cannot be written, and why
        self._random = random.Random(0)
        self._cpu_at_start = time.process_time()
        self.memory_bytes = 0
        self.swapped_in = 0
        self.swapped_out = 0
        self._refusal: str | None = None  #: why the last checkpoint could not be written
        self._seldom = Seldom(clock)
        self._contradictions = Seldom(clock)
        self._damage: str | None = None  #: the last checkpoint that could not be used
        self.checkpoints = 0
        self.refused = 0
        self.damaged = 0
        self._contradiction: str | None = None  #: the last checkpoint that did not fit the database
        self.contradicted = 0
        self.checkpoint_bytes = 0

    def __len__(self) -> int:
        return len(self._residents)

    def statistics(self) -> dict[str, int]:
        """Figures for the scheduler's self-metrics."""
        return {
            "models": len(self._residents),
            "memory_bytes": self.memory_bytes,
            "swapped_in": self.swapped_in,
            "swapped_out": self.swapped_out,
            "checkpoints": self.checkpoints,
            "checkpoint_bytes": self.checkpoint_bytes,
            "checkpoints_refused": self.refused,
            "checkpoints_damaged": self.damaged,
            "checkpoints_contradicted": self.contradicted,
            "peak_rss_bytes": _peak_rss_bytes(),
            "cpu_us": int(1e6 * (time.process_time() - self._cpu_at_start)),
        }

    def troubles(self) -> list[str]:
        """What the operator should know of."""
        found = []
        if self._refusal is not None:
            found.append(f"{CHECKPOINTS_REFUSED}, a restart will replay rows: {self._refusal}")
        if self._damage is not None:
            found.append(f"{self.damaged} damaged checkpoints were skipped and their rows run again: {self._damage}")
        if self._contradiction is not None:
            found.append(
                f"checkpoints of rows that the database no longer has: {self.contradicted}, the last of"
                f" {self._contradiction}; it is older than they are, and the models were made again from its rows"
            )
        return found

    # --- models ----------------------------------------------------------------------------------------

    def failure(self, model_id: str, generation: int) -> str | None:
        """Why the model could not be written meanwhile; told once."""
        failed, why = self._failed.pop(model_id, (generation, None))
        return why if failed == generation else None

    def find(self, model_id: str, generation: int, verdict: Verdict | None = None) -> Resident | None:
        """The model of that generation, in memory from now on; an older one is forgotten.

        ``verdict`` is what the database says to its checkpoint; raises `Unproven` without it.
        """
        resident = self._residents.get(model_id)
        if resident is None:
            return self._swap_in(model_id, generation, verdict)
        if resident.generation == generation:
            return resident
        self.discard(model_id)
        return self._swap_in(model_id, generation, verdict)

    def is_current(self, model_id: str, generation: int) -> None:
        """The database has said that this is the model's generation: put checkpoints of later ones aside."""
        with contextlib.suppress(OSError):  # a disk that cannot be written
            self._store.refuse_newer(model_id, generation)

    def define(self, model_id: str, generation: int, model: Model, rowid: int) -> Resident:
        """Have a new model in memory, which starts after the row ``rowid``."""
        out = self._swapped_out.pop(model_id, None)
        if out is not None and (out.generation, out.saved_rowid) == (generation, _NO_CHECKPOINT):
            return self._bring_back(model_id, model, out)  # the disk took no checkpoint of it
        return self._add(model_id, Resident(model, generation, rowid, _NO_CHECKPOINT))

    def _add(self, model_id: str, resident: Resident) -> Resident:
        self._residents[model_id] = resident
        self._place[model_id] = len(self._order)
        self._order.append(model_id)
        self._weigh(resident)
        if not resident.is_written:
            self._unwritten[model_id] = resident
            resident.unwritten_since = resident.unwritten_since or self._clock()
        return resident

    def ran(self, model_id: str, resident: Resident, rows: Sequence[InputRow]) -> None:
        """The model has run these rows."""
        now = self._clock()
        if resident.is_written:
            resident.unwritten_since = now
            self._unwritten[model_id] = resident
        resident.interval_s = now - resident.used_at if resident.used_at else 0.0
        resident.used_at = now
        resident.digest = after_rows(
            resident.digest, resident.rowid, ((row.rowid, row.timestamp, row.value) for row in rows)
        )
        resident.rowid = rows[-1].rowid
        resident.unwritten += b"".join([_ROW.pack(row.timestamp, row.value, row.learn) for row in rows])
        self._weigh(resident)
        if resident.rowid - max(resident.saved_rowid, 0) >= self._options.checkpoint_rows:
            self.save(model_id, resident)

    def discard(self, model_id: str) -> None:
        """Forget what is in memory of a model, written or not."""
        resident = self._residents.pop(model_id, None)
        self._unwritten.pop(model_id, None)
        self._swapped_out.pop(model_id, None)
        if resident is None:
            return
        self.memory_bytes -= resident.memory_bytes
        place, last = self._place.pop(model_id), self._order.pop()
        if last != model_id:
            self._order[place] = last
            self._place[last] = place

    def delete(self, model_id: str) -> None:
        """Remove a model from memory and disk."""
        self.discard(model_id)
        try:
            self._store.delete(model_id)
        except OSError as error:
            log.error("checkpoints of model %s cannot be removed: %s", model_id, error)

    def keep_within_budget(self) -> None:
        """Swap models out until the others fit; one may always stay."""
        while self.memory_bytes > self._options.memory_bytes and len(self._residents) > 1:
            self._swap_out(self._last_to_be_used())

    # --- other schedulers ------------------------------------------------------------------------------

    def release(self, shard: int, shards: int) -> None:
        """Another scheduler goes on with the models of a shard: write them, and forget them."""
        for model_id in [each for each in self._residents if shard_of(each, shards) == shard]:
            resident = self._residents[model_id]
            if not resident.is_written:
                self._try_to_save(model_id, resident)
            self.discard(model_id)
        self._forget_swapped_out(shard, shards)

    def doubt(self, shard: int, shards: int) -> None:
        """The shard was lost and may come back: what its models' last rows gave may not have been published."""
        for model_id, resident in self._residents.items():
            if shard_of(model_id, shards) == shard:
                resident.may_be_unpublished = True
        self._forget_swapped_out(shard, shards)

    def is_overtaken(self, model_id: str, resident: Resident) -> bool:
        """Whether another scheduler has gone on with the model: there is a checkpoint of later rows."""
        return resident.rowid < self._store.newest_rowid(model_id, resident.generation)

    def _forget_swapped_out(self, shard: int, shards: int) -> None:
        """What their checkpoints lack is run again."""
        for model_id in [each for each in self._swapped_out if shard_of(each, shards) == shard]:
            del self._swapped_out[model_id]

    # --- checkpoints -----------------------------------------------------------------------------------

    def save(self, model_id: str, resident: Resident) -> bool:
        """Write a checkpoint.  False, and told of, if the disk refuses it: the rows since the last one are kept."""
        data = resident.model.save()
        results = tuple(resident.results)
        try:
            self._store.save(Checkpoint(model_id, resident.generation, resident.rowid, data, results, resident.digest))
        except OSError as error:
            self._refused(model_id, error)
            return False
        self._refusal = None
        self._unwritten.pop(model_id, None)
        resident.saved_rowid = resident.rowid
        resident.unwritten = bytearray()
        self.checkpoints += 1
        self.checkpoint_bytes += len(data)
        return True

    def _try_to_save(self, model_id: str, resident: Resident) -> bool:
        """As `save`, while another model runs or none: a model that cannot be written fails when it is next to run."""
        try:
            return self.save(model_id, resident)
        except MemoryError:
            raise
        except Exception as error:
            log.exception("model %s cannot be written", model_id)
            self._failed[model_id] = (resident.generation, f"{type(error).__name__}: {error}")
            self.discard(model_id)
            return True

    def save_all(self) -> None:
        """Write what is not written, the oldest first, as long as a stop may take."""
        self._save_until(self._clock() + self._options.stop_seconds, before=float("inf"))
        if self._unwritten:
            log.warning("stopping with models unwritten; their rows run again at the next start")

    def save_stale(self) -> None:
        """Write models whose unwritten rows have grown old, so that a restart replays little; a few at a time."""
        now = self._clock()
        self._save_until(now + _SAVING_S, before=now - self._options.checkpoint_seconds)

    def _save_until(self, deadline: float, *, before: float) -> None:
        for model_id, resident in list(self._unwritten.items()):
            late = resident.unwritten_since >= before or self._clock() > deadline
            if late or not self._try_to_save(model_id, resident):
                return

    # --- swapping --------------------------------------------------------------------------------------

    def _swap_in(self, model_id: str, generation: int, verdict: Verdict | None) -> Resident | None:
        """From the newest checkpoint that is intact and fits the database; faults of newer ones are reported."""
        out = self._swapped_out.get(model_id)
        for checkpoint in self._intact(model_id, generation):
            ours = out is not None and (out.generation, out.saved_rowid) == (generation, checkpoint.rowid)
            if not ours and not self._is_usable(checkpoint, verdict):
                continue
            try:
                model = Model.restore(checkpoint.model)
            except CheckpointError as error:
                log.error("checkpoint of model %s at row %d: %s", model_id, checkpoint.rowid, error)
                continue
            self._swapped_out.pop(model_id, None)
            self.swapped_in += 1
            if out is not None and ours:
                return self._bring_back(model_id, model, out)
            assert verdict is not None
            return self._add(model_id, _resumed(model, checkpoint, verdict))
        return None

    def _intact(self, model_id: str, generation: int) -> Iterator[Checkpoint]:
        for checkpoint in self._store.load(model_id, generation):
            self._report_damaged()
            yield checkpoint
        self._report_damaged()

    def _is_usable(self, checkpoint: Checkpoint, verdict: Verdict | None) -> bool:
        """Whether it fits the database; one that does not is put aside.  Raises `Unproven`."""
        claim = Claim(checkpoint.rowid, checkpoint.digest)
        if verdict is None or verdict.claim != claim:
            raise Unproven(claim)
        if not verdict.fits:
            self._report_contradicted(checkpoint)
            self._store.refuse(checkpoint)
        return verdict.fits

    def _bring_back(self, model_id: str, model: Model, out: SwappedOut) -> Resident:
        """Run the rows again that the checkpoint lacks."""
        for timestamp, value, learn in _ROW.iter_unpack(out.unwritten):
            (model.learn if learn else model.score)(timestamp, value)
        resident = Resident(
            model,
            out.generation,
            out.rowid,
            out.saved_rowid,
            digest=out.digest,
            results=out.results,
            unwritten=out.unwritten,
            unwritten_since=out.unwritten_since,
            used_at=out.used_at,
        )
        return self._add(model_id, resident)

    def _swap_out(self, model_id: str) -> None:
        resident = self._residents[model_id]
        if not resident.is_written and self._is_due(model_id, resident):
            self._try_to_save(model_id, resident)
        if model_id not in self._residents:
            return  # it has failed
        out = SwappedOut(
            resident.generation,
            resident.rowid,
            resident.saved_rowid,
            resident.digest,
            resident.results,
            resident.unwritten,
            resident.unwritten_since,
            resident.used_at,
        )
        self.discard(model_id)
        self._swapped_out[model_id] = out
        self.swapped_out += 1

    def _is_due(self, model_id: str, resident: Resident) -> bool:
        """Whether it has to be written before it goes.  Not all models at the same row, lest the disk get bursts."""
        if (
            resident.saved_rowid == _NO_CHECKPOINT
            or resident.unwritten_rows > self._options.replay_rows
            or self._clock() - resident.unwritten_since > _UNWRITTEN_S
        ):
            return True
        every = self._options.replay_rows
        phase = zlib.crc32(model_id.encode()) % every
        return (resident.rowid + phase) // every != (resident.saved_rowid + phase) // every

    def _last_to_be_used(self) -> str:
        now = self._clock()
        candidates = self._random.choices(self._order, k=_CANDIDATES)
        return max(candidates, key=lambda model_id: self._residents[model_id].wait_s(now))

    def _weigh(self, resident: Resident) -> None:
        self.memory_bytes -= resident.memory_bytes
        resident.memory_bytes = resident.model.memory_bytes + len(resident.unwritten)
        self.memory_bytes += resident.memory_bytes

    def _report_damaged(self) -> None:
        while self._store.damaged:
            path, why = self._store.damaged.pop()
            self.damaged += 1
            self._damage = f"{path}: {why}"
            log.error("checkpoint %s cannot be used: %s", path, why)

    def _report_contradicted(self, checkpoint: Checkpoint) -> None:
        self.contradicted += 1
        self._contradiction = f"model {checkpoint.model_id} at row {checkpoint.rowid}"
        if self._contradictions.due():
            log.error("checkpoint of %s does not fit the database", self._contradiction)

    def _refused(self, model_id: str, error: OSError) -> None:
        """The disk is full, read-only or broken.  All models meet this; the log says it once in a while."""
        self.refused += 1
        self._refusal = str(error)
        if self._seldom.due():
            log.error("checkpoint of model %s cannot be written (%d so far): %s", model_id, self.refused, error)


def _resumed(model: Model, checkpoint: Checkpoint, verdict: Verdict) -> Resident:
    """A model that goes on where another process left it: what that one had not published, this one does."""
    return Resident(
        model,
        checkpoint.generation,
        checkpoint.rowid,
        checkpoint.rowid,
        digest=verdict.digest,
        results=[row for row in checkpoint.results if row.rowid > verdict.scored],
        may_be_unpublished=True,
    )


def _peak_rss_bytes() -> int:
    """The most physical memory that this process had so far."""
    kilobytes = 1 if sys.platform == "darwin" else 1024  # macOS counts in bytes, all others in kilobytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * kilobytes
