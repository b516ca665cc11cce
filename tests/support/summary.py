# SPDX-License-Identifier: MIT
"""What many seeds of a random test led to: `tests.support.crashes` and `tests.support.chaos` print it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol


class Seeded(Protocol):
    """The outcome of one seed: how often what happened, and what was wrong."""

    @property
    def seed(self) -> int: ...
    @property
    def happened(self) -> Mapping[str, int]: ...
    @property
    def problems(self) -> Sequence[str]: ...


@dataclass(slots=True)
class Summary:
    """Of all seeds.  ``size``: how much was done, in words."""

    size: Callable[[Summary], str]
    seeds: int = 0
    happened: Counter[str] = field(default_factory=Counter)
    failed: list[int] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    def add(self, outcome: Seeded) -> None:
        self.seeds += 1
        self.happened.update(outcome.happened)
        self.failed += [outcome.seed] if outcome.problems else []

    def lines(self) -> Iterator[str]:
        for what, count in sorted(self.happened.items()):
            yield f"{what:<24} {count:>6}"
        seconds = time.monotonic() - self.began
        failed = f"{len(self.failed)} failed" + (f" {self.failed}" if self.failed else "")
        yield f"{self.seeds} seeds, {self.size(self)}, {failed}, {seconds:.0f} s"
