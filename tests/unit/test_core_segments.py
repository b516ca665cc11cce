# SPDX-License-Identifier: MIT
"""Segments of the compiled core: how their synapses change, on cases worked by hand."""

from __future__ import annotations

from collections import Counter
from unittest import TestCase

import pytest

from htmengine.htm import _core

_OWNER = 32 * 5 + 3


class SegmentsTest(TestCase):
    def setUp(self) -> None:
        self.segments = _core.Segments(16, 32, 1)
        self.segment = self.segments.create(_OWNER)

    def _synapses(self) -> dict[int, int]:
        """The segment's permanences in hundredths, by source."""
        ((owner, synapses),) = self.segments.segment_list()
        self.assertEqual(owner, _OWNER)
        by_source = dict(synapses)
        self.assertEqual(len(by_source), len(synapses))
        return by_source

    def _reinforce(self, cells: range) -> None:
        active = self.segments.adapt(self.segment, cells, 0.1, -0.1)
        self.segments.grow(self.segment, 20 - active, cells, 0.21)

    def test_reinforcement(self) -> None:
        learning, weak, others = range(40), range(100, 105), range(200, 215)
        self.segments.grow(self.segment, 12, learning, 0.41)
        self.segments.grow(self.segment, 5, weak, 0.01)
        self.segments.grow(self.segment, 15, others, 0.11)
        strengthened = set(self._synapses()) & set(learning)
        self._reinforce(learning)
        after = self._synapses()
        self.assertEqual({cell: after[cell] for cell in strengthened}, dict.fromkeys(strengthened, 51))
        self.assertEqual(Counter(after.values()), {51: 12, 1: 12, 21: 8})
        self.assertTrue({cell for cell, permanence in after.items() if permanence == 1} <= set(others))
        self.assertTrue({cell for cell, permanence in after.items() if permanence == 21} <= set(learning))

    def test_three_reinforcements_connect(self) -> None:
        cells = range(20)
        self.segments.grow(self.segment, 20, cells, 0.21)
        for permanence in (31, 41, 51):
            self._reinforce(cells)
            self.assertEqual(self._synapses(), dict.fromkeys(cells, permanence))

    def test_an_unused_new_synapse_goes_at_its_third_miss(self) -> None:
        self.segments.grow(self.segment, 1, [7], 0.21)
        left = []
        for _ in range(3):
            self.segments.adapt(self.segment, [], 0.1, -0.1)
            left.append(self._synapses())
        self.assertEqual(left, [{7: 11}, {7: 1}, {}])

    def test_no_permanence_exceeds_one(self) -> None:
        self.segments.grow(self.segment, 1, [7], 0.95)
        self.segments.adapt(self.segment, [7], 0.1, -0.1)
        self.assertEqual(self._synapses(), {7: 100})

    def test_fewer_cells_than_wanted_are_all_taken_each_once(self) -> None:
        self.segments.grow(self.segment, 20, range(5), 0.21)
        self.segments.grow(self.segment, 20, range(8), 0.21)
        self.assertEqual(self._synapses(), dict.fromkeys(range(8), 21))

    def test_inactive_synapses_give_way_before_active_ones_the_weakest_first(self) -> None:
        for cells, permanence in ((range(10), 0.05), (range(100, 110), 0.3), (range(200, 212), 0.2)):
            self.segments.grow(self.segment, 20, cells, permanence)
        self.segments.grow(self.segment, 15, range(40), 0.21)  # 22 of 32 are not from these cells
        after = self._synapses()
        self.assertEqual(Counter(after.values()), {5: 10, 30: 7, 21: 15})

    def test_active_synapses_give_way_when_no_others_are_left(self) -> None:
        self.segments.grow(self.segment, 30, range(30), 0.3)
        self.segments.grow(self.segment, 2, range(30, 32), 0.9)
        self.segments.grow(self.segment, 31, range(64), 0.21)
        self.assertEqual(Counter(self._synapses().values()), {90: 1, 21: 31})


@pytest.mark.long
class MemoryTest(TestCase):
    """Synapses from always other cells come and go."""

    def setUp(self) -> None:
        self.segments = _core.Segments(1000, 32, 1)
        self.numbers = [self.segments.create(owner) for owner in range(200)]

    def _turn(self, cells: range) -> None:
        """All synapses go, others come."""
        for segment in self.numbers:
            self.segments.adapt(segment, [], 0.0, -1.0)
            self.segments.grow(segment, 10 + segment % 20, cells, 0.21)

    def test_it_is_as_large_as_what_it_holds_not_as_what_it_held(self) -> None:
        sizes = []
        for turn in range(100):
            self._turn(range(40 * (turn % 50), 40 * (turn % 50) + 40))
            sizes.append(self.segments.bytes)
        self.assertLess(max(sizes[50:]), 1.01 * max(sizes[:50]))
        self.assertLess(sizes[-1], 100_000)  # 3900 synapses, and lists of 2000 cells, mostly empty

    def test_all_that_it_should_hold_is_there(self) -> None:
        for turn in range(60):
            cells = range(40 * (turn % 50), 40 * (turn % 50) + 40)
            self._turn(cells)
            for segment, (owner, synapses) in zip(self.numbers, self.segments.segment_list(), strict=True):
                self.assertEqual((owner, len(dict(synapses))), (segment, 10 + segment % 20))
                self.assertTrue({cell for cell, _ in synapses} <= set(cells))
                self.assertEqual({permanence for _, permanence in synapses}, {21})
