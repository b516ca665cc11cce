# SPDX-License-Identifier: MIT
"""The model of a metric: ``Model`` learns and scores, ``ModelParams`` defines it."""

from __future__ import annotations

from htmengine.htm.model import Model
from htmengine.htm.params import ModelParams, range_of

__all__ = ["Model", "ModelParams", "range_of"]
