# SPDX-License-Identifier: MIT
"""A copy of an engine's folder: all that counts, as of one moment, in a folder of its own."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from htmengine.backup import copy_engine
from htmengine.errors import BackupFailed, StartError
from htmengine.process.lifecycle import DataFolder


class BackupTest(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = DataFolder(Path(self.mktemp()))
        self.folder.make()
        self.target = Path(self.mktemp())

    def fill(self) -> None:
        for path in (self.folder.database_path, self.folder.bus_path):
            connection = sqlite3.connect(path)
            self.addCleanup(connection.close)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("CREATE TABLE metric (a)")
            connection.execute("INSERT INTO metric VALUES (1)")
            connection.commit()
            connection.execute("INSERT INTO metric VALUES (2)")  # of a transaction that has not ended
        for name in ("3f/m.0", "3f/m.1", "3f/m.1.host-7.partial", "3f/m.0.damaged", "3f/m.0.refused"):
            path = self.folder.checkpoints / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name)

    def test_a_copy_that_fails_leaves_nothing(self) -> None:
        self.fill()
        for path in self.folder.path.glob("bus.db*"):
            path.unlink()
        self.folder.bus_path.write_bytes(b"no queues" * 1000)
        with self.assertRaisesRegex(BackupFailed, "bus.db"):
            copy_engine(self.folder, self.folder.checkpoints, self.target)
        self.assertFalse(self.target.exists())

    def test_what_is_committed_and_the_models_are_copied_while_others_write(self) -> None:
        self.fill()
        self.assertEqual(copy_engine(self.folder, self.folder.checkpoints, self.target), 2)
        copy = DataFolder(self.target)
        for path in (copy.database_path, copy.bus_path):
            with contextlib.closing(sqlite3.connect(path)) as connection:
                self.assertEqual(connection.execute("SELECT a FROM metric").fetchall(), [(1,)])
        copied = sorted(path.relative_to(copy.checkpoints) for path in copy.checkpoints.rglob("*.*"))
        self.assertEqual(copied, [Path("3f/m.0"), Path("3f/m.1")])
        self.assertEqual((copy.checkpoints / "3f/m.1").read_text(), "3f/m.1")

    def test_an_earlier_backup_is_not_written_over(self) -> None:
        self.fill()
        copy_engine(self.folder, self.folder.checkpoints, self.target)
        with self.assertRaisesRegex(BackupFailed, "is not empty"):
            copy_engine(self.folder, self.folder.checkpoints, self.target)

    def test_where_no_engine_ran_nothing_is_made(self) -> None:
        with self.assertRaises(StartError):
            copy_engine(self.folder, self.folder.checkpoints, self.target)
        self.assertFalse(self.target.exists())

    def test_an_empty_database_is_no_engine_s(self) -> None:
        self.folder.database_path.touch()
        with self.assertRaisesRegex(BackupFailed, "no such table: metric"):
            copy_engine(self.folder, self.folder.checkpoints, self.target)
        self.assertFalse(self.target.exists())

    def test_a_damaged_database_is_told_of(self) -> None:
        self.folder.database_path.write_bytes(b"nonsense" * 1000)
        with self.assertRaisesRegex(BackupFailed, "file is not a database"):
            copy_engine(self.folder, self.folder.checkpoints, self.target)
