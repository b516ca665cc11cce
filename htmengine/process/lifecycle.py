# SPDX-License-Identifier: MIT
"""A process of services: its folder, the order of start and stop, how it runs in the foreground, and how it ends.

Used by services.py, which puts the services together, and by ``htmengine run``.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import gc
import os
import re
import shutil
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.defer import TimeoutError as DeferTimeout
from twisted.internet.error import ReactorNotRunning
from twisted.logger import Logger, globalLogBeginner, textFileLogObserver
from twisted.python.failure import Failure

from htmengine.errors import StartError
from htmengine.process.seldom import Seldom
from htmengine.process.tasks import REGULAR_ENDS
from htmengine.process.twisted_types import Clock, Reactor, every, within

#: All services together have so long to stop.
STOP_S = 7.0
#: A service has at least so long, however long those before it have taken.
LAST_S = 0.2
#: The process has so long: a thread may wait for a name server, a file server or a program that does not answer.
END_S = 9.5
#: Whoever looks whether an engine runs holds the folder's lock for less.
LOOK_S = 0.5
#: What there is to say of a running engine's file that is not in its folder.
LOST = "{name} is not there; if it was removed, all that the engine stores in it is lost when the engine ends"
#: A disk with less room, in bytes, is full.
LEAST_ROOM = 1 << 20
#: What a disk says that is read-only, by its mount or after an error, or broken.
BROKEN = {errno.EROFS, errno.EIO}
#: Characters of a path that mean something else in a URL.
_IN_URLS = str.maketrans({"%": "%25", "?": "%3F"})
#: An engine gives a sign of life this often.
SIGN_S = 5.0


@dataclass(frozen=True, slots=True)
class SignOfLife:
    """What an engine noted from its event loop: its process, when, and where it takes Graphite lines."""

    pid: int
    at: float  #: epoch seconds
    port: int  #: 0: an earlier version noted none


class DataFolder:
    """A folder that one engine at a time owns.

    ::

        <data folder>/
            lock              held by the engine that runs on it; its pid and port; at its last change it was alive
            htmengine.db      the database (SQLite)
            bus.db            the queues
            checkpoints/      the models
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = -1

    def acquire(self) -> None:
        """Make the folder if need be, and own it.  Raises `StartError`."""
        try:
            self.make()
            self._lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StartError(f"data folder {self.path}: {error.strerror}; choose another one with --data-dir") from None
        deadline = time.monotonic() + LOOK_S
        while not self._locked(fcntl.LOCK_EX):
            if time.monotonic() > deadline:
                self.release()
                raise StartError(f"data folder {self.path}: another engine is running on it")
            time.sleep(LOOK_S / 10)
        self.withdraw_sign()  # of an engine that was killed

    def _locked(self, how: int) -> bool:
        try:
            fcntl.flock(self._lock, how | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    @property
    def in_use(self) -> bool:
        """Whether an engine runs on it now, or may: a lock that another user made cannot be tried.

        To find out, the lock is held for a moment; `acquire` waits for that.
        """
        try:
            self._lock = os.open(self.path / "lock", os.O_RDONLY | os.O_CLOEXEC)
        except PermissionError:
            return True
        except OSError:
            return False
        try:
            return not self._locked(fcntl.LOCK_SH)
        finally:
            self.release()

    def give_sign(self, port: int) -> None:
        """Note that the engine that owns the folder, this process, is alive now and takes lines on this port."""
        os.pwrite(self._lock, f"{os.getpid()} {port}\n".encode(), 0)
        os.utime(self._lock)

    def withdraw_sign(self) -> None:
        """From now on nobody expects signs: the engine does not turn its event loop yet, or stops."""
        os.ftruncate(self._lock, 0)

    def last_sign(self) -> SignOfLife | None:
        """When the engine that runs on the folder was last known to be alive; None: nothing is expected of it."""
        if not self.in_use:
            return None
        try:
            lock = self.path / "lock"
            noted, at = lock.read_text(), lock.stat().st_mtime
        except OSError:
            return None
        pid, port = [*map(int, re.findall(r"\d+", noted)), 0, 0][:2]
        return SignOfLife(pid, at, port) if pid else None

    @property
    def refusal(self) -> str:
        """Why its disk takes nothing of an engine; empty: it does, or this user cannot tell."""
        if shutil.disk_usage(self.path).free < LEAST_ROOM:
            return "is full: make room"
        try:
            os.close(os.open(self.path, os.O_RDWR | getattr(os, "O_TMPFILE", 0), 0o600))  # a file without a name
        except OSError as error:
            if error.errno in BROKEN:
                return f"takes nothing ({error.strerror}): look at the system's log"
        return ""

    def require_database(self) -> None:
        """Raises `StartError` where no engine ever ran, where its file was removed, and where nobody can look."""
        try:
            found = self.database_path.is_file()
        except OSError as error:
            raise StartError(f"data folder {self.path}: {error.strerror}; check its owner and permissions") from None
        if not found and self.in_use:
            raise StartError(f"an engine runs on {self.path}: {LOST.format(name=self.database_path.name)}")
        if not found:
            raise StartError(
                f"no engine has ever run on this folder: {self.path} holds no htmengine.db; "
                "name another with --data-dir, or start one with `htmengine run`"
            )

    @property
    def lost(self) -> list[str]:
        """The names of files that a running engine has open and that are not there any more."""
        return [path.name for path in (self.database_path, self.bus_path) if not path.exists()]

    def make(self) -> None:
        """Make the folder if need be, for its user alone."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def release(self) -> None:
        """Let another engine have it."""
        os.close(self._lock)

    @property
    def database_url(self) -> str:
        """SQLAlchemy's name of the database."""
        return f"sqlite:///{str(self.database_path).translate(_IN_URLS)}"

    @property
    def database_path(self) -> Path:
        """The database's file."""
        return self.path / "htmengine.db"

    @property
    def bus_path(self) -> Path:
        """The file with the queues."""
        return self.path / "bus.db"

    @property
    def checkpoints(self) -> Path:
        """The folder with the models."""
        return self.path / "checkpoints"


class Heartbeat(Service):
    """Gives signs of life in the engine's folder while the reactor turns: started last, stopped first.

    ``port`` is that of Graphite lines, which is known once its service has started.  The log tells of files that are
    removed meanwhile.
    """

    log = Logger()

    def __init__(self, folder: DataFolder, clock: Clock, port: Callable[[], int]) -> None:
        self._folder = folder
        self._port = port
        self._timer = every(clock, self._beat)
        self._told = Seldom(clock.seconds)

    def startService(self) -> None:
        super().startService()
        self._timer.start(SIGN_S)

    def stopService(self) -> None:
        super().stopService()
        self._timer.stop()
        self._note(self._folder.withdraw_sign)

    def _beat(self) -> None:
        self._note(lambda: self._folder.give_sign(self._port()))
        self._note(self._tell_of_lost)

    def _tell_of_lost(self) -> None:
        lost = self._folder.lost
        if lost and self._told.due():
            self.log.critical("data folder {path}: {lost}", path=self._folder.path, lost=LOST.format(name=lost[0]))

    def _note(self, note: Callable[[], None]) -> None:
        try:
            note()
        except OSError as error:
            self.log.warn("data folder {path}: {error}", path=self._folder.path, error=error)


class OrderedServices(Service):
    """Starts its parts one after the other, and stops each when those after it have stopped.

    The process ends within 10 s: what a part waits for, a broker or a database that hangs, may never come.
    """

    log = Logger()

    def __init__(self, parts: Sequence[Any], *, clock: Clock, on_failure: Callable[[Failure], None]) -> None:
        self._parts = parts
        self._clock = clock
        self._on_failure = on_failure
        self._begun: list[Any] = []  #: parts that have started, and the one that could not

    def privilegedStartService(self) -> None:
        """A part that cannot start ends the process with one clear line and status 1."""
        try:
            for part in self._parts:
                part.privilegedStartService()
        except StartError as error:
            raise SystemExit(f"htmengine: {error}") from None

    def startService(self) -> None:
        """A part that raises is a failure as one later is: threads run already, which only a stop ends."""
        super().startService()
        for part in self._parts:
            self._begun.append(part)
            try:
                part.startService()
            except Exception:
                self.log.failure("{part} did not start", part=type(part).__name__)
                self._on_failure(Failure())
                return
        # What is there from the start stays: looking through it for garbage again and again would hold all threads.
        gc.collect()
        gc.freeze()

    def stopService(self) -> Deferred[None]:
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        end = self._clock.seconds() + STOP_S
        for part in reversed(self._begun):
            try:
                await within(maybeDeferred(part.stopService), max(end - self._clock.seconds(), LAST_S), self._clock)
            except DeferTimeout:
                self.log.error(
                    "{part} has not stopped: something that it waits for does not answer", part=type(part).__name__
                )
            except REGULAR_ENDS as error:
                self.log.error("{part} left something undone: {error}", part=type(part).__name__, error=error)
            except Exception:
                self.log.failure("{part} did not stop cleanly", part=part)


def run_in_foreground(service: Any, reactor: Reactor) -> None:
    """Start a service and run the reactor until it ends, which stops the service; the log goes to standard error."""
    observer: Any = textFileLogObserver(sys.stderr)
    globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False)
    service.privilegedStartService()
    service.startService()
    reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
    reactor.run()


