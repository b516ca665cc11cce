# SPDX-License-Identifier: MIT
"""Who has stopped: by a metric's own past, while the others report, and never because the engine was away."""

from __future__ import annotations

from unittest import TestCase

from htmengine.incidents.fleet import FORGOTTEN_S, LEAST_ROWS, Fleet, Newest

NOW = 1_400_000_000


class FleetTest(TestCase):
    """Three metrics a minute apart; ``a`` is the one that stops."""

    def setUp(self) -> None:
        self.fleet = Fleet()
        self.now = NOW
        self.last = dict.fromkeys("abc", NOW)
        self.rows = LEAST_ROWS

    def minutes(self, count: int, reporting: str) -> None:
        for _ in range(count):
            self.now += 60
            self.last |= dict.fromkeys(reporting, self.now)
            self.look()

    def look(self) -> None:
        self.fleet.look(self.now, [Newest(name, name, self.rows, at) for name, at in self.last.items()])

    def silent(self, given_s: float = 0.0, past: tuple[int, ...] = (0, 60, 120)) -> list[str]:
        for each in list(self.fleet.unstudied()):
            self.fleet.study(each.uid, past)
        return [each.uid for each in self.fleet.silent(given_s)]

    def test_a_metric_that_stops_is_silent_after_ten_minutes(self) -> None:
        self.minutes(5, "abc")
        self.minutes(9, "bc")
        self.assertEqual(self.silent(), [])
        self.minutes(2, "bc")
        self.assertEqual(self.silent(), ["a"])
        self.assertEqual(self.fleet.silence_in_words("a"), "no samples for 11 minutes; its longest gap was 60 seconds")
        self.minutes(1, "abc")
        self.assertEqual(self.silent(), [])

    def test_a_metric_that_has_had_longer_gaps_is_waited_for(self) -> None:
        self.minutes(5, "abc")
        self.minutes(30, "bc")
        self.assertEqual(self.silent(past=(0, 60, 1860)), [])
        self.minutes(31, "bc")
        self.assertEqual(self.silent(past=(0, 60, 1860)), ["a"])

    def test_a_time_may_be_given(self) -> None:
        self.minutes(5, "abc")
        self.minutes(3, "bc")
        self.assertEqual((self.silent(), self.silent(180.0)), ([], ["a"]))

    def test_an_outage_of_all_is_nobodys_silence(self) -> None:
        self.minutes(5, "abc")
        self.minutes(60, "")
        self.assertEqual(self.silent(), [])
        self.minutes(3, "abc")
        self.assertEqual(self.silent(), [])

    def test_after_a_restart_metrics_that_were_dead_before_are_not_news(self) -> None:
        self.last["a"] -= 7200
        self.minutes(30, "bc")
        self.assertEqual(self.silent(), [])
        self.minutes(2, "abc")
        self.minutes(12, "bc")
        self.assertEqual(self.silent(), ["a"])

    def test_one_whose_rows_all_came_at_once_is_watched_from_the_time_when_it_is_live(self) -> None:
        self.minutes(5, "abc")
        self.last |= {"live": self.now, "old": self.now - 1800}
        self.minutes(9, "abc")
        self.assertEqual(self.silent(), [])
        self.minutes(3, "abc")
        self.assertEqual(self.silent(), ["live"])

    def test_one_that_stopped_with_the_engine_is_noticed_after_the_start(self) -> None:
        self.now += 3 * 3600  # the engine was away
        self.minutes(1, "")
        self.minutes(12, "bc")
        self.assertEqual(self.silent(), ["a"])

    def test_while_a_backlog_comes_in_nobody_is_silent(self) -> None:
        self.minutes(5, "abc")
        self.now += 3000  # the engine was away; then b and c come first, and a is still in the queue
        for late in range(3000, 0, -100):
            self.now += 60
            self.last |= dict.fromkeys("bc", self.now - late)
            self.look()
            self.assertEqual(self.silent(), [])
        self.minutes(3, "abc")
        self.assertEqual(self.silent(), [])
        self.minutes(12, "bc")
        self.assertEqual(self.silent(), ["a"])

    def test_a_fleet_that_is_always_late_is_watched(self) -> None:
        for minute in range(20):
            self.now += 60
            self.last |= dict.fromkeys("bc" if minute > 5 else "abc", self.now - 900)
            self.look()
        self.assertEqual(self.silent(), ["a"])

    def test_a_metric_whose_rows_become_few_has_gaps(self) -> None:
        self.fleet.watches_gaps = True
        for minute in range(13 * 60):
            self.rows += 1
            self.minutes(1, "abc")
            self.assertEqual(self.fleet.faults, {}, minute)
        faults: dict[str, str] = {}
        for minute in range(60):
            self.rows += minute % 4 == 0
            self.minutes(1, "abc")
            faults |= self.fleet.faults
        self.assertEqual(sorted(faults), ["a", "b", "c"])
        self.assertIn("30 are usual", faults["a"])

    def test_a_metric_of_few_rows_and_one_long_forgotten_are_not_watched(self) -> None:
        self.rows = LEAST_ROWS - 1
        self.minutes(5, "abc")
        self.minutes(15, "bc")
        self.assertEqual(self.silent(), [])
        self.rows = LEAST_ROWS
        self.last["a"] = int(self.now - FORGOTTEN_S)
        self.minutes(1, "bc")
        self.assertEqual(self.silent(), [])
