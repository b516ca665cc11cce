# SPDX-License-Identifier: MIT
"""The detector that belongs to a model: the same in the engine, offline and in benchmarks."""

from __future__ import annotations

from htmengine.evidence.detector import Detector
from htmengine.evidence.likelihood import AnomalyLikelihood
from htmengine.evidence.scale import anomaly_score
from htmengine.evidence.siblings import Siblings
from htmengine.htm.params import ModelParams

#: The evidence does not look at the model in a metric's first rows: it does not know yet what is usual for it.
ROWS_WITHOUT_SEQUENCE = 388
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
