# SPDX-License-Identifier: MIT
"""Streaming anomaly detection for metrics.

`score` scores a pandas or polars frame, and `AnomalyScorer` a series row by row.  Both are imported when they are used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from htmengine.offline.data_frames import score
    from htmengine.offline.streaming import AnomalyScorer

__all__ = ["AnomalyScorer", "score"]

_PLACES = {"score": "htmengine.offline.data_frames", "AnomalyScorer": "htmengine.offline.streaming"}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_PLACES[name]), name)
