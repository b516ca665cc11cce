# SPDX-License-Identifier: MIT
"""What each source gives: pieces of series."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from htmengine.csv_files import Notes


@dataclass(frozen=True, slots=True)
class Piece:
    """Some rows of one metric."""

    name: str
    rows: Iterable[tuple[float, float]]  #: (epoch seconds, value), in any order


def by_name(points: Iterable[tuple[str, float, float]]) -> Iterator[Piece]:
    """A piece for each name of points, which are (name, epoch seconds, value).

    >>> list(by_name([("a", 60.0, 1.0), ("b", 60.0, 2.0), ("a", 120.0, 3.0)]))
    [Piece(name='a', rows=[(60.0, 1.0), (120.0, 3.0)]), Piece(name='b', rows=[(60.0, 2.0)])]
    """
    found: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for name, at, value in points:
        found[name].append((at, value))
    return (Piece(name, rows) for name, rows in found.items())


#: The pieces of one source; what has no value is counted in the notes.  Raises `InvalidCsv` and `SourceFailed`.
ReadPieces = Callable[[Notes], Iterator[Piece]]
