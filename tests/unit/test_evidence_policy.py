# SPDX-License-Identifier: MIT
"""Hold-off and budgets: worked rows, and calibration on fleets that are like their past and on some that are not."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from htmengine.evidence.policy import (
    BOUND_WEEKS,
    WARM_UP_ROWS,
    WEEK,
    Allowance,
    Decision,
    Events,
    FleetBudget,
    HoldOff,
    MetricBudget,
    fleet_rates,
    fleet_threshold,
    metric_threshold,
)

STEP = 3600


def _scores(rng: random.Random, rows: int, *, rate: float = 0.02) -> Iterator[float]:
    """Quiet rows, and now and then one of exponential height."""
    return (1.5 + rng.expovariate(1.6) if rng.random() < rate else rng.uniform(0.0, 1.2) for _ in range(rows))


def _most_in_four_weeks(times: list[float]) -> int:
    return max((sum(start <= time < start + BOUND_WEEKS * WEEK for time in times) for start in times), default=0)


class HoldOffTest(SynchronousTestCase):
    def test_it_ends_after_forty_rows(self) -> None:
        hold_off = HoldOff()
        self.assertEqual([hold_off.update(3.0, 2.6) for _ in range(42)], [True] + [False] * 40 + [True])


class AllowanceTest(SynchronousTestCase):
    @settings(deadline=None)
    @given(
        st.sampled_from([0.1, 0.25, 0.5, 0.8, 1.0, 2.0, 7.0, 30.0]),
        st.lists(st.floats(0, 3 * WEEK), min_size=1, max_size=200),
    )
    def test_any_four_weeks_are_bounded(self, budget: float, waits: list[float]) -> None:
        allowance, now, times = Allowance(budget), 0.0, []
        for wait in waits:
            now += wait
            times += [now for _ in range(3) if allowance.take(now)]
        self.assertGreaterEqual(len(times), 1)
        self.assertLessEqual(_most_in_four_weeks(times), max(1, 1.25 * 4 * budget))
        self.assertLessEqual(len(times), allowance.depth + budget * now / WEEK + 1e-6)

    def test_time_that_goes_back_gives_nothing(self) -> None:
        allowance = Allowance(1.0)
        self.assertEqual([allowance.take(now) for now in (0, -WEEK, 0, WEEK, WEEK)], [True, False, False, True, False])

    def test_budgets_that_cannot_be(self) -> None:
        for budget in (0.0, -1.0, math.inf, math.nan):
            with self.assertRaises(ValueError):
                MetricBudget(budget)


class EventsTest(SynchronousTestCase):
    def test_rows_of_one_event_count_once_with_the_highest(self) -> None:
        events = Events(rows=WARM_UP_ROWS)
        for row, score in enumerate([2.0, 3.0, 1.0, *[0.0] * 37, 2.5, 1.7]):
            events.update(float(row), score)
        self.assertEqual(events.all, [(0.0, 3.0), (41.0, 1.7)])

    def test_the_first_half_of_the_warm_up_counts_nowhere(self) -> None:
        events = Events()
        for row in range(WARM_UP_ROWS // 2):
            events.update(float(row), 5.0)
        self.assertEqual((events.all, events.weeks(1e9, 8.0)), ([], 0.0))


class ThresholdTest(SynchronousTestCase):
    def test_without_a_past_it_is_the_fleets(self) -> None:
        self.assertEqual(metric_threshold(1.0, [], 0.0, None), 3.25)
        self.assertEqual(metric_threshold(1.0, [], 0.0, [2.0] * 10 + [1.0] * 121), 2.0)

    def test_a_metric_with_many_events_has_a_higher_one(self) -> None:
        quiet, noisy = (metric_threshold(0.5, [3.9] * count, 8.0, None) for count in (0, 30))
        self.assertLess(quiet, 3.0)
        self.assertGreater(noisy, 3.9)

    def test_where_no_height_keeps_to_the_budget_there_are_no_alarms(self) -> None:
        self.assertEqual(metric_threshold(0.5, [9.0] * 100, 8.0, None), math.inf)

    def test_a_fleets_is_the_height_of_the_last_event_that_may_alarm(self) -> None:
        self.assertEqual(fleet_threshold(2.0, [1.6, 4.0, 3.0, 2.0], 1.0), 3.0)
        self.assertEqual(fleet_threshold(2.0, [4.0], 1.0), 1.5)
        self.assertEqual(fleet_threshold(2.0, [4.0], 0.4), math.inf)

    def test_rates_of_a_fleet(self) -> None:
        rates = fleet_rates([1.6, 2.0, 4.0], 2.0)
        self.assertEqual((rates[0], rates[10], rates[50], rates[51]), (1.5, 1.0, 0.5, 0.0))
        with self.assertRaises(ValueError):
            fleet_rates([], 0.0)


class MetricCalibrationTest(SynchronousTestCase):
    def _alarms(self, budget: MetricBudget, scores: Iterator[float]) -> list[float]:
        return [
            float(row * STEP) for row, score in enumerate(scores) if budget.update(row * STEP, score) is Decision.ALARM
        ]

    def test_alarms_keep_to_the_budget_and_use_it(self) -> None:
        weeks, rows = 52, 52 * 168
        for wanted in (0.25, 0.5, 1.0, 2.0):
            counts = []
            for seed in range(6):
                times = self._alarms(MetricBudget(wanted), _scores(random.Random(seed), rows))
                self.assertLessEqual(_most_in_four_weeks(times), max(1, 1.25 * 4 * wanted))
                counts.append(len(times) / weeks)
            mean = sum(counts) / len(counts)
            self.assertLessEqual(mean, 1.05 * wanted)
            self.assertGreater(mean, 0.3 * wanted)

    def test_a_storm_after_a_quiet_past_is_held_back_and_reported(self) -> None:
        budget, rng = MetricBudget(1.0), random.Random(1)
        self._alarms(budget, _scores(rng, 20 * 168, rate=0.001))
        times = [
            row * STEP
            for row in range(20 * 168, 24 * 168)
            if budget.update(row * STEP, rng.choice([0.0, 7.0])) is Decision.ALARM
        ]
        self.assertTrue(1 <= len(times) <= 5)
        self.assertGreater(budget.held_back, 3)


class FleetCalibrationTest(SynchronousTestCase):
    def test_alarms_keep_to_the_budget_also_when_faults_come_after_a_time_without(self) -> None:
        metrics = [f"servers.web-{number:02d}.cpu" for number in range(20)]
        for wanted in (1.0, 5.0):
            budget, rng, times = FleetBudget(wanted), random.Random(3), []
            quiet_rows, rows = 12 * 168, 20 * 168
            for row in range(rows):
                for metric, score in zip(metrics, _scores(rng, 20, rate=0.01), strict=True):
                    worse = 2.0 if row > quiet_rows and rng.random() < 0.002 else 0.0
                    if budget.update(row * STEP, metric, score + worse * 2) is Decision.ALARM:
                        times.append(float(row * STEP))
            self.assertLessEqual(_most_in_four_weeks(times), 1.25 * 4 * wanted)
            self.assertGreater(len(times), 0.4 * wanted * (rows - WARM_UP_ROWS) / 168)
            self.assertGreater(budget.held_back, 0)

    def test_it_tells_its_rates(self) -> None:
        budget = FleetBudget(1.0)
        self.assertIsNone(budget.rates(0.0))
        for row in range(2 * WARM_UP_ROWS):
            budget.update(row * STEP, "one.metric.of.the.fleet", 2.0 if row % 168 == 0 else 0.0)
        self.assertAlmostEqual(budget.rates(2 * WARM_UP_ROWS * STEP)[0], 1.0, delta=0.3)
        budget.forget("one.metric.of.the.fleet")
        self.assertIsNone(budget.rates(0.0))


class RestoreTest(SynchronousTestCase):
    def test_restored_from_plain_data_they_go_on_exactly(self) -> None:
        rng = random.Random(4)
        one, fleet = MetricBudget(1.0, fleet=[0.1] * 131), FleetBudget(3.0)
        for row, score in enumerate(_scores(rng, 3000)):
            if row % 500 == 7:
                again = MetricBudget.restored(json.loads(json.dumps(one.state(), allow_nan=False)))
                fleet_again = FleetBudget.restored(json.loads(json.dumps(fleet.state(), allow_nan=False)))
                self.assertEqual((again.state(), fleet_again.state()), (one.state(), fleet.state()))
                one, fleet = again, fleet_again
            one.update(row * STEP, score)
            fleet.update(row * STEP, f"metric-{row % 3}", score)
        plain = MetricBudget(1.0, fleet=[0.1] * 131)
        for row, score in enumerate(_scores(random.Random(4), 3000)):
            plain.update(row * STEP, score)
        self.assertEqual(plain.state(), one.state())
