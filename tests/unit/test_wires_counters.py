# SPDX-License-Identifier: MIT
"""Counters to rates, and counters that are sent as gauges."""

from __future__ import annotations

import math
import random
from itertools import accumulate
from unittest import TestCase

from hypothesis import given
from hypothesis import strategies as st

from htmengine.wires.counters import Last, Watch, advance, looks_like_counter, watch
from htmengine.wires.samples import Kind, Sample


def outcomes(rows: list[tuple[float, float]], kind: Kind = Kind.COUNTER, started_at: float = 0.0) -> list[object]:
    """Rates and reasons of (timestamp, value)."""
    last: Last | None = None
    found: list[object] = []
    for timestamp, value in rows:
        step = advance(last, Sample("n", value, timestamp, kind, started_at))
        last = step.last
        found.append(step.reason if step.rate is None else step.rate)
    return found


class CounterTest(TestCase):
    def test_a_rate_is_what_was_added_a_second(self) -> None:
        rows = [(0.0, 100.0), (10.0, 150.0), (20.0, 150.0), (40.0, 160.0)]
        self.assertEqual(outcomes(rows), ["first_of_counter", 5.0, 0.0, 0.5])

    def test_a_fall_gives_no_rate_and_the_next_row_one_from_there(self) -> None:
        rows = [(0.0, 100.0), (10.0, 5.0), (20.0, 15.0)]
        self.assertEqual(outcomes(rows), ["first_of_counter", "counter_reset", 1.0])

    def test_another_start_is_a_reset_however_high_the_value(self) -> None:
        first = advance(None, Sample("n", 100.0, 10.0, Kind.COUNTER, 1.0))
        second = advance(first.last, Sample("n", 500.0, 20.0, Kind.COUNTER, 15.0))
        self.assertEqual((second.rate, second.reason), (None, "counter_reset"))
        self.assertEqual(advance(second.last, Sample("n", 510.0, 30.0, Kind.COUNTER, 15.0)).rate, 1.0)

    def test_rows_that_come_again_or_late_change_nothing(self) -> None:
        rows = [(0.0, 100.0), (10.0, 150.0), (10.0, 150.0), (5.0, 120.0), (20.0, 160.0)]
        self.assertEqual(outcomes(rows), ["first_of_counter", 5.0, "repeated", "out_of_order", 1.0])

    @given(st.lists(st.tuples(st.integers(1, 600), st.integers(0, 10**9)), min_size=1, max_size=30))
    def test_rates_times_their_seconds_add_up_to_what_was_counted(self, steps: list[tuple[int, int]]) -> None:
        times = list(accumulate((seconds for seconds, _ in steps), initial=0))
        totals = list(accumulate((added for _, added in steps), initial=7))
        rates = outcomes([(float(t), float(v)) for t, v in zip(times, totals, strict=True)])[1:]
        counted = sum(float(str(rate)) * seconds for rate, (seconds, _) in zip(rates, steps, strict=True))
        self.assertTrue(math.isclose(counted, totals[-1] - 7, rel_tol=1e-9), (counted, totals))

    @given(st.lists(st.tuples(st.integers(0, 100), st.integers(0, 100)), max_size=20), st.integers(0, 20))
    def test_a_state_that_was_stored_goes_on_as_before(self, rows: list[tuple[int, int]], cut: int) -> None:
        floats = [(float(t), float(v)) for t, v in rows]
        whole = outcomes(floats)
        last: Last | None = None
        for timestamp, value in floats[:cut]:
            last = advance(last, Sample("n", value, timestamp, Kind.COUNTER)).last
        restored = Last(*list(last)) if last is not None else None
        found = []
        for timestamp, value in floats[cut:]:
            step = advance(restored, Sample("n", value, timestamp, Kind.COUNTER))
            restored = step.last
            found.append(step.reason if step.rate is None else step.rate)
        self.assertEqual(found, whole[cut:])


class DeltaTest(TestCase):
    def test_a_delta_counts_from_its_start(self) -> None:
        self.assertEqual(advance(None, Sample("n", 30.0, 70.0, Kind.DELTA, 60.0)).rate, 3.0)

    def test_without_a_start_it_counts_from_the_row_before(self) -> None:
        self.assertEqual(outcomes([(60.0, 10.0), (70.0, 30.0)], Kind.DELTA), ["first_of_counter", 3.0])

    def test_a_smaller_delta_is_no_reset(self) -> None:
        self.assertEqual(outcomes([(60.0, 10.0), (70.0, 30.0), (80.0, 0.0)], Kind.DELTA)[1:], [3.0, 0.0])

    def test_a_delta_that_comes_again_is_not_counted_twice(self) -> None:
        self.assertEqual(outcomes([(70.0, 30.0), (70.0, 30.0)], Kind.DELTA, 60.0), [3.0, "repeated"])


class LookOutTest(TestCase):
    def decided(self, values: list[float], step_s: float) -> tuple[bool | None, int]:
        """The first verdict, and after how many rows."""
        seen: Watch | None = None
        for row, value in enumerate(values):
            seen = watch(seen, value, row * step_s)
            verdict = looks_like_counter(seen, row * step_s)
            if verdict is not None:
                return verdict, row + 1
        return None, len(values)

    def test_what_only_rises_for_a_day_looks_like_a_counter(self) -> None:
        self.assertEqual(self.decided([float(n) for n in range(400)], 300.0), (True, 289))

    def test_a_day_has_288_rows_at_least(self) -> None:
        self.assertEqual(self.decided([float(n) for n in range(400)], 3600.0), (True, 288))

    def test_a_short_interval_is_watched_for_the_whole_day(self) -> None:
        self.assertEqual(self.decided([float(n) for n in range(1500)], 60.0), (True, 1441))

    def test_one_fall_makes_it_none(self) -> None:
        self.assertEqual(self.decided([1.0, 2.0, 1.0], 300.0), (False, 3))

    def test_what_stands_still_in_half_of_its_rows_is_none(self) -> None:
        self.assertEqual(self.decided([float(n // 2) for n in range(400)], 300.0)[0], False)

    def test_noise_is_none(self) -> None:
        chance = random.Random(1)
        self.assertEqual(self.decided([chance.gauss(0, 1) for _ in range(400)], 300.0)[0], False)

    def test_a_state_is_plain_numbers(self) -> None:
        seen = watch(watch(None, 1.0, 0.0), 2.0, 300.0)
        self.assertEqual(Watch(*list(seen)), seen)
