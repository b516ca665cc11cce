# SPDX-License-Identifier: AGPL-3.0-only
"""The worker on a stand-in for NuPIC: exact over swaps and restarts, honest about what it lacks.

Runs on Python 2.7 (``PYTHONPATH=.:tests/stand_in python2.7 -m unittest discover tests``) and 3.
"""

from __future__ import absolute_import, division, unicode_literals

import io
import json
import os
import shutil
import struct
import tempfile
import unittest

from htmengine_nupic import descriptions, frames, worker
from htmengine_nupic.folder import Folder, Unusable
from htmengine_nupic.model import Model

DEFINITION = {
    "params": {
        "value": {"type": "random_distributed_scalar", "resolution": 0.5, "n": 400, "w": 21, "offset": None,
                  "seed": 42, "minval": 0.0, "maxval": 65.0},
        "date": {"season": None, "day_of_week": None, "weekend": None, "holiday": None,
                 "time_of_day": {"w": 21, "radius": 9.49}, "holidays": [[12, 25]]},
        "spatial": {"columns": 2048, "active_columns": 40, "potential_pct": 0.8, "connected": 0.2,
                    "increment": 0.003, "decrement": 0.0005, "learn_every": 4, "seed": 1956},
        "temporal": {"kind": "cpp", "cells_per_column": 32, "activation_threshold": 13, "min_threshold": 10,
                     "new_synapses": 20, "initial_permanence": 0.21, "connected_permanence": 0.5, "increment": 0.1,
                     "decrement": 0.1, "max_synapses": 32, "max_segments": 16000, "pam_length": 3,
                     "max_sequence": 32, "max_inference": 0, "max_learning": 5,
                     "predicted_segment_decrement": 0.0, "seed": 1960},
        "classifier": None,
    }
}  # fmt: skip


def rows(first, last):
    return tuple(frames.Row(n, 300 * n, float(n % 3), True) for n in range(first, last + 1))


def expected(first, last):
    """The stand-in's scores: a value comes every third row."""
    return [40 // ((n + 2) // 3) / 40.0 for n in range(first, last + 1)]


def sent(model_id="m", generation=1, after=0, last=0, confirmed=0, **more):
    extras = dict.fromkeys(("definition", "command", "verdict"), None)
    extras.update(more)
    return frames.Slice(model_id, generation, after, confirmed, rows(after + 1, last), **extras)


def raws(outcome):
    return [row.raw for row in outcome.rows]


class WorkerTestCase(unittest.TestCase):
    def setUp(self):
        self.root = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.root)
        self.now = 1.0
        self.runner = self.new_runner()

    def new_runner(self, **options):
        self.cache = worker.Cache(options, Folder(self.root), clock=lambda: self.now)
        return worker.Runner(self.cache, clock=lambda: self.now)

    def run_proven(self, each, scored=0, fits=True):
        """The database confirms every checkpoint, or none."""
        outcome = self.runner.run(each)
        while outcome.need == "proof":
            verdict = {"claim": outcome.claim, "fits": fits, "scored": scored, "digest": None}
            outcome = self.runner.run(each._replace(verdict=verdict))
        return outcome


