# SPDX-License-Identifier: MIT
"""Many rows of a table inserted or changed at once, each with values of its own.

Called by `queries` and `counts` within a transaction, with rows as tuples.  SQLite takes a statement a row in
microseconds.  A server gets a statement for many rows, for a statement a row is a round trip a row: MySQL one with the
values in it, PostgreSQL one with an array for each column.  Drivers escape value by value, which costs more than the
statement; here a column is written at once, and text by the driver, each text once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from functools import cache
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, DateTime, Double, String, Table
from sqlalchemy.types import TypeEngine

#: Rows in one statement for MySQL; far from any server's limit on the size of a statement.
ROWS_IN_STATEMENT = 500

#: The values of some columns of a row.
Values = tuple[Any, ...]


def bulk_insert(conn: Connection, table: Table, columns: Sequence[str], rows: Sequence[Values]) -> None:
    """Insert rows with values of these columns."""
    if rows:
        _INSERT[conn.dialect.name](conn, table, columns, rows)


def bulk_update(
    conn: Connection, table: Table, keys: Sequence[str], changed: Sequence[str], rows: Sequence[Values]
) -> int:
    """Set columns of existing rows; ``rows`` have the values of the ``keys``, then those of the columns ``changed``.

    Rows that do not exist are left out; returns how many there were.  They are changed in the order of their keys, so
    that two transactions do not wait for each other.
    """
    if not rows:
        return 0
    ordered = sorted(rows, key=itemgetter(*range(len(keys))))
    return _UPDATE[conn.dialect.name](conn, table, keys, changed, ordered)


def _named(conn: Connection, columns: Iterable[str], form: str = "{}") -> list[str]:
    """A text with each column's name in it."""
    return [form.format(conn.dialect.identifier_preparer.quote(column)) for column in columns]


# --- SQLite: a statement a row --------------------------------------------------------------------------


def _insert_sqlite(conn: Connection, table: Table, columns: Sequence[str], rows: Sequence[Values]) -> None:
    names, places = ", ".join(_named(conn, columns)), ", ".join("?" * len(columns))
    statement = f"INSERT INTO {table.name} ({names}) VALUES ({places})"  # noqa: S608 -- our names
    conn.exec_driver_sql(statement, _sqlite_rows(table, columns, rows))


def _update_sqlite(
    conn: Connection, table: Table, keys: Sequence[str], changed: Sequence[str], rows: Sequence[Values]
) -> int:
    columns = [*keys, *changed]
    equal = [f"{name} = ?{place}" for place, name in enumerate(_named(conn, columns), 1)]
    same, changes = " AND ".join(equal[: len(keys)]), ", ".join(equal[len(keys) :])
    statement = f"UPDATE {table.name} SET {changes} WHERE {same}"  # noqa: S608 -- our names
    return conn.exec_driver_sql(statement, _sqlite_rows(table, columns, rows)).rowcount


def _sqlite_rows(table: Table, columns: Sequence[str], rows: Sequence[Values]) -> list[Values]:
    """With times as SQLAlchemy stores them."""
    values = list(zip(*rows, strict=True))
    for place, column in enumerate(columns):
        if isinstance(table.c[column].type, DateTime):
            values[place] = tuple(map(_to_microseconds(), values[place]))
    return list(zip(*values, strict=True))


def _to_microseconds() -> Callable[[datetime | None], str | None]:
    return cache(lambda time: time and time.isoformat(" ", "microseconds"))


# --- MySQL: a statement with the values of many rows -----------------------------------------------------


def _insert_mysql(conn: Connection, table: Table, columns: Sequence[str], rows: Sequence[Values]) -> None:
    names = ", ".join(_named(conn, columns))
    for part in _mysql_parts(conn, table, columns, rows):
        _run_mysql(conn, f"INSERT INTO {table.name} ({names}) VALUES ({'), ('.join(map(', '.join, part))})")  # noqa: S608


