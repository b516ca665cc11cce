# SPDX-License-Identifier: MIT
"""How the parts of a process stop: each after those that use it, and all within ten seconds."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any, cast
from unittest import mock

from sqlalchemy import make_url
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.error import ReactorNotRunning
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from htmengine.errors import DatabaseClosed, StartError
from htmengine.process.lifecycle import LOST, SIGN_S, DataFolder, Heartbeat, OrderedServices, ProcessEnd


class Part(Service):
    """Stops when the test says so, or never."""

    def __init__(self) -> None:
        self.stopped: Deferred[None] = Deferred()

    def stopService(self) -> Deferred[None]:
        super().stopService()
        return self.stopped


class StoppingReactor(Clock):
    """One that takes a while to stop, as the real one does."""

    running = True

    def __init__(self) -> None:
        super().__init__()
        self.stops = 0

    def addSystemEventTrigger(self, *_trigger: object) -> None:
        """Nothing comes after this reactor."""

    def stop(self) -> None:
        self.stops += 1
        if self.stops > 1:
            raise ReactorNotRunning


class ProcessEndTest(SynchronousTestCase):
    def test_several_services_that_fail_end_the_process_once(self) -> None:
        reactor = StoppingReactor()
        end = ProcessEnd(cast("Any", reactor))
        for _ in range(2):
            end.fail(Failure(ValueError("the schema is of another release")))
        reactor.advance(0)
        self.assertEqual(end.status, 1)


class StopTest(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.parts = [Part() for _ in range(4)]
        self.failures: list[Failure] = []
        self.services = OrderedServices(self.parts, clock=self.clock, on_failure=self.failures.append)
        self.services.startService()

    def test_a_part_that_does_not_start_is_a_failure_and_what_began_is_stopped(self) -> None:
        parts = [Part() for _ in range(3)]
        self.patch(parts[1], "startService", lambda: 1 // 0)
        services = OrderedServices(parts, clock=self.clock, on_failure=self.failures.append)
        services.startService()
        [failure] = self.failures
        failure.trap(ZeroDivisionError)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        parts[1].stopped.callback(None)
        parts[0].stopped.callback(None)
        self.successResultOf(services.stopService())

    def test_a_part_stops_when_those_after_it_have_stopped(self) -> None:
        ended = self.services.stopService()
        for part in reversed(self.parts):
            self.assertFalse(part.running)
            self.assertNoResult(ended)
            part.stopped.callback(None)
        self.successResultOf(ended)

    def test_a_part_that_leaves_something_undone_as_the_database_is_away_is_no_error(self) -> None:
        ended = self.services.stopService()
        self.parts[-1].stopped.errback(DatabaseClosed())
        for part in reversed(self.parts[:-1]):
            part.stopped.callback(None)
        self.successResultOf(ended)  # and trial fails a test that logs a failure

    def test_all_end_within_ten_seconds_whatever_hangs(self) -> None:
        ended = self.services.stopService()
        self.clock.pump([0.1] * 100)
        self.successResultOf(ended)
        self.assertFalse(any(part.running for part in self.parts))


class DataFolderTest(SynchronousTestCase):
    def test_its_database_is_in_it_whatever_its_name(self) -> None:
        """A ? or % of a path once named a database elsewhere, which two engines could share."""
        for name in ("plain", "a %41", "a?x=1", "50%", "a#b;c@d:e+f", "größe", os.fsdecode(b"\xff"), "a\nb"):
            folder = DataFolder(Path(self.mktemp()) / name)
            self.assertEqual(make_url(folder.database_url).database, str(folder.database_path))


class HeartbeatTest(SynchronousTestCase):
    def test_signs_of_life_are_given_while_the_reactor_turns_and_withdrawn_at_the_stop(self) -> None:
        folder, clock = DataFolder(Path(self.mktemp())), Clock()
        folder.acquire()
        self.addCleanup(folder.release)
        looked_at = DataFolder(folder.path)
        folder.database_path.touch()
        folder.bus_path.touch()
        heartbeat = Heartbeat(folder, clock, lambda: 2003)
        self.assertIsNone(looked_at.last_sign())
        heartbeat.startService()
        os.utime(folder.path / "lock", (100, 100))
        sign = looked_at.last_sign()
        assert sign is not None
        self.assertEqual((sign.pid, sign.at, sign.port), (os.getpid(), 100, 2003))
        clock.advance(SIGN_S)
        sign = looked_at.last_sign()
        assert sign is not None
        self.assertGreater(sign.at, 100)
        heartbeat.stopService()
        self.assertIsNone(looked_at.last_sign())

    def test_a_file_that_is_removed_beneath_an_engine_is_told(self) -> None:
        folder, clock = DataFolder(Path(self.mktemp())), Clock()
        folder.acquire()
        self.addCleanup(folder.release)
        folder.database_path.touch()
        folder.bus_path.touch()
        logged: list[str] = []
        observer = lambda event: logged.append(str(event.get("lost")))  # noqa: E731
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        heartbeat = Heartbeat(folder, clock, lambda: 2003)
        heartbeat.startService()
        self.addCleanup(heartbeat.stopService)
        self.assertEqual(logged, [])
        folder.database_path.unlink()
        clock.pump([SIGN_S] * 3)
        self.assertEqual(logged, [LOST.format(name="htmengine.db")])
        with self.assertRaisesRegex(StartError, "an engine runs on .*: htmengine.db is not there"):
            DataFolder(folder.path).require_database()

    def test_a_disk_that_takes_nothing_is_told_and_a_folder_of_somebody_else_is_not(self) -> None:
        folder = DataFolder(Path(self.mktemp()))
        folder.make()
        self.assertEqual((folder.refusal, list(folder.path.iterdir())), ("", []))
        for number, told in ((errno.EROFS, "Read-only file system"), (errno.EIO, "Input/output")):
            with mock.patch("os.open", side_effect=OSError(number, os.strerror(number))):
                self.assertIn(told, folder.refusal)
        with mock.patch("os.open", side_effect=PermissionError(errno.EACCES, "")):
            self.assertEqual(folder.refusal, "")

    def test_nothing_is_expected_of_an_engine_that_was_killed_and_of_its_successor_before_it_turns(self) -> None:
        killed = DataFolder(Path(self.mktemp()))
        killed.acquire()
        killed.give_sign(2003)
        killed.release()
        self.assertIsNone(DataFolder(killed.path).last_sign())
        killed.acquire()
        self.addCleanup(killed.release)
        self.assertIsNone(DataFolder(killed.path).last_sign())
