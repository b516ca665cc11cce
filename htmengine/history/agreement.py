# SPDX-License-Identifier: MIT
"""How far two models agree about the same rows: raw scores, likelihoods, alarms.

In: the rows, and the raw scores of both.  Out: an `Agreement`.  Both get this engine's likelihood and evidence.  Pure.
Two models that draw different random numbers never agree row by row; docs/agreement.md has the yardstick.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from htmengine.evidence.scale import anomaly_score
from htmengine.evidence.scoring import detector_for
from htmengine.htm.params import ModelParams

Floats = NDArray[np.float64]
Wholes = NDArray[np.int64]

#: A row with at least this score alarms.
ALARM = 0.99999
#: Alarms that are no further apart are one: the rows over which the likelihood averages.
APART = 10
#: Rows before this one are left out of what is compared: a new model is surprised by everything.
FIRST_ROW = 288


@dataclass(frozen=True, slots=True)
class Scores:
    """What one model gives; arrays have shape (n,), a row each."""

    raws: Floats
    likelihoods: Floats  #: HTM Engine's anomaly score
    scores: Floats  #: this engine's, from all evidence


@dataclass(frozen=True, slots=True)
class Compared:
    """A column of both."""

    mean: float
    other_mean: float
    mean_difference: float  #: of the absolute differences
    equal: float  #: the share of rows that differ by less than a hundredth
    correlation: float | None  #: None: one of the two is constant


@dataclass(frozen=True, slots=True)
class Alarms:
    """The rows (from 0) at which alarms begin."""

    both: Sequence[int]
    only: Sequence[int]  #: the first model alone
    only_other: Sequence[int]

    @property
    def agreement(self) -> float | None:
        """The share of all alarms that both have; None: there are none."""
        alarms = len(self.both) + len(self.only) + len(self.only_other)
        return len(self.both) / alarms if alarms else None


@dataclass(frozen=True, slots=True)
class Agreement:
    """What is compared, from row ``first_row`` on."""

    rows: int
    first_row: int
    raw: Compared
    likelihood: Compared
    likelihood_alarms: Alarms
    alarms: Alarms


def scores_of(params: ModelParams, timestamps: Wholes, values: Floats, raws: Floats) -> Scores:
    """This engine's likelihood and evidence for a model's raw scores."""
    scored = detector_for(params).update_many(timestamps, values, raws)
    return Scores(raws, scored.likelihoods, np.array([anomaly_score(each) for each in scored.scores.tolist()]))


def agreement(one: Scores, other: Scores) -> Agreement:
    """How far two models agree about rows of which there are more than `FIRST_ROW`."""
    first = FIRST_ROW
    return Agreement(
        rows=len(one.raws),
        first_row=first,
        raw=compared(one.raws[first:], other.raws[first:]),
        likelihood=compared(one.likelihoods[first:], other.likelihoods[first:]),
        likelihood_alarms=matched(beginnings(one.likelihoods, first), beginnings(other.likelihoods, first)),
        alarms=matched(beginnings(one.scores, first), beginnings(other.scores, first)),
    )


def compared(one: Floats, other: Floats) -> Compared:
    """A column of both, of shape (n,), n at least 1.

    >>> compared(np.array([0.0, 1.0]), np.array([0.0, 0.5]))
    Compared(mean=0.5, other_mean=0.25, mean_difference=0.25, equal=0.5, correlation=1.0)
    """
    difference = np.abs(one - other)
    constant = not (np.ptp(one) and np.ptp(other))
    return Compared(
        float(one.mean()),
        float(other.mean()),
        float(difference.mean()),
        float((difference < 0.01).mean()),
        None if constant else round(float(np.corrcoef(one, other)[0, 1]), 9),
    )


def beginnings(scores: Floats, first: int = 0) -> list[int]:
    """The rows, from ``first`` on, at which alarms begin.

    >>> beginnings(np.array([0.5, 1.0, 1.0] + 20 * [0.5] + [1.0]))
    [1, 23]
    """
    return starts([first + int(row) for row in np.flatnonzero(scores[first:] >= ALARM)])


def starts(rows: Sequence[int]) -> list[int]:
    """The first of rows that are no further apart than `APART`; rows ascend."""
    return [row for place, row in enumerate(rows) if not place or row - rows[place - 1] > APART]


def matched(one: Sequence[int], other: Sequence[int]) -> Alarms:
    """Alarms that begin within `APART` rows of each other are the same; each is matched once, the earliest first.

    >>> matched([5, 100], [8, 300])
    Alarms(both=[5], only=[100], only_other=[300])
    """
    both, only, left = [], [], list(other)
    for row in one:
        near = next((each for each in left if abs(each - row) <= APART), None)
        if near is None:
            only.append(row)
        else:
            both.append(row)
            left.remove(near)
    return Alarms(both, only, left)
