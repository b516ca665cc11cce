# SPDX-License-Identifier: MIT
"""CSV files of one metric, as others have exported them.

A header names the columns; commas, semicolons or tabs separate them.  Timestamps are ISO 8601 or epoch numbers in UTC.
Files may be compressed by gzip, and have NuPIC's three lines of header.  Used by the command line (score, load,
replay, demo) and the benchmarks.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import sys
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import IO

from htmengine.errors import InvalidCsv

#: The path that means standard input.
STDIN = Path("-")
#: Cells without a value.
EMPTY = frozenset({"", "na", "n/a", "none", "null", "-"})
#: Epoch numbers from here on are milliseconds, microseconds, nanoseconds: as seconds they lie beyond the year 5000.
UNITS = ((1e17, 1e9, "nanoseconds"), (1e14, 1e6, "microseconds"), (1e11, 1e3, "milliseconds"))
#: What the second line of NuPIC's header is made of.
NUPIC_TYPES = frozenset({"datetime", "float", "int", "string", "bool", "category", "list", "sdr"})
SUFFIXES = (".csv", ".csv.gz", ".tsv", ".tsv.gz")


@dataclass(frozen=True, slots=True)
class Columns:
    """The names of a file's columns, in any case."""

    timestamp: str = "timestamp"
    value: str = "value"


@dataclass(slots=True)
class Notes:
    """What was found in files beside their rows."""

    empty: int = 0  #: rows without a value
    units: Counter[str] = field(default_factory=Counter)  #: timestamps that were no seconds, by their unit


def read_rows(path: Path, columns: Columns | None = None, notes: Notes | None = None) -> Iterator[tuple[float, float]]:
    """(timestamp in epoch seconds, value) for each row that has a value, in the file's order.

    Raises `InvalidCsv` at the first row that cannot be read, with its line number, and OSError.
    """
    columns, notes = columns or Columns(), notes or Notes()
    with open_text(path) as file:
        first = _first_line(path, file)
        reader = csv.reader(chain([first], file), delimiter=_delimiter(first))
        try:
            timestamp_at, value_at = _places(next(reader, []), columns)
            for row in _without_nupic_header(reader):
                if not row:
                    continue
                if row[value_at].strip().lower() in EMPTY:
                    notes.empty += 1
                else:
                    yield seconds(parse_timestamp(row[timestamp_at]), notes), float(row[value_at])
        except IndexError:
            raise InvalidCsv(f"{path}, line {reader.line_num}: fewer columns than the header") from None
        except (ValueError, csv.Error, EOFError, zlib.error) as error:
            raise InvalidCsv(f"{path}, line {max(reader.line_num, 1)}: {error}") from None


def series_files(paths: Iterable[Path]) -> Iterator[tuple[str, Path]]:
    """(name of the metric, file) for files, and for all CSV files in folders, by their places in them.

    Raises `InvalidCsv` for a folder without any.
    """
    for path in paths:
        if not path.is_dir():
            yield _stem(path), path
            continue
        inside = sorted(each for each in path.rglob("*") if each.name.lower().endswith(SUFFIXES))
        if not inside:
            raise InvalidCsv(f"{path}: no files in this folder end in {', '.join(SUFFIXES)}")
        for found in inside:
            yield ".".join((*found.relative_to(path).parent.parts, _stem(found))), found


def _stem(path: Path) -> str:
    """
    >>> _stem(Path("data/web1.cpu.csv.gz"))
    'web1.cpu'
    """
    suffix = next((each for each in reversed(SUFFIXES) if path.name.lower().endswith(each)), path.suffix)
    return path.name[: len(path.name) - len(suffix)]


@contextlib.contextmanager
def open_text(path: Path) -> Iterator[IO[str]]:
    """A file's text, decompressed."""
    with contextlib.nullcontext(sys.stdin.buffer) if path == STDIN else path.open("rb") as file:
        packed = file.peek(2)[:2] == b"\x1f\x8b" if isinstance(file, io.BufferedReader) else False
        raw = gzip.GzipFile(fileobj=file) if packed else file
        yield io.TextIOWrapper(raw, newline="", encoding="utf-8-sig", errors="backslashreplace")


def _first_line(path: Path, file: IO[str]) -> str:
    try:
        return file.readline()
    except (EOFError, zlib.error) as error:
        raise InvalidCsv(f"{path}, line 1: {error}") from None


def _delimiter(header: str) -> str:
    return max(",;\t", key=header.count)


def _places(header: Sequence[str], columns: Columns) -> tuple[int, int]:
    names = [name.strip().lower() for name in header]
    for wanted in (columns.timestamp, columns.value):
        if wanted.lower() not in names:
            there = f"; there are {', '.join(names)}" if any(names) else ""
            raise ValueError(f"the header must have the columns {columns.timestamp} and {columns.value}{there}")
    return names.index(columns.timestamp.lower()), names.index(columns.value.lower())


def _without_nupic_header(rows: Iterator[list[str]]) -> Iterator[list[str]]:
    """Without the types of the columns, and the flags of NuPIC's that follow them."""
    first = next(rows, None)
    if first is None:
        return
    if first and {cell.strip().lower() for cell in first} <= NUPIC_TYPES:
        next(rows, None)
    else:
        yield first
    yield from rows


def seconds(timestamp: float, notes: Notes) -> float:
    """A number that may be another unit's, which is noted."""
    for least, divisor, unit in UNITS:
        if timestamp >= least:
            notes.units[unit] += 1
            return timestamp / divisor
    return timestamp


def parse_timestamp(text: str) -> float:
    """Epoch seconds of an ISO 8601 text (UTC if it names no zone) or of a number.

    >>> parse_timestamp("2014-04-01 00:00:00"), parse_timestamp("1396310400")
    (1396310400.0, 1396310400.0)
    >>> parse_timestamp("2014-04-01T02:00:00+02:00")
    1396310400.0
    """
    try:
        return float(text)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError(f"timestamp {text!r}; ISO 8601 or epoch seconds are allowed") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def inert(text: str) -> str:
    """A text that others chose, such as a name, as a CSV file may hold it: no spreadsheet takes it for a formula.

    >>> inert("@SUM(1+1)"), inert("web.requests")
    ("'@SUM(1+1)", 'web.requests')
    """
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def format_timestamp(timestamp: int) -> str:
    """ISO 8601 in UTC.

    >>> format_timestamp(1396310400)
    '2014-04-01 00:00:00'
    """
    return datetime.fromtimestamp(timestamp, UTC).strftime("%Y-%m-%d %H:%M:%S")
