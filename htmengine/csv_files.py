# SPDX-License-Identifier: MIT
"""CSV files of one metric, as others have exported them.

A header names the columns; commas, semicolons or tabs separate them; with semicolons numbers may have a decimal comma.
The text is UTF-8, or UTF-16 with its mark.  Timestamps are ISO 8601 or epoch numbers in UTC.
Files may be compressed by gzip, and have NuPIC's three lines of header.  Used by the command line (score, load,
replay, demo) and the benchmarks.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import gzip
import io
import math
import sys
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
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
#: What a file raises that is no CSV, or ends early.
BROKEN = (csv.Error, EOFError, zlib.error)
#: What UTF-16 begins with, as spreadsheets write it.
UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
SUFFIXES = (".csv", ".csv.gz", ".tsv", ".tsv.gz")


@dataclass(frozen=True, slots=True)
class Columns:
    """The names of a file's columns, in any case, and the zone of times that name none."""

    timestamp: str = "timestamp"
    value: str = "value"
    zone: tzinfo = UTC


@dataclass(slots=True)
class Notes:
    """What was found in files beside their rows."""

    empty: int = 0  #: rows without a value
    units: Counter[str] = field(default_factory=Counter)  #: timestamps that were no seconds, by their unit
    unreadable: int = 0  #: rows that were left out, since they cannot be read
    problem: str = ""  #: where the first of them stands, and why

    def leave_out(self, problem: str, rows: int = 1) -> None:
        """Count rows that cannot be read."""
        self.unreadable += rows
        self.problem = self.problem or problem

    def add(self, other: Notes) -> None:
        """Add those of another file."""
        self.empty += other.empty
        self.units += other.units
        if other.unreadable:
            self.leave_out(other.problem, other.unreadable)

    def check(self, rows: int) -> None:
        """Raises `InvalidCsv` with the first problem if no row could be read."""
        if self.unreadable and not rows:
            raise InvalidCsv(self.problem)


@dataclass(slots=True)
class _Clock:
    """Reads the times of one file, row after row.

    >>> from zoneinfo import ZoneInfo
    >>> clock = _Clock(ZoneInfo("Europe/Berlin"))
    >>> [clock.read(f"2026-10-25 {time}") - 1792886400 for time in ("02:00", "02:59", "02:00", "02:59", "03:00")]
    [0.0, 3540.0, 3600.0, 7140.0, 7200.0]
    """

    zone: tzinfo
    last: float = -math.inf

    def read(self, text: str) -> float:
        """Epoch seconds.  A time that there is twice is the later one if times would go back else."""
        found = parse_timestamp(text, self.zone)
        if found < self.last and self.zone is not UTC:
            found = parse_timestamp(text, self.zone, fold=1)
        self.last = found
        return found


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where a row has its time and its value, and how it writes numbers."""

    columns: int
    timestamp_at: int
    value_at: int
    decimal_comma: bool
    clock: _Clock

    def read(self, row: Sequence[str], notes: Notes) -> tuple[float, float] | None:
        """A row's time and value; None if it has no value.  Raises ValueError."""
        check_width(row, self.columns)
        text = row[self.value_at]
        if text.strip().lower() in EMPTY:
            notes.empty += 1
            return None
        value = number(text, decimal_comma=self.decimal_comma)
        return seconds(self.clock.read(row[self.timestamp_at]), notes), value


def read_rows(path: Path, columns: Columns | None = None, notes: Notes | None = None) -> Iterator[tuple[float, float]]:
    """(timestamp in epoch seconds, value) for each row that has a value, in the file's order.

    Rows that cannot be read are left out, and ``notes`` tell of them; without ``notes`` the first raises `InvalidCsv`
    with its line number.  So does a file that ends early or has no such columns.  Raises OSError, too.
    """
    columns, strict, notes = columns or Columns(), notes is None, notes or Notes()
    with open_text(path) as file:
        first = _first_line(path, file)
        reader = csv.reader(chain([first], file), delimiter=_delimiter(first))
        try:
            layout = _layout(next(reader, []), columns, decimal_comma=reader.dialect.delimiter == ";")
            for row in filter(None, _without_nupic_header(reader)):
                try:
                    found = layout.read(row, notes)
                except ValueError as error:
                    if strict:
                        raise
                    notes.leave_out(f"{path}, line {reader.line_num}: {error}")
                    continue
                if found is not None:
                    yield found
        except (ValueError, *BROKEN) as error:
            raise InvalidCsv(f"{path}, line {max(reader.line_num, 1)}: {error}") from None


