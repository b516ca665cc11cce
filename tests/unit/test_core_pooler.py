# SPDX-License-Identifier: MIT
"""The spatial pooler of the compiled core, on cases worked by hand."""

from __future__ import annotations

from random import Random

import pytest
from twisted.trial.unittest import SynchronousTestCase

from htmengine.htm import _core


def _pooler(**fields: object) -> _core.SpatialPooler:
    params = _core.SpatialPoolerParams()
    for name, value in {"learn_every": 1, **fields}.items():
        setattr(params, name, value)
    return _core.SpatialPooler(params)


def _moved(permanence: int, on: bool) -> int:
    """After one row, by 0.05 up or 0.02 down."""
    if permanence < 0:
        return permanence
    moved = min(permanence + (500 if on else -200), 10000)
    return moved if moved >= 15 else 0


def _with_permanences(pooler: _core.SpatialPooler, permanences: list[list[int]]) -> None:
    for column, row in enumerate(permanences):
        for place, permanence in enumerate(row):
            pooler.set_permanence(column, place, permanence)


class WinnersTest(SynchronousTestCase):
    def test_the_greatest_overlaps_win_and_among_equals_the_highest_column(self) -> None:
        pooler = _pooler(inputs=5, columns=8, active_columns=2, potential_pct=1.0)
        overlaps = [3, 5, 2, 5, 1, 5, 0, 3]
        _with_permanences(pooler, [[2000] * count + [1999] * (5 - count) for count in overlaps])
        self.assertEqual(pooler.overlaps(range(5)), overlaps)
        self.assertEqual(pooler.compute(range(5), False), [3, 5])

    def test_there_are_always_as_many_winners_even_without_overlap(self) -> None:
        pooler = _pooler(inputs=5, columns=8, active_columns=2, potential_pct=1.0)
        self.assertEqual(pooler.compute([], False), [6, 7])

    def test_learning_comes_after_the_choice(self) -> None:
        pooler = _pooler(inputs=1, columns=3, active_columns=1, potential_pct=1.0)
        _with_permanences(pooler, [[2000], [1995], [1990]])
        self.assertEqual([pooler.compute([0], True) for _ in range(2)], [[0], [0]])
        self.assertEqual([pooler.permanences(column) for column in range(3)], [[2060], [1995], [1990]])


class PermanenceTest(SynchronousTestCase):
    def _walk(self, permanence: int, on: list[bool]) -> list[tuple[int, bool]]:
        """A synapse's permanence and whether it is connected, after each row."""
        pooler = _pooler(inputs=2, columns=1, active_columns=1, potential_pct=1.0)
        pooler.set_permanence(0, 0, permanence)
        walk = []
        for is_on in on:
            pooler.compute([0] if is_on else [1], True)
            walk.append((pooler.permanences(0)[0], pooler.overlaps([0]) == [1]))
        return walk

    def test_up_on_an_on_bit_down_on_an_off_one(self) -> None:
        expected = [(2010, True), (2005, True), (2000, True), (1995, False)]
        self.assertEqual(self._walk(1980, [True, False, False, False]), expected)

    def test_a_weak_one_becomes_zero_and_can_grow_again(self) -> None:
        self.assertEqual([place for place, _ in self._walk(15, [False, True])], [0, 30])

    def test_one_is_the_most(self) -> None:
        self.assertEqual([place for place, _ in self._walk(9985, [True, False])], [10000, 9995])

    def test_learning_every_fourth_row_takes_four_steps_at_once(self) -> None:
        pooler = _pooler(inputs=2, columns=1, active_columns=1, potential_pct=1.0, learn_every=4)
        _with_permanences(pooler, [[5000, 5000]])
        after = []
        for _ in range(8):
            pooler.compute([0], True)
            after.append(pooler.permanences(0))
        self.assertEqual(after, [[5000, 5000]] * 3 + [[5120, 4980]] * 4 + [[5240, 4960]])

    def test_permanences_are_those_of_each_step_by_itself(self) -> None:
        random = Random(7)
        pooler = _pooler(inputs=70, columns=70, active_columns=5, increment=0.05, decrement=0.02)
        wider = _pooler(inputs=130, columns=130, active_columns=5)
        expected = [pooler.permanences(column) for column in range(70)]
        for _ in range(150):
            wider.compute(range(130), True)  # what it leaves behind in the thread's working memory does no harm
            on = sorted(random.sample(range(70), 12))
            for column in pooler.compute(on, True):
                expected[column] = [_moved(each, place in on) for place, each in enumerate(expected[column])]
        self.assertEqual([pooler.permanences(column) for column in range(70)], expected)
        self.assertEqual(pooler.overlaps(on), [sum(column[place] >= 2000 for place in on) for column in expected])

    @pytest.mark.long
    def test_nothing_is_learnt_unasked(self) -> None:
        pooler = _pooler()
        before = [pooler.permanences(column) for column in range(2048)]
        pooler.compute(range(0, 454, 11), False)
        self.assertEqual([pooler.permanences(column) for column in range(2048)], before)
        self.assertEqual(pooler.learnt_columns, 0)


@pytest.mark.long
class InitialPoolTest(SynchronousTestCase):
    def test_each_column_sees_its_own_four_fifths_half_of_them_connected(self) -> None:
        pooler = _pooler()
        columns = [pooler.permanences(column) for column in range(2048)]
        pools = [[permanence for permanence in column if permanence >= 0] for column in columns]
        self.assertEqual({len(pool) for pool in pools}, {363})
        every = [permanence for pool in pools for permanence in pool]
        connected = [permanence for permanence in every if permanence >= 2000]
        others = [permanence for permanence in every if permanence < 2000]
        self.assertApproximates(len(connected) / len(every), 0.5, 0.005)
        self.assertApproximates(sum(connected) / len(connected) / 10000, 0.6, 0.005)
        self.assertApproximates(sum(others) / len(others) / 10000, 0.1, 0.002)
        self.assertTrue(all(permanence == 0 or 15 <= permanence < 10000 for permanence in every))

    def test_a_pool_is_never_left(self) -> None:
        pooler = _pooler()
        outside = [place for place, permanence in enumerate(pooler.permanences(7)) if permanence < 0]
        for _ in range(3):
            pooler.compute(outside, True)
        self.assertEqual([pooler.permanences(7)[place] for place in outside], [-1] * len(outside))

    def test_learning_owns_no_more_columns_than_have_won(self) -> None:
        pooler = _pooler()
        winners = set(pooler.compute(range(42), True)) | set(pooler.compute(range(100, 142), True))
        self.assertEqual(pooler.learnt_columns, len(winners))
