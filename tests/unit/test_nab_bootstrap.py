# SPDX-License-Identifier: MIT
"""How far a score is luck: worth by file adds up to the benchmark's score, and draws give intervals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from twisted.trial.unittest import SynchronousTestCase

from htmengine.cli.nab import intervals
from htmengine.nab import bootstrap
from htmengine.nab.alarms import sweep
from htmengine.nab.bootstrap import Worth, interval, worth_by_profile
from htmengine.nab.runner import LabelledSeries, Run
from htmengine.nab.scorer import PROFILES, ScoredWindows, best_threshold

STANDARD = PROFILES["standard"]


def series(seed: int, files: int = 3) -> list[ScoredWindows]:
    """Files of noise; most windows have a high score."""
    rng = np.random.default_rng(seed)
    made = []
    for number in range(files):
        scores = rng.uniform(0.0, 2.5, 250)
        scores[150 + 20 * number] = rng.uniform(1.5, 5.5)
        made.append(ScoredWindows(scores, [(140 + 20 * number, 160 + 20 * number)]))
    return made


@pytest.mark.long
class WorthTest(SynchronousTestCase):
    def test_all_files_once_have_the_benchmarks_score(self) -> None:
        every = np.arange(3)
        alarms = worth_by_profile(series(1), PROFILES, policy=True)
        for name, swept in sweep(series(1), PROFILES).items():
            self.assertAlmostEqual(alarms[name].best(every, PROFILES[name]), swept.best.score)
        coarse = [ScoredWindows(np.round(one.scores / 5.5, 2), one.windows) for one in series(1)]
        rows = worth_by_profile(coarse, PROFILES, policy=False)
        self.assertAlmostEqual(rows["standard"].best(every, STANDARD), best_threshold(coarse, STANDARD).score)


class IntervalTest(SynchronousTestCase):
    def test_files_that_differ_give_a_wide_one(self) -> None:
        one = Worth(np.array([[2.0, 0.0, 2.0, 0.0]]), np.array([1, 1, 1, 1]))
        found = interval([one], STANDARD)
        self.assertTrue(45.0 < found.mean < 55.0)
        self.assertEqual((found.low, found.high), (0.0, 100.0))
        self.assertEqual(interval([one], STANDARD), found)

    def test_the_same_draws_are_compared(self) -> None:
        worse = Worth(np.array([[1.0, 0.0, 1.0, 0.0]]), np.array([1, 1, 1, 1]))
        better = Worth(np.array([[1.2, 0.2, 1.2, 0.2]]), np.array([1, 1, 1, 1]))
        found = interval([better, better], STANDARD, against=[worse, worse])
        self.assertEqual((round(found.low, 6), round(found.high, 6), found.above_0), (10.0, 10.0, 1.0))

    def test_draws_without_a_window_are_left_out(self) -> None:
        found = interval([Worth(np.array([[1.0, 0.0]]), np.array([1, 0]))], STANDARD)
        self.assertGreaterEqual(found.low, 50.0)


@pytest.mark.long
class ReportTest(SynchronousTestCase):
    def test_the_command_tells_the_score_and_the_difference_for_each_profile(self) -> None:
        self.patch(bootstrap, "DRAWS", 100)
        at = np.arange(250)
        labelled = [LabelledSeries(f"a/{n}.csv", at, at * 1.0, tuple(one.windows)) for n, one in enumerate(series(1))]
        runs = [
            Run(f"a/{n}.csv", seed, at * 0.0, one.scores, 1.0) for seed in (0, 1) for n, one in enumerate(series(1))
        ]
        worse = [replace(run, scores=run.scores[::-1]) for run in runs]
        found = intervals(labelled, runs, worse, policy=True)
        self.assertEqual(list(found), list(PROFILES))
        self.assertGreater(found["standard"]["difference"]["mean"], 0.0)
        self.assertNotIn("difference", intervals(labelled, runs, None, policy=True)["standard"])
