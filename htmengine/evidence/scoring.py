# SPDX-License-Identifier: MIT
"""The likelihood that belongs to a model: the same in the engine, offline and in benchmarks."""

from __future__ import annotations

from htmengine.evidence.likelihood import AnomalyLikelihood
from htmengine.htm.params import ModelParams


def likelihood_for(params: ModelParams, *, range_rule: bool = True) -> AnomalyLikelihood:
    """A likelihood before its first row.  ``range_rule``: flag values outside all that was seen.

    >>> likelihood_for(ModelParams.for_range(0.0, 100.0)).score(5.0, 1.0)
    0.0
    """
    return AnomalyLikelihood(
        active_columns=params.spatial.active_columns,
        range_rule=range_rule,
        resolution=getattr(params.value, "resolution", None),
    )
