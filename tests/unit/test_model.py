# SPDX-License-Identifier: MIT
"""The model: the same bytes on every run, compiler and machine, and after any save and restore."""

from __future__ import annotations

import hashlib
import json
import math
import struct
import zlib
from dataclasses import replace
from unittest import TestCase

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from htmengine.errors import CorruptCheckpoint, UnknownCheckpointVersion
from htmengine.htm import Model, ModelParams
from htmengine.htm.params import (
    PLAIN,
    ClassifierParams,
    DeltaParams,
    ScalarParams,
    SpatialPoolerParams,
    TemporalMemoryParams,
)

_STANDARD = ModelParams.for_range(0.0, 100.0)
_SMALL = replace(
    _STANDARD,
    spatial=SpatialPoolerParams(columns=256, active_columns=12, learn_every=1),
    temporal=TemporalMemoryParams(
        activation_threshold=5, min_threshold=4, new_synapses=8, max_synapses=12, max_segments=400
    ),
)
#: One of each kind of encoder, memory and classifier.
_MODELS = {
    "standard": _STANDARD,
    "small": _SMALL,
    "plain": replace(_SMALL, temporal=replace(_SMALL.temporal, kind=PLAIN, predicted_segment_decrement=0.01)),
    "backtracking": replace(_SMALL, temporal=replace(_SMALL.temporal, max_inference=10)),
    "long segments": replace(_SMALL, temporal=replace(_SMALL.temporal, new_synapses=12, max_synapses=100)),
    "fine permanences": replace(_SMALL, temporal=replace(_SMALL.temporal, increment=0.0512)),
    "classifier": replace(_SMALL, classifier=ClassifierParams(steps=(1, 3))),
    "scalar": replace(_SMALL, value=ScalarParams(minval=0.0, maxval=100.0, resolution=1.0, clip_input=True)),
    "delta": replace(_SMALL, value=DeltaParams(n=100)),
}


def _values(rows: int) -> list[float]:
    """A sawtooth with steps, in whole numbers, so that no machine rounds them differently."""
    return [float((row * 7 % 96) + (20 if row % 50 == 17 else 0)) for row in range(rows)]


def _learn(model: Model, first: int, last: int) -> list[float]:
    return [model.learn(1_500_000_000 + 300 * row, value) for row, value in enumerate(_values(last)) if row >= first]


def _state(saved: bytes) -> bytes:
    """What the compiled core wrote, without the header."""
    return saved[18 + struct.unpack_from("<I", saved, 14)[0] :]


class SameBytesTest(TestCase):
    @given(
        st.sampled_from(sorted(_MODELS)),
        st.integers(0, 3),
        st.lists(st.floats(-50, 150) | st.just(math.nan), min_size=1, max_size=120),
        st.sets(st.integers(0, 119), max_size=4),
    )
    def test_restored_at_any_row_it_goes_on_with_the_same_scores_and_bytes(
        self, name: str, seed: int, values: list[float], restored_at: set[int]
    ) -> None:
        straight, interrupted = Model(_MODELS[name], seed=seed), Model(_MODELS[name], seed=seed)
        for row, value in enumerate(values):
            if row in restored_at:
                saved = interrupted.save()
                interrupted = Model.restore(saved)
                self.assertEqual(interrupted.save(), saved)
            self.assertEqual(straight.learn(300 * row, value), interrupted.learn(300 * row, value))
        self.assertEqual(straight.predictions(), interrupted.predictions())
        self.assertEqual(straight.save(), interrupted.save())

    @pytest.mark.long
    def test_every_kind_of_model_goes_on_with_the_same_bytes_after_many_rows(self) -> None:
        for name, params in _MODELS.items():
            straight = Model(params)
            _learn(straight, 0, 400)
            restored = Model.restore(straight.save())
            self.assertEqual(_learn(straight, 400, 500), _learn(restored, 400, 500), name)
            self.assertEqual(straight.save(), restored.save(), name)

    def test_rows_one_by_one_or_together_are_the_same(self) -> None:
        one_by_one, together = Model(_SMALL), Model(_SMALL)
        raw = _learn(one_by_one, 0, 200)
        rows = np.arange(200, dtype=np.int64)
        self.assertEqual(together.learn_many(1_500_000_000 + 300 * rows, np.array(_values(200))).tolist(), raw)
        self.assertEqual(together.save(), one_by_one.save())

    def test_another_seed_is_another_model(self) -> None:
        self.assertNotEqual(*(_learn(Model(_SMALL, seed=seed), 0, 100) for seed in (0, 1)))

    def test_scoring_learns_nothing(self) -> None:
        model = Model(_SMALL)
        _learn(model, 0, 300)
        segments = model.segments, model.synapses
        for row in range(50):
            model.score(300 * row, 50.0)
        self.assertEqual((model.segments, model.synapses), segments)


@pytest.mark.long
class GoldenTest(TestCase):
    """What every compiler and machine must give."""

    def test_the_bytes_of_every_kind_of_model(self) -> None:
        digests = {}
        for name, params in _MODELS.items():
            model = Model(params)
            raw = _learn(model, 0, 600)
            state = _state(model.save()) + np.array(raw).tobytes() + repr(model.predictions()).encode()
            digests[name] = hashlib.sha256(state).hexdigest()[:16]
        self.assertEqual(digests, GOLDEN)


