# SPDX-License-Identifier: MIT
"""Checkpoints and the database: what fits, what does not, and what cannot be checked."""

from __future__ import annotations

from unittest import TestCase

from sqlalchemy import delete, update

from htmengine.adapters.datasource import custom
from htmengine.adapters.datasource.custom import ModelSpec
from htmengine.messages.digest import START, after_rows
from htmengine.model_swapper.proofs import judge
from htmengine.model_swapper.turns import Claim, Verdict
from htmengine.repository import counts, queries
from htmengine.repository.counts import MetricScore
from htmengine.repository.schema import metric_data
from tests.support.database import new_database

ROWS = 30


def row(rowid: int, value: float | None = None) -> tuple[int, int, float]:
    return (rowid, 60 * rowid, float(rowid) if value is None else value)


def digest(last: int, **values: float) -> int | None:
    """Of the rows up to that one; some have another value."""
    return after_rows(START, 0, [row(rowid, values.get(f"row{rowid}")) for rowid in range(1, last + 1)])


class ProofsTest(TestCase):
    """A metric with 30 rows, of which 20 have scores."""

    def setUp(self) -> None:
        self.database = new_database(self)
        metric, _ = self.database.run_sync(custom.monitor_metric, ModelSpec.for_name("m", min=0, max=10), 288)
        self.uid = metric.uid
        rows = [(self.uid, *row(rowid)) for rowid in range(1, ROWS + 1)]
        self.database.run_sync(queries.insert_samples, rows)
        self.database.run_sync(queries.update_tails, [(self.uid, ROWS, 60 * ROWS)])
        self.score(20, digest(20))

    def score(self, rowid: int, known: int | None) -> None:
        self.database.run_sync(counts.save_scores, [MetricScore(self.uid, 1, rowid, rowid, digest=known)])

    def judged(self, rowid: int, known: int | None, generation: int = 1) -> Verdict | None:
        return self.database.run_sync(judge, self.uid, generation, Claim(rowid, known))

    def fits(self, rowid: int, known: int | None) -> bool:
        verdict = self.judged(rowid, known)
        assert verdict is not None
        self.assertEqual(verdict.scored, 20)
        return verdict.fits

    def test_a_checkpoint_of_these_rows_fits_before_at_and_after_the_scores(self) -> None:
        for rowid in (0, 1, 19, 20, 21, ROWS):
            self.assertTrue(self.fits(rowid, digest(rowid)), rowid)

    def test_one_of_other_rows_does_not_however_early_they_were(self) -> None:
        for other in (1, 15, 20):
            for rowid in range(max(other, 10), ROWS + 1):
                self.assertFalse(self.fits(rowid, digest(rowid, **{f"row{other}": 0.5})), (other, rowid))
        self.assertFalse(self.fits(25, digest(25, row25=0.5)))

    def test_one_of_more_rows_than_there_are_does_not(self) -> None:
        self.assertFalse(self.fits(ROWS + 1, digest(ROWS + 1)))
        self.assertFalse(self.fits(ROWS + 1, None))

    def test_what_cannot_be_checked_is_believed(self) -> None:
        self.assertTrue(self.fits(15, None))
        at = metric_data.c
        self.database.run_sync(lambda conn: conn.execute(delete(metric_data).where(at.uid == self.uid, at.rowid == 17)))
        self.assertTrue(self.fits(15, 99))
        self.score(20, None)
        self.assertTrue(self.fits(25, 99))

    def test_a_digest_that_the_checkpoint_does_not_know_comes_from_the_database(self) -> None:
        for rowid in (20, 25):
            verdict = self.judged(rowid, None)
            self.assertEqual(verdict and verdict.digest, digest(rowid))

    def test_a_model_that_is_gone_has_no_verdict(self) -> None:
        self.assertIsNone(self.judged(15, None, generation=2))
        self.database.run_sync(queries.delete_metric, self.uid)
        self.assertIsNone(self.judged(15, digest(15)))

    def test_a_zero_has_no_sign_and_a_value_that_was_changed_is_noticed(self) -> None:
        at = metric_data.c
        change = update(metric_data).where(at.uid == self.uid, at.rowid == 25)
        self.database.run_sync(lambda conn: conn.execute(change.values(metric_value=-0.0)))
        self.assertTrue(self.fits(25, digest(25, row25=0.0)))
        self.assertTrue(self.fits(25, digest(25, row25=-0.0)))
        self.assertFalse(self.fits(25, digest(25)))
