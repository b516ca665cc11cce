# SPDX-License-Identifier: MIT
"""How far a score is luck: the benchmark's files and the model's seeds drawn again and again.

In: for each seed and threshold what each file is worth.  Out: the interval that nine of ten draws of as many files lie
in, and the same of the difference of two setups over the same draws.  Called by ``htmengine nab --bootstrap``.

The threshold is the best of each draw, as it is the best of all files in the benchmark.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from htmengine.nab.alarms import THRESHOLDS, alarms
from htmengine.nab.scorer import Floats, Profile, ScoredWindows, gain_of, row_values

DRAWS = 1000
#: Shares of the draws that lie below the interval's ends.
LOW, HIGH = 0.05, 0.95


class Interval(NamedTuple):
    """Mean of the draws, the ends of the middle nine tenths, and the share of draws above 0."""

    mean: float
    low: float
    high: float
    above_0: float


class Worth(NamedTuple):
    """What files are worth: gains of shape (thresholds, files), and the labelled windows of each."""

    gains: Floats
    windows: NDArray[np.int64]

    def best(self, files: NDArray[np.int64], profile: Profile) -> float:
        """The normalised score of some files, which may repeat, at the threshold that is best for them."""
        perfect = float(self.windows[files].sum()) * (profile.true_positive + profile.false_negative)
        return 100.0 * max(float(self.gains[:, files].sum(axis=1).max()), 0.0) / perfect


def worth_by_profile(
    series: Sequence[ScoredWindows], profiles: Mapping[str, Profile], *, policy: bool
) -> dict[str, Worth]:
    """One seed's files.  ``policy``: scores are S, and the hold-off is run at each threshold; else all rows count."""
    thresholds = (THRESHOLDS if policy else np.linspace(0.0, 1.0, 201)).tolist()
    gains = np.array([[_gains(one, profile, thresholds, policy) for one in series] for profile in profiles.values()])
    windows = np.array([len(one.windows) for one in series])
    return {name: Worth(each.T, windows) for name, each in zip(profiles, gains, strict=True)}


def _gains(one: ScoredWindows, profile: Profile, thresholds: Sequence[float], policy: bool) -> list[float]:
    """What a file is worth at each threshold."""
    windows, worth = row_values(len(one.scores), one.windows)
    held = ((alarms(one.scores, at) if policy else one.scores, at) for at in thresholds)
    return [gain_of(np.flatnonzero(scores >= at), windows, worth, profile) for scores, at in held]


def interval(seeds: Sequence[Worth], profile: Profile, *, against: Sequence[Worth] | None = None) -> Interval:
    """The interval of a score; of its difference to ``against``, the same files and seeds with another setup."""
    draws = []
    for seed, files in _draws(len(seeds), seeds[0].windows):
        other = against[seed].best(files, profile) if against is not None else 0.0
        draws.append(seeds[seed].best(files, profile) - other)
    low, high = np.quantile(draws, (LOW, HIGH))
    return Interval(float(np.mean(draws)), float(low), float(high), float(np.mean(np.array(draws) > 0.0)))


def _draws(seeds: int, windows: NDArray[np.int64]) -> Iterable[tuple[int, NDArray[np.int64]]]:
    """A seed, and as many files as there are; those without any window have no score."""
    rng = np.random.default_rng(0)
    for _ in range(DRAWS):
        files = rng.integers(0, len(windows), len(windows))
        if windows[files].sum():
            yield int(rng.integers(seeds)), files