class RowsTest(WorkerTestCase):
    def test_rows_get_nupics_raw_scores(self):
        outcome = self.runner.run(sent(last=9, definition=DEFINITION))
        self.assertEqual((outcome.at, outcome.need, outcome.error), (9, None, None))
        self.assertEqual(raws(outcome), expected(1, 9))

    def test_a_model_that_is_nowhere_is_asked_for(self):
        self.assertEqual(self.runner.run(sent(last=3)).need, "definition")

    def test_a_gap_is_told_and_nothing_is_run(self):
        outcome = self.runner.run(sent(after=5, last=9, definition=DEFINITION))
        self.assertEqual((outcome.at, outcome.need, outcome.rows), (0, "rows", ()))

    def test_rows_that_were_run_are_skipped(self):
        self.runner.run(sent(last=5, definition=DEFINITION))
        outcome = self.runner.run(sent(after=2, last=9))
        self.assertEqual([row.rowid for row in outcome.rows], [6, 7, 8, 9])
        self.assertEqual(raws(outcome), expected(6, 9))

    def test_a_newer_generation_starts_from_nothing(self):
        self.runner.run(sent(last=9, definition=DEFINITION))
        self.assertEqual(self.runner.run(sent(generation=2, last=9)).need, "definition")
        self.assertEqual(raws(self.runner.run(sent(generation=2, last=9, definition=DEFINITION))), expected(1, 9))

    def test_an_error_is_its_metrics_alone(self):
        bad = json.loads(json.dumps(DEFINITION))
        bad["params"]["spatial"]["columns"] = 1
        self.assertIn("NuPIC wants more columns", self.runner.run(sent("bad", last=3, definition=bad)).error)
        self.assertEqual(raws(self.runner.run(sent(last=3, definition=DEFINITION))), expected(1, 3))

    def test_a_row_that_nupic_cannot_run_fails_its_model_which_is_forgotten(self):
        self.runner.run(sent(last=3, definition=DEFINITION))
        outcome = self.runner.run(sent(after=3)._replace(rows=(frames.Row(4, 1200, 666.0, True),)))
        self.assertIn("no model of 666", outcome.error)
        self.assertEqual(self.runner.run(sent(after=3, last=4)).need, "definition")

    def test_a_slow_slice_is_answered_in_part(self):
        times = iter(range(0, 1000, 2))
        self.runner = worker.Runner(self.cache, clock=lambda: next(times))
        outcome = self.runner.run(sent(last=9, definition=DEFINITION))
        self.assertEqual((outcome.at, outcome.need), (3, None))
        self.assertEqual(raws(self.runner.run(sent(after=3, last=9))), expected(4, 6))

    def test_rows_of_a_maintenance_are_scored_and_not_learnt(self):
        self.runner.run(sent(last=3, definition=DEFINITION))
        unlearnt = [frames.Row(n, 300 * n, 1.0, False) for n in (4, 5)]
        outcome = self.runner.run(sent(after=3)._replace(rows=tuple(unlearnt)))
        self.assertEqual((raws(outcome), outcome.at), ([0.5, 0.5], 5))
        learnt = self.runner.run(sent(after=5)._replace(rows=(frames.Row(6, 1800, 1.0, True),)))
        self.assertEqual(raws(learnt), [0.5])

    def test_a_classifiers_predictions_are_told_best_first(self):
        definition = {"params": dict(DEFINITION["params"], classifier={"alpha": 0.1, "steps": [1]})}
        outcome = self.runner.run(sent(last=1, definition=definition))
        self.assertEqual(outcome.rows[0].predictions, {"1": [[1.0, 0.75]]})


class CommandTest(WorkerTestCase):
    def test_a_model_is_defined_and_deleted(self):
        define = {"method": "defineModel", "args": {"params": DEFINITION["params"]}, "command_id": "c"}
        self.assertEqual(self.runner.run(sent(command=define)).need, None)
        self.assertEqual(raws(self.runner.run(sent(last=3))), expected(1, 3))
        self.cache.save_all()
        self.runner.run(sent(command={"method": "deleteModel", "args": {}, "command_id": "d"}))
        self.assertEqual(self.runner.run(sent(last=3)).need, "definition")

    def test_a_snapshot_is_refused_and_the_model_goes_on(self):
        self.runner.run(sent(last=3, definition=DEFINITION))
        snapshot = {"method": "snapshotModel", "args": {"version": 1}, "command_id": "c"}
        outcome = self.runner.run(sent(command=snapshot))
        self.assertIn("no snapshots", outcome.refused)
        self.assertIsNone(outcome.error)
        self.assertEqual(raws(self.runner.run(sent(after=3, last=6))), expected(4, 6))

    def test_a_snapshot_of_the_other_core_is_refused_with_the_reason(self):
        definition = dict(DEFINITION, model="SFRNbW9kZWw=", after=3)
        self.assertIn("which NuPIC cannot read", self.runner.run(sent(last=3, definition=definition)).error)


