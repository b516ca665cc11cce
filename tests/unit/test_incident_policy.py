# SPDX-License-Identifier: MIT
"""Budget, hold-off and silence: worked by hand, and held to their bounds on fleets that behave badly."""

from __future__ import annotations

import math
import random
from unittest import TestCase

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from htmengine.incidents.budget import FLOOR, WEEK_S, Bucket, Budget
from htmengine.incidents.grouping import Alarm, Open, RuleState, decide
from htmengine.incidents.hold_off import DAY_S, HoldOff, learning
from htmengine.incidents.silence import Cadence, FleetClock

BUDGETS = st.sampled_from([0.25, 0.5, 1.0, 1.5, 5.0, 25.0])


def most_in_four_weeks(times: list[float]) -> int:
    """Pages in the worst four weeks; ``times`` are in order."""
    return max((sum(begin <= time < begin + 4 * WEEK_S for time in times) for begin in times), default=0)


def bound(pages_per_week: float) -> int:
    """1.25 times the budget in four weeks; a budget of less than a page a week gives whole pages."""
    return max(math.ceil(4 * pages_per_week), math.floor(5 * pages_per_week))


class BudgetTest(TestCase):
    @pytest.mark.long
    @settings(deadline=None, max_examples=60)
    @given(BUDGETS, st.lists(st.tuples(st.floats(-WEEK_S, 3 * WEEK_S), st.integers(1, 40)), max_size=60))
    def test_whatever_comes_any_four_weeks_are_bounded(self, pages: float, bursts: list[tuple[float, int]]) -> None:
        budget, bucket, now, times = Budget(pages), Bucket(), 0.0, []
        for wait, count in bursts:
            now = max(0.0, now + wait)
            for _ in range(count):
                bucket = budget.refilled(bucket, now)
                if (spent := budget.spent(bucket)) is not None:
                    bucket = spent
                    times.append(bucket.at or 0.0)
        self.assertLessEqual(most_in_four_weeks(times), bound(pages))
        self.assertLessEqual(0.0, budget.tokens(bucket))
        self.assertLessEqual(budget.tokens(bucket), budget.depth)

    def test_the_price_rises_as_tokens_go(self) -> None:
        budget, prices = Budget(4.0), []
        bucket: Bucket | None = Bucket()
        while bucket is not None:
            prices.append(budget.price(bucket))
            bucket = budget.spent(bucket)
        self.assertEqual(prices, [4.0, 4.1875, 4.75, 5.6875, 7.0])

    def test_time_that_goes_back_refills_nothing(self) -> None:
        budget = Budget(1.0)
        empty = budget.spent(budget.refilled(Bucket(), WEEK_S))
        assert empty is not None
        self.assertEqual(budget.refilled(empty, 0.0), empty)
        self.assertEqual(budget.refilled(budget.refilled(empty, 0.0), 1.5 * WEEK_S).tokens, 0.5)

    def test_a_smaller_budget_takes_what_is_too_much(self) -> None:
        self.assertEqual(Budget(2.0).refilled(Bucket(25.0, 0.0), 0.0).tokens, 2.0)

    def test_budgets_that_cannot_be(self) -> None:
        for pages in (0.0, -1.0, math.inf, math.nan):
            with self.assertRaises(ValueError):
                Budget(pages)


@pytest.mark.long
class FleetTest(TestCase):
    """A year of a fleet's alarms, with bad weeks: what is paged, by the whole policy."""

    def pages(self, pages_per_week: float, metrics: int, rng: random.Random) -> list[float]:
        budget, state, holds, times = Budget(pages_per_week), RuleState(), dict[str, HoldOff](), list[float]()
        for day in range(365):
            rate = 20.0 if 100 <= day < 110 or day % 97 == 0 else 0.2
            for row, now in enumerate(sorted(rng.uniform(0, DAY_S) for _ in range(int(rate * metrics)))):
                uid = str(rng.randrange(metrics))
                at = int(day * DAY_S + now)
                alarm = Alarm(uid, uid, 1000 * day + row, at, FLOOR + rng.expovariate(1.0), "level 1", "")
                decided = decide("r", budget, state, holds, [alarm])
                state = decided.state
                holds.update(decided.hold_offs)
                times += [at for each in decided.instructions if isinstance(each, Open) and each.incident.paged]
        return times

    def test_pages_keep_to_the_budget_through_bursts_and_use_it(self) -> None:
        for metrics, each in ((1, 0.25), (1, 1.0), (6, 0.25), (6, 1.0)):
            times = self.pages(metrics * each, metrics, random.Random(7))
            most = most_in_four_weeks(times)
            self.assertLessEqual(most, bound(metrics * each), (metrics, each))
            self.assertGreaterEqual(most, 2 * metrics * each, (metrics, each))


