# SPDX-License-Identifier: MIT
"""History from Prometheus, or what speaks its HTTP API: ``/api/v1/query_range``.

A series is named as remote write names it: its name, and its labels as tags.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, takewhile

from msgspec import Struct, field

from htmengine.csv_files import Notes
from htmengine.errors import InvalidSample, SourceFailed
from htmengine.labels import compose
from htmengine.sources.http_json import Server
from htmengine.sources.pieces import Piece, ReadPieces

#: Rows of a series in one answer; Prometheus refuses more than 11,000.
ROWS_AT_ONCE = 10_000
_NAME = "__name__"


class _Series(Struct, frozen=True):
    metric: dict[str, str]
    values: list[tuple[float, str]]


class _Data(Struct, frozen=True, rename="camel"):
    result_type: str
    result: list[_Series] = field(default_factory=list)


class _Answer(Struct, frozen=True):
    data: _Data


def query_range(server: Server, query: str, span: tuple[int, int], step: int, name: str = "") -> ReadPieces:
    """A PromQL query's series from the first to the last second; ``name`` is for those that have none of their own."""

    def read(notes: Notes) -> Iterator[Piece]:
        first, last = span
        for start in takewhile(lambda at: at <= last, count(first, ROWS_AT_ONCE * step)):
            end = min(start + (ROWS_AT_ONCE - 1) * step, last)
            given = {"query": query, "start": str(start), "end": str(end), "step": str(step)}
            for series in server.get("/api/v1/query_range", given, _Answer).data.result:
                yield Piece(_named(series.metric, name), list(_rows(series, notes)))

    return read


def _named(labels: dict[str, str], name: str) -> str:
    own = labels.get(_NAME, name)
    if not own:
        raise SourceFailed(f"the series {labels} has no name, as functions drop it: give it one by --metric")
    try:
        return compose(own, {label: value for label, value in labels.items() if label != _NAME})
    except InvalidSample as error:
        raise SourceFailed(f"the series {labels}: {error.detail}") from None


def _rows(series: _Series, notes: Notes) -> Iterator[tuple[float, float]]:
    for timestamp, value in series.values:
        if value == "NaN":
            notes.empty += 1
        else:
            yield timestamp, float(value)
