# SPDX-License-Identifier: MIT
"""What snapshot, revert, clone, export and import change in the database, and what they tell the models."""

from __future__ import annotations

from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from htmengine.adapters.datasource import custom, models
from htmengine.adapters.datasource.custom import ModelSpec
from htmengine.errors import ModelExists, ModelNotFound, ModelYoung, SnapshotNotFound
from htmengine.evidence.model_file import ModelFile
from htmengine.labels import identity
from htmengine.ledger import read_ledger
from htmengine.messages import CLONE_MODEL, DEFINE_MODEL, SNAPSHOT_MODEL, ModelCommand, decode_model_message
from htmengine.repository import counters, counts, queries, snapshots
from htmengine.repository.counts import MetricScore
from htmengine.repository.queries import Metric, MetricStatus
from htmengine.repository.snapshots import SavedModel
from tests.support.database import new_database

STATE = SavedModel(b"model", b"likelihood")
NOW = 1_000_000


class ModelsTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.database = new_database(self)
        self.do = self.database.run_sync
        self.do(custom.monitor_metric, ModelSpec.for_name("m", min=0, max=10), 5)
        self.add_rows(10)

    @property
    def metric(self) -> Metric:
        return self.do(queries.find_metric, "m")

    def add_rows(self, last: int) -> None:
        uid, first = self.metric.uid, self.metric.last_rowid + 1
        self.do(queries.insert_samples, [(uid, n, 60 * n, 1.0) for n in range(first, last + 1)])
        self.do(queries.update_tails, [(uid, last, 60 * last)])

    def score(self, rowid: int) -> None:
        generation = self.metric.definition.generation
        self.do(counts.save_scores, [MetricScore(self.metric.uid, generation, rowid, rowid, 60 * rowid, 1.0, 0.5, 0.5)])

    def take(self, rowid: int = 10) -> int:
        """A snapshot after that row."""
        snapshot, _ = self.do(models.snapshot_model, self.metric, NOW)
        self.do(snapshots.fill, self.metric.uid, snapshot.version, rowid, rowid, STATE)
        return snapshot.version

    def revert(self, version: int | None = None, *, replay: bool = False) -> ModelCommand:
        _, message = self.do(models.revert_model, self.metric, version, replay=replay)
        return _command(message)

    def scored(self, name: str = "m") -> tuple[int, int, int]:
        """(scored, waiting, skipped)"""
        ledger = self.do(read_ledger, name)
        self.assertTrue(ledger.adds_up)
        return ledger.scored, ledger.waiting, ledger.skipped


def _command(message: bytes) -> ModelCommand:
    command = decode_model_message(message)
    assert isinstance(command, ModelCommand)
    return command


class SnapshotTest(ModelsTestCase):
    def test_the_model_is_asked_for_its_state_after_all_rows_that_are_stored(self) -> None:
        snapshot, message = self.do(models.snapshot_model, self.metric, NOW)
        command = _command(message)
        self.assertEqual((command.method, command.generation), (SNAPSHOT_MODEL, 1))
        self.assertEqual(command.args, {"version": 1, "upTo": 10})
        self.assertFalse(snapshot.ready)
        self.assertRaises(SnapshotNotFound, self.do, snapshots.find, self.metric, None)

    def test_the_first_state_counts(self) -> None:
        self.take(rowid=10)
        self.do(snapshots.fill, self.metric.uid, 1, 99, 99, SavedModel(b"x", b"y"))
        self.assertEqual(self.do(snapshots.find, self.metric, 1).rowid, 10)
        self.assertEqual(self.do(snapshots.state_of, self.metric.uid, 1), STATE)

    def test_the_oldest_make_room_but_not_the_one_that_the_model_starts_from(self) -> None:
        self.take()
        self.revert(1)
        for _ in range(snapshots.KEPT + 2):
            self.take()
        kept = [each.version for each in self.do(snapshots.list_of, self.metric.uid)]
        self.assertEqual(kept, [1, *range(4, 14)])

    def test_a_metric_without_a_model_has_none(self) -> None:
        self.do(custom.unmonitor_metric, self.metric)
        error = self.assertRaises(ModelNotFound, self.do, models.snapshot_model, self.metric, NOW)
        self.assertIn("UNMONITORED", str(error))

    def test_a_young_model_has_none_whose_range_a_copy_would_keep(self) -> None:
        definition = self.metric.definition
        assert definition is not None
        young = replace(definition, young=True, early=288)
        self.do(queries.set_definition, self.metric.uid, young, MetricStatus.ACTIVE)
        error = self.assertRaises(ModelYoung, self.do, models.snapshot_model, self.metric, NOW)
        self.assertIn("'m' has the range of 10 rows and is made again at row 288", str(error))


