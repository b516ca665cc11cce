# SPDX-License-Identifier: MIT
"""Small series on which detectors commonly fail: early glitches, new metrics, tiny units, what stays away, noise.

Each is scored as by an engine that is not told the metric's range.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from unittest import TestCase

import numpy as np
import pytest
from numpy.typing import NDArray

from htmengine.evidence.detector import Scored
from htmengine.evidence.scale import ALARM_SCORE
from htmengine.evidence.scoring import detector_for
from htmengine.htm.model import Model
from htmengine.htm.params import ModelParams
from htmengine.incidents.budget import FLOOR

START, DAY = 1_704_067_200, 288
#: The score at which the anomaly score is 0.999.
NEARLY = 1.56


def scored(values: Sequence[float], *, step: int = 300) -> Scored:
    """The rows' scores; the model's range is that of the first 288."""
    timestamps = START + step * np.arange(len(values))
    params = ModelParams.for_sample(list(values[:288]))
    rows: NDArray[np.float64] = np.array(values, dtype=float)
    return detector_for(params).update_many(timestamps, rows, Model(params).learn_many(timestamps, rows))


def alarms(values: Sequence[float]) -> list[int]:
    """Rows whose anomaly score is 0.99999 or more."""
    return [int(row) for row in np.flatnonzero(scored(values).scores >= ALARM_SCORE)]


def daily(rows: int, *, seed: int = 1, low: float = 20.0, high: float = 80.0) -> list[float]:
    """A daily cycle with a little noise."""
    rng = random.Random(seed)
    middle, half = (low + high) / 2, (high - low) / 2
    return [middle + half * math.sin(row / DAY * 2 * math.pi) + rng.gauss(0, half / 15) for row in range(rows)]


@pytest.mark.long
class GlitchTest(TestCase):
    def test_one_outlier_among_the_first_rows_blinds_nothing(self) -> None:
        for row, glitch in ((50, 1e6), (10, -1e7), (287, 1e6)):
            values = daily(910)
            values[row] = glitch
            values[900:] = [5000.0] * 10
            found = scored(values)
            self.assertEqual(np.flatnonzero(found.scores[864:] >= ALARM_SCORE)[0], 900 - 864, (row, glitch))
            self.assertGreater(len(set(found.scores[400:].tolist())), 100, (row, glitch))


class NewMetricTest(TestCase):
    def test_a_daily_cycle_alone_raises_no_alarm(self) -> None:
        for seed in (1, 2):
            self.assertEqual(alarms(daily(300, seed=seed)), [])

    def test_nothing_alarms_when_the_second_day_of_a_value_that_grows_begins(self) -> None:
        rng = random.Random(1)
        self.assertEqual(alarms([40.0 + 0.01 * row + rng.gauss(0, 0.02) for row in range(400)]), [])

    def test_the_first_value_that_a_constant_ever_changes_to_is_the_alarm(self) -> None:
        values = [0.0] * 500
        values[400] = 500.0
        self.assertEqual(alarms(values)[0], 400)


@pytest.mark.long
class UnitTest(TestCase):
    def test_seconds_are_found_as_their_multiples_are(self) -> None:
        values = daily(1500, low=0.0002, high=0.0008)
        values[1400:1440] = [0.0002, 0.0008] * 20
        found = scored(values)
        self.assertTrue(any(found.scores[1400:1412] >= ALARM_SCORE))
        self.assertGreaterEqual(found.heights[1400:1412].max(), FLOOR)

    def test_the_unit_changes_no_score(self) -> None:
        values = daily(700, low=0.2, high=0.8)
        values[600:610] = [0.5] * 10
        found = scored(values)
        for factor in (1e-15, 1e-9, 1e9, 1e12):
            other = scored([value * factor for value in values])
            np.testing.assert_allclose(other.scores, found.scores, rtol=0, atol=1e-9)
            np.testing.assert_allclose(other.heights, found.heights, rtol=0, atol=1e-9)


class AwayTest(TestCase):
    def test_a_daily_job_that_does_not_run_is_missed(self) -> None:
        rng = random.Random(1)
        hours = [60.0 if hour % 24 in (9, 10) and hour // 24 != 20 else 10.0 for hour in range(22 * 24)]
        found = scored([value + rng.gauss(0, 1) for value in hours], step=3600)
        missed = slice(20 * 24 + 9, 20 * 24 + 13)
        self.assertGreaterEqual(found.scores[missed].max(), NEARLY)
        self.assertGreaterEqual(found.heights[missed].max(), FLOOR)


@pytest.mark.long
class NoiseTest(TestCase):
    def test_noise_that_never_changes_its_kind_is_worth_no_page_once_it_is_learnt(self) -> None:
        rng = random.Random(1)
        found = scored([rng.gauss(100, 10) for _ in range(16 * DAY)])
        self.assertLess(found.heights[14 * DAY :].max(), FLOOR)
        self.assertLess(np.count_nonzero(found.scores >= ALARM_SCORE), 12)
