# SPDX-License-Identifier: MIT
"""The ledger adds up whatever happened to the samples."""

from __future__ import annotations

from unittest import TestCase

from htmengine.adapters.datasource import custom
from htmengine.adapters.datasource.custom import ModelSpec
from htmengine.errors import MetricNotFound
from htmengine.ledger import Ledger, read_ledger
from htmengine.messages import SampleBatch
from htmengine.repository import counts, queries
from htmengine.repository.counts import MetricScore
from htmengine.runtime.storing import StorerOptions, store_batches
from htmengine.sharding import ShardQueues
from tests.support.database import new_database

OPTIONS = StorerOptions("samples", ShardQueues("shard.", 4), auto_monitor=False, pending_samples=5)
NOW = 1_000_000


class LedgerTest(TestCase):
    def setUp(self) -> None:
        self.database = new_database(self)

    def store(self, *lines: str, batch_id: str = "", rejected: dict[str, int] | None = None) -> None:
        batch = SampleBatch(list(lines), batch_id, rejected or {})
        self.database.run_sync(store_batches, [batch], OPTIONS, float(NOW), [])

    def monitor(self, name: str) -> str:
        metric, _ = self.database.run_sync(custom.monitor_metric, ModelSpec.for_name(name, min=0, max=10), 5)
        return metric.uid

    def score(self, uid: str, rowid: int, scored: int, generation: int = 1) -> None:
        score = MetricScore(uid, generation, rowid, scored, 60 * rowid, 1.5, 0.25, 0.5)
        self.database.run_sync(counts.save_scores, [score])

    def ledger(self, name: str | None = None) -> Ledger:
        ledger = self.database.run_sync(read_ledger, name)
        self.assertTrue(ledger.adds_up, ledger)
        return ledger

    def test_an_empty_engine_has_nothing(self) -> None:
        self.assertEqual(self.ledger(), Ledger(None, 0, 0, {}, 0, 0))

    def test_samples_of_a_metric_without_a_model_are_unmonitored(self) -> None:
        self.store("a 1 60", "a 2 120")
        expected = Ledger("a", 2, 2, {}, 0, 0, unmonitored=2, newest_stored=120)
        self.assertEqual(self.ledger("a"), expected)

    def test_rows_wait_until_they_are_scored(self) -> None:
        uid = self.monitor("a")
        self.store("a 1 60", "a 2 120", "a 3 180")
        self.assertEqual((self.ledger("a").waiting, self.ledger("a").scored), (3, 0))
        self.score(uid, rowid=2, scored=2)
        ledger = self.ledger("a")
        self.assertEqual((ledger.waiting, ledger.scored), (1, 2))
        self.assertEqual((ledger.newest_stored, ledger.newest_scored), (180, 120))

    def test_rows_of_a_constant_wait_for_no_score(self) -> None:
        self.database.run_sync(custom.monitor_metric, ModelSpec.for_name("a"), 5)
        self.store(*(f"a 1 {60 * n}" for n in range(1, 7)))
        self.assertEqual((self.ledger("a").constant, self.ledger("a").waiting), (6, 0))
        self.assertEqual((self.ledger().constant, self.ledger().waiting), (6, 0))
        self.store("a 2 600")
        self.assertEqual((self.ledger("a").constant, self.ledger("a").waiting), (0, 7))

    def test_rejects_are_counted_by_reason_with_or_without_a_metric(self) -> None:
        self.store("a 1 60", "a 1 60", "nonsense", rejected={"not_utf8": 2})
        self.assertEqual(self.ledger("a").rejected, {"timestamp_duplicate": 1})
        whole = self.ledger()
        self.assertEqual(whole.rejected, {"timestamp_duplicate": 1, "field_count": 1, "not_utf8": 2})
        self.assertEqual((whole.received, whole.stored, whole.newest_rejected), (5, 1, NOW))

    def test_a_redelivered_batch_is_received_once(self) -> None:
        self.store("a 1 60", "bad", batch_id="b")
        self.store("a 1 60", "bad", batch_id="b")
        self.assertEqual((self.ledger().received, self.ledger().stored), (2, 1))

    def test_a_new_model_begins_to_count_anew_and_results_of_the_old_one_change_nothing(self) -> None:
        uid = self.monitor("a")
        self.store("a 1 60", "a 2 120")
        self.score(uid, rowid=2, scored=2)
        self.monitor("a")
        self.score(uid, rowid=1, scored=1, generation=1)
        self.assertEqual((self.ledger("a").waiting, self.ledger("a").scored), (2, 0))

    def test_rows_that_were_removed_before_a_model_came_to_them_are_skipped(self) -> None:
        uid = self.monitor("a")
        self.store(*(f"a {n} {60 * n}" for n in range(1, 11)))
        self.score(uid, rowid=10, scored=7)
        self.assertEqual((self.ledger("a").skipped, self.ledger("a").waiting), (3, 0))

    def test_an_unmonitored_metric_keeps_its_scored_rows(self) -> None:
        uid = self.monitor("a")
        self.store("a 1 60", "a 2 120")
        self.score(uid, rowid=2, scored=2)
        metric = self.database.run_sync(queries.get_metric, uid)
        self.database.run_sync(custom.unmonitor_metric, metric)
        self.store("a 3 180")
        ledger = self.ledger("a")
        self.assertEqual((ledger.scored, ledger.unmonitored, ledger.waiting), (2, 1, 0))

    def test_deleted_metrics_stay_in_the_engines_totals(self) -> None:
        self.store("a 1 60", "a 1 60", "b 1 60")
        metric = self.database.run_sync(queries.find_metric, "a")
        self.database.run_sync(custom.delete_metric, metric)
        whole = self.ledger()
        self.assertEqual((whole.received, whole.stored, whole.deleted), (3, 2, 1))
        self.assertEqual(whole.rejected, {"timestamp_duplicate": 1})
        self.assertRaises(MetricNotFound, self.ledger, "a")

    def test_a_lost_or_doubled_sample_shows(self) -> None:
        self.assertFalse(Ledger("a", received=3, stored=1, rejected={"x": 1}, scored=1, waiting=0).adds_up)
        self.assertFalse(Ledger("a", received=1, stored=1, rejected={}, scored=2, waiting=0, skipped=-1).adds_up)
