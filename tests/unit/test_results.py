# SPDX-License-Identifier: MIT
"""Anomalies over all metrics, and the order of all results, kept with the scores."""

from __future__ import annotations

from unittest import TestCase, mock

from sqlalchemy import select

from htmengine.adapters.datasource import custom
from htmengine.adapters.datasource.custom import ModelSpec
from htmengine.messages import ScoredRow
from htmengine.repository import old_rows, queries, results
from htmengine.repository.queries import Score
from htmengine.repository.schema import anomaly, result_log
from tests.support.database import new_database


class ResultsTest(TestCase):
    def setUp(self) -> None:
        self.database = new_database(self)
        self.uids = [self.new_metric(name) for name in ("a", "b")]

    def new_metric(self, name: str) -> str:
        metric, _ = self.database.run_sync(custom.monitor_metric, ModelSpec.for_name(name, min=0, max=10), 288)
        rows = [(metric.uid, rowid, 60 * rowid, float(rowid)) for rowid in range(1, 11)]
        self.database.run_sync(queries.insert_samples, rows)
        return metric.uid

    def score(self, *scores: tuple[str, int, float]) -> None:
        """One transaction of (uid, rowid, anomaly score)."""
        rows = [(uid, ScoredRow(rowid, 60 * rowid, float(rowid), 0.5, score)) for uid, rowid, score in scores]
        self.database.run_sync(
            queries.save_scores,
            [Score(uid, row.rowid, row.timestamp, row.value, row.raw, row.anomaly, 0.0) for uid, row in rows],
        )
        self.database.run_sync(results.save_anomalies, rows, 0.99)
        self.database.run_sync(results.append_log, rows)

    def after(self, number: int, most: int = 100) -> tuple[list[tuple[int, str, int]], int]:
        found, reached = self.database.run_sync(results.results_after, number, most)
        return [(result.number, result.name, result.rowid) for result in found], reached

    def anomalies(self) -> list[tuple[str, int]]:
        rows = self.database.run_sync(lambda conn: conn.execute(select(anomaly.c.uid, anomaly.c.rowid)).all())
        return sorted((uid, rowid) for uid, rowid in rows)

    def test_results_are_counted_through_over_metrics_and_transactions(self) -> None:
        a, b = self.uids
        self.score((a, 1, 0.0), (a, 2, 0.0), (b, 1, 0.0))
        self.score((b, 2, 0.0))
        self.assertEqual(self.after(0), ([(1, "a", 1), (2, "a", 2), (3, "b", 1), (4, "b", 2)], 4))
        self.assertEqual(self.after(1), ([(2, "a", 2), (3, "b", 1), (4, "b", 2)], 4))
        self.assertEqual(self.after(4), ([], 4))
        self.assertEqual(self.database.run_sync(results.last_number), 4)

    def test_a_transaction_without_results_leaves_no_trace(self) -> None:
        self.score()
        self.assertEqual(self.after(0), ([], 0))
        self.assertIs(self.database.run_sync(results.first_number), None)

    def test_many_results_are_read_a_transaction_at_a_time(self) -> None:
        a, b = self.uids
        self.score((a, 1, 0.0), (a, 2, 0.0))
        self.score((b, 1, 0.0))
        self.assertEqual(self.after(0, most=1), ([(1, "a", 1), (2, "a", 2)], 2))

    def test_the_results_of_a_deleted_metric_are_left_out_and_keep_their_numbers(self) -> None:
        a, b = self.uids
        self.score((a, 1, 0.0), (b, 1, 0.0))
        self.database.run_sync(queries.delete_metric, a)
        self.assertEqual(self.after(0), ([(2, "b", 1)], 2))

    def test_the_log_reaches_back_a_bounded_number_of_results(self) -> None:
        a, _ = self.uids
        with mock.patch.object(results, "KEPT_RESULTS", 3):
            for rowid in range(1, 8):
                self.score((a, rowid, 0.0))
        self.assertEqual(self.database.run_sync(results.first_number), 5)
        kept = self.database.run_sync(lambda conn: conn.execute(select(result_log.c.number)).scalars().all())
        self.assertEqual(sorted(kept), [5, 6, 7])

    def test_great_scores_are_listed_once(self) -> None:
        a, b = self.uids
        self.score((a, 1, 0.98999), (a, 2, 0.99), (b, 1, 1.0))
        self.score((a, 2, 0.995))
        self.assertEqual(self.anomalies(), sorted([(a, 2), (b, 1)]))

    def test_a_new_model_forgets_the_anomalies_of_the_one_before(self) -> None:
        a, b = self.uids
        self.score((a, 1, 1.0), (b, 1, 1.0))
        self.database.run_sync(custom.monitor_metric, ModelSpec.for_name("a", min=0, max=20), 288)
        self.assertEqual(self.anomalies(), [(b, 1)])

    def test_anomalies_go_with_their_rows_and_their_metric(self) -> None:
        a, b = self.uids
        self.score((a, 1, 1.0), (a, 2, 1.0), (b, 1, 1.0))
        self.database.run_sync(old_rows.remove_anomalies, 61)
        self.assertEqual(self.anomalies(), [(a, 2)])
        self.database.run_sync(queries.delete_metric, a)
        self.assertEqual(self.anomalies(), [])
