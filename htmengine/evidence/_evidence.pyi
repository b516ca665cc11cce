# SPDX-License-Identifier: MIT
"""The compiled evidence (htmengine/evidence/core).

``htmengine.evidence.Detector`` and ``AnomalyLikelihood`` are its public faces: they frame and check what is saved.
"""

from __future__ import annotations

import builtins
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

_Bytes: TypeAlias = builtins.bytes | memoryview
_Doubles: TypeAlias = NDArray[np.float64]

KINDS: int
FUSED: int
MEMORY_ROWS: int
GAP_STEPS: float

class CorruptState(Exception):
    """Bytes that no evidence has written."""

class LikelihoodParams:
    """Parameters of the likelihood; ``AnomalyLikelihood`` explains them.  ``resolution`` 0: not known."""

    def __init__(self) -> None: ...
    active_columns: int
    range_rule: bool
    resolution: float
    window: int
    skip: int
    min_sample: int
    min_averages: int
    single_precision: bool

class Likelihood:
    """The anomaly likelihood; raises ValueError for parameters and rows that cannot be."""

    def __init__(self, params: LikelihoodParams, /) -> None: ...
    def score(self, value: float, raw: float, /) -> float: ...
    def save(self) -> tuple[builtins.bytes, builtins.bytes]:
        """Head with blocks, and the counts of raw scores."""

    @staticmethod
    def restore(head: _Bytes, counts: _Bytes, /) -> Likelihood: ...
    @property
    def rows(self) -> int: ...
    range_rule: bool

class Detector:
    """All evidence of one metric.  ``likelihood`` is copied; it may know the sequence of raw scores already."""

    def __init__(self, likelihood: Likelihood, gap_steps: float, /) -> None: ...
    def update(self, timestamp: int, value: float, raw: float, /) -> float: ...
    def update_many(
        self, timestamps: NDArray[np.int64], values: _Doubles, raws: _Doubles, /
    ) -> tuple[_Doubles, _Doubles, _Doubles, NDArray[np.uint8], _Doubles, _Doubles]: ...
    @property
    def evidence(self) -> list[float]: ...
    @property
    def sides(self) -> list[int]: ...
    @property
    def expected(self) -> tuple[float, float, float] | None: ...
    def paced(self, evidence: _Doubles, /) -> _Doubles: ...
    @property
    def height(self) -> float: ...
    @property
    def likelihood(self) -> float: ...
    @property
    def step(self) -> float: ...
    @property
    def interval(self) -> float: ...
    @property
    def changed_at(self) -> int | None: ...
    @property
    def rows(self) -> int: ...
    @property
    def values(self) -> int: ...
    @property
    def bytes(self) -> int: ...
    def save(self) -> builtins.bytes: ...
    @staticmethod
    def restore(state: _Bytes, /) -> Detector: ...