class SwapTest(WorkerTestCase):
    def test_scores_are_the_same_over_swaps(self):
        self.runner = self.new_runner(memory_bytes=Model.MEMORY_BYTES)
        got = {"a": [], "b": []}
        for first in range(0, 12, 4):
            for model_id in got:
                each = sent(model_id, after=first, last=first + 4, definition=None if first else DEFINITION)
                got[model_id] += raws(self.run_proven(each, scored=first))
        self.assertEqual(got, {"a": expected(1, 12), "b": expected(1, 12)})
        self.assertEqual(self.cache.statistics()["models"], 1)

    def test_a_restart_goes_on_from_the_checkpoint_and_tells_what_was_not_published(self):
        self.runner.run(sent(last=6, definition=DEFINITION))
        self.cache.save_all()
        self.runner = self.new_runner()
        outcome = self.run_proven(sent(after=6, last=9, confirmed=4), scored=4)
        self.assertEqual([row.rowid for row in outcome.rows], [5, 6, 7, 8, 9])
        self.assertEqual(raws(outcome), expected(5, 9))

    def test_a_model_is_written_after_so_many_rows_and_the_newest_two_are_kept(self):
        self.runner = self.new_runner(checkpoint_rows=2)
        self.runner.run(sent(definition=DEFINITION))
        for last in range(2, 10, 2):
            self.runner.run(sent(after=last - 2, last=last))
        (parent,) = [path for path, folders, _ in os.walk(self.root) if "1-8" in folders]
        self.assertEqual(sorted(os.listdir(parent)), ["1-6", "1-8"])

    def test_a_model_is_written_when_its_rows_have_grown_old(self):
        self.runner = self.new_runner(checkpoint_seconds=900.0)
        self.runner.run(sent(last=3, definition=DEFINITION))
        self.cache.save_stale()
        self.assertEqual(self.cache.statistics()["checkpoints"], 0)
        self.now += 901.0
        self.cache.save_stale()
        self.cache.save_stale()
        self.assertEqual(self.cache.statistics()["checkpoints"], 1)

    def test_a_released_shard_is_written_and_forgotten(self):
        self.runner.run(sent("3fb1", last=3, definition=DEFINITION))
        self.cache.release(13, 16)
        self.assertEqual(self.cache.statistics()["models"], 1)
        self.cache.release(14, 16)
        self.assertEqual(self.cache.statistics()["models"], 0)
        self.assertEqual(raws(self.run_proven(sent("3fb1", after=3, last=6), scored=3)), expected(4, 6))

    def test_results_of_a_lost_shard_are_told_again(self):
        self.runner.run(sent("3fb1", last=3, definition=DEFINITION))
        self.cache.doubt(14, 16)
        self.assertEqual([row.rowid for row in self.runner.run(sent("3fb1", after=3, last=4, confirmed=1)).rows],
                         [2, 3, 4])  # fmt: skip

    def test_a_disk_that_refuses_checkpoints_stops_no_model(self):
        self.runner = self.new_runner(checkpoint_rows=2)
        shutil.rmtree(os.path.join(self.root, "nupic"))
        with open(os.path.join(self.root, "nupic"), "w"):
            self.assertEqual(raws(self.runner.run(sent(last=6, definition=DEFINITION))), expected(1, 6))
        self.assertTrue(self.cache.troubles()[0].startswith("checkpoints cannot be written"))


class FolderTest(WorkerTestCase):
    def setUp(self):
        super(FolderTest, self).setUp()
        self.runner.run(sent(last=3, definition=DEFINITION))
        self.cache.save_all()
        self.runner.run(sent(after=3, last=6))
        self.cache.save_all()
        (self.newest,) = [os.path.join(path, "1-6") for path, folders, _ in os.walk(self.root) if "1-6" in folders]
        self.runner = self.new_runner()

    def goes_on_from(self):
        return self.run_proven(sent(after=6, last=6), scored=6).at

    def test_the_newest_is_used(self):
        self.assertEqual(self.goes_on_from(), 6)

    def test_a_file_that_was_changed_is_not_unpickled(self):
        with open(os.path.join(self.newest, "model", "model.pkl"), "ab") as stream:
            stream.write(b".")
        self.assertEqual(self.goes_on_from(), 3)
        self.assertIn("not those that were written", self.cache.troubles()[0])
        self.assertTrue(os.path.isdir(self.newest + ".damaged"))

    def test_a_file_more_is_not_accepted(self):
        with open(os.path.join(self.newest, "model", "more.pkl"), "wb"):
            pass
        self.assertEqual(self.goes_on_from(), 3)

    def test_what_others_may_write_is_not_unpickled(self):
        os.chmod(os.path.join(self.newest, "model"), 0o777)
        self.assertEqual(self.goes_on_from(), 3)
        self.assertIn("others may write it", self.cache.troubles()[0])

    def test_a_link_is_not_followed(self):
        path = os.path.join(self.newest, "model", "model.pkl")
        os.rename(path, os.path.join(self.root, "elsewhere"))
        os.symlink(os.path.join(self.root, "elsewhere"), path)
        self.assertEqual(self.goes_on_from(), 3)

    def test_one_of_another_model_is_not_accepted(self):
        with io.open(os.path.join(self.newest, "state.json"), encoding="utf-8") as stream:
            state = json.load(stream)
        state["modelId"] = "other"
        with io.open(os.path.join(self.newest, "state.json"), "wb") as stream:
            stream.write(json.dumps(state).encode("ascii"))
        self.assertEqual(self.goes_on_from(), 3)

    def test_one_that_does_not_fit_the_database_is_put_aside(self):
        self.assertEqual(self.run_proven(sent(after=6, last=6), fits=False).need, "definition")
        self.assertEqual(self.cache.statistics()["checkpoints_contradicted"], 2)

    def test_a_folder_that_others_may_write_is_refused(self):
        os.chmod(self.root, 0o777)
        self.addCleanup(os.chmod, self.root, 0o700)
        self.assertRaises(Unusable, Folder, self.root)


