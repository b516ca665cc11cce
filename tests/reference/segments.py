# SPDX-License-Identifier: MIT
"""Segments and chance as the plain temporal memories use them.  Whole permanences in hundredths."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

CELLS = 32  # of a column, as cells are numbered


class SplitMix64:
    """The generator of Steele, Lea and Flood (2014)."""

    def __init__(self, seed: int) -> None:
        self._state = seed

    def next(self) -> int:
        """64 random bits."""
        self._state = (self._state + 0x9E3779B97F4A7C15) % 2**64
        z = self._state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) % 2**64
        return z ^ (z >> 31)

    def below(self, bound: int) -> int:
        """Uniform in 0 .. bound - 1."""
        return ((self.next() >> 32) * bound) >> 32

    def choose(self, items: list[int], wanted: int) -> list[int]:
        """``wanted`` of the items, without replacement."""
        items = list(items)
        for place in range(wanted):
            other = place + self.below(len(items) - place)
            items[place], items[other] = items[other], items[place]
        return items[:wanted]


@dataclass(slots=True)
class Segment:
    """One segment: its cell, its synapses (permanence by source cell), and the row of its last use."""

    cell: int
    used: int
    synapses: dict[int, int] = field(default_factory=dict)

    @property
    def column(self) -> int:
        """The column of its cell."""
        return self.cell // CELLS

    def count(self, active: Collection[int]) -> int:
        """Synapses from active cells, connected or not."""
        return sum(source in active for source in self.synapses)

    def connected(self, active: Collection[int], permanence: int) -> int:
        """Connected synapses from active cells."""
        return sum(held >= permanence and source in active for source, held in self.synapses.items())

    def adapt(self, active: Collection[int], up: int, down: int) -> None:
        """Synapses from active cells change by ``up``, the others by ``down``."""
        changed = {
            source: min(100, held + (up if source in active else down)) for source, held in self.synapses.items()
        }
        self.synapses = {source: held for source, held in changed.items() if held > 0}

    def grow(
        self, wanted: int, cells: Iterable[int], active: Collection[int], initial: int, most: int, random: SplitMix64
    ) -> None:
        """Add synapses from up to ``wanted`` random cells; the weakest give way where there is no room."""
        if wanted <= 0:
            return
        new = [cell for cell in cells if cell not in self.synapses]
        chosen = random.choose(new, min(wanted, len(new), most))
        surplus = len(self.synapses) + len(chosen) - most
        by_worth = sorted(self.synapses, key=lambda source: (source in active, self.synapses[source], source))
        for source in by_worth[: max(0, surplus)]:
            del self.synapses[source]
        self.synapses.update(dict.fromkeys(chosen, initial))


class Slots:
    """Segments by slot; of a destroyed one the slot is used again, the last one first."""

    def __init__(self, most: int, random: SplitMix64) -> None:
        self.slots: list[Segment | None] = []
        self._most = most
        self._free: list[int] = []
        self._random = random

    def live(self) -> list[tuple[int, Segment]]:
        """Slot and segment of all, in slot order."""
        return [(slot, segment) for slot, segment in enumerate(self.slots) if segment is not None]

    def stalest(self) -> int | None:
        """The slot that gives way to a new segment, where there are as many as there may be."""
        if len(self.slots) - len(self._free) < self._most:
            return None
        looked_at = [self._random.below(len(self.slots)) for _ in range(16)]
        return min(looked_at, key=lambda slot: self._segment(slot).used)

    def create(self, cell: int, row: int) -> int:
        """The slot of a new segment."""
        if self._free:
            slot = self._free.pop()
            self.slots[slot] = Segment(cell, row)
        else:
            slot = len(self.slots)
            self.slots.append(Segment(cell, row))
        return slot

    def destroy(self, slot: int) -> None:
        """Remove a segment."""
        self.slots[slot] = None
        self._free.append(slot)

    def __getitem__(self, slot: int) -> Segment:
        return self._segment(slot)

    def _segment(self, slot: int) -> Segment:
        segment = self.slots[slot]
        assert segment is not None
        return segment
