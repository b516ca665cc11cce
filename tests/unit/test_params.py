# SPDX-License-Identifier: MIT
"""Model parameters: what they default to, what they refuse, and that JSON keeps them exactly."""

from __future__ import annotations

import json
import math
from dataclasses import FrozenInstanceError
from unittest import TestCase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from htmengine.errors import InvalidModelSpec
from htmengine.htm.params import (
    ClassifierParams,
    DateField,
    DateParams,
    DeltaParams,
    LogParams,
    ModelParams,
    RandomDistributedScalarParams,
    ScalarParams,
    SpatialPoolerParams,
    TemporalMemoryParams,
    first_range,
    range_of,
)

_POSITIVE = st.floats(1e-300, 1e300)
_NUMBER = st.floats(-1e150, 1e150)
_SHARE = st.floats(0.0, 1.0)
_SEED = st.integers(0, 2**63 - 1)
_WIDTH = st.integers(10, 30).map(lambda half: 2 * half + 1)

_RDSE = st.builds(
    RandomDistributedScalarParams,
    resolution=_POSITIVE,
    n=st.integers(400, 2000),
    w=_WIDTH,
    offset=st.none() | _NUMBER,
    seed=_SEED,
) | st.builds(
    RandomDistributedScalarParams, resolution=_POSITIVE, minval=st.floats(-1e6, 0.0), maxval=st.floats(1.0, 1e6)
)
_SCALAR = st.builds(
    ScalarParams,
    minval=st.floats(-1e6, 0.0),
    maxval=st.floats(1.0, 1e6),
    w=_WIDTH,
    n=st.integers(100, 1000),
    periodic=st.booleans(),
    clip_input=st.booleans(),
)
_LOG = st.builds(LogParams, minval=st.floats(1e-9, 1.0), maxval=st.floats(2.0, 1e9), radius=st.floats(0.1, 2.0))
_DELTA = st.builds(DeltaParams, n=st.integers(100, 1000), w=_WIDTH)
_ASPECT = st.none() | st.builds(DateField, w=_WIDTH, radius=st.floats(0.5, 100.0))
_DATE = st.builds(
    DateParams,
    time_of_day=_ASPECT,
    weekend=_ASPECT,
    day_of_week=_ASPECT,
    season=_ASPECT,
    holiday=_ASPECT,
    holidays=st.lists(st.sampled_from([(12, 25), (2, 29), (2015, 7, 4)]), max_size=3).map(tuple),
)
_SPATIAL = st.builds(
    SpatialPoolerParams,
    columns=st.integers(255, 2048),
    active_columns=st.integers(1, 255),
    increment=_SHARE,
    decrement=_SHARE,
    learn_every=st.integers(1, 16),
    seed=_SEED,
)
_TEMPORAL = st.builds(
    TemporalMemoryParams,
    kind=st.sampled_from(["cpp", "tm_cpp"]),
    cells_per_column=st.integers(2, 32),
    initial_permanence=st.floats(0.01, 1.0),
    increment=_SHARE,
    predicted_segment_decrement=_SHARE,
    seed=_SEED,
)
_CLASSIFIER = st.none() | st.builds(
    ClassifierParams,
    alpha=st.floats(0.001, 1.0),
    steps=st.sets(st.integers(0, 20), min_size=1).map(sorted).map(tuple),
)
_MODEL = st.builds(
    ModelParams,
    value=_RDSE | _SCALAR | _LOG | _DELTA,
    date=_DATE,
    spatial=_SPATIAL,
    temporal=_TEMPORAL,
    classifier=_CLASSIFIER,
)


