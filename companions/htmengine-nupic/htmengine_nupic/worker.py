# SPDX-License-Identifier: AGPL-3.0-only
"""The worker process: NuPIC's models behind HTM Engine's scheduler.

In: turns as frames on standard input.  Out: each turn's outcomes as a frame on standard output, and before each slice
its place in a page of memory that the scheduler has too.  Started by the scheduler as ``htmengine-nupic-worker
OPTIONS``; the options are a JSON object.  What NuPIC prints goes to standard error.
"""

from __future__ import absolute_import, division, unicode_literals

import json
import logging
import os
import resource
import signal
import sys
import time
import zlib
from collections import OrderedDict

from htmengine_nupic import frames
from htmengine_nupic.folder import Checkpoint, Folder, Unusable
from htmengine_nupic.model import Model

log = logging.getLogger("htmengine_nupic")

#: A slice is answered after this long, be it with a part of its rows: the scheduler watches for signs of life.
SLICE_S = 5.0
#: The scheduler removes no old rows while a trouble begins with this.
CHECKPOINTS_REFUSED = "checkpoints cannot be written"
#: How a snapshot of HTM Engine's own core is known.
SNAPSHOT = "model"
_REFUSED_SNAPSHOT = "NuPIC's models have no snapshots: restoring one unpickles, which runs what it reads"
_FOREIGN_SNAPSHOT = (
    "the model starts from a snapshot of HTM Engine's own core, which NuPIC cannot read;"
    " unmonitor and monitor the metric to make its model again"
)


class Resident(object):
    """A model in memory after the row ``rowid``."""

    def __init__(self, model, generation, rowid, saved_rowid=-1, results=(), may_be_unpublished=False):
        self.model = model
        self.generation = generation
        self.rowid = rowid
        self.saved_rowid = saved_rowid
        self.results = list(results)  #: those that are not known to be published
        self.may_be_unpublished = may_be_unpublished  #: whether they have to be told again
        self.unwritten_since = 0.0


class Unproven(Exception):
    """A checkpoint is not used before the database has spoken."""


