# SPDX-License-Identifier: MIT
"""History from Graphite: ``/render`` with ``format=json``.

A series has the name that Graphite answers with.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from htmengine.csv_files import Notes
from htmengine.errors import InvalidSample, SourceFailed
from htmengine.labels import normalize
from htmengine.sources.http_json import Server
from htmengine.sources.pieces import Piece, ReadPieces

#: Points of a series that are not made fewer: what an engine answers with at most.
MOST_POINTS = 1_000_000


class _Series(Struct, frozen=True):
    target: str
    datapoints: list[tuple[float | None, int]]


def render(server: Server, target: str, span: tuple[int, int]) -> ReadPieces:
    """A target's series from the first to the last second."""

    def read(notes: Notes) -> Iterator[Piece]:
        # Graphite leaves out the point at "from".
        given = {"target": target, "from": str(span[0] - 1), "until": str(span[1]), "format": "json"}
        given["maxDataPoints"] = str(MOST_POINTS)  # without it an engine answers with means of some rows
        for series in server.get("/render", given, list[_Series]):
            yield Piece(_named(series.target), list(_rows(series, notes)))

    return read


def _named(target: str) -> str:
    try:
        return normalize(target)
    except InvalidSample as error:
        raise SourceFailed(f"{error.detail}: name the series by alias()") from None


def _rows(series: _Series, notes: Notes) -> Iterator[tuple[float, float]]:
    for value, timestamp in series.datapoints:
        if value is None:
            notes.empty += 1
        else:
            yield timestamp, value
