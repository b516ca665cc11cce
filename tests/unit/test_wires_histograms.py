# SPDX-License-Identifier: MIT
"""Quantiles of buckets, and what was added to totals."""

from __future__ import annotations

from unittest import TestCase

from hypothesis import given
from hypothesis import strategies as st

from htmengine.wires.histograms import Buckets, TotalsOfHistograms, quantile

BOUNDS = (1.0, 2.0, 4.0)


class QuantileTest(TestCase):
    def test_a_quantile_lies_on_a_line_within_its_bucket(self) -> None:
        for share, value in ((0.0, 0.0), (0.25, 0.5), (0.5, 1.0), (0.75, 1.5), (1.0, 2.0)):
            self.assertEqual(quantile(BOUNDS, (10, 10, 0, 0), share), value)

    def test_what_has_no_upper_bound_is_at_the_last_one(self) -> None:
        self.assertEqual(quantile(BOUNDS, (0, 0, 0, 5), 0.5), 4.0)

    def test_without_observations_there_is_none(self) -> None:
        self.assertIsNone(quantile(BOUNDS, (0, 0, 0, 0), 0.5))
        self.assertIsNone(quantile((), (5,), 0.5))

    def test_a_first_bucket_below_0_is_at_its_bound(self) -> None:
        self.assertEqual(quantile((-5.0, 0.0), (10, 0, 0), 0.5), -5.0)

    @given(st.lists(st.integers(0, 1000), min_size=4, max_size=4), st.floats(0, 1), st.floats(0, 1))
    def test_a_higher_share_has_no_lower_value(self, counts: list[int], first: float, second: float) -> None:
        found = [quantile(BOUNDS, counts, share) or 0.0 for share in sorted((first, second))]
        self.assertTrue(0.0 <= found[0] <= found[1] <= 4.0)


class TotalsTest(TestCase):
    def setUp(self) -> None:
        self.totals = TotalsOfHistograms(most=2)

    def added(self, timestamp: float, *counts: int, name: str = "h", started_at: float = 0.0) -> tuple[int, ...] | None:
        return self.totals.added(name, Buckets(BOUNDS, counts, timestamp, started_at))

    def test_what_was_added_since_the_point_before(self) -> None:
        self.assertIsNone(self.added(10.0, 1, 2, 3, 4))
        self.assertEqual(self.added(20.0, 1, 4, 3, 5), (0, 2, 0, 1))

    def test_a_point_that_comes_again_has_the_same_answer(self) -> None:
        self.added(10.0, 1, 2, 3, 4)
        self.assertEqual(self.added(20.0, 2, 2, 3, 4), (1, 0, 0, 0))
        self.assertEqual(self.added(20.0, 2, 2, 3, 4), (1, 0, 0, 0))
        self.assertIsNone(self.added(15.0, 1, 2, 3, 4))

    def test_a_reset_has_none(self) -> None:
        self.added(10.0, 1, 2, 3, 4)
        self.assertIsNone(self.added(20.0, 1, 0, 3, 4))
        self.assertIsNone(self.added(30.0, 5, 5, 5, 5, started_at=25.0))
        self.assertEqual(self.added(40.0, 5, 5, 5, 6, started_at=25.0), (0, 0, 0, 1))

    def test_other_bounds_have_none(self) -> None:
        self.added(10.0, 1, 2, 3, 4)
        self.assertIsNone(self.totals.added("h", Buckets((1.0,), (1, 2), 20.0, 0.0)))

    def test_the_histogram_not_seen_for_longest_is_forgotten(self) -> None:
        for name in ("a", "b", "a", "c"):
            self.added(10.0, 1, 2, 3, 4, name=name)
        self.assertIsNone(self.added(20.0, 1, 2, 3, 5, name="b"))
        self.assertEqual(self.added(20.0, 1, 2, 3, 5, name="c"), (0, 0, 0, 1))
