# SPDX-License-Identifier: MIT
"""Models within a budget: exact however they are swapped, written seldom, the right ones in memory."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from htmengine.htm.model import Model
from htmengine.htm.params import ModelParams, SpatialPoolerParams
from htmengine.messages import InputRow
from htmengine.model_swapper.checkpoints import CheckpointStore
from htmengine.model_swapper.model_cache import ModelCache, Resident, RunnerOptions, Unproven
from htmengine.model_swapper.turns import Verdict

PARAMS = replace(
    ModelParams.for_range(0.0, 100.0), spatial=SpatialPoolerParams(columns=256, active_columns=12, learn_every=1)
)
ONE_MODEL = 1  # bytes: one may always stay


def row(rowid: int) -> InputRow:
    """Some are not learnt."""
    return InputRow(rowid, 300 * rowid, 50 + 40 * math.sin(rowid / 9) + rowid % 3, learn=rowid % 10 not in (6, 7, 8))


def run(model: Model, rowid: int) -> None:
    one = row(rowid)
    (model.learn if one.learn else model.score)(one.timestamp, one.value)


class ModelCacheTest(SynchronousTestCase):
    def setUp(self) -> None:
        self.root = Path(self.mktemp())
        self.clock = Clock()
        self.clock.advance(1000)
        self.cache = self.new_cache(memory_bytes=ONE_MODEL)

    def new_cache(self, **options: Any) -> ModelCache:
        store = CheckpointStore(self.root, durable=False)
        return ModelCache(RunnerOptions(str(self.root), **options), store, self.clock.seconds)

    def find(self, name: str, cache: ModelCache | None = None) -> Resident | None:
        """The model, in a cache whose database confirms every checkpoint."""
        verdict = None
        while True:
            try:
                return (cache or self.cache).find(name, 1, verdict)
            except Unproven as unproven:
                verdict = Verdict(unproven.claim, True, unproven.claim.rowid, unproven.claim.digest)

    def define(self, *names: str) -> None:
        for name in names:
            self.cache.define(name, 1, Model(PARAMS), rowid=0)

    def learn(self, name: str, rowid: int) -> Resident:
        """The model's next row, as the runner has it run."""
        resident = self.find(name)
        assert resident is not None
        self.assertEqual(resident.rowid, rowid - 1)
        run(resident.model, rowid)
        self.cache.ran(name, resident, [row(rowid)])
        self.cache.keep_within_budget()
        return resident

    def expected(self, last: int) -> bytes:
        model = Model(PARAMS)
        for rowid in range(1, last + 1):
            run(model, rowid)
        return model.save()

    @pytest.mark.long
    def test_models_that_are_swapped_for_each_row_are_exact(self) -> None:
        self.define("a", "b", "c")
        for rowid in range(1, 61):
            for name in "abc":
                self.learn(name, rowid)
        self.assertGreater(self.cache.swapped_in, 100)
        for name in "abc":
            self.assertEqual(self.find(name).model.save(), self.expected(60))

    @pytest.mark.long
    def test_they_are_written_every_so_many_rows_and_not_all_at_the_same(self) -> None:
        names = "abcdefgh"
        self.define(*names)
        for name in names:  # their first checkpoints
            self.learn(name, 1)
        written = []
        for rowid in range(2, 34):
            before = self.cache.checkpoints
            for name in names:
                self.learn(name, rowid)
            written.append(self.cache.checkpoints - before)
        self.assertAlmostEqual(sum(written), len(names) * 32 / 16, delta=len(names))
        self.assertLess(max(written), len(names) / 2)

    def test_a_new_process_finds_the_last_checkpoint_and_tells_its_row(self) -> None:
        self.define("a", "b")
        for rowid in range(1, 41):
            self.learn("a", rowid)
            self.learn("b", rowid)
        again = self.find("a", self.new_cache())
        self.assertTrue(40 - 16 < again.rowid <= 40, again.rowid)
        self.assertEqual(again.model.save(), self.expected(again.rowid))

    def test_a_damaged_checkpoint_takes_the_rows_after_it_away(self) -> None:
        self.define("a", "b")
        for rowid in range(1, 41):
            self.learn("a", rowid)
            self.learn("b", rowid)
        self.find("a")
        self.cache._swap_out("a")
        newest = max(self.root.rglob("a.*"), key=lambda path: path.stat().st_mtime_ns)
        newest.write_bytes(newest.read_bytes()[:-10])
        with self.assertLogs("htmengine.model_runner", "ERROR"):
            again = self.find("a")
        self.assertEqual(again.model.save(), self.expected(again.rowid))
        self.assertLess(again.rowid, 40 - 16 + 1)

    def refuse_checkpoints(self) -> None:
        def refuse(checkpoint: Any) -> None:
            raise OSError(30, "Read-only file system")

        self.cache._store.save = refuse  # type: ignore[method-assign]

    @pytest.mark.long
    def test_models_go_on_from_where_they_were_while_the_disk_refuses_checkpoints(self) -> None:
        self.define("a", "b")
        for rowid in range(1, 17):
            self.learn("a", rowid)
            self.learn("b", rowid)
        with self.assertLogs("htmengine.model_runner", "ERROR"):
            self.refuse_checkpoints()
            for rowid in range(17, 61):
                self.learn("a", rowid)
                self.learn("b", rowid)
        self.assertGreater(self.cache.swapped_in, 60)
        self.assertEqual(self.find("a").model.save(), self.expected(60))

    def test_a_model_that_is_on_no_disk_goes_on_when_it_is_defined_again(self) -> None:
        with self.assertLogs("htmengine.model_runner", "ERROR"):
            self.refuse_checkpoints()
            self.define("a")
            self.learn("a", 1)
            self.define("b")
            self.cache.keep_within_budget()
            for rowid in range(2, 61):
                for name in "ab":
                    if self.find(name) is None:
                        self.define(name)
                    self.learn(name, rowid if name == "a" else rowid - 1)
        self.define("a")
        self.assertEqual(self.find("a").model.save(), self.expected(60))

    def test_a_row_of_old_days_is_written_when_its_model_leaves(self) -> None:
        self.define("a", "b")
        self.learn("a", 1)
        self.learn("b", 1)
        before = self.cache.checkpoints
        self.learn("a", 2)
        self.clock.advance(24 * 3600)
        self.learn("a", 3)
        self.learn("b", 2)
        self.learn("b", 3)
        self.assertGreater(self.cache.checkpoints, before)
        self.assertEqual(self.find("a", self.new_cache()).rowid, 3)

    def test_another_generation_forgets_what_was_swapped_out(self) -> None:
        self.define("a", "b")
        for rowid in range(1, 5):
            self.learn("a", rowid)
            self.learn("b", rowid)
        self.assertIsNone(self.cache.find("a", 2))
        again = self.find("a")
        self.assertEqual(again.model.save(), self.expected(again.rowid))

    def test_old_unwritten_rows_are_written_a_few_models_at_a_time(self) -> None:
        self.cache = self.new_cache(checkpoint_seconds=100)
        names = [f"m{number}" for number in range(10)]
        self.define(*names)
        for name in names:
            self.learn(name, 1)
        self.cache.save_stale()
        self.assertEqual(self.cache.checkpoints, 0)
        self.clock.advance(101)
        save = self.cache._store.save

        def slow(checkpoint: Any) -> None:
            self.clock.advance(0.02)
            save(checkpoint)

        self.patch(self.cache._store, "save", slow)
        self.cache.save_stale()
        self.assertEqual(self.cache.checkpoints, 3)
        for _ in range(5):
            self.cache.save_stale()
        self.assertEqual(self.cache.checkpoints, 10)

    def test_in_turn_as_many_stay_in_memory_as_fit(self) -> None:
        names = [f"m{number}" for number in range(20)]
        self.define(*names)
        size = self.cache.memory_bytes // len(names)
        self.cache = self.new_cache(memory_bytes=35 * size)
        self.define(*names)
        for rowid in range(1, 5):
            self.round(names, rowid)
        before = self.cache.swapped_in
        self.round(names, 5)
        self.round(names, 6)
        # the least recently used would be the next to come: none of 40 would be found in memory
        self.assertIn(self.cache.swapped_in - before, range(1, 30))

    def round(self, names: list[str], rowid: int) -> None:
        for name in names:
            self.clock.advance(1)
            self.learn(name, rowid)

    def test_a_frequent_metric_stays_a_silent_one_leaves(self) -> None:
        self.define("often", "once", "seldom")
        size = max(each.memory_bytes for each in self.cache._residents.values())
        self.learn("once", 1)
        self.cache._options = RunnerOptions(str(self.root), memory_bytes=int(2.9 * size))
        for rowid in range(1, 40):
            self.clock.advance(60)
            self.learn("often", rowid)
            if rowid % 10 == 0:
                self.learn("seldom", rowid // 10)
        self.assertIn("often", self.cache._residents)
        self.assertNotIn("once", self.cache._residents)
