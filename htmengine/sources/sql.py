# SPDX-License-Identifier: MIT
"""History from a SQL database: a query's columns are a metric's name, a time and a value, in this order."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, time
from decimal import Decimal
from numbers import Real
from typing import Any

from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from htmengine.csv_files import Notes, number, parse_timestamp, seconds
from htmengine.errors import ConfigError, SourceFailed
from htmengine.repository.connections import database_url, require_driver
from htmengine.sources.pieces import Piece, ReadPieces, by_name

ROWS_AT_ONCE = 10_000


def query(url: str, statement: str, name: str = "") -> ReadPieces:
    """A statement's rows; with ``name`` they are all of that metric, and have a time and a value."""
    columns = ["time", "value"] if name else ["name", "time", "value"]
    engine = _engine(url)

    def read(notes: Notes) -> Iterator[Piece]:
        try:
            with engine.connect().execution_options(yield_per=ROWS_AT_ONCE) as connection:
                result = connection.execute(text(statement))
                if len(result.keys()) != len(columns):
                    raise SourceFailed(f"{len(result.keys())} columns; select {len(columns)}: {', '.join(columns)}")
                for rows in result.partitions():
                    yield from by_name(_points([(name, *row) if name else tuple(row) for row in rows], notes))
        except SQLAlchemyError as error:
            raise SourceFailed(f"{engine.url}: {getattr(error, 'orig', None) or error}") from None
        finally:
            engine.dispose()

    return read


def _engine(url: str) -> Engine:
    try:
        parsed = database_url(url, "--sql")
        require_driver(parsed, "--sql")
        return create_engine(parsed)
    except ConfigError as error:
        raise SourceFailed(str(error)) from None
    except ImportError as error:
        raise SourceFailed(f"{parsed.get_backend_name()} needs a driver: {error}") from None
    except ArgumentError as error:
        raise SourceFailed(f"{error}; write DIALECT://USER:PASSWORD@HOST/DATABASE") from None


def _points(rows: list[tuple[Any, ...]], notes: Notes) -> Iterator[tuple[str, float, float]]:
    for name, at, value in rows:
        if value is None:
            notes.empty += 1
            continue
        if name is None:
            notes.leave_out("a row whose name is NULL")
            continue
        try:
            point = (
                str(name),
                _time(at, notes),
                float(value) if isinstance(value, Real | Decimal) else number(str(value)),
            )
        except ValueError as error:
            notes.leave_out(f"a row of {name}: {error}")
        else:
            yield point


def _time(at: Any, notes: Notes) -> float:
    if isinstance(at, date) and not isinstance(at, datetime):
        at = datetime.combine(at, time.min)
    if isinstance(at, datetime):
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
    return seconds(parse_timestamp(str(at)), notes)
