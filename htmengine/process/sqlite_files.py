# SPDX-License-Identifier: MIT
"""SQLite's files: how their commits reach the disk, and those that may not be written.

In: a file's path.  Out: a connection.  Commands that only look work in another user's folder and on a read-only file
system, too; what would write fails with SQLite's "readonly database".
"""

from __future__ import annotations

import os
import sqlite3
from os import PathLike
from pathlib import Path
from typing import Any

#: The write-ahead log is copied into the file when it has grown to this, and cut back to it.  A page that changed often
#: meanwhile is copied once; most messages of a bus are gone by then.
LOG_BYTES = 32 << 20
#: How SQLite says that the disk takes nothing: it is full, read-only or broken.
REFUSALS = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY}


def prepare(connection: sqlite3.Connection) -> None:
    """WAL: readers see the last commit while a writer is at work.  FULL: each commit is on the disk when it returns.

    What is deleted is not overwritten with zeros, as Debian's SQLite does by default.
    """
    [page_bytes] = connection.execute("PRAGMA page_size").fetchone()
    for pragma in (
        "journal_mode = WAL",
        "synchronous = FULL",
        "secure_delete = OFF",
        f"wal_autocheckpoint = {LOG_BYTES // page_bytes}",
        f"journal_size_limit = {LOG_BYTES}",
    ):
        connection.execute(f"PRAGMA {pragma}").fetchall()


def error_number(error: object) -> int:
    """SQLite's number of an error, without what it has above the lowest byte; 0: it has none."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def is_read_only(path: str | PathLike[str]) -> bool:
    """Whether there is such a file, and this process may not write it or the logs beside it."""
    file = Path(path)
    return file.is_file() and not (os.access(file, os.W_OK) and os.access(file.parent, os.W_OK))


def connect(path: str | PathLike[str], **options: Any) -> sqlite3.Connection:
    """As sqlite3's own; a file that may not be written is only read.  Raises `sqlite3.Error`."""
    reading = is_read_only(path)
    connection: sqlite3.Connection = sqlite3.connect(
        _reading_uri(Path(path)) if reading else path, uri=reading, **options
    )
    return connection


def _reading_uri(file: Path) -> str:
    """Nobody has a file open beside which there is no write-ahead log, so it needs no locks: it is immutable."""
    log = file.with_name(f"{file.name}-wal")
    return f"{file.absolute().as_uri()}?mode=ro" + ("" if log.exists() else "&immutable=1")
