# SPDX-License-Identifier: MIT
"""Databases for unit tests: made in no time, and worked on without threads."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from htmengine.repository import migrations
from htmengine.repository.engine import Database

#: Databases that their tests have closed, with their files.
_FREE: list[tuple[Path, Database]] = []
#: What tests have filled a database with: the file, and what the filling returned.
_FILLED: dict[Hashable, tuple[bytes, Any]] = {}


def new_database(test: SynchronousTestCase, content: bytes | None = None) -> Database:
    """A database of the current schema, empty or with that content; closed when the test ends.

    The next test works on with a closed one, in a new file: SQLAlchemy compiles each statement once for each engine.
    """
    path, database = _FREE.pop() if _FREE else _another()
    path.write_bytes(migrated() if content is None else content)
    test.addCleanup(_give_back, path, database)
    return database


def filled_database(test: SynchronousTestCase, key: Hashable, fill: Callable[[Database], Any]) -> tuple[Database, Any]:
    """A database with what ``fill`` wrote into it, and what ``fill`` returned, once for each key."""
    if key not in _FILLED:
        path, database = _another()
        path.write_bytes(migrated())
        result = fill(database)
        database.close()
        _FILLED[key] = path.read_bytes(), result
    content, result = _FILLED[key]
    return new_database(test, content), result


def _another() -> tuple[Path, Database]:
    path = _folder() / f"{len(list(_folder().iterdir()))}.db"
    path.touch()
    return path, Database(f"sqlite:///{path}")


def _give_back(path: Path, database: Database) -> None:
    database.close()
    if not path.with_name(f"{path.name}-wal").exists():  # a connection is still open
        _FREE.append((path, database))


def _folder() -> Path:
    return Path(_temporary().name)


@functools.cache
def _temporary() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="htmengine-tests-")


@functools.cache
def migrated() -> bytes:
    """The file that the migrations make; it takes them longer than most tests."""
    with tempfile.TemporaryDirectory() as folder:
        migrations.upgrade(f"sqlite:///{folder}/db")
        return Path(folder, "db").read_bytes()


class InlineDatabase:
    """A database whose transactions are done when they are asked for."""

    def __init__(self, database: Database) -> None:
        self.run_sync = database.run_sync

    async def run(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return self.run_sync(fn, *args, **kwargs)

    read = run
