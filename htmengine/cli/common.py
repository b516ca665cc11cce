# SPDX-License-Identifier: MIT
"""What the commands share: errors as one line and a status, the examples in ``--help``, the way to an engine."""

from __future__ import annotations

import contextlib
import functools
import getpass
import os
import re
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, ParamSpec, TypeVar

import click
from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.python.failure import Failure

from htmengine.alerts import maintenance_queries, rule_queries
from htmengine.alerts.configuration import Maintenance, Rule
from htmengine.client import AsyncClient
from htmengine.csv_files import format_timestamp, parse_timestamp
from htmengine.deployment import Deployment
from htmengine.errors import BusAway, BusError, HtmEngineError, StartError
from htmengine.messages.samples import MAX_TIMESTAMP
from htmengine.operations import Operations
from htmengine.process.twisted_types import Reactor, installed_reactor, within
from htmengine.repository.engine import Database

P = ParamSpec("P")
T = TypeVar("T")

#: One operation takes no longer unless database or broker hangs.
ANSWER_S = 8.0
#: An embedded engine gives a sign of life every few seconds; without one for this long it hangs.
SILENT_S = 30.0


def example(command: str) -> str:
    """The epilogue of a command's ``--help``."""
    return f"\b\nExample:\n  {command}"


def failing_cleanly(command: Callable[P, T]) -> Callable[P, T]:
    """An error of ours, or of the operating system, is one line on standard error and status 1."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return command(*args, **kwargs)
        except BrokenPipeError:
            raise  # who reads has gone, as head does: click ends quietly
        except OSError as error:
            raise click.ClickException(_in_words(error)) from None
        except UnicodeEncodeError as error:
            raise click.ClickException(_unwritable(error)) from None
        except (HtmEngineError, sqlite3.Error) as error:
            raise click.ClickException(str(error)) from None

    return wrapped


def _in_words(error: OSError) -> str:
    """The file and what is wrong with it.

    >>> _in_words(PermissionError(13, "Permission denied", "/etc/htmengine"))
    '/etc/htmengine: Permission denied'
    """
    return f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error)


def _unwritable(error: UnicodeEncodeError) -> str:
    """The argument whose bytes are not UTF-8, as of a terminal in Latin-1: Python makes surrogates of them.

    >>> _unwritable(UnicodeEncodeError("utf-8", b"gr\\xf6\\xdfe".decode(errors="surrogateescape"), 2, 4, "surrogates"))
    "'gr\\\\xf6\\\\xdfe' is not UTF-8: write it in UTF-8"
    """
    given = error.object.encode(errors="surrogateescape").decode(errors="backslashreplace")
    return f"'{given}' is not UTF-8: write it in UTF-8"


def run_reactor(start: Callable[[Reactor], Coroutine[Deferred[Any], Any, T]]) -> T:
    """Run a coroutine in the reactor to its end; its result or its error."""
    reactor = installed_reactor()
    ended: list[T | Failure] = []
    working: list[Deferred[Any]] = []
    stopping: list[bool] = []

    def begin() -> None:
        reactor.addSystemEventTrigger("before", "shutdown", stop)  # before what the coroutine uses stops
        deferred = Deferred.fromCoroutine(start(reactor))
        deferred.addBoth(ended.append)
        deferred.addBoth(lambda _: stopping or reactor.callLater(0, reactor.stop))
        working.append(deferred)

    def stop() -> Deferred[Any]:
        """Ctrl-C: the reactor stops when the coroutine has given back what it uses."""
        stopping.append(True)
        working[0].cancel()
        return working[0]

    reactor.callWhenRunning(begin)
    reactor.run()
    if not ended or (isinstance(ended[0], Failure) and ended[0].check(CancelledError)):
        raise click.Abort
    if isinstance(ended[0], Failure):
        ended[0].raiseException()
    return ended[0]


def printable(text: str) -> str:
    """A text that others chose, such as a name from HTM Engine's database, as a terminal may show it: on one line.

    >>> printable("a\\x1b[31mb\\nc")
    'a?[31mb?c'
    """
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else "?" for sign in text)


@dataclass(frozen=True, slots=True)
class Engine:
    """The engine that a command works on, running or not: its configuration and folder."""

    deployment: Deployment

    @contextlib.contextmanager
    def database(self) -> Iterator[Database]:
        """Its database, for synchronous use.  Nothing is made.  Raises `StartError` and `DatabaseFailed`."""
        database = self.deployment.existing_database(None)
        try:
            yield database
        finally:
            database.close()

    def rules(self) -> list[Rule]:
        """The alert rules in force; those of alerts.conf alone where there is no database yet."""
        config = self.deployment.alerts
        try:
            with self.database() as database:
                return database.read_sync(rule_queries.rules_in_force, config)
        except StartError:
            return [*config.rules]

    def maintenance(self) -> list[Maintenance]:
        """The maintenance in force."""
        with self.database() as database:
            return database.read_sync(maintenance_queries.in_force, self.deployment.alerts)

    @contextlib.asynccontextmanager
    async def client(self, reactor: Reactor) -> AsyncIterator[AsyncClient]:
        """Its database and its bus, in the reactor; what is away is not waited for, and nothing is made.

        Afterwards it is told whether the engine runs, unless that went wrong.
        """
        try:
            async with AsyncClient(reactor, self.deployment, patient=False) as client:
                yield client
        except BusError as error:
            raise BusError("; ".join([str(error), *self._at_rest()])) from None
        self.tell_whether_it_runs()

    def tell_whether_it_runs(self) -> None:
        """On standard error, if an embedded engine does not run, or runs and hangs."""
        for line in self._at_rest():
            click.echo(line, err=True)

    def _at_rest(self) -> list[str]:
        """What there is to say of an engine that does not go on."""
        folder = self.deployment.folder
        if folder is not None and not folder.in_use:
            return [f"no engine runs on {folder.path}"]
        return self.untold()

    def untold(self) -> list[str]:
        """What an embedded engine cannot write down itself: its event loop hangs, or its disk takes nothing."""
        folder = self.deployment.folder
        if folder is None:
            return []
        refusal = folder.refusal if folder.in_use else ""
        if refusal:
            return [f"the disk of {folder.path} {refusal}; until then the engine stores nothing"]
        sign = folder.last_sign()
        if sign is not None and time.time() - sign.at > SILENT_S:
            return [f"the engine (pid {sign.pid}) has given no sign of life since {format_timestamp(int(sign.at))}"]
        return []

    def make(self) -> Engine:
        """An embedded engine's folder and database, if there are none: for commands that begin something.

        One that runs has made them.  Raises `StartError` if its database was removed.
        """
        folder = self.deployment.folder
        if folder is not None and folder.in_use:
            folder.require_database()
        else:
            self.deployment.make_database()
        return self


def at_engine(engine: Engine, do: Callable[[Operations], Coroutine[Deferred[Any], Any, T]]) -> T:
    """Do one operation and wait for it, but not without end.  Raises `BusAway`."""

    async def start(reactor: Reactor) -> T:
        async with engine.client(reactor) as client:
            return await in_time(do(client.operations.by(user())), reactor)

    return run_reactor(start)


async def in_time(work: Coroutine[Deferred[Any], Any, T], reactor: Reactor, seconds: float = ANSWER_S) -> T:
    """One operation's result.  Raises `BusAway` when it takes longer."""
    try:
        return await within(Deferred.fromCoroutine(work), seconds, reactor)
    except TimeoutError:
        raise BusAway(
            f"database or broker has not answered for {seconds:g} s; the operation may still complete"
        ) from None


