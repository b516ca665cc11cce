# SPDX-License-Identifier: MIT
"""The detector that belongs to a model: the same in the engine, offline and in benchmarks."""

from __future__ import annotations

import math

from htmengine.evidence.detector import Detector
from htmengine.evidence.likelihood import AnomalyLikelihood
from htmengine.evidence.scale import anomaly_score
from htmengine.evidence.siblings import Siblings
from htmengine.htm.params import HOURS, ModelParams, SiblingParams

#: The evidence does not look at the model in a metric's first rows: it does not know yet what is usual for it.
ROWS_WITHOUT_SEQUENCE = 388
#: From the lower to the upper end of a band.
BAND_DEVIATIONS = 4.0
DAY_S = 86_400
#: How saved likelihoods began before they were a part of a detector.
_LIKELIHOOD = b"HTMA"


def likelihood_for(params: ModelParams) -> AnomalyLikelihood:
    """A likelihood before its first row: HTM Engine's.

    >>> likelihood_for(ModelParams.for_range(0.0, 100.0)).score(5.0, 1.0)
    0.0
    """
    return AnomalyLikelihood(active_columns=params.spatial.active_columns, range_rule=False)


def detector_for(params: ModelParams) -> Detector:
    """A detector before its first row.

    >>> detector_for(ModelParams.for_range(0.0, 100.0)).rows
    0
    """
    return Detector(likelihood_for(params), siblings=Siblings(params.siblings) if params.siblings else None)


def hours_shown(state: bytes, after: int) -> SiblingParams | None:
    """What the metric of a saved detector shows at each hour of a day; None while it does not know all of them.

    ``after``: epoch seconds of its newest row.  Raises CorruptCheckpoint or UnknownCheckpointVersion.
    """
    detector, day = restored(state), (after // DAY_S + 1) * DAY_S
    expected = []
    for hour in range(HOURS):
        detector.update(day + hour * 3600, math.nan, 0.0)
        expected.append(detector.expected)
    known = [each for each in expected if each is not None]
    if len(known) < HOURS:
        return None
    return SiblingParams(
        tuple(each.value for each in known), tuple((each.high - each.low) / BAND_DEVIATIONS for each in known)
    )


def is_likelihood(state: bytes) -> bool:
    """Whether a saved state is that of a likelihood alone, as releases before the evidence wrote it."""
    return state.startswith(_LIKELIHOOD)


def restored(state: bytes) -> Detector:
    """A detector from its saved state, or from that of a likelihood: it has seen no value then.

    Raises CorruptCheckpoint or UnknownCheckpointVersion.
    """
    if not is_likelihood(state):
        return Detector.restore(state)
    likelihood = AnomalyLikelihood.restore(state)
    likelihood.range_rule = False
    return Detector(likelihood)


def row_score(score: float, likelihood: float, *, sequence_only: bool) -> float:
    """The anomaly score of a row from its score S and its likelihood.

    ``sequence_only``: HTM Engine's scores.
    """
    return likelihood if sequence_only else anomaly_score(score)
