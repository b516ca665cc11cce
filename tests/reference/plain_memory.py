# SPDX-License-Identifier: MIT
"""A plain "plain" temporal memory (Hawkins, Ahmad 2016): the oracle of the compiled one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from tests.reference.backtracking_memory import Params
from tests.reference.segments import CELLS, Segment, Slots, SplitMix64


@dataclass(slots=True)
class _Hit:
    """A segment that matches the last row's active cells; count 0: it is gone."""

    slot: int
    segment: Segment
    count: int
    active: bool


class PlainTemporalMemory:
    """``punishment``: taken from the active synapses of segments that predicted wrongly, in hundredths."""

    def __init__(self, params: Params, punishment: int) -> None:
        self.params = params
        self.punishment = punishment
        self.random = SplitMix64(params.seed)
        self.segments = Slots(params.max_segments, self.random)
        self.rows = 0
        self.active: set[int] = set()
        self.winners: list[int] = []
        self.previous_active: set[int] = set()
        self.previous_winners: list[int] = []
        self.hits: list[_Hit] = []

    def row(self, columns: Sequence[int], learning: bool) -> float:
        """The raw score of a row."""
        self.rows += 1
        self.previous_active, self.active = self.active, set()
        self.previous_winners, self.winners = self.winners, []
        unexpected = 0
        for column in columns:
            hits = [hit for hit in self.hits if hit.segment.column == column]
            if any(hit.active for hit in hits):
                self._activate_predicted(hits, learning)
            else:
                self._burst(column, hits, learning)
                unexpected += 1
        if learning and self.punishment:
            self._punish([hit for hit in self.hits if hit.count and hit.segment.column not in set(columns)])
        self.hits = self._matching()
        if learning:
            for hit in self.hits:
                if hit.active:
                    hit.segment.used = self.rows
        return unexpected / len(columns)

    def _activate_predicted(self, hits: list[_Hit], learning: bool) -> None:
        for hit in hits:
            if hit.active:
                if hit.segment.cell not in self.winners:
                    self.winners.append(hit.segment.cell)
                self.active.add(hit.segment.cell)
                if learning and hit.count:
                    self._reinforce(hit)

    def _burst(self, column: int, hits: list[_Hit], learning: bool) -> None:
        self.active |= {CELLS * column + cell for cell in range(self.params.cells_per_column)}
        best = max(hits, key=lambda hit: hit.count, default=None)
        if best is not None and best.count:
            self.winners.append(best.segment.cell)
            if learning:
                self._reinforce(best)
            return
        self.winners.append(self._least_used(column))
        if learning and self.previous_winners:
            self._new_segment(self.winners[-1])

    def _punish(self, hits: list[_Hit]) -> None:
        for hit in hits:
            if hit.count:
                hit.segment.adapt(self.previous_active, -self.punishment, 0)
                self._drop_if_empty(hit.slot)

    def _matching(self) -> list[_Hit]:
        threshold = self.params.activation_threshold
        hits = []
        for slot, segment in self.segments.live():
            count = segment.count(self.active)
            if count >= self.params.min_threshold:
                connected = segment.connected(self.active, self.params.connected)
                hits.append(_Hit(slot, segment, count, connected >= threshold))
        return sorted(hits, key=lambda hit: (hit.segment.cell, hit.slot))

    def _least_used(self, column: int) -> int:
        used = Counter(segment.cell for _, segment in self.segments.live())
        cells = [CELLS * column + cell for cell in range(self.params.cells_per_column)]
        fewest = min(used[cell] for cell in cells)
        least = [cell for cell in cells if used[cell] == fewest]
        return least[self.random.below(len(least))]

    def _reinforce(self, hit: _Hit) -> None:
        hit.segment.adapt(self.previous_active, self.params.increment, -self.params.decrement)
        left = hit.segment.count(self.previous_active)
        self._connect(hit.segment, self.params.new_synapses - left)
        self._drop_if_empty(hit.slot)

    def _new_segment(self, cell: int) -> None:
        stalest = self.segments.stalest()
        if stalest is not None:
            self._drop(stalest)
        slot = self.segments.create(cell, self.rows)
        self._connect(self.segments[slot], self.params.new_synapses)

    def _connect(self, segment: Segment, wanted: int) -> None:
        segment.grow(
            wanted,
            self.previous_winners,
            set(self.previous_winners),
            self.params.initial,
            self.params.max_synapses,
            self.random,
        )

    def _drop_if_empty(self, slot: int) -> None:
        if not self.segments[slot].synapses:
            self._drop(slot)

    def _drop(self, slot: int) -> None:
        for hit in self.hits:
            if hit.slot == slot:
                hit.count = 0
        self.segments.destroy(slot)