class DescriptionTest(unittest.TestCase):
    def test_the_standard_model_is_htm_engines(self):
        params = descriptions.model_config(DEFINITION["params"])["modelParams"]
        self.assertEqual(
            params["sensorParams"]["encoders"],
            {
                "c0": {"type": "DateEncoder", "fieldname": "c0", "name": "c0", "timeOfDay": (21, 9.49)},
                "c1": {"type": "RandomDistributedScalarEncoder", "fieldname": "c1", "name": "c1", "resolution": 0.5,
                       "n": 400, "w": 21, "seed": 42},
            },
        )  # fmt: skip
        self.assertEqual(params["tmParams"]["maxInfBacktrack"], 10)
        self.assertFalse(params["clEnable"])

    def test_an_unknown_encoder_is_named(self):
        with self.assertRaises(descriptions.Unsupported) as refused:
            descriptions.model_config(dict(DEFINITION["params"], value={"type": "category"}))
        self.assertIn("value.type: category", str(refused.exception))

    def test_a_parameter_that_lacks_is_named(self):
        lacking = dict(DEFINITION["params"], spatial={"columns": 2048})
        self.assertRaises(descriptions.Unsupported, descriptions.model_config, lacking)


class ServeTest(WorkerTestCase):
    def setUp(self):
        super(ServeTest, self).setUp()
        self.page = os.open(os.path.join(self.root, "page"), os.O_RDWR | os.O_CREAT)
        self.addCleanup(os.close, self.page)

    def serve(self, *written):
        out = io.BytesIO()
        worker.serve(self.runner, io.BytesIO(b"".join(written)), out, self.page)
        out.seek(0)
        return [frames.unpack(body) for body in iter(lambda: frames.read(out), None)]

    def turn(self, number, rowids):
        head = {"turn": number, "ids": ["m"], "extras": {"0": {"definition": DEFINITION}}}
        return frames.pack(head, [("q", [1]), ("q", [0]), ("q", [0]), ("q", [len(rowids)]), ("q", rowids),
                                  ("q", [300 * each for each in rowids]), ("d", [1.0] * len(rowids))])  # fmt: skip

    def test_a_turn_is_answered_and_its_place_noted(self):
        ((head, columns),) = self.serve(self.turn(7, [1, 2]))
        self.assertEqual((head["turn"], head["ids"], head["troubles"]), (7, ["m"], []))
        self.assertEqual([columns.take("q", 1) for _ in range(3)], [(1,), (2,), (2,)])
        self.assertEqual([columns.take(kind, 2) for kind in "qqdd"], [(1, 2), (300, 600), (1.0, 1.0), (1.0, 0.5)])
        self.assertEqual(os.lseek(self.page, 0, os.SEEK_SET), 0)
        self.assertEqual(struct.unpack("=qq" if str is not bytes else b"=qq", os.read(self.page, 16)), (7, 0))

    def test_a_stop_writes_all_models(self):
        self.serve(self.turn(1, [1, 2]), frames.pack({"stop": True}))
        self.assertEqual(self.cache.statistics()["checkpoints"], 1)

    def test_a_scheduler_that_is_gone_ends_it_at_once(self):
        self.serve(self.turn(1, [1, 2]), b"\0\0")
        self.assertEqual(self.cache.statistics()["checkpoints"], 0)

    def test_a_release_is_answered(self):
        ((head, _),) = self.serve(frames.pack({"doubt": 3, "shards": 16}), frames.pack({"release": 3, "shards": 16}))
        self.assertEqual(head, {"released": 3})


if __name__ == "__main__":
    unittest.main()