class Cache(object):
    """The models in memory, the least recently used first; the others are on disk."""

    def __init__(self, options, folder, make=Model, clock=time.time):
        self._options = options
        self._folder = folder
        self._make = make
        self._clock = clock
        self._most = max(1, int(options.get("memory_bytes", 1 << 30)) // make.MEMORY_BYTES)
        self._residents = OrderedDict()
        self._refusal = None
        self._damage = None
        self._counts = dict.fromkeys(
            ("swapped_in", "swapped_out", "checkpoints", "checkpoint_bytes", "checkpoints_refused",
             "checkpoints_damaged", "checkpoints_contradicted"),
            0,
        )  # fmt: skip

    def find(self, model_id, generation, verdict):
        """The model of that generation, or None.  Raises `Unproven` with what its checkpoint claims."""
        resident = self._residents.pop(model_id, None)
        if resident is None or resident.generation != generation:
            return self._restored(model_id, generation, verdict)
        self._residents[model_id] = resident
        return resident

    def define(self, model_id, generation, params, rowid):
        """A new model."""
        return self._add(model_id, Resident(self._make(params), generation, rowid))

    def is_overtaken(self, model_id, resident):
        """Whether another scheduler has gone on with the model."""
        return self._folder.newest_rowid(model_id, resident.generation) > resident.rowid

    def discard(self, model_id):
        """Forget what is in memory of a model."""
        self._residents.pop(model_id, None)

    def delete(self, model_id):
        """Remove a model from memory and disk."""
        self.discard(model_id)
        try:
            self._folder.delete(model_id)
        except EnvironmentError as error:
            log.error("checkpoints of model %s cannot be removed: %s", model_id, error)

    def ran(self, model_id, resident, rowid):
        """The model has run the rows up to this one."""
        resident.rowid = rowid
        resident.unwritten_since = resident.unwritten_since or self._clock()
        if rowid - max(resident.saved_rowid, 0) >= self._options.get("checkpoint_rows", 1000):
            self.save(model_id, resident)

    def save(self, model_id, resident):
        """Write a checkpoint.  False, and told of, if the disk refuses it."""
        checkpoint = Checkpoint(
            model_id, resident.generation, resident.rowid, resident.model.params, resident.results, None
        )
        try:
            size = self._folder.save(checkpoint, resident.model.save)
        except EnvironmentError as error:
            self._refusal = "%s" % error
            self._counts["checkpoints_refused"] += 1
            log.error("checkpoint of model %s cannot be written: %s", model_id, error)
            return False
        self._refusal = None
        self._counts["checkpoints"] += 1
        self._counts["checkpoint_bytes"] += size
        resident.saved_rowid, resident.unwritten_since = resident.rowid, 0.0
        return True

    def save_all(self):
        """Write what is not written, as long as a stop may take."""
        deadline = self._clock() + self._options.get("stop_seconds", 5.0)
        for model_id, resident in self._unwritten():
            if self._clock() > deadline:
                log.warning("stopping with models unwritten; their rows run again at the next start")
                return
            self.save(model_id, resident)

    def save_stale(self):
        """Write one model whose unwritten rows have grown old."""
        before = self._clock() - self._options.get("checkpoint_seconds", 900.0)
        for model_id, resident in self._unwritten():
            if resident.unwritten_since < before:
                self.save(model_id, resident)
                return

    def release(self, shard, shards):
        """Another scheduler goes on with the models of a shard: write them, and forget them."""
        for model_id in self._of_shard(shard, shards):
            resident = self._residents[model_id]
            if resident.rowid != resident.saved_rowid:
                self.save(model_id, resident)
            self.discard(model_id)

    def doubt(self, shard, shards):
        """The shard was lost and may come back: the last results may not have been published."""
        for model_id in self._of_shard(shard, shards):
            self._residents[model_id].may_be_unpublished = True

    def statistics(self):
        """Figures for the scheduler's self-metrics."""
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return dict(
            self._counts,
            models=len(self._residents),
            memory_bytes=len(self._residents) * self._make.MEMORY_BYTES,
            peak_rss_bytes=usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
            cpu_us=int(1e6 * (usage.ru_utime + usage.ru_stime)),
        )

    def troubles(self):
        """What the operator should know of."""
        found = []
        if self._refusal is not None:
            found.append("%s, a restart will replay rows: %s" % (CHECKPOINTS_REFUSED, self._refusal))
        if self._damage is not None:
            count = self._counts["checkpoints_damaged"]
            found.append("%d unusable checkpoints of NuPIC's models were put aside: %s" % (count, self._damage))
        return found

    def _restored(self, model_id, generation, verdict):
        for checkpoint in self._folder.load(model_id, generation):
            self._note_damaged()
            claim = {"rowid": checkpoint.rowid, "digest": None}
            if verdict is None or verdict["claim"] != claim:
                raise Unproven(claim)
            if not verdict["fits"]:
                self._counts["checkpoints_contradicted"] += 1
            model = self._usable(checkpoint, verdict["fits"])
            if model is None:
                continue
            self._counts["swapped_in"] += 1
            results = [frames.Result(*row) for row in checkpoint.results if row[0] > verdict["scored"]]
            rowid = checkpoint.rowid
            return self._add(model_id, Resident(model, generation, rowid, rowid, results, may_be_unpublished=True))
        self._note_damaged()
        return None

    def _usable(self, checkpoint, fits):
        """The checkpoint's model; one that cannot be used is put aside."""
        why = "it does not fit the database"
        try:
            if fits:
                return self._make.restore(checkpoint.model_folder, checkpoint.params)
        except MemoryError:
            raise
        except Exception as error:
            why = "%s: %s" % (type(error).__name__, error)
        self._folder.put_aside(self._folder.path_of(checkpoint), why)
        return None

    def _add(self, model_id, resident):
        """Into memory, where the least recently used make room."""
        while len(self._residents) >= self._most:
            out_id, out = next(iter(self._residents.items()))
            if out.rowid != out.saved_rowid:
                self.save(out_id, out)
            self.discard(out_id)
            self._counts["swapped_out"] += 1
        self._residents[model_id] = resident
        return resident

    def _unwritten(self):
        """Those with unwritten rows, the oldest first."""
        found = [(model_id, each) for model_id, each in self._residents.items() if each.unwritten_since]
        return sorted(found, key=lambda pair: pair[1].unwritten_since)

    def _of_shard(self, shard, shards):
        # The same as HTM Engine's sharding; Python 2 gives signed numbers.
        return [each for each in self._residents if (zlib.crc32(each.encode("utf-8")) & 0xFFFFFFFF) % shards == shard]

    def _note_damaged(self):
        while self._folder.damaged:
            path, why = self._folder.damaged.pop()
            self._damage = "%s: %s" % (path, why)
            self._counts["checkpoints_damaged"] += 1
            log.error("checkpoint %s cannot be used: %s", path, why)


class Runner(object):
    """Runs slices on the models of a cache."""

    def __init__(self, cache, clock=time.time):
        self.cache = cache
        self._clock = clock

    def run(self, sent):
        """One model's part of a turn.  What goes wrong with the model is the outcome's ``error``."""
        try:
            return self._command(sent, sent.command) if sent.command else self._rows(sent)
        except Unproven as unproven:
            return frames.outcome(sent, need="proof", claim=unproven.args[0])
        except (EnvironmentError, MemoryError):
            raise  # this process's trouble, not the model's
        except Exception as error:
            self.cache.discard(sent.model_id)
            return frames.outcome(sent, error="NuPIC: %s: %s" % (type(error).__name__, error))

    def _rows(self, sent):
        resident = self._resident(sent)
        if resident is not None and resident.rowid < sent.after and self.cache.is_overtaken(sent.model_id, resident):
            self.cache.discard(sent.model_id)
            resident = self._resident(sent)
        if resident is None:
            return frames.outcome(sent, need="definition")
        again = _carried(resident, sent.confirmed)
        if resident.rowid < sent.after:
            return frames.outcome(sent, resident.rowid, again, need="rows")
        new = self._learn(resident.model, [row for row in sent.rows if row.rowid > resident.rowid])
        resident.results += new
        if new:
            self.cache.ran(sent.model_id, resident, new[-1].rowid)
        return frames.outcome(sent, resident.rowid, again + new)

    def _learn(self, model, rows):
        """The results of the rows, or of as many as there is time for, of one at least."""
        deadline, results = self._clock() + SLICE_S, []
        for row in rows:
            results.append(frames.Result(*(row[:3] + model.run(row.timestamp, row.value, row.learn))))
            if self._clock() > deadline:
                break
        return results

    def _command(self, sent, command):
        method, args = command["method"], command["args"]
        if method == "deleteModel":
            self.cache.delete(sent.model_id)
            return frames.outcome(sent)
        resident = self._resident(sent)
        if resident is None and "params" in args:
            resident = self._define(sent, args)
        if resident is None:
            return frames.outcome(sent, need="definition")
        refused = _REFUSED_SNAPSHOT if method == "snapshotModel" else None
        return frames.outcome(sent, resident.rowid, _carried(resident, sent.confirmed), refused=refused)

    def _resident(self, sent):
        """The model: from the cache, or the definition that the slice brings."""
        resident = self.cache.find(sent.model_id, sent.generation, sent.verdict)
        if resident is None and sent.definition:
            return self._define(sent, sent.definition)
        return resident

    def _define(self, sent, definition):
        if SNAPSHOT in definition:
            raise ValueError(_FOREIGN_SNAPSHOT)
        return self.cache.define(sent.model_id, sent.generation, definition["params"], int(definition.get("after", 0)))


def _carried(resident, confirmed):
    """The results that a model's checkpoint carried, once: whoever made it may not have lived to publish them."""
    resident.results = [row for row in resident.results if row.rowid > confirmed]
    again = list(resident.results) if resident.may_be_unpublished else []
    resident.may_be_unpublished = False
    return again


def serve(runner, incoming, outgoing, page):
    """Answer frames until the scheduler says stop (models are written) or is gone (at once).

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


def _answer(runner, turn, slices, page):
    """Run a turn."""
    outcomes = []
    for place, sent in enumerate(slices):
        os.lseek(page, 0, os.SEEK_SET)
        os.write(page, frames.PLACE.pack(turn, place))
        outcomes.append(runner.run(sent))
    runner.cache.save_stale()
    return frames.pack_answer(turn, outcomes, runner.cache.statistics(), runner.cache.troubles())


def _own_output():
    """Standard output for frames alone: what is printed goes to standard error."""
    outgoing = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return outgoing


def main():
    """The process's start."""
    logging.basicConfig(format="%(name)s: %(message)s", stream=sys.stderr)
    for number in (signal.SIGINT, signal.SIGTERM):  # terminals and supervisors tell all, and the scheduler handles them
        signal.signal(number, signal.SIG_IGN)
    os.umask(0o077)
    outgoing = _own_output()
    options = json.loads(sys.argv[1])
    try:
        folder = Folder(options["checkpoint_root"])
    except (Unusable, EnvironmentError) as error:
        raise SystemExit("htmengine-nupic: the models' folder: %s" % error)
    outgoing.write(frames.pack({"ready": frames.VERSION}))
    outgoing.flush()
    serve(Runner(Cache(options, folder)), getattr(sys.stdin, "buffer", sys.stdin), outgoing, frames.PAGE_FD)
