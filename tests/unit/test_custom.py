# SPDX-License-Identifier: MIT
"""Model specifications, and what can be done with a metric."""

from __future__ import annotations

from typing import Any
from unittest import TestCase

from htmengine.adapters.datasource import custom
from htmengine.adapters.datasource.custom import ModelSpec
from htmengine.errors import InvalidModelSpec, MetricExists, MetricNotFound
from htmengine.messages import DEFINE_MODEL, DELETE_MODEL, ModelCommand, decode_model_message
from htmengine.repository import queries, reading
from htmengine.repository.queries import Metric, MetricStatus
from tests.support.database import new_database


class ModelSpecTest(TestCase):
    def refused(self, spec: dict[str, Any]) -> str:
        with self.assertRaises(InvalidModelSpec) as caught:
            ModelSpec.parse(spec)
        return str(caught.exception)

    def test_what_is_wrong_is_named(self) -> None:
        metric = {"metricSpec": {"metric": "a"}}
        cases: list[tuple[dict[str, Any], str]] = [
            ({"colour": 1}, "colour"),
            ({"datasource": "cloudwatch", **metric}, "cloudwatch"),
            ({}, "give metric"),
            ({"metricSpec": {"metric": "a", "uid": "b"}}, "give metric"),
            ({"metricSpec": {"metric": "a b"}}, "a b"),
            ({"metricSpec": {"metric": "x" * 4097}}, "4096"),
            ({"metricSpec": []}, "metricSpec"),
            ({**metric, "modelParams": {"min": 1}}, "go together"),
            ({**metric, "modelParams": {"min": 1, "max": 1}}, "not below"),
            ({**metric, "modelParams": {"min": "1", "max": 2}}, "min '1'"),
            ({**metric, "modelParams": {"min": float("nan"), "max": 2}}, "min nan"),
            ({**metric, "modelParams": {"minResolution": 0}}, "minResolution"),
            ({**metric, "modelParams": {"enableClassifier": "yes"}}, "enableClassifier"),
            ({**metric, "modelParams": {}, "completeModelParams": {}}, "exclude each other"),
            ({**metric, "completeModelParams": {"modelConfig": 1}}, "modelConfig"),
            ({"metricSpec": {"metric": "..."}}, "no name"),
        ]
        for spec, named in cases:
            self.assertIn(named, self.refused(spec))

    def test_params_are_known_at_once_with_a_range_and_else_not(self) -> None:
        self.assertIsNotNone(ModelSpec.for_name("a", min=0, max=1).params())
        self.assertIsNone(ModelSpec.for_name("a", minResolution=0.5).params())


class NamesTest(TestCase):
    def test_a_metric_is_found_however_its_name_is_written(self) -> None:
        database = new_database(self)
        made = database.run_sync(custom.create_metric, ModelSpec.for_name(".disk..free;host=h1;dc=a"))
        self.assertEqual(made.name, "disk.free;dc=a;host=h1")
        for name in ("disk.free;dc=a;host=h1", "disk.free.;host=h1;dc=a", made.uid):
            self.assertEqual(database.run_sync(queries.find_metric, name).uid, made.uid)
            self.assertEqual(database.run_sync(reading.find_metric, name).uid, made.uid)
        with self.assertRaises(MetricExists):
            database.run_sync(custom.create_metric, ModelSpec.for_name("disk.free;host=h1;dc=a"))

    def test_an_old_metric_is_found_by_a_name_that_no_sample_can_have(self) -> None:
        database = new_database(self)
        old = queries.Metric("1", "custom", "...", None, None, None, None, MetricStatus.UNMONITORED)
        database.run_sync(queries.create_metrics, [old])
        self.assertEqual(database.run_sync(queries.find_metric, "...").uid, "1")
        self.assertEqual(database.run_sync(reading.find_metric, "...").uid, "1")


