# SPDX-License-Identifier: MIT
"""What each source gives: pieces of series."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from htmengine.csv_files import Notes


@dataclass(frozen=True, slots=True)
class Piece:
    """Some rows of one metric."""

    name: str
    rows: Iterable[tuple[float, float]]  #: (epoch seconds, value), in any order


#: The pieces of one source; what has no value is counted in the notes.  Raises `InvalidCsv` and `SourceFailed`.
ReadPieces = Callable[[Notes], Iterator[Piece]]
