# SPDX-License-Identifier: MIT
"""Database and checkpoints that do not belong together, and rows that were passed by, are troubles with names."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

from sqlalchemy import Connection, update
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from htmengine.adapters.datasource import custom
from htmengine.adapters.datasource.custom import ModelSpec
from htmengine.model_swapper import data_checks
from htmengine.model_swapper.checkpoints import Checkpoint, CheckpointStore
from htmengine.model_swapper.data_checks import HOLES_S, PATIENCE_S, DataChecks
from htmengine.repository import counts, holes, queries
from htmengine.repository.counts import MetricScore
from htmengine.repository.queries import MetricStatus
from htmengine.repository.schema import metric_data
from tests.support.database import InlineDatabase, new_database


class DataChecksTest(SynchronousTestCase):
    def setUp(self) -> None:
        self.database = new_database(self)
        self.store = CheckpointStore(Path(self.mktemp()), durable=False)
        self.clock = Clock()
        inline: Any = InlineDatabase(self.database)
        self.checks = DataChecks(database=inline, store=self.store, clock=self.clock)

    def look(self) -> list[str]:
        return self.successResultOf(Deferred.fromCoroutine(self.checks.look()))

    def metric(self, name: str) -> str:
        """One with ten rows, all scored."""
        metric, _ = self.database.run_sync(custom.monitor_metric, ModelSpec.for_name(name, min=0, max=1), 288)

        def fill(conn: Connection) -> None:
            queries.insert_samples(conn, [(metric.uid, n, 60 * n, 0.5) for n in range(1, 11)])
            queries.update_tails(conn, [(metric.uid, 10, 600)])
            counts.save_scores(conn, [MetricScore(metric.uid, 1, 10, 10)])
            conn.execute(update(metric_data).where(metric_data.c.uid == metric.uid).values(raw_anomaly_score=0.1))

        self.database.run_sync(fill)
        return metric.uid

    def save(self, *uids: str) -> None:
        for uid in uids:
            for rowid in (300, 600):
                self.store.save(Checkpoint(uid, 1, rowid, b"model"))

    def forget_score(self, uid: str, *rowids: int) -> None:
        def forget(conn: Connection) -> None:
            these = (metric_data.c.uid == uid) & metric_data.c.rowid.in_(rowids)
            conn.execute(update(metric_data).where(these).values(raw_anomaly_score=None))

        self.database.run_sync(forget)

    def test_an_engine_as_it_should_be_has_no_troubles(self) -> None:
        self.assertEqual(self.look(), [])
        self.save(self.metric("web.load"), "of a metric that is being deleted")
        self.assertEqual(self.look(), [])

    def test_checkpoints_beside_an_empty_database_are_told_at_once_and_stay(self) -> None:
        self.save("0123", "4567", "89ab")
        [told] = self.look()
        self.assertIn(f"{self.store.root} has checkpoints of 3 models, and the database has none", told)
        self.assertEqual(self.look(), [told])
        self.assertEqual(len(list(self.store.root.rglob("*.[01]"))), 6)
        self.save(self.metric("web.load"))
        self.assertEqual(self.look(), [])

    def test_a_database_that_is_replaced_under_the_engine_is_told_after_a_minute(self) -> None:
        uid = self.metric("web.load")
        self.save(uid)
        self.assertEqual(self.look(), [])
        self.database.run_sync(queries.delete_metric, uid)
        self.clock.advance(PATIENCE_S)
        self.assertEqual(self.look(), [])
        self.clock.advance(1)
        self.assertEqual(len(self.look()), 1)

    def test_rows_without_a_score_behind_scored_ones_are_told_by_metric(self) -> None:
        uid = self.metric("web.load")
        self.metric("web.errors")
        self.forget_score(uid, 4, 7)
        [told] = self.look()
        self.assertIn("2 of the newest 300 scored rows of web.load have no raw score", told)
        self.forget_score(uid, 8)
        self.assertEqual(self.look(), [told])
        self.clock.advance(HOLES_S)
        self.assertIn("3 of the newest", self.look()[0])

    def test_rows_from_before_a_copied_model_and_of_metrics_without_one_need_no_score(self) -> None:
        cloned, unmonitored = self.metric("web.load"), self.metric("web.errors")
        self.forget_score(cloned, 1, 2, 3)
        self.forget_score(unmonitored, 1, 2, 3)
        definition = queries.Definition(1, {}, snapshot=1, after=3)
        self.database.run_sync(queries.set_definition, cloned, definition, MetricStatus.ACTIVE)
        self.database.run_sync(queries.set_status, unmonitored, MetricStatus.UNMONITORED, None)
        self.assertEqual(self.look(), [])

    def test_few_metrics_are_named_and_all_are_looked_at(self) -> None:
        for number in range(5):
            self.forget_score(self.metric(f"web{number}.load"), 1)
        with mock.patch.object(holes, "METRICS_AT_ONCE", 2), mock.patch.object(data_checks, "NAMED", 3):
            told = self.look()
        self.assertEqual((len(told), told[-1]), (4, "the same of 2 metrics more"))
