# SPDX-License-Identifier: MIT
"""The compiled evidence on worked rows and on any values; exact restoring."""

from __future__ import annotations

import math
import random
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from typing import ClassVar
from unittest import TestCase

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from htmengine.errors import CorruptCheckpoint, UnknownCheckpointVersion
from htmengine.evidence import AnomalyLikelihood, Detector, _evidence
from htmengine.evidence.detector import Scored
from htmengine.evidence.kinds import KINDS, NAMES, Side
from htmengine.evidence.scoring import ROWS_WITHOUT_SEQUENCE
from tests.support.evidence_rows import Row, columns, daily_rows


def _last_evidence(rows: list[Row]) -> list[float]:
    detector = Detector()
    detector.update_many(*columns(rows))
    return list(detector.evidence)


class WorkedRowsTest(TestCase):
    def test_the_return_period_of_peaks(self) -> None:
        values = [0.0] * 13 + [1.0] + [0.0] * 13 + [2.0] + [0.0] * 13 + [3.0] + [0.0] * 13 + [4.0, 4.0, 5.0]
        detector = Detector()
        ups = []
        for row, value in enumerate(values):
            detector.update(300 * row, value, 0.0)
            ups.append(round(detector.evidence[0], 4) if detector.sides[0] is Side.UP else 0.0)
        self.assertEqual({row: e for row, e in enumerate(ups) if e}, {41: 2.4918, 55: 2.3272, 56: 1.4548, 57: 2.1109})

    def test_the_first_rows_have_the_same_scores_whatever_the_model_says(self) -> None:
        rng = random.Random(3)
        last = ROWS_WITHOUT_SEQUENCE
        for step in (300, 60):
            values = [(step * row, 10 * rng.random() + 40 * (row % 97 == 96)) for row in range(last + 20)]
            found = [
                Detector().update_many(*columns([(at, value, raw(row)) for row, (at, value) in enumerate(values)]))
                for raw in (lambda row: 0.0, lambda row: (row * 7 % 41) / 40)
            ]
            early = [each.scores[:last].tolist() + each.heights[:last].tolist() for each in found]
            self.assertEqual(*early)
            self.assertNotEqual(*(each.scores[last:].tolist() for each in found))
            self.assertGreater(max(early[0]), 0.5)

    def test_one_kind_at_the_cap_alone(self) -> None:
        self.assertAlmostEqual(math.sqrt(7**2 / _evidence.FUSED), 2.21, places=2)
        self.assertEqual([kind.name for kind in KINDS[_evidence.KINDS :]], ["siblings"])

    def test_a_value_that_stays_as_it_never_did_pages_alone(self) -> None:
        rng, detector = random.Random(2), Detector()
        values = [100 * rng.random() for _ in range(3000)] + [50.0] * 30
        heights = []
        for row, value in enumerate(values):
            score = detector.update(300 * row, value, 0.0)
            loudest = max(detector.evidence[_evidence.FUSED :])
            self.assertAlmostEqual(detector.height, math.hypot(score, 0.6 * loudest), places=12)
            heights.append(detector.height)
        self.assertGreater(max(heights[3000:]), 4.2)

    def test_night_by_day_is_a_jump(self) -> None:
        rows = [(300 * row, 100.0 if row % 288 < 144 else 1.0, 0.0) for row in range(288 * 8)]
        night = rows[-1][0] + 300
        detector = Detector()
        detector.update_many(*columns([(t, v + (t // 300 * 7 % 5), r) for t, v, r in rows]))
        found = set()
        for row in range(6):
            detector.update(night + 300 * row, 900.0, 0.0)
            found.add((detector.evidence[12] == 7.0, detector.sides[12]))
        self.assertIn((True, Side.UP), found)

    def test_five_fast_rows_are_judged_with_the_last_of_them(self) -> None:
        detector = Detector()
        detector.update_many(*columns([(60 * row, float(row % 9), 0.0) for row in range(6000)]))
        found = []
        for row in range(6000, 6010):
            detector.update(60 * row, 1000.0, 0.0)
            found.append(detector.evidence[0])
        self.assertEqual(found, [0.0, 0.0, 0.0, 0.0, 7.0, 0.0, 0.0, 0.0, 0.0, found[-1]])
        self.assertEqual(detector.step, 300.0)

    def test_a_daily_peak_that_stays_away_is_seen_an_hour_later(self) -> None:
        detector, seen = Detector(), {}
        for hour in range(500):
            detector.update(3600 * hour, 10.0 if hour % 24 == 9 and hour != 489 else 1.0 + 0.01 * (hour % 7), 0.0)
            if detector.evidence[6] > 3:
                seen[hour] = (detector.evidence[6], detector.sides[6])
        self.assertEqual(seen, {490: (7.0, Side.MISSING_PEAK)})

    def test_a_flat_line_is_less_spread_than_ever(self) -> None:
        rng = random.Random(1)
        rows = [(300 * row, rng.gauss(0, 1), 0.0) for row in range(600)]
        rows += [(300 * row, rows[-1][1], 0.0) for row in range(600, 615)]
        detector = Detector()
        detector.update_many(*columns(rows[:-5]))
        found = []
        for row in rows[-5:]:
            detector.update(*row)
            found.append((detector.evidence[4], detector.sides[4]))
        self.assertIn((7.0, Side.DOWN), found)


class ExpectedTest(TestCase):
    def test_nothing_is_known_of_the_first_row(self) -> None:
        detector = Detector()
        self.assertIsNone(detector.expected)
        detector.update(0, 5.0, 0.0)
        self.assertIsNone(detector.expected)

    def test_a_young_metric_expects_what_came_last(self) -> None:
        detector = Detector()
        for row, value in enumerate((1.0, 3.0, 1.0, 3.0, 100.0)):
            detector.update(300 * row, value, 0.0)
        self.assertEqual(detector.expected, (2.0, 2.0 - 2.0 * math.sqrt(5.0), 2.0 + 2.0 * math.sqrt(5.0)))

    def test_the_band_of_a_young_metric_has_most_of_the_next_values(self) -> None:
        rng = random.Random(5)
        outside = Counter[int]()
        for _ in range(400):
            values = np.array([rng.gauss(0.0, 1.0) for _ in range(13)])
            rows = np.arange(13, dtype=np.int64)
            expected = Detector().update_many(300 * rows, values, np.zeros(13)).expected
            outside.update(row for row in (4, 7, 12) if not expected[row, 1] < values[row] < expected[row, 2])
        for row, rows_outside in outside.items():
            self.assertTrue(0.02 < rows_outside / 400 < 0.09, (row, rows_outside))

    def test_a_metric_of_days_expects_what_its_hour_shows(self) -> None:
        detector = Detector()
        for hour in range(24 * 10 + 9):
            detector.update(3600 * hour, 100.0 if hour % 24 == 9 else 1.0, 0.0)
        self.assertAlmostEqual(detector.expected.value, 1.0)
        detector.update(3600 * (24 * 10 + 9), 1.0, 0.0)
        self.assertAlmostEqual(detector.expected.value, 100.0)
        self.assertTrue(detector.expected.low < 100.0 < detector.expected.high)

    def test_a_missing_value_is_expected_all_the_same(self) -> None:
        detector = Detector()
        for row, value in enumerate((1.0, 3.0, 1.0, 3.0, math.nan)):
            detector.update(300 * row, value, 0.0)
        self.assertEqual(detector.expected.value, 2.0)


_VALUES = st.one_of(
    st.floats(),
    st.floats(-1e3, 1e3),
    st.sampled_from([0.0, 1.0, -1.0, 5e-324, 1.8e308, -1.8e308, 1.7e308, 1e19, 1e140, math.nan, math.inf]),
)
_STEPS = st.one_of(st.sampled_from([300, 300, 300, 0, -300, 86_400]), st.integers(-(10**9), 10**9))
_BLOCKS = st.tuples(_STEPS, st.lists(_VALUES, min_size=1, max_size=4), st.integers(1, 120), st.integers(0, 40))


@st.composite
def _series(draw: st.DrawFn) -> list[Row]:
    """Some stretches: each repeats a few values at one step."""
    rows, timestamp = [], draw(st.integers(-(10**12), 10**12))
    for step, values, count, raw in draw(st.lists(_BLOCKS, min_size=1, max_size=6)):
        for number in range(count):
            rows.append((timestamp, values[number % len(values)], raw * (number % 3) / 80 if raw % 2 == 0 else 0.0))
            timestamp += step
    return rows


class AnyValuesTest(TestCase):
    @pytest.mark.long
    @given(_series(), st.data())
    def test_evidence_is_finite_and_goes_on_exactly_after_restoring(self, rows: list[Row], data: st.DataObject) -> None:
        at = data.draw(st.integers(0, len(rows)))
        detector = Detector()
        for row in rows[:at]:
            detector.update(*row)
        saved = detector.save()
        restored = Detector.restore(saved)
        self.assertEqual(restored.save(), saved)
        one_by_one = []
        for row in rows[at:]:
            score = detector.update(*row)
            self.assertTrue(all(0.0 <= e <= 7.0 for e in detector.evidence), detector.evidence)
            self.assertTrue(0.0 <= score <= 7.0)
            expected = detector.expected or (math.nan,) * 3
            told = (*detector.evidence, *detector.sides, *expected, detector.likelihood)
            one_by_one.append((score, detector.height, *told))
        if one_by_one:
            scored = restored.update_many(*columns(rows[at:]))
            together = np.column_stack(scored)
            np.testing.assert_array_equal(together, np.array(one_by_one))
        self.assertEqual(restored.save(), detector.save())

    def test_a_missing_value_changes_nothing_but_the_sequence(self) -> None:
        rows = [row for row in daily_rows(700, step=600) if math.isfinite(row[1])]
        detector, other = Detector(), Detector()
        for timestamp, value, raw in rows:
            detector.update(timestamp, value, raw)
            other.update(timestamp, value, raw)
            other.update(timestamp + 300, math.nan, 0.0)
            self.assertEqual([*other.evidence[:9], *other.evidence[10:]], [0.0] * 13)
        detector.update(rows[-1][0] + 600, 3.0, 0.0)
        other.update(rows[-1][0] + 600, 3.0, 0.0)
        self.assertEqual(detector.values, other.values)
        for kind in (0, 1, 2, 3, 4, 5, 6, 10, 11, 12):
            self.assertEqual(detector.evidence[kind], other.evidence[kind])

    def test_one_value_beyond_all_numbers_does_not_blind_the_metric(self) -> None:
        rows = daily_rows(3000, seed=7)
        rows[1500] = (rows[1500][0], 1.7e308, 0.0)
        rows.append((rows[-1][0] + 300, -80.0, 0.0))
        self.assertEqual(_last_evidence(rows)[0], 7.0)

    def test_of_equal_rows_none_is_rare(self) -> None:
        scored = Detector().update_many(np.arange(1000) * 300, np.full(1000, 5.0), np.zeros(1000))
        self.assertLess(scored.evidence.max(), 0.5)


class UnitTest(TestCase):
    """A metric's unit is no part of what is unusual about it."""

    SERIES: ClassVar[dict[str, Callable[[np.random.Generator, NDArray[np.int64]], NDArray[np.float64]]]] = {
        "a daily curve": lambda rng, rows: 50 + 30 * np.sin(rows / 288 * 2 * np.pi) + rng.normal(0, 2, len(rows)),
        "of few digits": lambda rng, rows: np.round(rng.normal(3, 2, len(rows)), 1),
        "counts": lambda rng, rows: rng.poisson(2, len(rows)).astype(float),
        "heavy-tailed": lambda rng, rows: rng.lognormal(0, 2, len(rows)),
        "a random walk": lambda rng, rows: np.cumsum(rng.normal(0, 1, len(rows))),
        "two values": lambda rng, rows: np.where(rows % 53 < 3, 0.3, 0.1),
        "a constant": lambda rng, rows: np.where(rows == 1000, 500.0, 0.0),
    }

    def _compare(self, factors: Sequence[float], most: float) -> None:
        rows = np.arange(1500)
        for name, series in self.SERIES.items():
            values = series(np.random.default_rng(1), rows)
            values[1200:1230] = values[1200]
            first = Detector().update_many(300 * rows, values, np.zeros(len(rows)))
            for factor in factors:
                other = Detector().update_many(300 * rows, values * factor, np.zeros(len(rows)))
                for one, two in ((first.evidence, other.evidence), (first.heights, other.heights)):
                    np.testing.assert_allclose(two, one, rtol=0, atol=most, err_msg=f"{name}, {factor}")
            self.assertGreater(first.heights.max(), 2.6)

    def test_evidence_is_equal_at_powers_of_ten(self) -> None:
        self._compare((1e-15, 1e-9, 1e-3, 1e9, 1e12), 1e-11)

    def test_evidence_is_equal_to_the_bit_at_powers_of_two(self) -> None:
        self._compare((2.0**-50, 2.0**40), 0.0)


@pytest.mark.long
class GapTest(TestCase):
    """Metrics of 5 minutes that come back after an hour, a day, three days and two weeks."""

    GAPS = (12, 288, 3 * 288, 14 * 288)
    LEARNT = 14 * 288

    def _metrics(self) -> list[NDArray[np.float64]]:
        rows, made = self.LEARNT + 15 * 288, []
        for seed in range(3):
            rng = np.random.default_rng(seed)
            made.append(50 + 20 * np.sin(np.arange(rows) * 2 * np.pi / 288) + rng.normal(0, 1.5, rows))
            made.append(rng.gamma(2, 1, rows) + (rng.random(rows) < 0.01) * rng.gamma(3, 10, rows))
            made.append(5 + rng.normal(0, 0.3, rows) + 40.0 * (np.arange(rows) % 288 // 6 == 5))
        return made

    def _scored(self, values: NDArray[np.float64], *, gap: int) -> Scored:
        """The day after a gap."""
        rows = np.r_[: self.LEARNT, self.LEARNT + gap : self.LEARNT + gap + 288]
        found = Detector().update_many(300 * rows, values[rows], np.zeros(len(rows)))
        return Scored(*(column[self.LEARNT :] for column in found))

    def test_no_metric_alarms_because_it_comes_back(self) -> None:
        for gap in self.GAPS:
            alarms = sum(int((self._scored(each, gap=gap).scores[:144] >= 2.6).sum()) for each in self._metrics())
            self.assertLessEqual(alarms, 2, gap)

    def test_what_is_wrong_when_it_comes_back_is_found_within_15_minutes(self) -> None:
        for gap in self.GAPS:
            for values in self._metrics()[::3]:
                values[self.LEARNT + gap :] += 8 * values[: self.LEARNT].std()
                self.assertGreater(self._scored(values, gap=gap).scores[:3].max(), 2.6)

    def test_it_is_expected_what_the_time_of_day_shows(self) -> None:
        values = self._metrics()[0]
        for gap in self.GAPS:
            expected = self._scored(values, gap=gap).expected[:, 0]
            np.testing.assert_allclose(expected, values[self.LEARNT + gap :][:288], atol=8)


class CadenceTest(TestCase):
    """A daily metric with noise whose rows come at another pace after four weeks."""

    LEARNT = 28 * 86_400

    def _changed(self, before: int, after: int) -> tuple[Detector, Scored]:
        """The four days after a change of the step."""
        ends = self.LEARNT, self.LEARNT + 4 * 86_400
        times = np.r_[0 : ends[0] : before, ends[0] : ends[1] : after]
        noise = np.random.default_rng(before).normal(0, 1.5, len(times))
        detector = Detector()
        values = 50 + 20 * np.sin(times * 2 * np.pi / 86_400) + noise
        found = detector.update_many(times, values, np.zeros(len(times)))
        return detector, Scored(*(column[ends[0] // before :] for column in found))

    def test_another_step_raises_no_alarm_and_is_told(self) -> None:
        for before, after in ((300, 60), (60, 300), (3600, 900), (900, 3600)):
            detector, scored = self._changed(before, after)
            self.assertLess(scored.scores.max(), 2.6, (before, after))
            self.assertEqual((detector.interval, detector.changed_at), (after, self.LEARNT + 12 * after))

    def test_the_time_of_day_is_expected_as_before(self) -> None:
        _, scored = self._changed(300, 60)
        times = self.LEARNT + 60 * np.arange(1440)
        np.testing.assert_allclose(scored.expected[:1440, 0], 50 + 20 * np.sin(times * 2 * np.pi / 86_400), atol=6)

    def test_a_fault_after_the_first_days_is_found(self) -> None:
        detector, _ = self._changed(300, 60)
        times = self.LEARNT + 4 * 86_400 + 60 * np.arange(60)
        self.assertGreater(detector.update_many(times, np.full(60, 110.0), np.zeros(60)).scores.max(), 2.6)

    def test_jitter_and_lost_rows_are_no_other_step(self) -> None:
        rng, detector = np.random.default_rng(4), Detector()
        times = 300 * np.flatnonzero(rng.random(4000) < 0.8)
        detector.update_many(times + rng.integers(-60, 60, len(times)), rng.normal(0, 1, len(times)), 0.0 * times)
        self.assertIsNone(detector.changed_at)

    def test_nor_are_intervals_by_chance(self) -> None:
        rng, detector = np.random.default_rng(5), Detector()
        times = np.cumsum(rng.exponential(600, 4000)).astype(np.int64)
        detector.update_many(times, rng.normal(0, 1, len(times)), 0.0 * times)
        self.assertIsNone(detector.changed_at)


class FewDigitsTest(TestCase):
    def test_equal_neighbours_are_expected_of_a_metric_that_has_them(self) -> None:
        for step, most in ((0.1, 4.1), (1.0, 4.9), (10.0, 4.9)):
            values = np.round(np.random.default_rng(1).normal(100, 2 * step**0.9, 6000) / step) * step
            found = Detector().update_many(300 * np.arange(6000), values, np.zeros(6000))
            self.assertLess(found.evidence[1000:, NAMES.index("run")].max(), most, step)

    def test_one_pair_is_as_rare_as_pairs_were(self) -> None:
        values = np.random.default_rng(1).normal(100, 1, 3000)
        values[2500] = values[2499]
        found = Detector().update_many(300 * np.arange(3000), values, np.zeros(3000))
        self.assertAlmostEqual(found.evidence[2500, NAMES.index("run")], math.log10(2502), places=9)

    def test_what_never_repeats_is_frozen_after_two_repeats(self) -> None:
        values = np.random.default_rng(1).normal(100, 1, 4000)
        values[3500:3503] = values[3500]
        found = Detector().update_many(300 * np.arange(4000), values, np.zeros(4000))
        self.assertGreater(found.evidence[3502, NAMES.index("run")], 6.0)


class SameBytesTest(TestCase):
    def test_every_compiler_gives_the_same_state(self) -> None:
        random_numbers, detector = random.Random(10), Detector()
        for row in range(2000):
            value = (row * 300 % 86_400) / 864 + random_numbers.random()
            detector.update(300 * row, value, random_numbers.choice([0, 0, 0, 7, 40]) / 40)
        self.assertEqual(zlib.crc32(zlib.decompress(detector.save()[10:])), 1900104106)


class RestoreTest(TestCase):
    def test_restored_at_many_rows_it_goes_on_with_the_same_bytes(self) -> None:
        rows = daily_rows(1200, seed=8)
        detector, copy = Detector(), Detector()
        for number, row in enumerate(rows):
            if number % 7 == 0:
                copy = Detector.restore(copy.save())
            self.assertEqual(detector.update(*row), copy.update(*row))
        self.assertEqual(detector.save(), copy.save())

    @pytest.mark.long
    def test_a_young_metric_is_small_and_an_old_one_bounded(self) -> None:
        detector = Detector()
        rows = columns(daily_rows(20_000))
        for first, last, most_saved, most_memory in (
            (0, 100, 3200, 14_000),
            (100, 1000, 13_000, 20_000),
            (1000, 20_000, 27_000, 40_000),
        ):
            detector.update_many(*(column[first:last] for column in rows))
            self.assertLess(len(detector.save()), most_saved)
            self.assertLess(detector.memory_bytes, most_memory)

    def test_a_detector_continues_a_likelihood(self) -> None:
        likelihood, whole = AnomalyLikelihood(), Detector()
        rows = [row for row in daily_rows(900) if math.isfinite(row[1])]
        for timestamp, value, raw in rows[:-1]:
            likelihood.score(value, raw)
            whole.update(timestamp, value, raw)
        detector = Detector(likelihood)
        detector.update(*rows[-1])
        whole.update(*rows[-1])
        self.assertEqual((detector.rows, detector.values), (len(rows), 1))
        self.assertEqual(detector.evidence[9], whole.evidence[9])
        self.assertEqual(detector.likelihood, likelihood.score(*rows[-1][1:]))
        self.assertEqual(likelihood.rows, len(rows))  # it was copied

    @given(st.data())
    def test_damaged_bytes_are_refused(self, data: st.DataObject) -> None:
        saved = Detector().save()
        at = data.draw(st.integers(0, len(saved) - 1))
        flip = data.draw(st.integers(1, 255))
        with self.assertRaises((CorruptCheckpoint, UnknownCheckpointVersion)):
            Detector.restore(saved[:at] + bytes([saved[at] ^ flip]) + saved[at + 1 :])
        with self.assertRaises(CorruptCheckpoint):
            Detector.restore(saved[:at])

    def test_another_version_is_refused(self) -> None:
        saved = bytearray(Detector().save())
        saved[4] = 99
        with self.assertRaises(UnknownCheckpointVersion):
            Detector.restore(bytes(saved))

    @pytest.mark.long
    def test_foreign_states_with_a_right_checksum_are_refused_or_work(self) -> None:
        detector = Detector()
        detector.update_many(*columns(daily_rows(700)))
        sound = zlib.decompress(detector.save()[10:])
        rng, refused = random.Random(9), 0
        for _ in range(500):
            state = bytearray(sound[: rng.choice([len(sound), rng.randrange(len(sound))])])
            for _ in range(rng.randrange(4)):
                state[rng.randrange(len(state))] = rng.randrange(256)
            body = zlib.compress(bytes(state), 1)
            try:
                restored = Detector.restore(detector.save()[:6] + zlib.crc32(body).to_bytes(4, "little") + body)
            except CorruptCheckpoint:
                refused += 1
                continue
            restored.update_many(*columns(daily_rows(40)))
            restored.save()
        self.assertGreater(refused, 230)


class RefusalTest(TestCase):
    def test_rows_that_cannot_be_change_nothing(self) -> None:
        detector = Detector()
        for timestamp, raw in ((0, 1.5), (0, 0.51), (0, math.nan), (2**43, 0.0), (-(2**43), 0.0)):
            with self.assertRaises(ValueError):
                detector.update(timestamp, 1.0, raw)
            with self.assertRaises(ValueError):
                detector.update_many(np.array([0, timestamp]), np.array([1.0, 1.0]), np.array([0.0, raw]))
        self.assertEqual(detector.save(), Detector().save())

    def test_arrays_of_other_shapes(self) -> None:
        with self.assertRaises(ValueError):
            Detector().update_many(np.zeros(2, dtype=np.int64), np.zeros(3), np.zeros(3))
        with self.assertRaises(ValueError):
            Detector().update_many(np.zeros((2, 2), dtype=np.int64), np.zeros(4), np.zeros(4))

    def test_gaps_that_cannot_be(self) -> None:
        for gap_steps in (0.0, -1.0, math.nan):
            with self.assertRaises(ValueError):
                Detector(gap_steps=gap_steps)
