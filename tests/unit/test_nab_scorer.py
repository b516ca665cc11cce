# SPDX-License-Identifier: MIT
"""The benchmark's scoring, on cases worked by hand: series of 100 rows, of which the first 15 are probation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from unittest import TestCase

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from htmengine.nab.scorer import (
    PROFILES,
    Best,
    Counts,
    Profile,
    ScoredWindows,
    best_threshold,
    counts_at,
    probation,
    row_values,
    score_at,
    sigmoid,
)

_STANDARD = PROFILES["standard"]
#: A detection in the middle of a window of 10 rows: y = -5/10 in S(y) / S(-1).
_MIDDLE = 0.8482836 / 0.9866143


def _series(scores: Mapping[int, float], *windows: tuple[int, int]) -> ScoredWindows:
    rows = np.zeros(100)
    for row, score in scores.items():
        rows[row] = score
    return ScoredWindows(rows, windows)


class PositionTest(TestCase):
    def test_sigmoid(self) -> None:
        positions = np.array([-1.0, -0.5, 0.0, 1.0, 3.0, 3.1, 1000.0])
        expected = [0.9866143, 0.8482836, 0.0, -0.9866143, -0.9999994, -1.0, -1.0]
        np.testing.assert_allclose(sigmoid(positions), expected, atol=1e-7)

    def test_probation_is_15_percent_up_to_750_rows(self) -> None:
        self.assertEqual([probation(rows) for rows in (0, 99, 100, 4032, 5000, 22695)], [0, 14, 15, 604, 750, 750])

    def test_a_windows_first_row_is_worth_one_and_its_last_the_least(self) -> None:
        windows, worth = row_values(100, [(40, 49)])
        self.assertEqual(windows[39:51].tolist(), [-1, *[0] * 10, -1])
        self.assertEqual(worth[40], 1.0)
        self.assertAlmostEqual(worth[45], _MIDDLE, places=6)
        self.assertAlmostEqual(worth[49], 0.2449187 / 0.9866143, places=6)  # y = -1/10

    def test_a_false_positive_costs_less_just_after_a_window(self) -> None:
        _, worth = row_values(100, [(40, 49)])
        self.assertEqual(worth[:40].tolist(), [-1.0] * 40)
        self.assertAlmostEqual(worth[50], -0.2708471, places=6)  # y = 1/9
        self.assertAlmostEqual(worth[54], -0.8829, places=4)  # y = 5/9
        self.assertEqual(worth[77:].tolist(), [-1.0] * 23)  # y > 3

    def test_a_false_positive_belongs_to_the_nearest_window_before_it(self) -> None:
        _, worth = row_values(100, [(60, 69), (20, 29)])
        _, first_only = row_values(100, [(20, 29)])
        self.assertEqual(worth[30:60].tolist(), first_only[30:60].tolist())
        self.assertAlmostEqual(worth[70], -0.2708471, places=6)

    def test_after_a_window_of_one_row_a_false_positive_costs_in_full(self) -> None:
        windows, worth = row_values(10, [(5, 5)])
        self.assertEqual(windows.tolist(), [-1] * 5 + [0] + [-1] * 4)
        self.assertEqual(worth.tolist(), [-1.0] * 5 + [1.0] + [-1.0] * 4)


class BestThresholdTest(TestCase):
    def _best(self, *series: ScoredWindows, profile: str = "standard") -> Best:
        return best_threshold(series, PROFILES[profile])

    def test_every_window_found_on_its_first_row_is_100(self) -> None:
        best = self._best(_series({20: 0.9, 60: 0.7}, (20, 29), (60, 69)))
        self.assertAlmostEqual(best.score, 100.0)
        self.assertEqual(best.threshold, 0.7)

    def test_nothing_detected_is_0(self) -> None:
        self.assertEqual(self._best(_series({}, (20, 29))).score, best_threshold([], _STANDARD).score)
        self.assertEqual(self._best(), Best(0.0, None))

    def test_only_the_earliest_detection_in_a_window_counts(self) -> None:
        # 1 + (worth of row 45), over 2
        best = self._best(_series({45: 0.9, 47: 0.9, 49: 0.9}, (40, 49)))
        self.assertAlmostEqual(best.score, 100 * (1 + _MIDDLE) / 2, places=4)

    def test_a_lower_threshold_that_finds_an_earlier_row_is_better(self) -> None:
        best = self._best(_series({40: 0.5, 45: 0.9}, (40, 49)))
        self.assertEqual(best.threshold, 0.5)
        self.assertAlmostEqual(best.score, 100.0)

    def test_false_positives_cost_by_profile(self) -> None:
        series = _series({30: 0.9, 40: 0.9}, (40, 49))
        for profile, expected in (
            ("standard", (2 - 0.11) / 2),
            ("reward_low_fp", (2 - 0.22) / 2),
            ("reward_low_fn", (3 - 0.11) / 3),
        ):
            self.assertAlmostEqual(self._best(series, profile=profile).score, 100 * expected)

    def test_missed_windows_cost_by_profile(self) -> None:
        series = _series({40: 0.9}, (40, 49), (60, 69))  # half of the gain in each profile
        for profile in PROFILES:
            self.assertAlmostEqual(self._best(series, profile=profile).score, 50.0)

    def test_rows_of_one_score_are_detected_together(self) -> None:
        best = self._best(_series({30: 0.9, 31: 0.9, 40: 0.9, 80: 0.8}, (40, 49)))
        self.assertEqual(best.threshold, 0.9)
        self.assertAlmostEqual(best.score, 100 * (2 - 0.22) / 2)

    def test_probation_does_not_count(self) -> None:
        best = self._best(_series({14: 1.0, 40: 0.9}, (40, 49)))
        self.assertAlmostEqual(best.score, 100.0)
        best = self._best(_series({15: 1.0, 40: 0.9}, (40, 49)))
        self.assertAlmostEqual(best.score, 100 * (2 - 0.11) / 2)

    def test_all_series_share_one_threshold(self) -> None:
        one, two = _series({40: 0.9}, (40, 49)), _series({20: 0.6, 40: 0.5}, (40, 49))
        best = self._best(one, two)  # 0.9 finds one of two; 0.5 both, with a false positive
        self.assertEqual(best.threshold, 0.5)
        self.assertAlmostEqual(best.score, 100 * (4 - 0.11) / 4)

    def test_where_detections_only_cost_detecting_nothing_is_best(self) -> None:
        self.assertEqual(self._best(ScoredWindows(np.ones(100), [])), Best(0.0, None))

    @given(
        st.lists(
            st.tuples(st.lists(st.integers(0, 5), min_size=30, max_size=30), st.booleans(), st.booleans()),
            max_size=4,
        ),
        st.sampled_from(sorted(PROFILES)),
    )
    def test_no_threshold_is_better_than_the_best(
        self, files: list[tuple[list[int], bool, bool]], profile: str
    ) -> None:
        series = [
            ScoredWindows(
                np.array(scores) / 5, [window for window, there in (((8, 12), one), ((20, 25), two)) if there]
            )
            for scores, one, two in files
        ]
        best = best_threshold(series, PROFILES[profile])
        windows = sum(len(one.windows) for one in series)
        if windows == 0:
            self.assertEqual(best, Best(0.0, None))
            return
        every = {threshold: _by_hand(series, PROFILES[profile], threshold) for threshold in (0, 0.2, 0.4, 0.6, 0.8, 1)}
        self.assertAlmostEqual(best.score, max(0.0, *every.values()))
        for threshold, score in every.items():
            self.assertAlmostEqual(score_at(series, PROFILES[profile], threshold), score)


def _by_hand(series: list[ScoredWindows], profile: Profile, threshold: float) -> float:
    """The normalised score, from the rules as they are told."""
    total = null = perfect = 0.0
    for one in series:
        found: set[tuple[int, int]] = set()
        for row in range(4, 30):  # probation: floor(0.15 x 30) = 4
            if one.scores[row] < threshold:
                continue
            inside = [window for window in one.windows if window[0] <= row <= window[1]]
            before = [window for window in one.windows if window[1] < row]
            if inside and inside[0] not in found:
                first, last = inside[0]
                y = -(last - row + 1) / (last - first + 1)
                total += profile.true_positive * _s(y) / _s(-1.0)
                found.add(inside[0])
            elif not inside and before:
                first, last = before[-1]
                total += profile.false_positive * _s((row - last) / (last - first))
            elif not inside:
                total -= profile.false_positive
        total -= profile.false_negative * (len(one.windows) - len(found))
        null -= profile.false_negative * len(one.windows)
        perfect += profile.true_positive * len(one.windows)
    return 100 * (total - null) / (perfect - null)


def _s(y: float) -> float:
    return -1.0 if y > 3 else 2 / (1 + math.exp(5 * y)) - 1


class CountsTest(TestCase):
    def test_windows_found_and_false_positives(self) -> None:
        series = [_series({14: 1.0, 30: 0.9, 45: 0.9, 46: 0.9, 80: 0.5}, (40, 49), (60, 69)), _series({50: 0.9})]
        self.assertEqual(counts_at(series, 0.9), Counts(found=1, windows=2, false_positives=2))
        self.assertEqual(counts_at(series, 0.5), Counts(found=1, windows=2, false_positives=3))
        self.assertEqual(counts_at(series, None), Counts(found=0, windows=2, false_positives=0))

    def test_series_without_windows_have_no_score(self) -> None:
        self.assertTrue(math.isnan(score_at([_series({50: 0.9})], _STANDARD, 0.5)))