class OperationsTest(TestCase):
    def setUp(self) -> None:
        self.database = new_database(self)

    def test_creating_a_metric_twice_is_refused(self) -> None:
        self.database.run_sync(custom.create_metric, ModelSpec.for_name("a"))
        with self.assertRaises(MetricExists):
            self.database.run_sync(custom.create_metric, ModelSpec.for_name("a"))

    def test_monitoring_again_counts_the_generation_up(self) -> None:
        spec = ModelSpec.for_name("a", min=0, max=1)
        generations = []
        for _ in range(2):
            metric, [message] = self.database.run_sync(custom.monitor_metric, spec, 288)
            command = decode_model_message(message)
            assert isinstance(command, ModelCommand)
            generations.append(command.generation)
            self.assertEqual(metric.definition.generation, command.generation)
        self.assertEqual(generations, [1, 2])

    def test_monitoring_without_a_range_waits_for_data(self) -> None:
        metric, messages = self.database.run_sync(custom.monitor_metric, ModelSpec.for_name("a"), 288)
        self.assertEqual((metric.status, messages), (MetricStatus.PENDING_DATA, []))

    def test_a_constant_without_a_range_waits_for_a_change_and_its_model_goes(self) -> None:
        metric, _ = self.database.run_sync(custom.monitor_metric, ModelSpec.for_name("a", min=0, max=1), 2)
        self.database.run_sync(queries.insert_samples, [(metric.uid, n, 60 * n, 0.5) for n in (1, 2, 3)])
        self.database.run_sync(queries.update_tails, [(metric.uid, 3, 180)])
        metric, [message] = self.database.run_sync(custom.monitor_metric, ModelSpec.for_name("a"), 2)
        command = decode_model_message(message)
        assert isinstance(command, ModelCommand)
        self.assertEqual((metric.status, command.method), (MetricStatus.CONSTANT, DELETE_MODEL))
        given, _ = self.database.run_sync(custom.monitor_metric, ModelSpec.for_name("a", min=0, max=1), 2)
        self.assertEqual(given.status, MetricStatus.CREATE_PENDING)

    def test_unmonitoring_deletes_the_model_and_keeps_the_metric(self) -> None:
        self.database.run_sync(custom.monitor_metric, ModelSpec.for_name("a", min=0, max=1), 288)
        metric = self.database.run_sync(queries.find_metric, "a")
        command = decode_model_message(self.database.run_sync(custom.unmonitor_metric, metric))
        assert isinstance(command, ModelCommand)
        self.assertEqual((command.method, command.generation), (DELETE_MODEL, 1))
        self.assertEqual(self.database.run_sync(queries.find_metric, "a").status, MetricStatus.UNMONITORED)

    def test_a_deleted_metric_is_gone_by_name_and_uid(self) -> None:
        metric = self.database.run_sync(custom.create_metric, ModelSpec.for_name("a"))
        self.database.run_sync(queries.insert_samples, [(metric.uid, 1, 60, 1.0)])
        self.database.run_sync(custom.delete_metric, metric)
        for name in ("a", metric.uid):
            with self.assertRaises(MetricNotFound):
                self.database.run_sync(queries.find_metric, name)

    def test_an_exported_specification_monitors_the_same_way_elsewhere(self) -> None:
        spec = ModelSpec.for_name("a", min=0, max=1, minResolution=0.5)
        self.database.run_sync(custom.monitor_metric, spec, 288)
        exported = custom.export_spec(self.database.run_sync(queries.find_metric, "a"))
        self.assertEqual(ModelSpec.parse(exported).params(), spec.params())


class RepairTest(TestCase):
    def setUp(self) -> None:
        self.database = new_database(self)
        spec = ModelSpec.for_name("f.a", min=0, max=10)
        self.metric, _ = self.database.run_sync(custom.monitor_metric, spec, 288)

    def stored(self, *timestamps: int) -> Metric:
        uid = self.metric.uid
        rows = [(uid, rowid, timestamp, 1.0) for rowid, timestamp in enumerate(timestamps, 1)]
        self.database.run_sync(queries.insert_samples, rows)
        self.database.run_sync(queries.update_tails, [(uid, len(timestamps), timestamps[-1])])
        return self.database.run_sync(queries.get_metric, uid)

    def test_rows_ahead_of_the_clock_go_and_the_model_is_made_again_from_the_others(self) -> None:
        metric = self.stored(60, 120, 4_070_908_800)
        done, [message] = self.database.run_sync(custom.repair_metric, metric, 720)
        self.assertEqual((done.removed, done.last_timestamp), (1, 120))
        repaired = self.database.run_sync(queries.get_metric, metric.uid)
        self.assertEqual((repaired.last_timestamp, repaired.last_rowid), (120, 3))
        command = decode_model_message(message)
        assert isinstance(command, ModelCommand)
        assert metric.definition is not None
        assert repaired.definition is not None
        self.assertEqual((command.method, command.generation), (DEFINE_MODEL, metric.definition.generation + 1))
        self.assertEqual(command.args, {"upTo": 3})
        self.assertEqual(repaired.definition.params, metric.definition.params)
        self.assertEqual(repaired.definition.generation, command.generation)
        self.assertEqual(repaired.status, MetricStatus.CREATE_PENDING)

    def test_a_metric_without_such_rows_stays_as_it_is(self) -> None:
        metric = self.stored(60, 720)
        done, messages = self.database.run_sync(custom.repair_metric, metric, 720)
        self.assertEqual((done.removed, messages), (0, []))
        self.assertEqual(self.database.run_sync(queries.get_metric, metric.uid), metric)

    def test_a_metric_of_such_rows_alone_takes_any_time_again(self) -> None:
        done, _ = self.database.run_sync(custom.repair_metric, self.stored(4_070_908_800), 720)
        self.assertEqual((done.removed, done.last_timestamp), (1, None))