class NewFile(click.Path):
    """A file that a command writes when its work is done: a folder that is not there is told before."""

    def __init__(self) -> None:
        super().__init__(dir_okay=False, writable=True, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        if not path.parent.is_dir():
            self.fail(f"there is no folder {path.parent}", param, ctx)
        return path


@contextmanager
def new_file(path: Path | None, mode: str = "w") -> Iterator[IO[Any]]:
    """A file that takes its place when all of it is written, and never if that fails; standard output without a path.

    A device or a pipe keeps its place and is written at once.
    """
    if path is None or (path.exists() and not path.is_file()):
        with click.open_file(str(path or "-"), mode) as out:
            yield out
        return
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with _opened(partial, path, mode) as out:
            yield out
        partial.replace(path.resolve())
    finally:
        partial.unlink(missing_ok=True)


def _opened(partial: Path, path: Path, mode: str) -> IO[Any]:
    """The partial file of another.  Raises OSError, which names the other one."""
    try:
        return partial.open(mode)
    except OSError as error:
        error.filename = str(path)
        raise


def refuse_to_overwrite(read: Iterable[Path], written: Iterable[Path | None]) -> None:
    """Raises `HtmEngineError` if a file to be written is one that is read."""
    for target in written:
        if target is not None and target.is_file() and any(path.exists() and path.samefile(target) for path in read):
            raise HtmEngineError(f"{target} is one of the files that are read: name another one to write")


def place_options(command: Callable[..., T]) -> Callable[..., T]:
    """``--data-dir`` and ``--config`` become the arguments ``data_dir`` and ``config_dir``."""
    data_dir = click.option(
        "--data-dir",
        type=click.Path(readable=False, path_type=Path),
        help="The engine's data folder; by default the user's.",
    )
    config_dir = click.option(
        "--config",
        "config_dir",
        type=click.Path(readable=False, path_type=Path),
        envvar="APPLICATION_CONFIG_PATH",
        help="The folder with application.conf and the other files.",
    )
    return data_dir(config_dir(command))


def engine_options(command: Callable[..., T]) -> Callable[..., T]:
    """``--data-dir`` and ``--config`` become the argument ``engine``."""

    @place_options
    @functools.wraps(command)
    @failing_cleanly
    def wrapped(*args: Any, data_dir: Path | None, config_dir: Path | None, **kwargs: Any) -> T:
        return command(*args, engine=Engine(Deployment.find(config_dir, data_dir)), **kwargs)

    return wrapped


def user() -> str:
    """The user at this terminal, for the audit; a container's may have no name."""
    try:
        return getpass.getuser()[:100]
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


who_option = click.option("--who", default=user, show_default="the user", help="Who does it, for the audit.")


_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


#: Ten years.
LONGEST_SPAN_S = 3650 * 86_400


def span(parameter: str, text: str) -> int:
    """Seconds of a time that a user gave, such as 2h.  Raises `click.UsageError`."""
    found = re.fullmatch(r"(\d{1,9})([smhd])", text)
    if not found:
        raise click.UsageError(f"{parameter}: {text!r}; a number with its unit is allowed: 90s, 30m, 6h, 7d")
    seconds = int(found.group(1)) * _SECONDS[found.group(2)]
    if seconds > LONGEST_SPAN_S:
        raise click.UsageError(f"{parameter}: {text!r} is too long; at most {LONGEST_SPAN_S // 86_400}d are allowed")
    return seconds


def moment(parameter: str, text: str) -> float:
    """Epoch seconds of a time that a user gave: a timestamp, or how long ago.  Raises `click.UsageError`."""
    if re.fullmatch(r"\d+[smhd]", text):
        return time.time() - span(parameter, text)
    try:
        given = parse_timestamp(text)
    except ValueError as error:
        raise click.UsageError(f"{parameter}: {error}; or how long ago: 90s, 30m, 6h, 7d") from None
    if not 0 <= given <= MAX_TIMESTAMP:  # refuses NaN and infinities, too
        raise click.UsageError(f"{parameter}: {text!r}; epoch seconds up to {MAX_TIMESTAMP} are allowed")
    return given
