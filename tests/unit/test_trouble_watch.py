# SPDX-License-Identifier: MIT
"""Troubles are told in the log once, and stand in the table as long as they last."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from htmengine.repository import troubles
from htmengine.telemetry.trouble_watch import LOOK_S, TroubleWatch
from tests.support.database import InlineDatabase, new_database


class TroubleWatchTest(SynchronousTestCase):
    def setUp(self) -> None:
        self.database = new_database(self)
        self.found: list[str] = []
        self.clock = Clock()
        inline: Any = InlineDatabase(self.database)
        self.watch = TroubleWatch(
            source="queues", look=self.look, clock=self.clock, database=inline, on_failure=lambda failure: None
        )
        log = _Log()
        self.patch(self.watch, "log", log)
        self.logged = log.messages

    async def look(self) -> list[str]:
        return self.found

    def written(self) -> list[str]:
        return [trouble.message for trouble in self.database.run_sync(troubles.list_of)]

    def test_what_is_wrong_is_told_once_and_stands_while_it_lasts(self) -> None:
        self.database.run_sync(troubles.replace, "queues", ["of an earlier process"], 0)
        self.watch.startService()
        self.assertEqual((self.written(), self.logged), ([], []))
        self.found = ["queue 'samples' is not durable"]
        self.clock.advance(LOOK_S)
        self.clock.advance(LOOK_S)
        self.assertEqual((self.written(), self.logged), (self.found, self.found))
        self.found = []
        self.clock.advance(LOOK_S)
        self.assertEqual(self.written(), [])
        self.successResultOf(self.watch.stopService())

    def test_what_ends_the_process_is_told(self) -> None:
        self.watch.startService()
        self.found = ["queue 'samples' is not durable"]
        self.successResultOf(self.watch.stopService())
        self.assertEqual(self.written(), self.found)


class _Log:
    def __init__(self) -> None:
        self.messages: list[str] = []

    def error(self, _format: str, source: str, message: str) -> None:
        self.messages.append(message)
