# SPDX-License-Identifier: MIT
"""The compiled evidence against plain Python that says the same in other words, row by row; the plain one is slow."""

from __future__ import annotations

import math
import random

import numpy as np
from twisted.trial.unittest import SynchronousTestCase

from htmengine.evidence import Detector
from tests.reference import evidence as reference
from tests.support.evidence_rows import Row, columns, daily_rows


class ReferenceTest(SynchronousTestCase):
    def _compare(self, rows: list[Row], **options: float) -> None:
        plain, compiled = reference.Detector(**options), Detector(**options)
        found = [[each.update(*row), each.height, *each.evidence] for row in rows for each in (plain, compiled)]
        expected = [[*row, 0.0] for row in found[::2]]  # of siblings, of which it was not told
        np.testing.assert_allclose(found[1::2], expected, rtol=0, atol=1e-9)

    def test_evidence_and_score_are_equal_on_a_daily_curve(self) -> None:
        self._compare(daily_rows(1800))

    def test_at_other_steps(self) -> None:
        self._compare(daily_rows(900, seed=2, step=3600))
        self._compare(daily_rows(900, seed=3, step=300))

    def test_rows_faster_than_5_minutes(self) -> None:
        self._compare(daily_rows(3000, seed=3, step=60))
        self._compare(daily_rows(2000, seed=4, step=77))

    def test_rows_faster_than_5_minutes_of_which_some_are_late_or_do_not_come(self) -> None:
        rng = random.Random(5)
        self._compare([(t + rng.choice([0, 0, 0, 70, -400]), v, r) for t, v, r in daily_rows(1500, seed=6, step=60)])
        self._compare([row for row in daily_rows(4000, seed=7, step=60) if rng.random() < 0.5])

    def test_with_another_step_and_back(self) -> None:
        rows = daily_rows(2600, seed=9, step=60)
        slow, fast = rows[:2000:4], rows[2000:]
        later = [(t + 2 * 86_400, v, r) for t, v, r in slow]
        for first, second, third in ((slow, fast, later), (fast, later, [(t + 10**6, v, r) for t, v, r in fast])):
            self._compare([*first, *second, *third])

    def test_across_gaps(self) -> None:
        rows = [(t + 7200 * (t // 90_000), v, r) for t, v, r in daily_rows(1800, seed=4)]
        self._compare(rows)
        self._compare(rows, gap_steps=math.inf)

    def test_with_timestamps_that_repeat_and_go_back(self) -> None:
        rng = random.Random(5)
        self._compare([(t + rng.choice([0, 0, -300, -86_400, 86_400]), v, r) for t, v, r in daily_rows(1200, seed=5)])

    def test_old_peaks_are_forgotten(self) -> None:
        plain, compiled = reference.Rarity(), Detector()
        rng = random.Random(6)
        rows = [(300 * row, float(rng.randrange(1000)), 0.0) for row in range(17_500)]
        evidence = compiled.update_many(*columns(rows)).evidence[:, 0]
        down = reference.Rarity()
        expected = [max(plain.update(value), down.update(-value)) for _, value, _ in rows]
        np.testing.assert_allclose(evidence, expected, rtol=0, atol=1e-9)
