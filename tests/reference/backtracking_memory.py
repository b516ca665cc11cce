# SPDX-License-Identifier: MIT
"""A plain backtracking temporal memory, the specification word by word: the oracle of the compiled one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tests.reference.segments import CELLS, Slots, SplitMix64


@dataclass(frozen=True, slots=True)
class Params:
    """The parameters that tests vary; permanences in hundredths."""

    activation_threshold: int = 13
    min_threshold: int = 10
    new_synapses: int = 20
    max_synapses: int = 32
    max_segments: int = 16000
    pam_length: int = 3
    max_sequence: int = 32
    max_inference: int = 10
    max_learning: int = 5
    cells_per_column: int = 32
    initial: int = 21
    connected: int = 50
    increment: int = 10
    decrement: int = 10
    seed: int = 1960


class PlainBacktrackingMemory:
    """Cell numbers are 32 column + cell; cell 0 of a column is its start cell."""

    def __init__(self, params: Params) -> None:
        self.params = params
        self.random = SplitMix64(params.seed)
        self.segments = Slots(params.max_segments, self.random)
        self.rows = 0
        self.density = 0.0
        self.active: dict[int, set[int]] = {}
        self.predicted: dict[int, set[int]] = {}
        self.hinted: set[int] = set()
        self.inference_history: list[list[int]] = []
        self.learning: list[int] = []
        self.previous: list[int] = []
        #: By column: count and slot of the segment that matches the learning cells best.
        self.matches: dict[int, tuple[int, int]] = {}
        self.previous_matches: dict[int, tuple[int, int]] = {}
        self.learning_history: list[list[int]] = []
        self.pam = params.pam_length
        self.run = 0

    def row(self, columns: Sequence[int], learning: bool) -> float:
        """The raw score of a row."""
        self.rows += 1
        self.look_ahead()
        size = len(columns)
        unexpected = sum(column not in self.hinted for column in columns)
        self.density = float(size) if self.rows == 1 else 0.99 * self.density + 0.01 * size
        self._infer(list(columns))
        if learning:
            self._learn(list(columns))
        return unexpected / size

    # --- inference

    def look_ahead(self) -> None:
        """Without going back, what the last row predicts is looked up when the next one comes."""
        if self.params.max_inference == 0:
            self._predict()

    def _infer(self, columns: list[int]) -> None:
        self.inference_history = [*self.inference_history, columns][-(self.params.max_inference + 1) :]
        if self.params.max_inference == 0:
            self._activate(columns, from_start=False)
        elif not (self._activate(columns, from_start=False) and self._predict()):
            self._backtrack()

    def _activate(self, columns: list[int], *, from_start: bool) -> bool:
        hits, active = 0, {}
        for column in columns:
            if from_start:
                active[column] = {0}
            elif self.predicted.get(column):
                active[column] = set(self.predicted[column])
                hits += 1
            else:
                active[column] = set(range(self.params.cells_per_column))
        self.active = active
        return from_start or 2 * hits >= len(columns)

    def _predict(self) -> bool:
        active = {CELLS * column + cell for column, cells in self.active.items() for cell in cells}
        threshold = self.params.activation_threshold
        self.hinted, self.predicted = set(), {}
        for _, segment in self.segments.live():
            if segment.count(active) >= threshold:
                self.hinted.add(segment.column)
                if segment.connected(active, self.params.connected) >= threshold:
                    self.predicted.setdefault(segment.column, set()).add(segment.cell % CELLS)
        return len(self.predicted) >= self.density / 2

    def _backtrack(self) -> None:
        keep, rows = self.active, self.inference_history
        for start in range(len(rows)):
            if all(
                self._activate(rows[row], from_start=row == start) and self._predict()
                for row in range(start, len(rows))
            ):
                self.inference_history = rows[start + 1 :]
                return
        self.active = keep
        self._predict()
        self.inference_history = []

    # --- learning

    def _learn(self, columns: list[int]) -> None:
        self.previous, self.previous_matches = self.learning, self.matches
        self.learning_history = [*self.learning_history, columns][-(self.params.max_learning + 1) :]
        self._reinforce_followed(columns)
        self.pam = max(0, self.pam - 1)
        self.run += 1
        if self._follow(columns, write=True):
            self.pam = self.params.pam_length
        if self.pam == 0 or 0 < self.params.max_sequence <= self.run:
            self.run = self._relock()
            if self.run == 0:
                self.learning = [CELLS * column for column in columns]
                self.learning_history = []
            self.pam = self.params.pam_length
        self.matches = self._match()

    def _reinforce_followed(self, columns: list[int]) -> None:
        for column in columns:
            count, slot = self.previous_matches.get(column, (0, 0))
            if count >= self.params.activation_threshold:
                self._reinforce(slot)

    def _follow(self, columns: list[int], *, write: bool) -> bool:
        self.learning, misses = [], 0
        for column in columns:
            count, slot = self.previous_matches.get(column, (0, 0))
            if count >= self.params.activation_threshold:
                self.learning.append(self.segments[slot].cell)
                continue
            misses += 1
            if write and count >= self.params.min_threshold:
                self.learning.append(self.segments[slot].cell)
                self._reinforce(slot)
            elif write:
                self.learning.append(CELLS * column + 1 + self.random.below(self.params.cells_per_column - 1))
                self._new_segment(self.learning[-1])
        return misses < len(columns) // 2

    def _relock(self) -> int:
        rows = len(self.learning_history) - 1
        for start in range(rows):
            if self._replay(start, write=False):
                self._replay(start, write=True)
                self.learning_history = self.learning_history[start + 1 :]
                return rows - start
        return 0

    def _replay(self, start: int, *, write: bool) -> bool:
        for row in range(start, len(self.learning_history)):
            columns = self.learning_history[row]
            self.previous, self.previous_matches = self.learning, self.matches
            if write and row > start:
                self._reinforce_followed(columns)
            if row == start:
                self.learning = [CELLS * column for column in columns]
                in_sequence = True
            else:
                in_sequence = self._follow(columns, write=write)
            if not in_sequence or row == len(self.learning_history) - 1:
                return in_sequence
            self.matches = self._match()
        raise AssertionError("a replay has rows")

    def _match(self) -> dict[int, tuple[int, int]]:
        learning = set(self.learning)
        best: dict[int, tuple[int, int, int]] = {}
        for slot, segment in self.segments.live():
            count = segment.count(learning)
            if count < self.params.min_threshold:
                continue
            rank = (count, segment.cell, -slot)
            if segment.column not in best or rank > best[segment.column]:
                best[segment.column] = rank
        return {column: (count, -slot) for column, (count, _, slot) in best.items()}

    # --- segments

    def _reinforce(self, slot: int) -> None:
        segment = self.segments[slot]
        segment.adapt(set(self.previous), self.params.increment, -self.params.decrement)
        self._connect(slot, self.params.new_synapses - segment.count(self.previous))
        segment.used = self.rows

    def _new_segment(self, cell: int) -> None:
        if not self.previous:
            return
        stalest = self.segments.stalest()
        if stalest is not None:
            self._forget(stalest)
        self._connect(self.segments.create(cell, self.rows), self.params.new_synapses)

    def _connect(self, slot: int, wanted: int) -> None:
        self.segments[slot].grow(
            wanted, self.previous, set(self.previous), self.params.initial, self.params.max_synapses, self.random
        )

    def _forget(self, slot: int) -> None:
        for matches in (self.matches, self.previous_matches):
            column = self.segments[slot].column
            if column in matches and matches[column][1] == slot:
                del matches[column]
        self.segments.destroy(slot)
