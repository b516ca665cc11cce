# SPDX-License-Identifier: MIT
"""Scores of a series without an engine: exactly those that an engine gives to the same samples.

In: samples in the order in which they would be sent.  Out: scored rows.  What the engine would reject is left out
and counted; without a given range the model starts as the engine's does, from the first samples.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from htmengine.errors import InvalidSample
from htmengine.evidence import Detector
from htmengine.evidence.scoring import row_score
from htmengine.htm.model import Model
from htmengine.htm.params import ModelParams
from htmengine.messages import parse_sample

#: Rows that go through the model at once; the caller's progress moves on after each.
CHUNK_ROWS = 1000


@dataclass(frozen=True, slots=True)
class Accepted:
    """The samples that an engine would store, and its rejects by reason."""

    timestamps: list[int]
    values: list[float]
    rejected: Counter[str]


def accept(samples: Iterable[tuple[float, float]]) -> Accepted:
    """Apply the listener's and the storer's rules to (timestamp, value) pairs.

    >>> accept([(60, 1.0), (60, 2.0), (0, 3.0), (120, float("nan"))]).rejected == {
    ...     "timestamp_duplicate": 1, "timestamp_old": 1, "value_not_finite": 1}
    True
    """
    accepted = Accepted([], [], Counter())
    for timestamp, value in samples:
        try:
            sample = parse_sample(f"name {value!r} {timestamp!r}", now=0.0)
        except InvalidSample as refused:
            accepted.rejected[refused.reason] += 1
            continue
        newest = accepted.timestamps[-1] if accepted.timestamps else -1
        if sample.timestamp <= newest:
            reason = "timestamp_duplicate" if sample.timestamp == newest else "timestamp_old"
            accepted.rejected[reason] += 1
            continue
        accepted.timestamps.append(sample.timestamp)
        accepted.values.append(sample.value)
    return accepted


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