#: Change them with the checkpoint's version, or with a deliberate change of what the model computes.
GOLDEN = {
    "standard": "378cb443330fac50",
    "small": "8a13d8714e7b099a",
    "plain": "5deaeac099ec9a91",
    "backtracking": "b17bdce0f92d4146",
    "long segments": "9a49708c8859bd29",
    "fine permanences": "02be25681b5f12fa",
    "classifier": "67532721a5ee05bc",
    "scalar": "ec9b73e61d2eb22d",
    "delta": "2b624169fda6d8a7",
}


class DamageTest(TestCase):
    def setUp(self) -> None:
        model = Model(_SMALL)
        _learn(model, 0, 200)
        self.saved = model.save()

    def _resealed(self, checked: bytes) -> bytes:
        """A checkpoint whose checksum is right, whatever it holds."""
        return self.saved[:10] + struct.pack("<I", zlib.crc32(checked)) + checked

    def test_cut_short_anywhere_it_is_refused(self) -> None:
        for length in range(0, len(self.saved), 97):
            with self.assertRaises(CorruptCheckpoint):
                Model.restore(self.saved[:length])

    def test_a_flipped_bit_is_refused(self) -> None:
        for place in range(0, len(self.saved), 89):
            damaged = bytearray(self.saved)
            damaged[place] ^= 1 << place % 8
            with self.assertRaises((CorruptCheckpoint, UnknownCheckpointVersion)):
                Model.restore(bytes(damaged))

    def test_another_version_is_told_apart(self) -> None:
        with self.assertRaisesRegex(UnknownCheckpointVersion, "version 999"):
            Model.restore(self.saved[:8] + struct.pack("<H", 999) + self.saved[10:])

    def test_a_header_that_makes_no_sense_is_refused(self) -> None:
        for header in (b"", b"[]", b"{}", b'{"params":{},"seed":0}', b"[" * 100_000, b'{"params":1,"seed":0}', b"\xff"):
            with self.assertRaisesRegex(CorruptCheckpoint, "not the state of a model"):
                Model.restore(self._resealed(struct.pack("<I", len(header)) + header + b"state"))
        with self.assertRaisesRegex(CorruptCheckpoint, "header is cut short"):
            Model.restore(self._resealed(struct.pack("<I", 2**31) + b"{}"))

    def test_the_state_of_other_parameters_is_refused(self) -> None:
        header = json.dumps({"params": _STANDARD.to_json(), "seed": 0}).encode()
        state = _state(self.saved)
        with self.assertRaises(CorruptCheckpoint):
            Model.restore(self._resealed(struct.pack("<I", len(header)) + header + state[: len(state) // 2]))

    def test_a_delta_encoder_with_half_a_range_is_refused(self) -> None:
        model = Model(_MODELS["delta"])
        _learn(model, 0, 5)
        saved = model.save()
        minimum = len(saved) - len(_state(saved)) + 16  # after the rows and the previous value
        for number in (math.nan, -math.inf):
            damaged = saved[14:minimum] + struct.pack("<d", number) + saved[minimum + 8 :]
            with self.assertRaisesRegex(CorruptCheckpoint, "delta encoder"):
                Model.restore(self._resealed(damaged))

    @given(st.data())
    def test_a_damaged_state_with_a_right_checksum_is_refused_or_works(self, data: st.DataObject) -> None:
        damaged = bytearray(self.saved[14:])
        header = struct.unpack_from("<I", damaged)[0]
        places = st.integers(4 + header, len(damaged) - 1)
        for place in data.draw(st.lists(places, min_size=1, max_size=4)):
            damaged[place] = data.draw(st.integers(0, 255))
        try:
            model = Model.restore(self._resealed(bytes(damaged)))
        except CorruptCheckpoint:
            return
        _learn(model, 200, 260)
        Model.restore(model.save())


class InputTest(TestCase):
    def test_a_value_that_the_encoder_refuses_changes_nothing(self) -> None:
        model = Model(replace(_SMALL, value=ScalarParams(minval=0.0, maxval=10.0, resolution=1.0)))
        model.learn(0, 5.0)
        saved = model.save()
        with self.assertRaises(ValueError):
            model.learn(300, 11.0)
        with self.assertRaises(ValueError):
            model.learn_many(np.array([300, 600]), np.array([5.0, 11.0]))
        self.assertEqual(model.save(), saved)

    def test_arrays_must_match(self) -> None:
        with self.assertRaisesRegex(ValueError, "of equal length"):
            Model(_SMALL).learn_many(np.array([0, 1]), np.array([1.0]))

    def test_any_number_and_time_is_a_row(self) -> None:
        model = Model(_SMALL)
        for value in (math.inf, -math.inf, math.nan, 1e308, -1e308, 5e-324):
            for timestamp in (-(2**63), 2**63 - 1, 0, -1):
                self.assertTrue(0.0 <= model.learn(timestamp, value) <= 1.0)
        Model.restore(model.save())
