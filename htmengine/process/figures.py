# SPDX-License-Identifier: MIT
"""What a part of a process tells about itself, in plain numbers.

A part counts in integers, and owns an `Observations` for each stage, to which it adds once a batch, never once a row.
Its method ``figures`` makes a `Figure` of each when somebody asks; `htmengine.telemetry.prometheus` shows them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, Protocol

#: Upper bounds of the buckets.
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)


class Observations:
    """A histogram.

    >>> taken = Observations((0.1, 1.0))
    >>> for seconds in (0.05, 0.1, 0.5, 7.0):
    ...     taken.observe(seconds)
    >>> taken.cumulated(), taken.total
    ([(0.1, 2), (1.0, 3), (inf, 4)], 7.65)
    """

    __slots__ = ("_bounds", "_counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.total = 0.0  #: of all that was observed

    def observe(self, value: float) -> None:
        """Note one."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self.total += value

    @contextmanager
    def timed(self, now: Callable[[], float]) -> Iterator[None]:
        """Note how long the block takes, if it comes to its end."""
        began = now()
        yield
        self.observe(now() - began)

    def cumulated(self) -> list[tuple[float, int]]:
        """(upper bound, how many were at most that); the last bound is infinite."""
        counts, so_far = [], 0
        for bound, count in zip((*self._bounds, float("inf")), self._counts, strict=True):
            so_far += count
            counts.append((float(bound), so_far))
        return counts


@dataclass(frozen=True, slots=True)
class Figure:
    """One metric as it is now; `counter`, `gauge` and `histogram` make one."""

    kind: Literal["counter", "gauge", "histogram"]
    name: str  #: as in docs/self-metrics.md
    help: str
    value: float | Mapping[str, float] | Observations  #: a mapping: one value for each value of the label
    label: str = ""  #: the name of the label, if there is one


def counter(name: str, help: str, value: float | Mapping[str, float], *, by: str = "") -> Figure:
    """What only grows while the process lives; with the label ``by`` one value for each key."""
    return Figure("counter", name, help, value, by)


def gauge(name: str, help: str, value: float | Mapping[str, float], *, by: str = "") -> Figure:
    """What goes up and down; with the label ``by`` one value for each key."""
    return Figure("gauge", name, help, value, by)


def histogram(name: str, help: str, observed: Observations) -> Figure:
    """How what was observed is spread."""
    return Figure("histogram", name, help, observed)


class TellsFigures(Protocol):
    """A part of a process that tells how it is doing."""

    def figures(self) -> Iterable[Figure]:
        """As they are now."""