class ProcessEnd:
    """How this process ends: once, however often it is told to, and within 10 s, whatever hangs.

    With status 1 when a service cannot go on, so that its supervisor starts it again.
    """

    log = Logger()

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor
        self.status = 0
        reactor.stop = _only_once(reactor.stop)  # type: ignore[method-assign]  # Twisted's signal handlers call it
        reactor.addSystemEventTrigger("before", "shutdown", self._end_in_time)

    def fail(self, failure: Failure) -> None:
        """Called by a service whose task failed."""
        self.log.critical("ending: {error}", error=failure.getErrorMessage())
        self.status = 1
        self._reactor.callLater(0, self._stop)

    def _stop(self) -> None:
        if self._reactor.running:
            # twistd ends with the status that a failing "after shutdown" trigger leaves
            self._reactor.addSystemEventTrigger("after", "shutdown", os._exit, 1)
            self._reactor.stop()

    def _end_in_time(self) -> None:
        """Threads cannot be cancelled, and both reactor and interpreter wait for them."""
        timer = threading.Timer(END_S, self._cut_off)
        timer.daemon = True
        timer.start()

    def _cut_off(self) -> None:
        waiting = [
            each.name for each in threading.enumerate() if not each.daemon and each is not threading.main_thread()
        ]
        self.log.error("ending although threads wait for what does not answer: {waiting}", waiting=", ".join(waiting))
        os._exit(self.status)


def _only_once(stop: Callable[[], None]) -> Callable[[], None]:
    """A reactor's ``stop`` for which a second signal, or a service that fails meanwhile, is no error."""

    def stop_quietly() -> None:
        with contextlib.suppress(ReactorNotRunning):
            stop()

    return stop_quietly
