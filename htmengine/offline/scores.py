# SPDX-License-Identifier: MIT
"""Scores of a series without an engine: exactly those that an engine gives to the same samples.

In: samples in any order.  Out: scored rows, in the order of time.  What the engine would reject is left out
and counted; without a given range the model starts as the engine's does, from the first samples.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from msgspec import UnsetType

from htmengine.errors import HtmEngineError, InvalidSample, TooFewRows
from htmengine.evidence import Detector
from htmengine.evidence.explaining import why_great
from htmengine.evidence.scoring import row_score
from htmengine.gaps import Filler, Filling
from htmengine.htm.model import Model
from htmengine.htm.params import ModelParams
from htmengine.messages import Sample, Why, parse_sample

#: Samples that define the range of a metric's values: the default of [metric_storer] pending_samples.
PENDING_SAMPLES = 288
#: A series of fewer samples has the range of all, as in an engine; with fewer than these it has no model.
YOUNG_SAMPLES = 12
#: Rows that go through the model at once; the caller's progress moves on after each.
CHUNK_ROWS = 1000
#: Reasons are told of rows with at least this score, where nobody says otherwise.
TOLD_SCORE = 0.99
#: Above all scores.
_NO_SCORE = 2.0


@dataclass(frozen=True, slots=True)
class Accepted:
    """The samples that an engine would store, and its rejects by reason.  ``places``: of the samples, as they came."""

    timestamps: list[int]
    values: list[float]
    places: list[int]
    rejected: Counter[str]

    def filled(self, filling: Filling | None) -> Rows:
        """The samples and the rows that fill their gaps, which an engine would store, too."""
        filler = Filler(filling)
        rows = Rows([], [], [])
        for row in zip(self.timestamps, self.values, strict=True):
            for timestamp, value in [*filler.before(row), row]:
                rows.timestamps.append(timestamp)
                rows.values.append(value)
                rows.measured.append(timestamp == row[0])
        return rows


class Rows(NamedTuple):
    """Rows in the order of time, and which of them fill no gap."""

    timestamps: list[int]
    values: list[float]
    measured: list[bool]


@dataclass(frozen=True, slots=True)
class ValueRange:
    """What tells the range of a series' values: its ends, or so many first samples, or all of a shorter series.

    Raises `HtmEngineError` if only one end is given.
    """

    minimum: float | None = None
    maximum: float | None = None
    pending_samples: int = PENDING_SAMPLES

    def __post_init__(self) -> None:
        if (self.minimum is None) != (self.maximum is None):
            raise HtmEngineError("minimum and maximum go together")

    @property
    def given(self) -> ModelParams | None:
        """The parameters of a model for the range between the ends; None if they are not given."""
        if self.minimum is None or self.maximum is None:
            return None
        return ModelParams.for_range(self.minimum, self.maximum)

    def params_for(self, values: Sequence[float]) -> ModelParams:
        """The parameters of the engine's model for these values.  Raises `TooFewRows` if they are too few."""
        given = self.given
        if given is not None:
            return given
        needed = min(YOUNG_SAMPLES, self.pending_samples)
        if len(values) < needed:
            raise TooFewRows(len(values), needed)
        return ModelParams.for_sample(values[: self.pending_samples])


class Scored(NamedTuple):
    """What a row was given: raw anomaly score, anomaly score, and the reasons of one that is great."""

    raw: float
    score: float
    why: Why | UnsetType


def accept(samples: Iterable[tuple[float, float]], now: float = 0.0, max_future_s: float = math.inf) -> Accepted:
    """Apply the engine's rules to (timestamp, value) pairs, sorted by their times; of equal times the first counts.

    >>> accepted = accept([(60, 1.0), (60, 2.0), (0, 3.0), (120, float("nan"))])
    >>> accepted.timestamps, accepted.values, accepted.places
    ([0, 60], [3.0, 1.0], [2, 0])
    >>> accepted.rejected
    Counter({'value_not_finite': 1, 'timestamp_duplicate': 1})
    """
    accepted = Accepted([], [], [], Counter())
    good = []
    for place, (timestamp, value) in enumerate(samples):
        try:
            good.append((row_sample(timestamp, value, now, max_future_s), place))
        except InvalidSample as refused:
            accepted.rejected[refused.reason] += 1
    for sample, place in sorted(good, key=_time_of):
        if accepted.timestamps and sample.timestamp == accepted.timestamps[-1]:
            accepted.rejected["timestamp_duplicate"] += 1
            continue
        accepted.timestamps.append(sample.timestamp)
        accepted.values.append(sample.value)
        accepted.places.append(place)
    return accepted


def row_sample(timestamp: float, value: float, now: float = 0.0, max_future_s: float = math.inf) -> Sample:
    """A row of a series as the engine would read it.  Raises `InvalidSample`.

    No row is of "now", which Graphite writes as -1.
    """
    if timestamp == -1:
        raise InvalidSample("timestamp_out_of_range", "timestamp -1; epoch seconds are allowed")
    return parse_sample(f"name {value!r} {timestamp!r}", now, max_future_s)


def _time_of(placed: tuple[Sample, int]) -> int:
    return placed[0].timestamp


def scored_rows(
    model: Model,
    detector: Detector,
    timestamps: Sequence[int],
    values: Sequence[float],
    *,
    sequence_only: bool = False,
    floor: float = _NO_SCORE,
) -> Iterator[Scored]:
    """The scores of the next rows of a series.

    ``sequence_only``: HTM Engine's scores.  ``floor``: reasons are told of rows whose score is at least so great, as
    they always are of high ones.
    """
    times, numbers = np.array(timestamps, dtype=np.int64), np.array(values, dtype=np.float64)
    raws = model.learn_many(times, numbers)
    for timestamp, value, raw in zip(timestamps, values, raws.tolist(), strict=True):
        score = detector.update(timestamp, value, raw)
        anomaly = row_score(score, detector.likelihood, sequence_only=sequence_only)
        yield Scored(raw, anomaly, why_great(detector, anomaly, floor))


def score_rows(
    model: Model,
    detector: Detector,
    timestamps: Sequence[int],
    values: Sequence[float],
    *,
    sequence_only: bool = False,
) -> list[tuple[float, float]]:
    """The same, without reasons: (raw anomaly score, anomaly score)."""
    rows = scored_rows(model, detector, timestamps, values, sequence_only=sequence_only)
    return [(row.raw, row.score) for row in rows]
