# SPDX-License-Identifier: MIT
"""Which rows of one metric begin an alarm."""

from __future__ import annotations

from unittest import TestCase

from htmengine.evidence.policy import HoldOff


class HoldOffTest(TestCase):
    def test_it_ends_after_forty_rows(self) -> None:
        hold_off = HoldOff()
        self.assertEqual([hold_off.update(3.0, 2.6) for _ in range(42)], [True] + [False] * 40 + [True])

    def test_a_score_that_is_a_decade_higher_alarms_all_the_same(self) -> None:
        hold_off = HoldOff()
        self.assertEqual([hold_off.update(score, 2.5) for score in (2.6, 3.6, 3.7)], [True, False, True])
