# SPDX-License-Identifier: MIT
"""The backtracking temporal memory of the compiled core, row by row.

The sequences and what they give are NuPIC's: where columns are all alike, chance has no say, and the two agree on
every row.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator

import pytest
from twisted.trial.unittest import SynchronousTestCase

from htmengine.htm import _core


def _memory(seed: int = 1960, **fields: int) -> _core.BacktrackingMemory:
    params = _core.TemporalMemoryParams()
    params.max_segments = 65535
    params.max_inference = 10
    params.seed = seed
    for name, value in fields.items():
        setattr(params, name, value)
    return _core.BacktrackingMemory(params)


def _pattern(number: int) -> range:
    return range(40 * number, 40 * number + 40)


class _Draws:
    """The generator that the sequences are defined with."""

    def __init__(self) -> None:
        self._state = 1

    def draw(self) -> int:
        self._state = (1103515245 * self._state + 12345) % 2**31
        return self._state // 65536

    def some(self, wanted: int, of: range) -> list[int]:
        """``wanted`` different items, in the order in which they are drawn."""
        found: list[int] = []
        while len(found) < wanted:
            item = of[self.draw() % len(of)]
            if item not in found:
                found.append(item)
        return found

    def walk(self, rows: int, stay: int) -> Iterator[int]:
        """0 .. 5 in a cycle, which in ``stay`` of 100 rows goes on and else jumps."""
        place = 0
        for _ in range(rows):
            yield place
            place = (place + 1) % 6 if self.draw() % 100 < stay else self.draw() % 6


class BurstingTest(SynchronousTestCase):
    def test_what_a_row_taught_counts_on_the_next_one(self) -> None:
        bursting, backtracking = _memory(max_inference=0), _memory()
        self.assertEqual([bursting.row(_pattern(0), True) for _ in range(4)], [1.0, 1.0, 0.0, 0.0])
        self.assertEqual([backtracking.row(_pattern(0), True) for _ in range(4)], [1.0, 1.0, 1.0, 0.0])

    def test_a_cycle_is_expected_once_it_was_seen_and_its_first_row_repeated(self) -> None:
        memory = _memory(max_inference=0)
        raw = [memory.row(_pattern(row % 6), True) for row in range(300)]
        self.assertEqual(raw, [1.0] * 7 + [0.0] * 293)

    def test_contexts_live_on_beside_each_other_after_a_burst(self) -> None:
        memory = _memory(max_inference=0)
        for row in range(600):
            memory.row(_pattern((0, 1, 2, 3, 1, 4)[row % 6]), True)
        memory.row(_pattern(5), False)  # nothing leads here, so it and the next pattern burst
        self.assertEqual(memory.row(_pattern(1), False), 1.0)
        self.assertEqual((memory.hinted_columns, memory.predicted_columns), (80, 80))  # patterns 2 and 4

    def test_rows_that_are_only_scored_move_its_place_on(self) -> None:
        memory = _memory(max_inference=0)
        for row in range(300):
            memory.row(_pattern(row % 6), True)
        self.assertEqual([memory.row(_pattern(row % 6), False) for row in range(12)], [0.0] * 12)
        self.assertEqual(memory.row(_pattern(3), False), 1.0)


class TwoPatternsTest(SynchronousTestCase):
    def test_every_row(self) -> None:
        memory = _memory()
        raw, segments = [], []
        for row in range(24):
            raw.append(memory.row(_pattern(row % 2), True))
            segments.append(memory.segments)
        self.assertEqual(raw, [1.0] * 3 + [0.0] * 21)
        self.assertEqual(segments[:11], [0, 40, 80, 120, 160, 200, 200, 200, 240, 280, 320])
        self.assertEqual(segments[11:], [320, 320, 360, 400, 440, 440, 440, 440, 440, 480, 520, 560, 560])
        self.assertEqual({len(synapses) for _, synapses in memory.segment_list()}, {20})

    def test_a_burst_hints_at_the_next_row_and_backtracking_predicts_it(self) -> None:
        memory = _memory()
        hinted, predicted = [], []
        for row in range(17):
            memory.row(_pattern(row % 2), True)
            hinted.append(memory.hinted_columns)
            predicted.append(memory.predicted_columns)
        self.assertEqual((hinted[2], predicted[2]), (40, 0))
        self.assertEqual(predicted[16], 40)

    def test_new_synapses_are_unconnected_and_repetition_connects_them(self) -> None:
        memory = _memory()
        for row in range(16):
            memory.row(_pattern(row % 2), True)
        strongest = max(permanence for _, synapses in memory.segment_list() for _, permanence in synapses)
        self.assertEqual(strongest, 51)

    def test_scoring_learns_nothing(self) -> None:
        memory = _memory()
        for row in range(20):
            memory.row(_pattern(row % 2), True)
        before = memory.segment_list()
        self.assertEqual([memory.row(_pattern(row % 2), False) for row in range(4)], [0.0] * 4)
        self.assertEqual(memory.row(_pattern(5), False), 1.0)
        self.assertEqual(memory.segment_list(), before)


class CycleTest(SynchronousTestCase):
    """Six disjoint patterns in a cycle, 600 rows."""

    def _memory_after(self, **fields: int) -> tuple[_core.BacktrackingMemory, list[float]]:
        memory = _memory(**fields)
        return memory, [memory.row(_pattern(row % 6), True) for row in range(600)]

    def test_every_row(self) -> None:
        memory = _memory()
        raw, segments, starts = [], [], []
        predicted = hinted = 0
        for row in range(600):
            raw.append(memory.row(_pattern(row % 6), True))
            segments.append(memory.segments)
            predicted += memory.predicted_columns
            hinted += memory.hinted_columns
            if memory.at_sequence_start:
                starts.append(row + 1)
        self.assertEqual(raw, [1.0] * 7 + [0.0] * 593)
        at = (10, 50, 100, 200, 300, 600)
        self.assertEqual([segments[row - 1] for row in at], [320, 1040, 1440, 2000, 2480, 2640])
        self.assertEqual((predicted, hinted), (22_720, 23_760))
        self.assertEqual(starts, [3, 6, 9])

    def test_each_limit_matters(self) -> None:
        for name, value, segments in (
            ("max_sequence", 0, 3560),
            ("max_sequence", 31, 2560),
            ("max_learning", 4, 2560),
            ("max_learning", 0, 4480),
        ):
            self.assertEqual(self._memory_after(**{name: value})[0].segments, segments, (name, value))

    def test_inference_that_can_go_back_one_row_only(self) -> None:
        self.assertEqual(self._memory_after(max_inference=1)[1].count(1.0), 11)


class WalkTest(SynchronousTestCase):
    """The same patterns in an order that mostly, not always, is the cycle's."""

    def test_every_row(self) -> None:
        memory = _memory()
        raw, segments = [], []
        predicted = hinted = starts = 0
        for place in _Draws().walk(1000, 85):
            raw.append(memory.row(_pattern(place), True))
            segments.append(memory.segments)
            predicted += memory.predicted_columns
            hinted += memory.hinted_columns
            starts += memory.at_sequence_start
        at = (10, 50, 100, 200, 500, 1000)
        self.assertEqual([segments[row - 1] for row in at], [320, 1400, 2360, 4400, 9440, 17_600])
        surprises = [row for row, score in enumerate(raw, 1) if score == 1.0]
        self.assertEqual(surprises[:14], [*range(1, 8), 11, 17, 22, 31, 37, 66, 89])
        self.assertEqual((len(surprises), set(raw)), (101, {0.0, 1.0}))
        self.assertEqual((predicted, hinted, starts), (39_960, 105_560, 27))


