# SPDX-License-Identifier: MIT
"""Scores of a series without an engine: exactly those that an engine gives to the same samples.

In: samples in any order.  Out: scored rows, in the order of time.  What the engine would reject is left out
and counted; without a given range the model starts as the engine's does, from the first samples.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from htmengine.errors import InvalidSample
from htmengine.evidence import Detector
from htmengine.evidence.scoring import row_score
from htmengine.htm.model import Model
from htmengine.htm.params import ModelParams
from htmengine.messages import Sample, parse_sample

#: Rows that go through the model at once; the caller's progress moves on after each.
CHUNK_ROWS = 1000


@dataclass(frozen=True, slots=True)
class Accepted:
    """The samples that an engine would store, and its rejects by reason."""

    timestamps: list[int]
    values: list[float]
    rejected: Counter[str]


def accept(samples: Iterable[tuple[float, float]], now: float = 0.0, max_future_s: float = math.inf) -> Accepted:
    """Apply the engine's rules to (timestamp, value) pairs, sorted by their times; of equal times the first counts.

    >>> accept([(60, 1.0), (60, 2.0), (0, 3.0), (120, float("nan"))])
    Accepted(timestamps=[0, 60], values=[3.0, 1.0], rejected=Counter({'value_not_finite': 1, 'timestamp_duplicate': 1}))
    """
    accepted = Accepted([], [], Counter())
    good = []
    for timestamp, value in samples:
        try:
            good.append(parse_sample(f"name {value!r} {timestamp!r}", now, max_future_s))
        except InvalidSample as refused:
            accepted.rejected[refused.reason] += 1
    for sample in sorted(good, key=_time_of):
        if accepted.timestamps and sample.timestamp == accepted.timestamps[-1]:
            accepted.rejected["timestamp_duplicate"] += 1
            continue
        accepted.timestamps.append(sample.timestamp)
        accepted.values.append(sample.value)
    return accepted


def _time_of(sample: Sample) -> int:
    return sample.timestamp


def params_for(
    values: Sequence[float], minimum: float | None, maximum: float | None, pending_samples: int
) -> ModelParams | None:
    """The parameters of the engine's model for these values; None while they are too few to know their range."""
    if minimum is not None and maximum is not None:
        return ModelParams.for_range(minimum, maximum)
    if len(values) < pending_samples:
        return None
    return ModelParams.for_sample(values[:pending_samples])


def score_rows(
    model: Model,
    detector: Detector,
    timestamps: Sequence[int],
    values: Sequence[float],
    *,
    sequence_only: bool = False,
) -> list[tuple[float, float]]:
    """(raw anomaly score, anomaly score) for the next rows of a series.  ``sequence_only``: HTM Engine's scores."""
    times, numbers = np.array(timestamps, dtype=np.int64), np.array(values, dtype=np.float64)
    raws = model.learn_many(times, numbers)
    scored = detector.update_many(times, numbers, raws)
    rows = zip(raws.tolist(), scored.scores.tolist(), scored.likelihoods.tolist(), strict=True)
    return [(raw, row_score(score, likelihood, sequence_only=sequence_only)) for raw, score, likelihood in rows]
