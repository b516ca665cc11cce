# SPDX-License-Identifier: MIT
"""Databases for unit tests: made in no time, and worked on without threads."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from htmengine.repository import migrations
from htmengine.repository.engine import Database


def new_database(test: SynchronousTestCase) -> Database:
    """An empty database of the current schema, in a folder of the test's own; closed when the test ends."""
    database = Database(new_url(test))
    test.addCleanup(database.close)
    return database


def new_url(test: SynchronousTestCase) -> str:
    """The URL of such a database."""
    folder = Path(test.mktemp())
    folder.mkdir()
    (folder / "db").write_bytes(migrated())
    return f"sqlite:///{folder / 'db'}"


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
