# SPDX-License-Identifier: MIT
"""Scored rows as CSV, JSON Lines or Parquet (the extra ``parquet``).

In: rows as they come.  Out: a file, whole or not at all, or standard output.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeAlias

from msgspec import UnsetType

from htmengine.cli.common import new_file
from htmengine.csv_files import format_timestamp, inert
from htmengine.errors import HtmEngineError
from htmengine.messages import Why
from htmengine.process.extras import optional

CSV, JSON, PARQUET = "csv", "json", "parquet"
FORMATS = (CSV, JSON, PARQUET)
#: By the end of the file's name.
_SUFFIXES = {".parquet": PARQUET, ".json": JSON, ".jsonl": JSON, ".ndjson": JSON}
#: Rows of Parquet that are written at once.
ROWS_AT_ONCE = 50_000


class ScoredRow(NamedTuple):
    """A row of the output; ``why`` is for the summary."""

    metric: str
    timestamp: int
    value: float
    raw: float
    score: float
    why: Why | UnsetType


COLUMNS = ("metric", "timestamp", "value", "raw_anomaly_score", "anomaly_score")
Write: TypeAlias = Callable[[ScoredRow], object]


def format_of(form: str | None, output: Path | None) -> str:
    """The format that is asked for, or that the file's name says."""
    return form or _SUFFIXES.get((output or Path("-")).suffix.lower(), CSV)


@contextmanager
def writing(output: Path | None, form: str, *, several: bool) -> Iterator[Write]:
    """What writes rows; the metric's name only if there are several.  Raises `MissingExtra` before anything is made."""
    if form == PARQUET and output is None:
        raise HtmEngineError("Parquet needs -o FILE")
    columns = COLUMNS[0 if several else 1 :]
    make = {CSV: _csv, JSON: _json, PARQUET: _parquet}[form]
    arrow = optional("pyarrow", "parquet") if form == PARQUET else None
    with new_file(output, "wb" if form == PARQUET else "w") as out, make(out, columns, arrow) as write:
        yield write


@contextmanager
def _csv(out: IO[Any], columns: tuple[str, ...], _arrow: object) -> Iterator[Write]:
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    yield lambda row: writer.writerow(
        [inert(row.metric), format_timestamp(row.timestamp), *map(repr, row[2:5])][-len(columns) :]
    )


@contextmanager
def _json(out: IO[Any], columns: tuple[str, ...], _arrow: object) -> Iterator[Write]:
    def write(row: ScoredRow) -> None:
        cells = (row.metric, format_timestamp(row.timestamp), *row[2:5])[-len(columns) :]
        out.write(json.dumps(dict(zip(columns, cells, strict=True))) + "\n")

    yield write


@contextmanager
def _parquet(out: IO[Any], columns: tuple[str, ...], arrow: Any) -> Iterator[Write]:
    types = (arrow.string(), arrow.timestamp("s", "UTC"), *(arrow.float64(),) * 3)
    schema = arrow.schema([*zip(COLUMNS, types, strict=True)][-len(columns) :])
    rows: list[tuple[Any, ...]] = []
    with optional("pyarrow.parquet", "parquet").ParquetWriter(out, schema) as writer:

        def flush() -> None:
            cells = zip(*rows, strict=True)
            writer.write_table(arrow.table([*map(list, cells)], schema=schema)) if rows else None
            rows.clear()

        def write(row: ScoredRow) -> None:
            rows.append(row[:5][-len(columns) :])
            if len(rows) >= ROWS_AT_ONCE:
                flush()

        yield write
        flush()
