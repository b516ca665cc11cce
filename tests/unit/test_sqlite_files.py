# SPDX-License-Identifier: MIT
"""SQLite files: databases and queues that may not be written are read, and commits write little."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest

from htmengine.bus.interface import DEFAULT_LIMITS
from htmengine.bus.queue_file import QueueFile
from htmengine.errors import DatabaseFailed
from htmengine.process import sqlite_files
from htmengine.process.lifecycle import DataFolder
from htmengine.repository.engine import Database


@pytest.fixture
def unwritable() -> Iterator[None]:
    """Root may write whatever its mode is."""
    with patch.object(os, "access", return_value=False):
        yield


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """In WAL mode, with a row."""
    path = tmp_path / "some.db"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as made:
        made.execute("PRAGMA journal_mode = WAL")
        made.execute("CREATE TABLE sample AS SELECT 1 AS value")
    return path


def rows(path: Path) -> int:
    with contextlib.closing(sqlite_files.connect(path)) as connection:
        return int(connection.execute("SELECT count(*) FROM sample").fetchone()[0])


@pytest.mark.usefixtures("unwritable")
def test_a_file_that_nobody_has_open_is_read_without_a_log(file: Path) -> None:
    assert rows(file) == 1
    assert [each.name for each in file.parent.iterdir()] == [file.name]


@pytest.mark.usefixtures("unwritable")
def test_a_file_that_an_engine_has_open_is_read_with_its_log(file: Path) -> None:
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as engine:
        engine.execute("INSERT INTO sample VALUES (2)")
        assert rows(file) == 2


@pytest.mark.usefixtures("unwritable")
def test_what_writes_is_refused(file: Path) -> None:
    with (
        contextlib.closing(sqlite_files.connect(file)) as connection,
        pytest.raises(sqlite3.OperationalError, match="readonly"),
    ):
        connection.execute("INSERT INTO sample VALUES (2)")


def test_queues_that_cannot_be_written_are_read(tmp_path: Path) -> None:
    with contextlib.closing(QueueFile(tmp_path / "bus.db")) as made, made.transaction():
        made.declare_queue("samples", DEFAULT_LIMITS, 0.0)
    with (
        patch.object(os, "access", return_value=False),
        contextlib.closing(QueueFile(tmp_path / "bus.db")) as file,
        file.transaction(),
    ):
        assert file.queue("samples").messages == 0


def test_a_lock_that_cannot_be_tried_may_be_held(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    assert not folder.in_use
    with patch.object(os, "open", side_effect=PermissionError):
        assert folder.in_use


def test_commits_of_database_and_queues_are_on_the_disk_when_they_return(tmp_path: Path) -> None:
    """2 is FULL: the log is synced with each commit, where NORMAL syncs it at checkpoints."""
    settings = ("journal_mode", "synchronous")
    database = Database(f"sqlite:///{tmp_path / 'made.db'}")
    try:
        found = database.read_sync(lambda conn: [conn.exec_driver_sql(f"PRAGMA {name}").scalar() for name in settings])
    finally:
        database.close()
    assert found == ["wal", 2]
    with contextlib.closing(QueueFile(tmp_path / "bus.db")) as file:
        assert [file._db.execute(f"PRAGMA {name}").fetchone()[0] for name in settings] == ["wal", 2]


def test_a_connection_that_was_opened_while_the_disk_was_read_only_is_opened_again(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'made.db'}")
    try:
        database.run_sync(lambda conn: conn.exec_driver_sql("PRAGMA query_only = ON"))  # as such a connection is
        with pytest.raises(DatabaseFailed, match="readonly database: check the folder's owner and permissions"):
            database.run_sync(lambda conn: conn.exec_driver_sql("CREATE TABLE sample (value)"))
        database.run_sync(lambda conn: conn.exec_driver_sql("CREATE TABLE sample (value)"))
    finally:
        database.close()


@pytest.mark.parametrize("page_bytes", [1024, 16_384])
def test_a_log_is_as_long_whatever_the_size_of_the_pages(tmp_path: Path, page_bytes: int) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "made.db", isolation_level=None)) as connection:
        connection.execute(f"PRAGMA page_size = {page_bytes}")
        sqlite_files.prepare(connection)
        found = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("wal_autocheckpoint", "secure_delete")]
    assert found == [sqlite_files.LOG_BYTES // page_bytes, 0]


def test_a_small_message_that_comes_and_goes_writes_little(tmp_path: Path) -> None:
    path = tmp_path / "bus.db"
    with contextlib.closing(QueueFile(path)) as file:
        with file.transaction():
            file.declare_queue("q", DEFAULT_LIMITS, 0.0)
        before = path.with_name("bus.db-wal").stat().st_size
        with file.transaction():
            [arrival] = file.put("q", [b"x" * 100], {}, 0.0)
        with file.transaction():
            file.remove("q", [arrival.first])
        assert path.with_name("bus.db-wal").stat().st_size - before < 32_768
