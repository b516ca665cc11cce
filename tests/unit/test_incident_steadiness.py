# SPDX-License-Identifier: MIT
"""Rows that become too few or late, of metrics that came steadily."""

from __future__ import annotations

from unittest import TestCase

from htmengine.incidents.steadiness import HOLD_S, KEPT, LEAST, Steadiness


class SteadinessTest(TestCase):
    def setUp(self) -> None:
        self.seconds, self.rowid = 0.0, 100
        self.metric = Steadiness(self.seconds, self.rowid)

    def window(self, rows: int, age: float = 5.0) -> str | None:
        """Half an hour with so many rows, in looks a minute apart."""
        found = []
        for minute in range(1, 31):
            self.seconds += 60
            new = minute * rows // 30 - (minute - 1) * rows // 30
            self.rowid += new
            found.append(self.metric.looked(self.seconds, self.rowid, age if new else None))
        return found[-1]

    def day(self, rows: int = 30) -> None:
        self.assertEqual([self.window(rows) for _ in range(KEPT)], [None] * KEPT)

    def test_fewer_than_half_of_the_usual_rows_are_a_fault_once_a_day(self) -> None:
        self.day()
        self.assertIsNone(self.window(15))
        self.metric.past.pop()
        self.assertEqual(self.window(10), "10 samples in 30 minutes; 30 are usual")
        self.assertEqual(self.metric.held_until, self.seconds + HOLD_S)

    def test_rows_that_come_late_are_a_fault_unless_they_always_do(self) -> None:
        self.day()
        self.assertEqual(self.window(30, age=900.0), "its samples come 15 minutes late")
        self.setUp()
        found = [self.window(30, age=900.0) for _ in range(KEPT)]
        self.assertEqual(found, [None] * KEPT)

    def test_nothing_is_said_of_metrics_that_are_young_slow_irregular_or_silent(self) -> None:
        self.assertEqual([self.window(30) for _ in range(LEAST - 1)] + [self.window(5)], [None] * LEAST)
        self.setUp()
        self.day(rows=3)
        self.assertIsNone(self.window(1))
        self.setUp()
        for rows in (30, 10) * (KEPT // 2):
            self.window(rows)
        self.assertIsNone(self.window(5))
        self.setUp()
        self.day()
        self.assertIsNone(self.window(0))