def _update_mysql(
    conn: Connection, table: Table, keys: Sequence[str], changed: Sequence[str], rows: Sequence[Values]
) -> int:
    """The table is joined with the new values."""
    columns = [*keys, *changed]
    same = " AND ".join(_named(conn, keys, "old.{0} = new.{0}"))
    changes = ", ".join(_named(conn, changed, "old.{0} = new.{0}"))
    found = 0
    for first, *others in _mysql_parts(conn, table, columns, rows):
        named = map(" AS ".join, zip(first, _named(conn, columns), strict=True))
        new = " UNION ALL SELECT ".join(map(", ".join, [named, *others]))
        statement = f"UPDATE {table.name} AS old JOIN (SELECT {new}) AS new ON {same} SET {changes}"  # noqa: S608
        found += _run_mysql(conn, statement)
    return found


def _mysql_parts(
    conn: Connection, table: Table, columns: Sequence[str], rows: Sequence[Values]
) -> Iterator[list[tuple[str, ...]]]:
    """Rows of literals, so many as fit into a statement."""
    driver: Any = conn.connection.driver_connection
    for at in range(0, len(rows), ROWS_IN_STATEMENT):
        texts = _texts(table, columns, rows[at : at + ROWS_IN_STATEMENT], driver.escape, _mysql_double)
        yield list(zip(*texts, strict=True))


def _mysql_double(value: float) -> str:
    """Without an exponent it would be a decimal number."""
    text = repr(float(value))
    return text if "e" in text else f"{text}e0"


def _run_mysql(conn: Connection, statement: str) -> int:
    return conn.exec_driver_sql(statement, execution_options={"no_parameters": True}).rowcount


# --- PostgreSQL: a statement with an array for each column ------------------------------------------------


def _insert_postgresql(conn: Connection, table: Table, columns: Sequence[str], rows: Sequence[Values]) -> None:
    names = ", ".join(_named(conn, columns))
    statement = f"INSERT INTO {table.name} ({names}) SELECT * FROM {_unnest(conn, table, columns)} AS new"  # noqa: S608
    conn.exec_driver_sql(statement, _arrays(table, columns, rows))


def _update_postgresql(
    conn: Connection, table: Table, keys: Sequence[str], changed: Sequence[str], rows: Sequence[Values]
) -> int:
    columns = [*keys, *changed]
    new = f"{_unnest(conn, table, columns)} AS new({', '.join(_named(conn, columns))})"
    same = " AND ".join(_named(conn, keys, "old.{0} = new.{0}"))
    changes = ", ".join(_named(conn, changed, "{0} = new.{0}"))
    statement = f"UPDATE {table.name} AS old SET {changes} FROM {new} WHERE {same}"  # noqa: S608 -- our names
    return conn.exec_driver_sql(statement, _arrays(table, columns, rows)).rowcount


def _unnest(conn: Connection, table: Table, columns: Sequence[str]) -> str:
    """The rows of the arrays."""
    types = (table.c[column].type for column in columns)
    # a text is not cut to the column's length: too long, it is refused
    kinds = ("TEXT" if isinstance(type_, String) else type_.compile(conn.dialect) for type_ in types)
    return f"unnest({', '.join(f'%s::{kind}[]' for kind in kinds)})"


def _arrays(table: Table, columns: Sequence[str], rows: Sequence[Values]) -> Values:
    """Literals of arrays."""
    texts = _texts(table, columns, rows, _array_text, lambda value: repr(float(value)))
    return tuple(f"{{{','.join(each)}}}" for each in texts)


def _array_text(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


# --- the servers ------------------------------------------------------------------------------------------


def _texts(
    table: Table,
    columns: Sequence[str],
    rows: Sequence[Values],
    quoted: Callable[[str], str],
    double: Callable[[float], str],
) -> Iterator[list[str]]:
    """The values of each column as the server reads them."""
    for column, values in zip(columns, zip(*rows, strict=True), strict=True):
        text = _text_of(table.c[column].type, quoted, double)
        yield ["NULL" if value is None else text(value) for value in values]


def _text_of(
    kind: TypeEngine[Any], quoted: Callable[[str], str], double: Callable[[float], str]
) -> Callable[[Any], str]:
    if isinstance(kind, DateTime):
        return cache(lambda time: quoted(time.isoformat(" ")))
    if isinstance(kind, String):
        return cache(quoted)
    return double if isinstance(kind, Double) else str


_INSERT = {"sqlite": _insert_sqlite, "mysql": _insert_mysql, "postgresql": _insert_postgresql}
_UPDATE = {"sqlite": _update_sqlite, "mysql": _update_mysql, "postgresql": _update_postgresql}
