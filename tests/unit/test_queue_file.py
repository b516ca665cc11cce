# SPDX-License-Identifier: MIT
"""The file of the embedded bus: who only looks writes nothing."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from htmengine.bus import queue_file
from htmengine.bus.queue_file import QueueFile


class OpeningTest(SynchronousTestCase):
    def test_a_file_of_this_version_is_opened_while_nobody_can_write(self) -> None:
        """As when the disk is full."""
        path = Path(self.mktemp())
        QueueFile(path).close()
        self.patch(queue_file, "LOCK_TIMEOUT_S", 0.0)
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as writer:
            writer.execute("BEGIN IMMEDIATE")
            QueueFile(path).close()