class StandardModelTest(TestCase):
    def test_resolution_is_the_range_over_130(self) -> None:
        params = ModelParams.for_range(-20.0, 120.0)
        assert isinstance(params.value, RandomDistributedScalarParams)
        self.assertEqual(params.value.resolution, 140 / 130)
        self.assertEqual(params.input_bits, 454)

    def test_resolution_is_never_finer_than_the_finest_that_is_given(self) -> None:
        for finest, expected in ((None, 0.01), (0.25, 0.25)):
            params = ModelParams.for_range(0.0, 1.3, min_resolution=finest)
            assert isinstance(params.value, RandomDistributedScalarParams)
            self.assertEqual(params.value.resolution, expected)

    def test_a_sample_shows_a_third_of_the_range_to_come(self) -> None:
        self.assertEqual(ModelParams.for_sample([10.0, 20.0]).value, ModelParams.for_range(0.0, 30.0).value)
        self.assertEqual(ModelParams.for_sample([5.0, 5.0]).value, ModelParams.for_range(5.0, 10.0).value)

    def test_inference_goes_back_only_where_the_range_is_not_known(self) -> None:
        self.assertEqual(ModelParams.for_sample([10.0, 20.0]).temporal, TemporalMemoryParams(max_inference=10))
        self.assertEqual(ModelParams.for_range(10.0, 20.0).temporal, TemporalMemoryParams(max_inference=0))

    def test_a_range_of_one_value_is_as_wide_as_the_value_is_large(self) -> None:
        self.assertEqual(ModelParams.for_range(5.0, 5.0), ModelParams.for_range(5.0, 10.0))
        self.assertEqual(ModelParams.for_range(0.0, 0.0), ModelParams.for_range(0.0, 1.0))

    def test_predictions_are_off_unless_asked_for(self) -> None:
        self.assertIsNone(ModelParams.for_range(0.0, 1.0).classifier)
        self.assertEqual(ModelParams.for_range(0.0, 1.0, classifier=True).classifier, ClassifierParams())

    def test_wrong_ranges_are_refused_by_name(self) -> None:
        for low, high, finest, named in (
            (1.0, 0.0, None, "max"),
            (math.nan, 1.0, None, "min"),
            (0.0, math.inf, None, "max"),
            (0.0, 1.0, 0.0, "minResolution"),
        ):
            with self.assertRaisesRegex(InvalidModelSpec, f"^{named}: "):
                ModelParams.for_range(low, high, min_resolution=finest)

    def test_parameters_cannot_be_changed(self) -> None:
        with self.assertRaises(FrozenInstanceError):
            ModelParams.for_range(0.0, 1.0).temporal.seed = 1


class RangeTest(TestCase):
    def test_range_is_the_datas_and_a_fifth_more_on_both_sides(self) -> None:
        self.assertEqual(range_of(iter([100.0, 0.0, 50.0])), (-20.0, 120.0))

    def test_a_constants_range_is_that_value(self) -> None:
        self.assertEqual(range_of([7.0, 7.0]), (7.0, 7.0))

    def test_values_that_are_not_finite_do_not_count(self) -> None:
        self.assertEqual(range_of([0.0, math.nan, math.inf, 10.0]), (-2.0, 12.0))

    def test_no_values_are_refused(self) -> None:
        with self.assertRaises(InvalidModelSpec):
            range_of([math.nan])


class EncoderSizeTest(TestCase):
    def test_scalar_bits_follow_from_resolution_or_radius(self) -> None:
        by_resolution = ScalarParams(minval=0.0, maxval=10.0, resolution=1.0)
        by_radius = ScalarParams(minval=0.0, maxval=10.0, radius=21.0)
        by_bits = ScalarParams(minval=0.0, maxval=10.0, n=31)
        for params in (by_resolution, by_radius, by_bits):
            self.assertEqual((params.bits, params.step), (31, 1.0))

    def test_a_ring_has_no_room_at_its_ends(self) -> None:
        ring = ScalarParams(minval=0.0, maxval=24.0, radius=9.49, periodic=True)
        self.assertEqual((ring.bits, ring.step), (54, 9.49 / 21))

    def test_log_sizes_are_in_decades(self) -> None:
        params = LogParams(minval=1.0, maxval=10000.0, n=61)
        self.assertEqual(params.step, 0.1)

    def test_date_bits_are_those_of_its_aspects(self) -> None:
        self.assertEqual(DateParams().bits, 54)
        self.assertEqual(DateParams(time_of_day=None).bits, 0)
        both = DateParams(day_of_week=DateField(21, 1.0))
        self.assertEqual(both.bits, 54 + 147)


