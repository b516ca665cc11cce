# SPDX-License-Identifier: MIT
"""HTM Engine's database copied into an engine's own: whole or not at all, once, and never over another."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from unittest import TestCase, mock

import pytest

from htmengine.errors import DatabaseFailed
from htmengine.repository import htm_engine_copy, migrations, queries
from htmengine.repository.connections import make_engine
from htmengine.repository.engine import Database
from htmengine.repository.htm_engine_copy import copy_tables
from htmengine.repository.queries import Metric
from tests.support.migrations import INITIAL, PREDICTIONS, htm_engine_tables, insert

ROWS = 25


class Killed(Exception):
    pass


@pytest.mark.long
class CopyTest(TestCase):
    def setUp(self) -> None:
        folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.old, self.new, self.other = (f"sqlite:///{folder}/{name}.db" for name in ("old", "new", "other"))
        self.enterContext(mock.patch.object(htm_engine_copy, "ROWS_AT_ONCE", 10))

    def make_old(self, version: int, url: str = "", uid: str = "a") -> None:
        engine = make_engine(url or self.old)
        with engine.begin() as conn:
            for statement in htm_engine_tables(version, mysql=False):
                conn.exec_driver_sql(statement)
            conn.exec_driver_sql("INSERT INTO alembic_version VALUES ('their-own')")
            insert(conn, "metric", "uid, datasource, name, status", [(uid, "custom", "/cpu", 0)])
            rows = [(uid, row, datetime(2016, 3, 1, 0, row), row / 7, 0.5) for row in range(1, ROWS + 1)]
            insert(conn, "metric_data", "uid, rowid, timestamp, metric_value, anomaly_score", rows)
        engine.dispose()

    def copied(self, progress: Callable[[int], object] = lambda _: None) -> Metric:
        """What an engine finds."""
        copy_tables(self.old, self.new, progress)
        migrations.upgrade(self.new)
        database = Database(self.new)
        self.addCleanup(database.close)
        [metric] = database.read_sync(queries.list_metrics)
        self.rows = database.read_sync(queries.get_rows, metric.uid, 0, 2 * ROWS)
        return metric

    def test_metrics_and_rows_are_taken_along_from_each_version(self) -> None:
        for version in (INITIAL, PREDICTIONS):
            with self.subTest(version=version):
                self.setUp()
                self.make_old(version)
                metric = self.copied()
                self.assertEqual((metric.name, metric.last_rowid), ("/cpu", ROWS))
                self.assertEqual([row.value for row in self.rows], [row / 7 for row in range(1, ROWS + 1)])

    def test_a_copy_that_was_interrupted_has_not_been_and_is_made_again(self) -> None:
        self.make_old(PREDICTIONS)
        told: list[int] = []

        def killed(rows: int) -> None:
            told.append(rows)
            if sum(told) > ROWS // 2:
                raise Killed

        self.assertRaises(Killed, copy_tables, self.old, self.new, killed)
        self.assertEqual(self.copied().last_rowid, ROWS)

    def test_it_is_copied_once(self) -> None:
        self.make_old(PREDICTIONS)
        self.copied()
        told: list[int] = []
        self.copied(told.append)
        self.assertEqual((told, len(self.rows)), ([], ROWS))

    def test_other_sources_and_targets_are_refused_and_stay_as_they_are(self) -> None:
        self.make_old(PREDICTIONS)
        migrations.upgrade(self.other)
        for source, target, why in (
            (self.other, self.new, "not a database that HTM Engine made"),
            (self.old, self.other, "needs an empty database"),
        ):
            with self.assertRaisesRegex(DatabaseFailed, why):
                copy_tables(source, target)
        self.assertEqual(self.copied().last_rowid, ROWS)

    def test_a_source_that_is_not_there_is_not_made(self) -> None:
        with self.assertRaisesRegex(DatabaseFailed, "there is no file"):
            copy_tables(self.other, self.new)
        self.assertFalse(Path(self.other.removeprefix("sqlite:///")).exists())

    def test_a_target_that_htm_engine_made_itself_is_no_copy(self) -> None:
        self.make_old(PREDICTIONS)
        self.make_old(PREDICTIONS, self.other)
        with self.assertRaisesRegex(DatabaseFailed, "HTM Engine made this one itself"):
            copy_tables(self.old, self.other)

    def test_the_copy_of_another_database_is_not_taken_for_this_ones(self) -> None:
        self.make_old(PREDICTIONS)
        self.make_old(PREDICTIONS, self.other, uid="b")
        self.copied()
        with self.assertRaisesRegex(DatabaseFailed, "the copy of another one"):
            copy_tables(self.other, self.new)
