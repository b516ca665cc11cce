# SPDX-License-Identifier: MIT
"""A copy of an embedded engine's folder, made while the engine runs, from which an engine starts as after a crash.

In: the data folder and the models' folder.  Out: a folder of the same form.  The queues are copied first, then the
database, then the models.  So the database knows all that the queues' messages are about, and a model that is
newer than the database is noticed when it is loaded, and made again.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from pathlib import Path

from htmengine.errors import BackupFailed
from htmengine.process import sqlite_files
from htmengine.process.lifecycle import DataFolder

#: Names of a model's files end so; whatever else lies beside them is no model.
_SLOTS = (".0", ".1")


def copy_engine(folder: DataFolder, checkpoints: Path, target: Path) -> int:
    """Copy it to a folder that is made, and is on the disk afterwards.  Returns the number of models' files.

    Raises `BackupFailed`, `StartError` where no engine ever ran, and OSError.
    """
    folder.require_database()
    _require_schema(folder)
    copy = DataFolder(target)
    if target.exists() and any(target.iterdir()):
        raise BackupFailed(f"{target} is not empty: name a folder that is to be made")
    copy.make()
    try:
        copied = _copy(folder, checkpoints, copy)
    except BaseException:  # half a copy must not be taken for a whole one
        shutil.rmtree(target, ignore_errors=True)
        raise
    os.sync()
    return copied


def _copy(folder: DataFolder, checkpoints: Path, copy: DataFolder) -> int:
    for source, to in ((folder.bus_path, copy.bus_path), (folder.database_path, copy.database_path)):
        if source.exists():
            _copy_database(source, to)
    return sum(_copy_file(path, copy.checkpoints / path.relative_to(checkpoints)) for path in _models(checkpoints))


def _require_schema(folder: DataFolder) -> None:
    """An empty or damaged database is no engine's: its copy would be no backup."""
    try:
        with contextlib.closing(sqlite_files.connect(folder.database_path)) as db:
            db.execute("SELECT 1 FROM metric LIMIT 1")
    except sqlite3.Error as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_BUSY:
            raise BackupFailed(f"{folder.database_path}: {error}: another program holds its lock; stop it") from None
        raise BackupFailed(f"{folder.database_path} is no engine's database ({error}): restore a backup") from None


def _copy_database(source: Path, to: Path) -> None:
    """As of one moment; who writes meanwhile does not wait."""
    try:
        with (
            contextlib.closing(sqlite_files.connect(source)) as running,
            contextlib.closing(sqlite3.connect(to)) as copy,
        ):
            running.backup(copy)
    except sqlite3.Error as error:
        raise BackupFailed(f"{source}: {error}") from None


def _models(checkpoints: Path) -> list[Path]:
    return [path for path in sorted(checkpoints.glob("??/*")) if path.suffix in _SLOTS]


def _copy_file(path: Path, to: Path) -> bool:
    """False if it has been removed meanwhile."""
    to.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        shutil.copyfile(path, to)
    except FileNotFoundError:
        return False
    return True