class HoldOffTest(TestCase):
    def test_once_a_day_unless_it_is_much_higher(self) -> None:
        held = HoldOff().after(0.0, 4.5, paged=True)
        times = ((60.0, 6.5), (60.0, 6.51), (DAY_S - 1, 5.0), (DAY_S, 4.0))
        self.assertEqual([held.allows(*each) for each in times], [False, True, False, True])

    def test_what_was_held_back_may_page_when_it_is_higher(self) -> None:
        held = HoldOff().after(0.0, 4.5, paged=False)
        self.assertEqual([held.allows(60.0, height) for height in (4.5, 4.6)], [False, True])

    def test_a_metric_is_learnt_for_two_weeks(self) -> None:
        self.assertEqual(learning(1000.0, 1000.0 + 7 * DAY_S), (0.5, 1000.0 + 14 * DAY_S))
        self.assertIsNone(learning(1000.0, 1000.0 + 14 * DAY_S))
        self.assertEqual(learning(1000.0, 0.0).progress, 0.0)


class SilenceTest(TestCase):
    def looks(self, gone: dict[str, range], minutes: int, metrics: int = 4) -> dict[str, list[int]]:
        """Metrics that report each minute, but in the minutes in which they are gone; when each is found silent."""
        clock = FleetClock(at=0.0)
        cadences = {f"m{number}": (Cadence(0.0, 60.0, 60.0), 0) for number in range(metrics)}
        found: dict[str, list[int]] = {name: [] for name in cadences}
        for minute in range(1, minutes):
            reporting = sum(cadence.reports(60.0 * (minute - newest)) for cadence, newest in cadences.values())
            clock = clock.looked(60.0 * minute, reporting=reporting, metrics=metrics)
            for name, (cadence, _) in cadences.items():
                if minute not in gone.get(name, range(0)):
                    cadences[name] = cadence.heard(clock.seconds), minute
                elif cadence.is_silent(clock.seconds):
                    found[name].append(minute)
        return found

    def test_ten_minutes_of_one_metric_are_a_silence(self) -> None:
        found = self.looks({"m1": range(50, 100)}, 100)
        self.assertEqual(
            {name: minutes[:1] for name, minutes in found.items()}, {"m0": [], "m1": [59], "m2": [], "m3": []}
        )

    def test_an_outage_of_the_collector_is_none_and_no_longest_gap(self) -> None:
        everything = {f"m{number}": range(50, 150) for number in range(4)}
        self.assertFalse(any(self.looks(everything, 200).values()))
        found = self.looks({**everything, "m1": range(50, 220)}, 220)
        self.assertEqual(found["m0"], [])
        self.assertLess(found["m1"][0], 165)

    def test_a_metric_with_gaps_of_its_own_is_silent_later(self) -> None:
        cadence = Cadence(0.0)
        for seconds in (300.0, 600.0, 2400.0, 2700.0):
            self.assertEqual(cadence.is_silent(cadence.last + 1e9), cadence.gap > 0)
            cadence = cadence.heard(seconds)
        self.assertEqual((cadence.step, cadence.gap, cadence.limit), (300.0, 1800.0, 3600.0))
        self.assertEqual([cadence.is_silent(2700.0 + age) for age in (3599.0, 3600.0)], [False, True])

    def test_three_steps_of_a_slow_metric(self) -> None:
        self.assertEqual(Cadence(0.0).heard(3600.0).limit, 10_800.0)

    def test_a_time_without_looks_counts_nothing(self) -> None:
        clock = FleetClock().looked(0.0, reporting=1, metrics=1).looked(5000.0, reporting=1, metrics=1)
        self.assertEqual((clock.seconds, clock.looked(5060.0, reporting=1, metrics=1).seconds), (0.0, 60.0))


class StateTest(TestCase):
    def test_json_carries_it(self) -> None:
        alarms = [Alarm("u", "a.b", 1, 100, 4.5, "run", "t"), Alarm("v", "a.c", 1, 200, 4.5, "run", "t")]
        state = decide("r", Budget(2.0), RuleState(), {}, alarms).state
        for kind, data in (
            (RuleState, state),
            (HoldOff, HoldOff(1.0, 2.0)),
            (Cadence, Cadence(1.0)),
            (FleetClock, FleetClock()),
        ):
            self.assertEqual(msgspec.json.decode(msgspec.json.encode(data), type=kind), data)
        self.assertEqual(msgspec.convert({}, RuleState), RuleState())