class RevertTest(ModelsTestCase):
    def test_the_model_goes_on_from_the_snapshot_with_the_rows_that_have_no_score(self) -> None:
        self.score(10)
        self.take(rowid=10)
        self.add_rows(30)
        self.score(25)
        command = self.revert()
        self.assertEqual((command.method, command.generation, command.args), (DEFINE_MODEL, 2, {"upTo": 30}))
        definition = self.metric.definition
        self.assertEqual((definition.snapshot, definition.after), (1, 25))
        self.assertEqual(self.metric.status, MetricStatus.CREATE_PENDING)
        self.assertEqual(self.scored(), (25, 5, 0))

    def test_with_replay_it_goes_on_with_all_rows_after_the_snapshot(self) -> None:
        self.score(10)
        self.take(rowid=10)
        self.add_rows(30)
        self.score(25)
        self.revert(replay=True)
        self.assertEqual(self.metric.definition.after, 10)
        self.assertEqual(self.scored(), (10, 20, 0))

    def test_a_model_that_is_not_so_far_yet_goes_on_after_the_snapshot(self) -> None:
        self.score(10)
        self.take(rowid=10)
        self.do(custom.monitor_metric, ModelSpec.for_name("m", min=0, max=99), 5)
        self.score(4)
        self.revert()
        self.assertEqual((self.metric.definition.generation, self.metric.definition.after), (3, 10))
        self.assertEqual(self.scored(), (10, 0, 0))

    def test_a_version_that_is_not_there_is_refused(self) -> None:
        self.take()
        error = self.assertRaises(SnapshotNotFound, self.revert, 2)
        self.assertEqual(str(error), "metric 'm' has no snapshot of version 2 that can be used")


class CopyTest(ModelsTestCase):
    def clone(self, name: str) -> tuple[Metric, ModelCommand]:
        metric, message = self.do(models.clone_model, self.metric, None, name)
        return metric, _command(message)

    def import_(self, file: ModelFile, name: str | None) -> tuple[Metric, ModelCommand]:
        metric, message = self.do(models.import_model, file, name)
        return metric, _command(message)

    def test_a_clone_is_a_metric_of_its_own_with_the_state_of_the_snapshot(self) -> None:
        self.take()
        metric, command = self.clone("n")
        self.assertEqual((metric.name, metric.status), ("n", MetricStatus.CREATE_PENDING))
        self.assertEqual((command.method, command.model_id), (CLONE_MODEL, metric.uid))
        self.assertEqual((metric.definition.params, metric.definition.after), (self.metric.definition.params, 0))
        self.do(custom.delete_metric, self.metric)
        self.assertEqual(self.do(snapshots.state_of, metric.uid, metric.definition.snapshot), STATE)
        self.assertEqual(custom.export_spec(metric)["metricSpec"], {"metric": "n"})

    def test_rows_that_a_metric_has_already_are_not_run_by_a_clone(self) -> None:
        self.take()
        other = self.do(custom.create_metric, ModelSpec.for_name("n"))
        self.do(queries.insert_samples, [(other.uid, n, 60 * n, 1.0) for n in range(1, 5)])
        self.do(queries.update_tails, [(other.uid, 4, 240)])
        metric, _ = self.clone("n")
        self.assertEqual(metric.definition.after, 4)
        self.assertEqual(self.scored("n"), (0, 0, 4))

    def test_a_model_is_not_overwritten(self) -> None:
        self.take()
        self.clone("n")
        self.assertRaises(ModelExists, self.clone, "n")
        self.assertRaises(ModelExists, self.clone, "m")

    def test_a_young_model_gives_way(self) -> None:
        self.take()
        other, _ = self.do(custom.monitor_metric, ModelSpec.for_name("n", min=0, max=10), 5)
        assert other.definition is not None
        self.do(queries.set_definition, other.uid, replace(other.definition, young=True), MetricStatus.ACTIVE)
        metric, command = self.clone("n")
        self.assertEqual(
            (metric.definition.generation, metric.definition.young, command.method), (2, False, CLONE_MODEL)
        )

    def test_an_exported_model_comes_back_under_its_own_or_another_name(self) -> None:
        self.take()
        file = self.do(models.export_model, self.metric, None)
        self.assertEqual((file.model, file.likelihood), (STATE.model, STATE.likelihood))
        self.assertRaises(ModelExists, self.import_, file, None)
        metric, command = self.import_(file, "other")
        self.assertEqual((metric.name, command.method), ("other", DEFINE_MODEL))
        self.do(custom.delete_metric, self.metric)
        metric, _ = self.import_(file, None)
        self.assertEqual(metric.name, "m")
        self.assertEqual(self.do(snapshots.state_of, metric.uid, 1), STATE)

    def test_a_model_under_a_long_name_comes_back_with_all_its_labels(self) -> None:
        self.take()
        text = f"m;a={'x' * 300};job=api"
        long, _ = self.clone(text)
        file = self.do(models.export_model, long, None)
        self.do(custom.delete_metric, long)
        metric, _ = self.import_(file, None)
        self.assertEqual((metric.name, self.do(counters.long_texts)), (identity(text), {metric.uid: text}))
