# SPDX-License-Identifier: MIT
"""Rows for tests of the evidence: (timestamp in s, value, raw anomaly score)."""

from __future__ import annotations

import math
import random

import numpy as np
from numpy.typing import NDArray

Row = tuple[int, float, float]


def daily_rows(rows: int, *, seed: int = 1, step: int = 300) -> list[Row]:
    """A noisy daily curve with spikes, a flat line, missing values, rounded values, jumps and a few busy raw scores."""
    rng = random.Random(seed)
    made = []
    for row in range(rows):
        timestamp = 1_500_000_000 + row * step
        value = 10 * math.sin(timestamp / 86400 * 2 * math.pi) + rng.gauss(0, 1)
        if rng.random() < 0.005:
            value += rng.choice([-30, 30])
        if row % 900 > 870:
            value = 5.0
        if row % 1000 < 300:
            value = float(round(value))
        if row % 211 == 0:
            value = math.nan
        made.append((timestamp, value, rng.choice([0] * 9 + [rng.randrange(41)]) / 40))
    return made


def columns(rows: list[Row]) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    timestamps, values, raws = zip(*rows, strict=True)
    return np.array(timestamps), np.array(values), np.array(raws)