def check_width(row: Sequence[str], columns: int) -> None:
    """Raises ValueError for a row with other columns than its header; more of them may be empty.

    A number with a decimal comma is two columns, if commas separate them.
    """
    if len(row) < columns:
        raise ValueError("fewer columns than the header")
    if any(row[columns:]):
        raise ValueError("more columns than the header")


def number(text: str, *, decimal_comma: bool = False) -> float:
    """A value.  Raises ValueError with the text.

    >>> number(" 1.5 "), number("1,5", decimal_comma=True)
    (1.5, 1.5)
    """
    try:
        return float(text.replace(",", ".") if decimal_comma else text)
    except ValueError:
        raise ValueError(f"value {text!r}; a number such as 1.5 is allowed") from None


def series_files(paths: Iterable[Path]) -> Iterator[tuple[str, Path]]:
    """(name of the metric, file) for files, and for all CSV files in folders, by their places in them.

    Raises `InvalidCsv` for a folder without any.
    """
    for path in paths:
        if not path.is_dir():
            yield _stem(path), path
            continue
        inside = sorted(each for each in path.rglob("*") if each.name.lower().endswith(SUFFIXES) and _is_data(each))
        if not inside:
            raise InvalidCsv(f"{path}: no files in this folder end in {', '.join(SUFFIXES)}")
        for found in inside:
            yield ".".join((*found.relative_to(path).parent.parts, _stem(found))), found


def _is_data(path: Path) -> bool:
    """Not a folder or a pipe, which nobody may write; a link that leads nowhere is told when it is read."""
    return path.is_file() or not path.exists()


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
        raw = gzip.GzipFile(fileobj=file) if _begins(file) == b"\x1f\x8b" else file
        encoding = "utf-16" if _begins(raw) in UTF_16 else "utf-8-sig"
        yield io.TextIOWrapper(raw, newline="", encoding=encoding, errors="backslashreplace")


def _begins(file: IO[bytes] | gzip.GzipFile) -> bytes:
    """Two bytes, which stay unread; none if the file is torn, which whoever reads it will tell."""
    with contextlib.suppress(*BROKEN, OSError):
        return file.peek(2)[:2] if isinstance(file, io.BufferedReader | gzip.GzipFile) else b""
    return b""


def _first_line(path: Path, file: IO[str]) -> str:
    try:
        return file.readline()
    except BROKEN as error:
        raise InvalidCsv(f"{path}, line 1: {error}") from None


def _delimiter(header: str) -> str:
    return max(",;\t", key=header.count)


def _layout(header: Sequence[str], columns: Columns, *, decimal_comma: bool) -> _Layout:
    names = [name.strip().lower() for name in header]
    for wanted in (columns.timestamp, columns.value):
        if wanted.lower() not in names:
            there = f"; there are {', '.join(names)}" if any(names) else ""
            raise ValueError(f"the header must have the columns {columns.timestamp} and {columns.value}{there}")
    timestamp_at, value_at = names.index(columns.timestamp.lower()), names.index(columns.value.lower())
    return _Layout(len(names), timestamp_at, value_at, decimal_comma, _Clock(columns.zone))


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


def parse_timestamp(text: str, zone: tzinfo = UTC, *, fold: int = 0) -> float:
    """Epoch seconds of an ISO 8601 text (of ``zone`` if it names none) or of a number.  ``fold``: as in `datetime`.

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
    return (moment if moment.tzinfo else moment.replace(tzinfo=zone, fold=fold)).timestamp()


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
