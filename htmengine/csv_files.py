# SPDX-License-Identifier: MIT
"""CSV files of one metric: header ``timestamp,value``, ISO 8601 or epoch timestamps in UTC.

Used by the command line (score, replay, demo) and the benchmarks.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from htmengine.errors import InvalidCsv


def read_rows(path: Path) -> Iterator[tuple[float, float]]:
    """(timestamp in epoch seconds, value) for each row, in the file's order.

    Raises `InvalidCsv` at the first row that cannot be read, with its line number, and OSError.
    """
    with path.open(newline="", encoding="utf-8-sig", errors="backslashreplace") as file:
        reader = csv.reader(file)
        header = next(reader, None)
        columns = [column.strip().lower() for column in header or []]
        if "timestamp" not in columns or "value" not in columns:
            raise InvalidCsv(f"{path}, line 1: the header must have the columns timestamp and value")
        timestamp_at, value_at = columns.index("timestamp"), columns.index("value")
        try:
            for row in reader:
                if row:
                    yield parse_timestamp(row[timestamp_at]), float(row[value_at])
        except (IndexError, ValueError, csv.Error) as error:
            raise InvalidCsv(f"{path}, line {reader.line_num}: {error}") from None


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
