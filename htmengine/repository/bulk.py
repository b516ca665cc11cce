# SPDX-License-Identifier: MIT
"""Many rows of a table changed at once, each to values of its own.

Called by `queries` and `counts` within a transaction.  SQLite takes a statement a row in microseconds, and psycopg
sends them all before it waits for an answer.  MySQL's protocol knows neither: a statement a row is a round trip a row.
There one statement joins the table with its new values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Table, bindparam, update

#: Rows in one statement; far from any server's limit on the size of a statement.
ROWS_IN_STATEMENT = 500

_KEY = "key_"


def bulk_update(conn: Connection, table: Table, keys: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> int:
    """Set, in the row of each of these keys, the other columns.  Rows that do not exist are left out.

    Returns how many there were.
    All ``rows`` have the same columns.  They are changed in the order of their keys, so that two transactions do not
    wait for each other.
    """
    ordered = sorted(rows, key=lambda row: [row[key] for key in keys])
    if conn.dialect.name == "mysql":
        parts = range(0, len(ordered), ROWS_IN_STATEMENT)
        return sum(_update_by_join(conn, table, keys, ordered[at : at + ROWS_IN_STATEMENT]) for at in parts)
    if not ordered:
        return 0
    changed = [column for column in ordered[0] if column not in keys]
    statement = update(table).values({column: bindparam(column) for column in changed})
    for key in keys:
        statement = statement.where(table.c[key] == bindparam(_KEY + key))
    return conn.execute(
        statement,
        [{_KEY + name if name in keys else name: value for name, value in row.items()} for row in ordered],
    ).rowcount


def _update_by_join(conn: Connection, table: Table, keys: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> int:
    quote = conn.dialect.identifier_preparer.quote
    columns = list(rows[0])
    first = "SELECT " + ", ".join(f"%s AS {quote(column)}" for column in columns)
    others = " UNION ALL SELECT " + ", ".join(["%s"] * len(columns))
    same = " AND ".join(f"old.{quote(key)} = new.{quote(key)}" for key in keys)
    changes = ", ".join(f"old.{quote(column)} = new.{quote(column)}" for column in columns if column not in keys)
    values = first + others * (len(rows) - 1)
    return conn.exec_driver_sql(
        f"UPDATE {quote(table.name)} AS old JOIN ({values}) AS new ON {same} SET {changes}",  # noqa: S608 -- our names
        tuple(row[column] for row in rows for column in columns),
    ).rowcount
