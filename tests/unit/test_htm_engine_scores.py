# SPDX-License-Identifier: MIT
"""HTM Engine's scores stay when this engine's take their place; what becomes of its options."""

from __future__ import annotations

import tempfile
from pathlib import Path
from unittest import TestCase

from sqlalchemy import Connection, text

from htmengine.adapters.datasource import custom
from htmengine.adapters.datasource.custom import ModelSpec
from htmengine.cli.migrate import told_options
from htmengine.errors import DatabaseFailed
from htmengine.history.migration import keep_scores, without_model
from htmengine.repository import counts, htm_engine_scores, queries
from htmengine.repository.counts import MetricScore
from htmengine.repository.queries import Score
from tests.support.database import new_database

ROWS = 10


class ScoresTest(TestCase):
    def setUp(self) -> None:
        self.database = new_database(self)
        metric, _ = self.database.run_sync(custom.monitor_metric, ModelSpec.for_name("/cpu", min=0, max=10), 288)
        self.uid = metric.uid
        self.database.run_sync(
            queries.insert_samples, [(self.uid, row, 60 * row, float(row)) for row in range(1, ROWS + 1)]
        )
        self.score(0.999999)

    def score(self, score: float) -> None:
        """Whoever scores the rows 1 to 9."""
        scores = [Score(self.uid, row, 60 * row, float(row), 0.5, score, 0.0) for row in range(1, ROWS)]
        self.database.run_sync(queries.save_scores, scores)

    def made_by_htm_engine(self) -> None:
        self.database.run_sync(_make_their_versions)

    def alarms(self, since: int = 0) -> list[int]:
        return self.database.run_sync(htm_engine_scores.alarms, self.uid, since, 0.99999)

    def test_scores_are_kept_once_and_stay(self) -> None:
        self.made_by_htm_engine()
        kept, scores, gone = keep_scores(self.database)
        self.assertEqual(([each.name for each in kept], scores, gone), (["/cpu"], ROWS - 1, []))
        self.score(0.25)
        self.database.run_sync(counts.start_scores, MetricScore(self.uid, 1, rowid=ROWS - 1))
        kept, scores, gone = keep_scores(self.database)
        self.assertEqual(([each.name for each in kept], scores, gone), (["/cpu"], ROWS - 1, []))
        self.assertEqual(self.alarms(), [*range(1, ROWS)])
        self.assertEqual(self.alarms(since=60 * 8), [8, 9])

    def test_scores_that_this_engine_has_replaced_are_not_taken_for_old_ones(self) -> None:
        self.made_by_htm_engine()
        self.database.run_sync(counts.start_scores, MetricScore(self.uid, 1, rowid=5))
        kept, scores, gone = keep_scores(self.database)
        self.assertEqual((kept, scores, [each.name for each in gone]), ([], 0, ["/cpu"]))

    def test_another_database_is_refused(self) -> None:
        with self.assertRaisesRegex(DatabaseFailed, "not a database that HTM Engine made"):
            keep_scores(self.database)

    def test_metrics_without_a_model_say_why(self) -> None:
        self.database.run_sync(custom.create_metric, ModelSpec.for_name("idle"))
        metrics = self.database.run_sync(queries.list_metrics)
        self.assertEqual([(each.name, why) for each, why in without_model(metrics)], [("idle", "not monitored")])


def _make_their_versions(conn: Connection) -> None:
    conn.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32))"))


class OptionsTest(TestCase):
    def test_each_option_says_what_becomes_of_it(self) -> None:
        folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        (folder / "application.conf").write_text("[metric_listener]\nport = 1\nprotocol = plain\n[own]\na = b\n")
        (folder / "rabbitmq.conf").write_text("[connection]\nvhost = /\n")
        self.assertEqual(
            dict(told_options(folder)),
            {
                "application.conf [metric_listener] port": "kept",
                "application.conf [metric_listener] protocol": "without effect: "
                "Graphite's plaintext protocol is the only one",
                "application.conf [own] a": "the application's",
                "rabbitmq.conf [connection] vhost": "is called virtual_host",
            },
        )

    def test_without_a_folder_there_are_none(self) -> None:
        self.assertEqual([*told_options(None)], [])