class RefusalTest(TestCase):
    def test_wrong_values_are_refused_by_name_with_what_is_allowed(self) -> None:
        refused: list[tuple[type, dict[str, object], str]] = [
            (RandomDistributedScalarParams, {"resolution": 0.0}, "resolution: 0.0 .* above 0"),
            (RandomDistributedScalarParams, {"resolution": "1"}, "resolution: '1'"),
            (RandomDistributedScalarParams, {"resolution": True}, "resolution: True"),
            (RandomDistributedScalarParams, {"resolution": 1.0, "w": 20}, "w: 20 .* odd"),
            (RandomDistributedScalarParams, {"resolution": 1.0, "n": 126}, "n: 126 .* more than 6 w = 126"),
            (ScalarParams, {"minval": 1.0, "maxval": 1.0, "n": 100}, "maxval: 1.0"),
            (ScalarParams, {"minval": 0.0, "maxval": 1.0}, "exactly one of n, radius and resolution"),
            (ScalarParams, {"minval": 0.0, "maxval": 1.0, "n": 9, "w": 5}, "w: 5 .* forced"),
            (ScalarParams, {"minval": 0.0, "maxval": 1.0, "resolution": 1e-9}, "at most 65535 bits"),
            (LogParams, {"minval": 0.0, "n": 100}, "minval: 0.0"),
            (DeltaParams, {"n": 100, "minval": 0.0}, "maxval: None .* more than minval = 0.0, or neither"),
            (RandomDistributedScalarParams, {"resolution": 1.0, "minval": 2.0, "maxval": 1.0}, "maxval: 1.0"),
            (DateField, {"w": 21, "radius": math.nan}, "radius: nan"),
            (DateParams, {"holidays": ((2, 30),)}, "holidays"),
            (SpatialPoolerParams, {"columns": 30}, "active_columns: 40 .* at most columns = 30"),
            (SpatialPoolerParams, {"columns": 2048.5}, "columns: 2048.5 .* whole number from 1 to 65536"),
            (TemporalMemoryParams, {"kind": "fast"}, "kind: 'fast' .* 'cpp' or 'tm_cpp'"),
            (TemporalMemoryParams, {"cells_per_column": 1}, "cells_per_column: 1"),
            (TemporalMemoryParams, {"min_threshold": 14}, "min_threshold: 14 .* activation_threshold = 13"),
            (TemporalMemoryParams, {"new_synapses": 33}, "new_synapses: 33"),
            (ClassifierParams, {"steps": ()}, "steps"),
            (ClassifierParams, {"steps": (2, 1)}, "steps: .* ascending"),
        ]
        for params, values, message in refused:
            with self.subTest(params=params.__name__, **values), self.assertRaisesRegex(InvalidModelSpec, message):
                params(**values)

    def test_more_cells_than_can_be_numbered_are_refused(self) -> None:
        with self.assertRaisesRegex(InvalidModelSpec, "columns: 2049 .* at most 2048 with 32 cells"):
            ModelParams(RandomDistributedScalarParams(1.0), spatial=SpatialPoolerParams(columns=2049))

    def test_whole_floats_count_as_ints(self) -> None:
        self.assertIs(type(SpatialPoolerParams(columns=1024.0).columns), int)


class JsonTest(TestCase):
    @given(_MODEL)
    def test_json_keeps_every_parameter_exactly(self, params: ModelParams) -> None:
        self.assertEqual(ModelParams.from_json(json.loads(json.dumps(params.to_json()))), params)

    def test_what_is_missing_has_its_default(self) -> None:
        document = {"value": {"type": "random_distributed_scalar", "resolution": 1}}
        self.assertEqual(ModelParams.from_json(document), ModelParams(RandomDistributedScalarParams(1.0)))

    def test_wrong_documents_are_refused_by_path(self) -> None:
        value = {"type": "random_distributed_scalar", "resolution": 1.0}
        for document, message in (
            ([], r"params: \[\] .* an object"),
            ({}, "params: .*'value'"),
            ({"value": None}, "params.value: None .* an object"),
            ({"value": {"type": "magic"}}, "params.value.type: 'magic' .* delta"),
            ({"value": {"type": ["delta"]}}, "params.value.type"),
            ({"value": {"type": "delta"}}, "params.value: .*'n'"),
            ({"value": value, "extra": 1}, "params.extra: no such parameter"),
            (
                {"value": value, "spatial": {"colums": 1}},
                "params.spatial.colums: no such parameter; there are .*columns",
            ),
            ({"value": value, "date": {"holidays": 5}}, "params.date.holidays: 5 .* a list"),
            ({"value": value, "date": {"weekend": {"w": 21}}}, "params.date.weekend: .*'radius'"),
            ({"value": value, "classifier": {"steps": "1"}}, "params.classifier.steps: '1' .* a list"),
        ):
            with self.subTest(document=document), self.assertRaisesRegex(InvalidModelSpec, message):
                ModelParams.from_json(document)


@pytest.mark.long
class FirstRangeTest(TestCase):
    def test_one_outlier_of_any_size_at_any_place_changes_nothing(self) -> None:
        plain = [50.0 + 40.0 * math.sin(row / 5) for row in range(288)]
        for place in (0, 1, 10, 50, 287):
            for outlier in (1e6, -1e7, 1.7976931348623157e308, -1.7976931348623157e308):
                values = [*plain[:place], outlier, *plain[place + 1 :]]
                low, high = first_range(values)
                self.assertGreaterEqual(low, min(plain))
                self.assertLessEqual(high, max(plain))

    def test_a_second_value_counts_however_rare(self) -> None:
        self.assertEqual(first_range([*[0.0] * 287, 1.0]), (0.0, 1.0))

    def test_every_sample_of_numbers_gives_a_model(self) -> None:
        magnitudes = [
            0.0,
            *(10.0**power for power in range(-320, 309, 16)),
            5e-324,
            2.0**53,
            2.0**63,
            1.7976931348623157e308,
        ]
        for one in magnitudes:
            for other in magnitudes:
                params = ModelParams.for_sample([one, -other] * 3)
                assert isinstance(params.value, RandomDistributedScalarParams)
                self.assertTrue(0.0 < params.value.resolution < math.inf)
