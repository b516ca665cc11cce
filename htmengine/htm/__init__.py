# SPDX-License-Identifier: MIT
"""The model of a metric: ``Model`` learns and scores, ``ModelParams`` defines it, ``AnomalyLikelihood`` judges it."""

from __future__ import annotations

from htmengine.htm.likelihood import AnomalyLikelihood, log_scale
from htmengine.htm.model import Model
from htmengine.htm.params import ModelParams, range_of

__all__ = ["AnomalyLikelihood", "Model", "ModelParams", "log_scale", "range_of"]
