# SPDX-License-Identifier: MIT
"""The Numenta Anomaly Benchmark's scoring: what a detector's scores are worth.

In: for each series its rows' scores in [0, 1] and the labelled windows as row ranges.  Out: the normalised score
of each profile at the one threshold that is best for it.  Pure functions; called by ``htmengine nab``.

The rules are those of Lavin and Ahmad 2015: early detections in a window earn most, only the earliest in each
counts, detections elsewhere cost, the first rows of a series are a trial run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
#: First and last row of a labelled window, both inside.
Window = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Profile:
    """What a detection in a window is worth, and what false and missed ones cost."""

    true_positive: float
    false_positive: float
    false_negative: float


PROFILES = {
    "standard": Profile(1.0, 0.11, 1.0),
    "reward_low_fp": Profile(1.0, 0.22, 1.0),
    "reward_low_fn": Profile(1.0, 0.11, 2.0),
}


@dataclass(frozen=True, slots=True)
class ScoredWindows:
    """One series after a detector has run: ``scores`` has a row's score each."""

    scores: Floats
    windows: Sequence[Window]


@dataclass(frozen=True, slots=True)
class Best:
    """The best that one threshold can do.  ``threshold`` is None where detecting nothing is best."""

    score: float
    threshold: float | None


@dataclass(frozen=True, slots=True)
class Counts:
    """What one threshold detects: windows found, and rows outside all windows."""

    found: int
    windows: int
    false_positives: int


def sigmoid(position: Floats) -> Floats:
    """Near 1 well before a window's end (position -1 is its first row), 0 just past it, towards -1 far beyond.

    >>> sigmoid(np.array([-1.0, 0.0, 3.5])).round(4).tolist()
    [0.9866, 0.0, -1.0]
    """
    return np.where(position > 3.0, -1.0, 2.0 / (1.0 + np.exp(5.0 * np.minimum(position, 3.0))) - 1.0)


def probation(rows: int) -> int:
    """First rows of a series that do not count.

    >>> probation(1000), probation(20000)
    (150, 750)
    """
    return min(math.floor(0.15 * rows), 750)


#: What a window's first row is worth before all is divided by it.
_EARLIEST = float(sigmoid(np.array(-1.0)))


def row_values(rows: int, windows: Sequence[Window]) -> tuple[NDArray[np.int64], Floats]:
    """For each row the window that it is in (-1: none), and what detecting it is worth.

    In a window that is from 1 (its first row) down to 0; outside the share of a false positive's cost, negative.
    """
    window_of = np.full(rows, -1, dtype=np.int64)
    worth = np.full(rows, -1.0)
    row = np.arange(rows)
    for number, (first, last) in enumerate(sorted(windows)):
        width = last - first + 1
        inside, after = slice(first, last + 1), slice(last + 1, rows)
        window_of[inside] = number
        worth[inside] = sigmoid((row[inside] - last - 1) / width) / _EARLIEST
        worth[after] = sigmoid((row[after] - last) / (width - 1)) if width > 1 else -1.0
    return window_of, worth


def best_threshold(series: Sequence[ScoredWindows], profile: Profile) -> Best:
    """The threshold with the highest total over all series, and the normalised score there."""
    scores, windows, worth, count = _rows_that_count(series)
    order = np.argsort(-scores, kind="stable")
    gains = _gains(windows[order], worth[order], profile)
    totals = np.cumsum(gains)
    # Rows of equal score are detected together: a threshold is only possible at the last of them.
    possible = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True)) if len(order) else order
    if not len(possible) or totals[possible].max() <= 0:
        return Best(0.0, None)
    best = possible[np.argmax(totals[possible])]
    return Best(_normalised(float(totals[best]), count, profile), float(scores[order][best]))


def score_at(series: Sequence[ScoredWindows], profile: Profile, threshold: float | None) -> float:
    """The normalised score of a given threshold; NaN without any window."""
    scores, windows, worth, count = _rows_that_count(series)
    if count == 0:
        return math.nan
    detected = scores >= (math.inf if threshold is None else threshold)
    return _normalised(float(_gains(windows[detected], worth[detected], profile).sum()), count, profile)


def gain_of(rows: NDArray[np.int64], windows: NDArray[np.int64], worth: Floats, profile: Profile) -> float:
    """What detecting these rows of a series gains, not normalised.  ``windows`` and ``worth`` are its `row_values`."""
    rows = rows[rows >= probation(len(worth))]
    return float(_gains(windows[rows], worth[rows], profile).sum())


def counts_at(series: Sequence[ScoredWindows], threshold: float | None) -> Counts:
    """Windows found and false positives at a given threshold."""
    scores, windows, _, count = _rows_that_count(series)
    detected = windows[scores >= (math.inf if threshold is None else threshold)]
    return Counts(len(set(detected[detected >= 0].tolist())), count, int((detected < 0).sum()))


def _rows_that_count(series: Sequence[ScoredWindows]) -> tuple[Floats, NDArray[np.int64], Floats, int]:
    """Scores, windows (numbered over all series) and worth of all rows after probation; number of windows."""
    scores: list[Floats] = [np.empty(0)]
    windows: list[NDArray[np.int64]] = [np.empty(0, dtype=np.int64)]
    worth: list[Floats] = [np.empty(0)]
    count = 0
    for one in series:
        first = probation(len(one.scores))
        window_of, row_worth = row_values(len(one.scores), one.windows)
        scores.append(one.scores[first:])
        windows.append(np.where(window_of >= 0, window_of + count, -1)[first:])
        worth.append(row_worth[first:])
        count += len(one.windows)
    return np.concatenate(scores), np.concatenate(windows), np.concatenate(worth), count


def _gains(windows: NDArray[np.int64], worth: Floats, profile: Profile) -> Floats:
    """What each detection adds to the total of those before it, over the total of detecting nothing."""
    gains = np.where(windows < 0, profile.false_positive * worth, 0.0)
    found: dict[int, float] = {}
    for place in np.flatnonzero(windows >= 0):
        window, value = int(windows[place]), profile.true_positive * float(worth[place])
        before = found.get(window, -profile.false_negative)
        # The earliest detection counts: it is the one worth most.
        if value > before:
            gains[place] = value - before
            found[window] = value
    return gains


def _normalised(gain: float, windows: int, profile: Profile) -> float:
    return 100.0 * gain / (windows * (profile.true_positive + profile.false_negative))