@pytest.mark.long
class OverlappingPatternsTest(SynchronousTestCase):
    """Noisy patterns that share columns: here chance has its say, and the two agree in distribution."""

    @staticmethod
    def _rows() -> Iterator[list[int]]:
        draws = _Draws()
        bases = [draws.some(40, range(200)) for _ in range(6)]
        for place in draws.walk(1500, 90):
            base = draws.some(32, range(40))
            yield [*(bases[place][item] for item in base), *draws.some(8, range(200, 400))]

    def test_segments_synapses_and_mean_score_are_nupics(self) -> None:
        rows = [sorted(row) for row in self._rows()]
        segments, raw = [], []
        for seed in range(3):
            memory = _memory(seed)
            raw.append(statistics.fmean(memory.row(row, True) for row in rows))
            segments.append(memory.segments)
            self.assertTrue(440_000 < memory.synapses < 570_000, memory.synapses)
        self.assertTrue(all(19_800 < count < 25_000 for count in segments), segments)
        self.assertTrue(all(0.140 < mean < 0.185 for mean in raw), raw)
        self.assertApproximates(statistics.fmean(segments), 22_400, 1500)


class SegmentCapTest(SynchronousTestCase):
    def test_there_are_never_more_segments(self) -> None:
        memory = _memory(max_segments=1000)
        most = 0
        for place in _Draws().walk(500, 50):
            memory.row(_pattern(place), True)
            most = max(most, memory.segments)
        self.assertEqual(most, 1000)
