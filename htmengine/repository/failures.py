# SPDX-License-Identifier: MIT
"""What an error of a database means: whether it passes, whether the server is away, and what its operator should do.

In: SQLAlchemy's errors.  Out: decisions for `htmengine.repository.engine`, and `DatabaseFailed` for the command line.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from typing import Any

from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError

from htmengine.errors import DatabaseFailed
from htmengine.process import sqlite_files
from htmengine.repository.connections import database_url

#: What is worth another try, by the driver's number.  A key is there twice when two transactions looked for it in vain
#: and both made it: the next try finds it.
RETRY: dict[str, set[int | str]] = {
    "mysql": {
        1205,  # lock wait timeout
        1213,  # deadlock
        1062,  # duplicate key
    },
    "postgresql": {
        "40001",  # serialization failure
        "40P01",  # deadlock
        "55P03",  # lock not available
        "23505",  # duplicate key
    },
    "sqlite": {sqlite3.SQLITE_BUSY},
}
#: The server cannot be reached, threw us out, or has no room; SQLite's disk takes nothing.
AWAY: dict[str, set[int | str]] = {
    "mysql": {
        2006,  # the server has gone
        2013,  # the connection was lost
        2003,  # the host cannot be reached
        2002,  # nor the socket
        1040,  # too many connections
        1053,  # shut down
        1290,  # read-only after a failover
        1021,  # disk full
        1114,  # table full
        1927,  # MariaDB: an administrator ended the connection
    },
    "postgresql": {
        "57P01",  # shut down by its administrator
        "57P02",  # shut down by a crash
        "57P03",  # starting
        "25006",  # read-only after a failover
        "53300",  # too many connections
        "53100",  # disk full
    },
    "sqlite": {*sqlite_files.REFUSALS},
}


#: What the operator can do, by the driver's number; PostgreSQL gives none while it refuses a connection.
_SETTINGS = "look at {settings}"
_UPGRADE = "run `htmengine db upgrade`"
_REMEDIES: dict[str, dict[int | str | None, str]] = {
    "sqlite": {
        sqlite3.SQLITE_NOTADB: "the file is damaged or not a database; restore a backup, or name another folder",
        sqlite3.SQLITE_CORRUPT: "the file is damaged; restore a backup",
        sqlite3.SQLITE_CANTOPEN: "check the folder's owner and permissions",
        sqlite3.SQLITE_READONLY: "check the folder's owner and permissions",
        sqlite3.SQLITE_FULL: "make room on the disk",
        sqlite3.SQLITE_IOERR: "look at the disk",
        sqlite3.SQLITE_BUSY: "another program holds its lock; stop that program",
        sqlite3.SQLITE_ERROR: _UPGRADE,
    },
    "mysql": {
        1045: f"the server refuses the user or the password; {_SETTINGS}",
        1044: f"the server refuses the user; {_SETTINGS}",
        1049: f"create the database, then run `htmengine db upgrade`, or {_SETTINGS}",
        1146: _UPGRADE,  # no such table
    },
    "postgresql": {
        None: f"is the server running? {_SETTINGS}",
        "42P01": _UPGRADE,  # no such table
    },
}
_AWAY_REMEDY = f"is the server running? {_SETTINGS}"


def passes(error: DBAPIError, dialect: str) -> bool:
    """Whether the same transaction may well succeed the next time."""
    return _number(error, dialect) in RETRY[dialect]


def is_away(error: DBAPIError, dialect: str) -> bool:
    """Whether there is no server, or it ended our connection."""
    number = _number(error, dialect)
    nameless = dialect == "postgresql" and number is None and isinstance(error, OperationalError)
    return error.connection_invalidated or number in AWAY[dialect] or nameless


def _number(error: DBAPIError, dialect: str) -> int | str | None:
    """The driver's number of an error; PostgreSQL's is a text, and missing when there is no connection."""
    original: Any = error.orig
    if dialect == "mysql":
        return original.args[0] if original.args else None
    if dialect == "postgresql":
        return getattr(original, "sqlstate", None)
    return sqlite_files.error_number(original)


@contextlib.contextmanager
def in_one_line(url: str, settings: str = "[repository] in application.conf") -> Iterator[None]:
    """An error of the database becomes `DatabaseFailed`, which names the database and says what to do.

    ``settings``: where the URL was written.
    """
    try:
        yield
    except SQLAlchemyError as error:
        raise DatabaseFailed(_in_words(error, url, settings)) from error


def _in_words(error: SQLAlchemyError, url: str, settings: str) -> str:
    parsed = database_url(url)
    dialect = parsed.get_backend_name()
    shown = str(parsed.database) if dialect == "sqlite" else parsed.set(query={}).render_as_string(hide_password=True)
    if not isinstance(error, DBAPIError):
        return f"database {shown}: {_one_line(str(error))}"
    remedy = _REMEDIES[dialect].get(_number(error, dialect)) or (_AWAY_REMEDY if is_away(error, dialect) else "")
    return f"database {shown}: {_one_line(str(error.orig))}" + (
        f": {remedy.format(settings=settings)}" if remedy else ""
    )


def _one_line(text: str) -> str:
    """The first lines of a driver's text, without the addresses of its manual."""
    return " ".join(text.split())[:300]
