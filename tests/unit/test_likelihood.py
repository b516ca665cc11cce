# SPDX-License-Identifier: MIT
"""The anomaly likelihood: NuPIC's numbers, the worked rows of the specification, and exact restoring."""

from __future__ import annotations

import csv
import gzip
import math
import random
import statistics
import zlib
from collections.abc import Sequence
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from htmengine.errors import CorruptCheckpoint, UnknownCheckpointVersion
from htmengine.evidence.likelihood import AnomalyLikelihood
from htmengine.evidence.scale import display_value

_REFERENCE = Path(__file__).parents[1] / "data" / "likelihood"


def _htm_engine(**options: object) -> AnomalyLikelihood:
    """The likelihood with HTM Engine's scores."""
    return AnomalyLikelihood(range_rule=False, min_averages=1, **options)


def _scores(likelihood: AnomalyLikelihood, values: Sequence[float], raw: Sequence[float]) -> list[float]:
    return [likelihood.score(*row) for row in zip(values, raw, strict=True)]


def _normal(average: float, mean: float, variance: float) -> float:
    return 1.0 - 0.5 * math.erfc((average - mean) / math.sqrt(variance) / math.sqrt(2.0))


class ReferenceTest(SynchronousTestCase):
    def test_scores_equal_nupics_to_a_billionth(self) -> None:
        for name in ("machine_temperature_system_failure", "cpu_utilization_asg_misconfiguration"):
            with gzip.open(_REFERENCE / f"{name}.csv.gz", "rt", newline="") as file:
                rows = list(csv.DictReader(file))
            self.assertEqual(len(rows), 5000)
            likelihood = _htm_engine(single_precision=True)
            for number, row in enumerate(rows):
                score = likelihood.score(float(row["value"]), float(row["raw_anomaly_score"]))
                self.assertApproximates(score, float(row["anomaly_score"]), 1e-9, msg=f"{name} row {number}")


class WorkedRowsTest(SynchronousTestCase):
    """400 rows of raw 0, then four of 1; rows are counted from 1."""

    def _scores_of(self, values: Sequence[float]) -> list[float]:
        return [math.nan, *_scores(_htm_engine(), values, [0.0] * 400 + [1.0] * 4)]

    def test_a_metric_that_varies(self) -> None:
        scores = self._scores_of([row % 7 for row in range(404)])
        self.assertEqual(scores[1:101], [0.0] * 100)
        for row in range(101, 291):
            self.assertAlmostEqual(scores[row], 0.499801, places=6)
        for row in range(291, 401):
            self.assertAlmostEqual(scores[row], 0.041632, places=6)
        self.assertAlmostEqual(scores[401], 0.99997344, places=8)
        self.assertAlmostEqual(display_value(scores[401]), 0.4576, places=4)
        self.assertAlmostEqual(scores[402], 1.0, places=12)
        self.assertEqual(scores[403:], [0.999, 0.999])

    def test_a_constant_metric_keeps_the_null_distribution(self) -> None:
        scores = self._scores_of([5.0] * 404)
        for row in range(101, 401):
            self.assertAlmostEqual(scores[row], 0.499801, places=6)
        self.assertAlmostEqual(scores[401], 0.49984, places=5)
        self.assertAlmostEqual(scores[402], 0.49988, places=5)

    def test_log_scale(self) -> None:
        for score, display in ((0.0, 0.0), (0.999, 0.3), (0.99999, 0.5), (1.0, 1.0)):
            self.assertAlmostEqual(display_value(score), display, places=5)


