# SPDX-License-Identifier: MIT
"""A database that is away: what the log says of it, and how long a command tries."""

from __future__ import annotations

import sqlite3
from unittest import TestCase, mock

from sqlalchemy.exc import OperationalError
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher

from htmengine.repository import engine
from htmengine.repository.connections import CONNECT_TIMEOUT_S
from htmengine.repository.engine import Database
from htmengine.repository.outage import Outage

READERS, WRITERS = "readers", "writers"
BACK = "the database is back"


def away(seconds: int) -> str:
    return f"the database is away for {seconds} s: full"


class OutageTest(TestCase):
    def setUp(self) -> None:
        self.logged: list[str] = []
        globalLogPublisher.addObserver(self.observe)
        self.addCleanup(globalLogPublisher.removeObserver, self.observe)
        self.clock = Clock()
        self.outage = Outage(self.clock.seconds)

    def observe(self, event: dict[str, object]) -> None:
        if event.get("log_namespace") == "htmengine.repository.outage.Outage":
            self.logged.append(str(event["log_format"]).format(**event))

    def test_reads_that_succeed_on_a_full_disk_do_not_end_what_writers_meet(self) -> None:
        for _ in range(100):
            self.outage.meets(WRITERS, "full")
            self.outage.ends(READERS)
            self.clock.advance(1.0)
        self.assertTrue(self.outage.lasts)
        self.assertEqual(self.logged, [away(0), away(60)])
        self.outage.ends(WRITERS)
        self.assertFalse(self.outage.lasts)
        self.assertEqual(self.logged[2:], [BACK])

    def test_it_is_over_when_it_is_over_for_all(self) -> None:
        self.outage.meets(READERS, "full")
        self.outage.meets(WRITERS, "full")
        self.outage.ends(READERS)
        self.assertEqual(self.logged, [away(0)])
        self.outage.ends(WRITERS)
        self.assertEqual(self.logged, [away(0), BACK])

    def test_small_transactions_that_succeed_in_between_do_not_fill_the_log(self) -> None:
        for _ in range(100):
            self.outage.meets(WRITERS, "full")
            self.outage.ends(WRITERS)
            self.clock.advance(1.0)
        self.assertEqual(self.logged, [away(0), BACK] * 2)


class CommandTest(TestCase):
    def test_a_command_tries_a_server_that_hangs_once(self) -> None:
        database, clock, tries = Database("sqlite:///:memory:", patient=False), Clock(), []
        self.addCleanup(database.close)
        locked = sqlite3.OperationalError("database is locked")
        locked.sqlite_errorcode = sqlite3.SQLITE_BUSY

        def hang() -> None:
            tries.append(clock.seconds())
            clock.advance(CONNECT_TIMEOUT_S + 0.01)
            raise OperationalError("SELECT 1", None, locked)

        with mock.patch.object(engine, "time", mock.Mock(monotonic=clock.seconds)):
            self.assertRaises(OperationalError, database._in_tries, hang)
        self.assertEqual(len(tries), 1)
