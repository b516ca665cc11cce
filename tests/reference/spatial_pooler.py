# SPDX-License-Identifier: MIT
"""A plain spatial pooler: the oracle of the compiled one.  Whole permanences in ten-thousandths."""

from __future__ import annotations

from collections.abc import Sequence

_ONE, _TRIM, _OUTSIDE = 10000, 15, -1


class PlainSpatialPooler:
    """Learns from ``permanences``: by column, then input; -1 for an input outside the column's pool."""

    def __init__(
        self, permanences: list[list[int]], *, winners: int, connected: int, up: int, down: int, learn_every: int
    ) -> None:
        self.permanences = permanences
        self._winners = winners
        self._connected = connected
        self._up, self._down = up * learn_every, down * learn_every
        self._learn_every = learn_every
        self._rows = 0

    def compute(self, on: Sequence[int]) -> list[int]:
        """The winning columns, ascending; every few rows they learn."""
        overlaps = [sum(column[place] >= self._connected for place in on) for column in self.permanences]
        by_rank = sorted(range(len(overlaps)), key=lambda column: (overlaps[column], column), reverse=True)
        winners = sorted(by_rank[: self._winners])
        self._rows += 1
        if self._rows % self._learn_every == 0:
            for column in winners:
                self.permanences[column] = self._learnt(self.permanences[column], set(on))
        return winners

    def _learnt(self, column: list[int], on: set[int]) -> list[int]:
        return [
            old if old == _OUTSIDE else _limited(old + (self._up if place in on else -self._down))
            for place, old in enumerate(column)
        ]


def _limited(permanence: int) -> int:
    return 0 if permanence < _TRIM else min(permanence, _ONE)