class WindowTest(SynchronousTestCase):
    def test_scores_are_those_of_the_whole_window_computed_anew(self) -> None:
        window, skip = 50, 20
        rng = random.Random(1)
        raw = [rng.randrange(41) / 40 for _ in range(300)]
        values = [rng.random() for _ in range(300)]
        scores = _scores(_htm_engine(window=window, skip=skip, min_sample=0), values, raw)
        averages = [statistics.fmean(raw[max(0, row - 9) : row + 1]) for row in range(300)]
        for row in range(skip + 2, 300):
            known = averages[max(skip, row - window) : row]
            mean, variance = statistics.fmean(known), statistics.pvariance(known)
            expected = _normal(averages[row], max(0.03, mean), max(0.0003, variance))
            self.assertAlmostEqual(scores[row], expected, places=12)

    def test_a_metric_that_turns_flat_is_flat_once_the_window_has_forgotten(self) -> None:
        likelihood = _htm_engine(window=64, skip=9, min_sample=0)
        scores = _scores(likelihood, [row % 7 for row in range(200)] + [3.0] * 100, [0.0] * 300)
        self.assertAlmostEqual(scores[199], 0.041632, places=6)
        self.assertAlmostEqual(scores[299], 0.499801, places=6)


class FewAveragesTest(SynchronousTestCase):
    def test_the_distribution_waits_for_enough_averages(self) -> None:
        values, raw = [row % 7 for row in range(400)], [0.0] * 400
        scores = _scores(AnomalyLikelihood(min_averages=50), values, raw)
        self.assertAlmostEqual(scores[288 + 49], 0.499801, places=6)
        self.assertAlmostEqual(scores[288 + 50], 0.041632, places=6)

    def test_a_busy_row_after_a_few_quiet_ones_raises_no_alarm(self) -> None:
        values, raw = [row % 7 for row in range(300)], [0.5] * 275 + [0.0] * 24 + [1.0]
        self.assertGreater(_scores(_htm_engine(), values, raw)[-1], 0.99)
        self.assertLess(_scores(AnomalyLikelihood(), values, raw)[-1], 0.51)


class FlatMetricTest(SynchronousTestCase):
    def test_a_small_metric_is_judged_by_its_own_resolution(self) -> None:
        values = [1e-5 * (row % 7) for row in range(401)]
        raw = [0.0] * 400 + [1.0]
        self.assertLess(_scores(AnomalyLikelihood(), values, raw)[-1], 0.51)
        self.assertGreater(_scores(AnomalyLikelihood(resolution=1e-6), values, raw)[-1], 0.9999)

    def test_a_metric_that_stays_within_a_bucket_is_flat(self) -> None:
        values, raw = [row % 7 for row in range(401)], [0.0] * 400 + [1.0]
        self.assertLess(_scores(AnomalyLikelihood(resolution=10.0), values, raw)[-1], 0.51)


class RangeRuleTest(SynchronousTestCase):
    def _after(self, values: Sequence[float], **options: int) -> float:
        likelihood = AnomalyLikelihood(min_sample=2, **options)
        return _scores(likelihood, values, [0.0] * len(values))[-1]

    def test_a_value_far_outside_all_seen_scores_one(self) -> None:
        for value in (10.51, -0.51):
            self.assertEqual(self._after([0.0, 10.0, value]), 1.0)
        for value in (10.5, -0.5, 5.0):
            self.assertLess(self._after([0.0, 10.0, value]), 0.51)

    def test_the_range_grows_with_every_value(self) -> None:
        self.assertLess(self._after([0.0, 10.0, 20.0, 20.9]), 0.51)
        self.assertEqual(self._after([0.0, 10.0, 20.0, 21.1]), 1.0)

    def test_a_single_value_is_no_range(self) -> None:
        self.assertLess(self._after([5.0, 5.0, 100.0]), 0.51)

    def test_the_first_rows_score_zero_all_the_same(self) -> None:
        self.assertEqual(self._after([0.0, 100.0]), 0.0)
        self.assertEqual(_scores(AnomalyLikelihood(), [0.0, 1.0, 100.0], [1.0] * 3)[-1], 0.0)

    def test_the_rule_can_be_left_out(self) -> None:
        likelihood = AnomalyLikelihood(min_sample=2, range_rule=False)
        self.assertLess(_scores(likelihood, [0.0, 10.0, 100.0], [0.0] * 3)[-1], 0.51)

    def test_the_largest_numbers_do_no_harm(self) -> None:
        self.assertLess(self._after([-1.7e308, 1.7e308, 0.0]), 0.51)


