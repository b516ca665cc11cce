# SPDX-License-Identifier: MIT
"""How well alarms find labelled events, over all thresholds: average precision, and the best F1.

In: for each series its rows' scores and the windows of rows that are labelled.  Out: two figures from 0 to 1.  An alarm
within 3 rows of a window finds it, and each window counts once; an alarm elsewhere is false.  Called by
benchmarks/monitoring.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from htmengine.nab.scorer import ScoredWindows, probation

Floats: TypeAlias = NDArray[np.float64]

#: Rows after an alarm that belong to it.
CLUSTER_ROWS = 24
#: Rows before and after a window that belong to it.
NEAR_ROWS = 3
#: Thresholds that are tried, and the share of rows above the lowest.
THRESHOLDS, LOWEST_SHARE = 150, 0.3


class Measured(NamedTuple):
    """Average precision over all thresholds, and the best F1."""

    average_precision: float
    best_f1: float


class Counts(NamedTuple):
    """Windows found and alarms that are false at one threshold."""

    found: int
    false: int


def measure(series: Sequence[ScoredWindows]) -> Measured:
    """Recall is of windows; precision is windows found, of these and the false alarms.

    >>> scores = np.zeros(5000)
    >>> scores[[2000, 3000, 4000]] = 5.0, 3.0, 4.0
    >>> measure([ScoredWindows(scores, ((1990, 2010), (2990, 3010)))])
    Measured(average_precision=0.8333333333333333, best_f1=0.8)
    """
    counted = [_without_probation(each) for each in series]
    number = sum(len(each.windows) for each in counted)
    average, best, reached = 0.0, 0.0, 0.0
    for threshold in _thresholds(counted):
        found, false = map(sum, zip(*(counts(each, threshold) for each in counted), strict=True))
        recall, precision = found / max(number, 1), found / max(found + false, 1)
        average += max(recall - reached, 0.0) * precision
        reached = max(recall, reached)
        best = max(best, 2 * recall * precision / ((recall + precision) or 1.0))
    return Measured(average, best)


def _without_probation(series: ScoredWindows) -> ScoredWindows:
    begin = probation(len(series.scores))
    scores = series.scores.copy()
    scores[:begin] = 0.0
    return ScoredWindows(scores, tuple(each for each in series.windows if each[1] >= begin))


def _thresholds(series: Sequence[ScoredWindows]) -> Iterator[float]:
    """The highest first."""
    scores = np.concatenate([each.scores for each in series])
    shares = np.geomspace(1 / len(scores), LOWEST_SHARE, THRESHOLDS)
    yield from (each for each in np.unique(np.quantile(scores, 1 - shares))[::-1].tolist() if each > 0)


def counts(series: ScoredWindows, threshold: float) -> Counts:
    """What the alarms at a threshold find, and how many are false.

    >>> scores = np.array([0.0] * 50 + [3.0, 3.0] + [0.0] * 48)
    >>> counts(ScoredWindows(scores, ((52, 60),)), 2.0), counts(ScoredWindows(scores, ((70, 72),)), 2.0)
    (Counts(found=1, false=0), Counts(found=0, false=1))
    """
    found, false = set(), 0
    for row in _alarms(series.scores, threshold):
        near = {(a, b) for a, b in series.windows if a - NEAR_ROWS <= row <= b + NEAR_ROWS}
        found |= near
        false += not near
    return Counts(len(found), false)


def _alarms(scores: Floats, threshold: float) -> Iterator[int]:
    last = -CLUSTER_ROWS - 1
    for row in np.flatnonzero(scores >= threshold).tolist():
        if row - last > CLUSTER_ROWS:
            last = row
            yield row
