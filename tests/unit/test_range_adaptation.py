# SPDX-License-Identifier: MIT
"""A metric that leaves its known range: what lies outside is told apart, what was learnt inside is kept."""

from __future__ import annotations

import math
from dataclasses import replace
from unittest import TestCase

import numpy as np
import pytest
from numpy.typing import NDArray

from htmengine.htm import Model, ModelParams
from htmengine.htm.params import RandomDistributedScalarParams

_ADAPTING = ModelParams.for_range(0.0, 130.0)
_FIXED = replace(_ADAPTING, value=RandomDistributedScalarParams(resolution=1.0))


def _raw(params: ModelParams, values: list[float]) -> NDArray[np.float64]:
    return Model(params).learn_many(np.arange(len(values), dtype=np.int64) * 300, np.array(values))


def _wave(rows: int, scale: float = 1.0) -> list[float]:
    return [scale * (65 + 60 * math.sin(row * math.pi / 12)) for row in range(rows)]


@pytest.mark.long
class RangeAdaptationTest(TestCase):
    def test_inside_the_range_nothing_is_different(self) -> None:
        values = [float(value) for value in np.random.default_rng(1).uniform(0, 130, 500)]
        self.assertEqual(_raw(_ADAPTING, values).tolist(), _raw(_FIXED, values).tolist())

    def test_values_far_outside_are_told_apart(self) -> None:
        values = [100.0, *[2000.0] * 300, 4000.0]
        self.assertEqual(_raw(_FIXED, values)[-1], 0.0)
        self.assertGreater(_raw(_ADAPTING, values)[-1], 0.2)

    def test_the_edge_of_the_range_is_no_step(self) -> None:
        values = [100.0, *[129.6] * 300, 130.6]
        self.assertEqual(_raw(_ADAPTING, values).tolist(), _raw(_FIXED, values).tolist())

    def test_both_sides_are_alike(self) -> None:
        for value in (-3000.0, 3130.0):
            self.assertGreater(_raw(_ADAPTING, [65.0, *[value] * 300, 2 * value])[-1], 0.2)

    def test_what_was_learnt_inside_is_kept(self) -> None:
        raw = _raw(_ADAPTING, [*_wave(960), *_wave(960, scale=10.0), *_wave(48)])
        unlearnt, relearnt = raw[24:48].mean(), raw[-24:].mean()
        self.assertLess(relearnt, unlearnt / 2)

    def test_the_largest_numbers_do_no_harm(self) -> None:
        for value in (1.7e308, -1.7e308):
            saved = Model(_ADAPTING)
            saved.learn(0, value)
            restored = Model.restore(saved.save())
            self.assertEqual(restored.learn(300, 5.0), saved.learn(300, 5.0))
            self.assertEqual(restored.save(), saved.save())
