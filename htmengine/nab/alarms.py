# SPDX-License-Identifier: MIT
"""What a detector's scores S are worth as alarms: the hold-off is run again at every threshold.

In: for each series its rows' scores and windows.  Out: the best threshold of each profile, and the alarms there; or the
alarms at one threshold for all.  Called by ``htmengine nab``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from htmengine.evidence.policy import HoldOff
from htmengine.nab.scorer import Best, Floats, Profile, ScoredWindows, score_at

#: Thresholds that are tried.
THRESHOLDS = np.arange(1.0, 6.0, 0.04)


class Swept(NamedTuple):
    """The best threshold, and all series' alarms there."""

    best: Best
    alarms: Sequence[ScoredWindows]


def alarms(scores: Floats, threshold: float) -> Floats:
    """The scores of the rows that alarm; 0 for all others.

    >>> alarms(np.array([2.4, 2.6, 3.5, 3.7, 3.0]), 2.5).tolist()
    [0.0, 2.6, 0.0, 3.7, 0.0]
    """
    hold_off, kept, before = HoldOff(), np.zeros(len(scores)), 0
    for row in np.flatnonzero(scores >= threshold).tolist():
        if hold_off.since is not None:
            hold_off.since += row - before - 1  # rows below the threshold, which only pass
        before = row
        if hold_off.update(float(scores[row]), threshold):
            kept[row] = scores[row]
    return kept


def alarms_of(series: Sequence[ScoredWindows], threshold: float) -> list[ScoredWindows]:
    """The same for all series."""
    return [ScoredWindows(alarms(one.scores, threshold), one.windows) for one in series]


def sweep(series: Sequence[ScoredWindows], profiles: Mapping[str, Profile]) -> dict[str, Swept]:
    """The threshold at which the alarms are worth most, for each profile."""
    found = {name: Swept(Best(0.0, None), series) for name in profiles}
    for threshold in THRESHOLDS.tolist():
        held = alarms_of(series, threshold)
        for name, profile in profiles.items():
            score = score_at(held, profile, threshold)
            if score > found[name].best.score:
                found[name] = Swept(Best(score, threshold), held)
    return found
