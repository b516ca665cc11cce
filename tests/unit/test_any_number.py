# SPDX-License-Identifier: MIT
"""Every number that a float can hold gives a model, and a model's raw scores do not depend on its metric's unit."""

from __future__ import annotations

import math
from unittest import TestCase

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from htmengine.htm import Model, ModelParams
from htmengine.htm.params import RandomDistributedScalarParams, first_range

LARGEST = 1.7976931348623157e308
LEAST = 5e-324

#: A number of any magnitude, each magnitude as likely as another.
_NUMBER = st.builds(math.ldexp, st.floats(-0.999, 0.999), st.integers(-1080, 1024)) | st.sampled_from(
    [0.0, LEAST, -LEAST, 2.0**53, 9223372036854771712.0, LARGEST, -LARGEST]
)
_FIRST = 288


def _value(params: ModelParams) -> RandomDistributedScalarParams:
    assert isinstance(params.value, RandomDistributedScalarParams)
    return params.value


def _raw(params: ModelParams, values: list[float]) -> NDArray[np.float64]:
    return Model(params).learn_many(np.arange(len(values), dtype=np.int64) * 300, np.array(values))


def _bucket(params: ModelParams, value: float, first: float) -> float:
    """How many buckets a value inside the range is from the first one."""
    return (value - first) / _value(params).resolution


class AnyNumberTest(TestCase):
    def check(self, values: list[float]) -> None:
        """They give a model that survives JSON, learns all of them and any number after them."""
        params = ModelParams.for_sample(values)
        value = _value(params)
        assert value.minval is not None
        assert value.maxval is not None
        self.assertTrue(0 < value.resolution < math.inf and math.isfinite(value.maxval - value.minval))
        self.assertEqual(ModelParams.from_json(params.to_json()), params)
        raw = _raw(params, [*values[:5], *values[-5:], 0.0, LARGEST, -LARGEST, LEAST])
        self.assertTrue(((raw >= 0) & (raw <= 1)).all())

    @given(st.lists(_NUMBER, min_size=1, max_size=_FIRST))
    def test_any_numbers_give_a_model(self, values: list[float]) -> None:
        self.check(values)

    @given(_NUMBER)
    @example(9223372036854771712.0)
    @example(LARGEST)
    def test_any_constant_gives_a_model(self, value: float) -> None:
        self.check([value] * _FIRST)

    @given(_NUMBER, _NUMBER)
    @example(-LARGEST, LARGEST)
    @example(0.0, LEAST)
    @example(2.0**60, math.nextafter(2.0**60, math.inf))
    def test_any_two_values_give_a_model(self, one: float, other: float) -> None:
        self.check([one, other] * (_FIRST // 2))

    @given(st.floats(-1e290, 1e290), st.floats(-1e290, 1e290))
    @example(2.0**60, math.nextafter(2.0**60, math.inf))
    def test_two_values_share_no_bucket(self, one: float, other: float) -> None:
        if abs(one - other) > 1e-290:
            params = ModelParams.for_sample([one, other] * (_FIRST // 2))
            self.assertGreater(abs(_bucket(params, other, one)), 21)

    @given(st.integers(0, _FIRST - 1), _NUMBER)
    @example(0, LARGEST)
    @example(_FIRST - 1, -LARGEST)
    def test_one_outlier_at_any_place_gives_a_model_that_tells_the_others_apart(
        self, place: int, outlier: float
    ) -> None:
        values = [50.0 + 40.0 * math.sin(row / 5) for row in range(_FIRST)]
        values[place] = outlier
        self.check(values)
        self.assertGreater(_bucket(ModelParams.for_sample(values), 90.0, 10.0), 5)

    def test_one_outlier_among_constants_gives_a_model_at_each_place(self) -> None:
        for place in range(0, _FIRST, 41):
            for outlier in (LARGEST, -LARGEST, LEAST):
                values = [7.0] * _FIRST
                values[place] = outlier
                self.check(values)


@pytest.mark.long
class UnitTest(TestCase):
    @given(st.integers(-(10**6), 10**6), st.lists(st.integers(-100, 100), min_size=10, max_size=30))
    def test_raw_scores_do_not_depend_on_the_unit(self, offset: int, steps: list[int]) -> None:
        values = np.array([offset + step for step in steps * 3], dtype=float)
        expected = _raw(ModelParams.for_sample(values.tolist()), values.tolist()).tolist()
        for unit in (1e-9, 1e-3, 3.7, 1e9):
            scaled = (values * unit).tolist()
            self.assertEqual(_raw(ModelParams.for_sample(scaled), scaled).tolist(), expected)

    @given(st.lists(st.integers(-100, 100), min_size=1, max_size=60))
    @example([0] * 3 + [3] * 3 + [33])
    @example([-7] * 3 + [-6] * 3 + [4])
    def test_what_is_an_outlier_does_not_depend_on_the_unit(self, values: list[int]) -> None:
        low, high = first_range(values)
        for unit in (1e-9, 0.1, 3.7, 1e9):
            scaled = [value * unit for value in values]
            self.assertEqual(first_range(scaled), (low * unit, high * unit))