class RestoreTest(SynchronousTestCase):
    _ROWS = st.lists(st.tuples(st.floats(-1e300, 1e300), st.integers(0, 40)), max_size=150)

    @given(rows=_ROWS, at=st.integers(0, 150), single_precision=st.booleans(), range_rule=st.booleans())
    def test_restored_at_any_row_it_goes_on_with_the_same_bytes_and_scores(
        self, rows: list[tuple[float, int]], at: int, single_precision: bool, range_rule: bool
    ) -> None:
        likelihood = AnomalyLikelihood(
            window=40,
            skip=10,
            min_sample=5,
            min_averages=3,
            resolution=0.5,
            single_precision=single_precision,
            range_rule=range_rule,
        )
        for value, count in rows[:at]:
            likelihood.score(value, count / 40)
        saved = likelihood.save()
        restored = AnomalyLikelihood.restore(saved)
        self.assertEqual(restored.save(), saved)
        for value, count in rows[at:]:
            self.assertEqual(restored.score(value, count / 40), likelihood.score(value, count / 40))
        self.assertEqual(restored.save(), likelihood.save())
        self.assertEqual(restored.rows, len(rows))

    def test_a_young_metric_is_small_and_an_old_one_under_two_bytes_a_row(self) -> None:
        likelihood = AnomalyLikelihood()
        rng = random.Random(1)
        for row in range(20000):
            if row == 100:
                self.assertLess(len(likelihood.save()), 400)
            likelihood.score(rng.random(), rng.randrange(41) / 40)
        self.assertLess(len(likelihood.save()), 2 * 8640)

    def test_the_range_rule_can_be_switched_after_restoring(self) -> None:
        likelihood = AnomalyLikelihood(min_sample=2)
        _scores(likelihood, [0.0, 10.0], [0.0, 0.0])
        restored = AnomalyLikelihood.restore(likelihood.save())
        restored.range_rule = False
        self.assertLess(restored.score(100.0, 0.0), 0.51)

    @given(st.data())
    def test_damaged_bytes_are_refused(self, data: st.DataObject) -> None:
        saved = AnomalyLikelihood().save()
        at = data.draw(st.integers(0, len(saved) - 1))
        flip = data.draw(st.integers(1, 255))
        with self.assertRaises(CorruptCheckpoint):
            AnomalyLikelihood.restore(saved[:at] + bytes([saved[at] ^ flip]) + saved[at + 1 :])
        with self.assertRaises(CorruptCheckpoint):
            AnomalyLikelihood.restore(saved[:at])

    @given(st.binary(max_size=300))
    def test_foreign_bytes_with_a_right_checksum_are_refused(self, junk: bytes) -> None:
        body = AnomalyLikelihood().save()[:5] + junk
        with self.assertRaises(CorruptCheckpoint):
            AnomalyLikelihood.restore(body + zlib.crc32(body).to_bytes(4, "little"))

    def test_another_version_is_refused(self) -> None:
        body = bytearray(AnomalyLikelihood().save()[:-4])
        body[4] = 99
        with self.assertRaises(UnknownCheckpointVersion):
            AnomalyLikelihood.restore(bytes(body) + zlib.crc32(body).to_bytes(4, "little"))


class RefusalTest(SynchronousTestCase):
    def test_rows_that_cannot_be(self) -> None:
        for value, raw in (
            (math.nan, 0.0),
            (math.inf, 0.0),
            (1.0, 1.5),
            (1.0, -0.1),
            (1.0, 0.51),
            (1.0, math.nan),
        ):
            likelihood = AnomalyLikelihood()
            with self.assertRaises(ValueError):
                likelihood.score(value, raw)
            self.assertEqual(likelihood.save(), AnomalyLikelihood().save())

    def test_options_that_cannot_be(self) -> None:
        for options in (
            {"active_columns": 0},
            {"active_columns": 256},
            {"skip": 8},
            {"window": 0},
            {"window": 50, "min_averages": 51},
            {"min_averages": 0},
            {"resolution": 0.0},
            {"resolution": math.inf},
        ):
            with self.assertRaises(ValueError):
                AnomalyLikelihood(**options)
