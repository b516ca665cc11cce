# SPDX-License-Identifier: MIT
"""Exports of InfluxDB as CSV: what InfluxQL answers, and Flux's annotated tables.

A series is named as the line protocol names it: ``measurement.field``, and its tags.
"""

from __future__ import annotations

import contextlib
import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from htmengine.csv_files import BROKEN, EMPTY, STDIN, Notes, check_width, number, open_text, parse_timestamp, seconds
from htmengine.errors import InvalidCsv, InvalidSample
from htmengine.labels import compose
from htmengine.sources.pieces import Piece, by_name

ROWS_AT_ONCE = 10_000
_INFLUXQL = ["name", "tags", "time"]
_FLUX = frozenset({"_time", "_value", "_field", "_measurement"})
_ANNOTATIONS = frozenset({"#group", "#datatype", "#default"})
_FLUX_OWN = _FLUX | {"", "result", "table", "_start", "_stop"}

#: Name, time, value.
_Point = tuple[str, float, float]


def is_export(path: Path) -> bool:
    """Whether a file's first lines are those of an export; standard input is not looked at."""
    if path == STDIN:
        return False
    with contextlib.suppress(*BROKEN), open_text(path) as file:
        for row in csv.reader(islice(file, 10)):
            if row and (row[0] in _ANNOTATIONS or not row[0].startswith("#")):
                return row[0] in _ANNOTATIONS or row[:3] == _INFLUXQL or _FLUX.issubset(row)
    return False


def read(path: Path, notes: Notes) -> Iterator[Piece]:
    """The series of an export; ``notes`` tell of points that are left out.  Raises `InvalidCsv` with the line."""
    with open_text(path) as file:
        reader = csv.reader(file)
        points = _points(((reader.line_num, row) for row in reader), path, notes)
        try:
            while some := list(islice(points, ROWS_AT_ONCE)):
                yield from by_name(some)
        except BROKEN as error:
            raise InvalidCsv(f"{path}, line {reader.line_num}: {error}") from None


@dataclass(frozen=True, slots=True)
class _Table:
    """A header: where each part of a point stands."""

    header: Sequence[str]

    def cells(self, row: Sequence[str]) -> Iterator[tuple[str, str, str]]:
        """Name, time and value as they are written: one of Flux, one for each field of InfluxQL.  Raises ValueError.

        >>> list(_Table(["name", "tags", "time", "idle"]).cells(["cpu", "host=a", "60", "1.5"]))
        [('cpu.idle;host=a', '60', '1.5')]
        >>> flux = _Table(["table", "_time", "_value", "_field", "_measurement", "host"])
        >>> list(flux.cells(["0", "60", "2", "idle", "cpu", "b"]))
        [('cpu.idle;host=b', '60', '2')]
        """
        if self.header[:3] == _INFLUXQL:
            tags = dict(tag.partition("=")[::2] for tag in row[1].split(",") if tag)
            for field, value in zip(self.header[3:], row[3:], strict=False):
                yield compose(f"{row[0]}.{field}", tags), row[2], value
            return
        if not _FLUX.issubset(self.header):
            there = ", ".join(filter(None, self.header))
            raise ValueError(f"a table of Flux needs {', '.join(sorted(_FLUX))} (no pivot()); there are {there}")
        cells = {column: row[at] for at, column in enumerate(self.header)}
        tags = {column: cell for column, cell in cells.items() if column not in _FLUX_OWN}
        yield compose(f"{cells['_measurement']}.{cells['_field']}", tags), cells["_time"], cells["_value"]


def _points(rows: Iterator[tuple[int, list[str]]], path: Path, notes: Notes) -> Iterator[_Point]:
    """What can be read.  A blank line, or annotations, come before each table's header."""
    table: _Table | None = None
    for line, row in rows:
        if not row or row[0].startswith("#"):
            table = None
        elif table is None:
            table = _Table(row)
        else:
            yield from _readable(table, row, f"{path}, line {line}", notes)


def _readable(table: _Table, row: Sequence[str], place: str, notes: Notes) -> Iterator[_Point]:
    """A row's points: text in one field leaves the others as they are."""
    try:
        check_width(row, len(table.header))
        cells = list(table.cells(row))
    except (InvalidSample, ValueError) as error:
        notes.leave_out(f"{place}: {error}")
        return
    for name, at, value in cells:
        if value.strip().lower() in EMPTY:
            notes.empty += 1
            continue
        try:
            point = name, seconds(parse_timestamp(at), notes), number(value)
        except ValueError as error:
            notes.leave_out(f"{place}: {error}")
            continue
        yield point
