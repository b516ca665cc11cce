# SPDX-License-Identifier: MIT
"""The compiled core against plain Python that says the same in other words: equal on random rows, to the bit."""

from __future__ import annotations

from dataclasses import replace
from unittest import TestCase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from htmengine.htm import _core
from tests.reference.backtracking_memory import Params, PlainBacktrackingMemory
from tests.reference.plain_memory import PlainTemporalMemory
from tests.reference.segments import Slots
from tests.reference.spatial_pooler import PlainSpatialPooler

_COLUMNS = 24

_small = st.builds(
    Params,
    activation_threshold=st.integers(2, 4),
    min_threshold=st.integers(1, 2),
    new_synapses=st.integers(3, 6),
    max_synapses=st.integers(6, 9),
    max_segments=st.integers(5, 200),
    pam_length=st.integers(1, 4),
    max_sequence=st.sampled_from([0, 3, 8, 32]),
    max_inference=st.integers(0, 6),
    max_learning=st.integers(0, 5),
    cells_per_column=st.sampled_from([2, 5, 32]),
    initial=st.sampled_from([21, 50, 60]),
    seed=st.integers(0, 2**63),
)


@st.composite
def _sequences(draw: st.DrawFn) -> list[list[int]]:
    """Rows of a few patterns that mostly come in order and now and then have a column of their own."""
    columns = st.integers(0, _COLUMNS - 1)
    patterns = draw(st.lists(st.sets(columns, min_size=4, max_size=6), min_size=2, max_size=4))
    rows, place = [], 0
    for step, noise in draw(st.lists(st.tuples(st.sampled_from([1, 1, 1, 1, 2]), columns), min_size=5, max_size=60)):
        place = (place + step) % len(patterns)
        rows.append(sorted(patterns[place] | ({noise} if noise < 6 else set())))
    return rows


def _compiled(params: Params, punishment: int = 0) -> _core.TemporalMemoryParams:
    core = _core.TemporalMemoryParams()
    core.columns = _COLUMNS
    core.initial_permanence, core.connected_permanence = params.initial / 100, params.connected / 100
    core.increment, core.decrement = params.increment / 100, params.decrement / 100
    core.predicted_segment_decrement = punishment / 100
    for name in (
        "activation_threshold",
        "min_threshold",
        "new_synapses",
        "max_synapses",
        "max_segments",
        "pam_length",
        "max_sequence",
        "max_inference",
        "max_learning",
        "cells_per_column",
        "seed",
    ):
        setattr(core, name, getattr(params, name))
    return core


def _listed(slots: Slots) -> list[tuple[int, list[tuple[int, int]]]]:
    return [(segment.cell, sorted(segment.synapses.items())) for _, segment in slots.live()]


def _in_order(segments: list[tuple[int, list[tuple[int, int]]]]) -> list[tuple[int, list[tuple[int, int]]]]:
    """The order of a segment's synapses means nothing."""
    return [(cell, sorted(synapses)) for cell, synapses in segments]


class BacktrackingMemoryTest(TestCase):
    @given(_small, _sequences(), st.integers(0, 60))
    def test_scores_and_segments_are_equal(self, params: Params, rows: list[list[int]], only_score: int) -> None:
        plain, compiled = PlainBacktrackingMemory(params), _core.BacktrackingMemory(_compiled(params))
        for number, row in enumerate(rows):
            learning = number != only_score
            self.assertEqual(plain.row(row, learning), compiled.row(row, learning), f"row {number}")
            plain.look_ahead()
            self.assertEqual(len(plain.predicted), compiled.predicted_columns)
            self.assertEqual(len(plain.hinted), compiled.hinted_columns)
        self.assertEqual(_listed(plain.segments), _in_order(compiled.segment_list()))


@pytest.mark.long
class PlainMemoryTest(TestCase):
    @given(_small, _sequences(), st.sampled_from([0, 1, 15]), st.integers(0, 60))
    def test_scores_and_segments_are_equal(
        self, params: Params, rows: list[list[int]], punishment: int, only_score: int
    ) -> None:
        plain, compiled = PlainTemporalMemory(params, punishment), _core.PlainMemory(_compiled(params, punishment))
        for number, row in enumerate(rows):
            learning = number != only_score
            self.assertEqual(plain.row(row, learning), compiled.row(row, learning), f"row {number}")
        self.assertEqual(_listed(plain.segments), _in_order(compiled.segment_list()))

    def test_with_the_standard_parameters(self) -> None:
        params = replace(Params(), activation_threshold=4, min_threshold=3, max_segments=50)
        plain, compiled = PlainTemporalMemory(params, 1), _core.PlainMemory(_compiled(params, 1))
        for number in range(120):
            row = sorted({(number % 5 * 4 + place) % _COLUMNS for place in range(6)} | {number * 7 % _COLUMNS})
            self.assertEqual(plain.row(row, True), compiled.row(row, True), f"row {number}")
        self.assertEqual(_listed(plain.segments), _in_order(compiled.segment_list()))


class SpatialPoolerTest(TestCase):
    @given(
        st.integers(1, 130),
        st.integers(1, 90),
        st.integers(1, 12),
        st.sampled_from([0.3, 0.8, 1.0]),
        st.integers(1, 4),
        st.data(),
    )
    def test_winners_and_permanences_are_equal(
        self, columns: int, inputs: int, winners: int, potential_pct: float, learn_every: int, data: st.DataObject
    ) -> None:
        core = _core.SpatialPoolerParams()
        core.columns, core.inputs, core.active_columns = columns, inputs, min(winners, columns)
        core.potential_pct, core.learn_every = potential_pct, learn_every
        core.increment, core.decrement = 0.03, 0.02  # large, so that connections come and go
        compiled = _core.SpatialPooler(core)
        permanences = [compiled.permanences(column) for column in range(columns)]
        plain = PlainSpatialPooler(
            permanences, winners=core.active_columns, connected=2000, up=300, down=200, learn_every=learn_every
        )
        bits = st.lists(st.integers(0, inputs - 1), unique=True, max_size=inputs)
        for on in data.draw(st.lists(bits, min_size=1, max_size=12)):
            self.assertEqual(plain.compute(on), compiled.compute(on, True))
        self.assertEqual(plain.permanences, [compiled.permanences(column) for column in range(columns)])
