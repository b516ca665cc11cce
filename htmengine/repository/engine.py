# SPDX-License-Identifier: MIT
"""The database, and the only hop to a thread.

In: synchronous functions that take ``conn`` first (`queries`), from services, command line and HTTP API.  Out: their
results, each after one transaction.  What passes (a deadlock, a lost connection) is tried again; a server that
is away is waited for, so that its callers simply take longer, and nothing is lost.

A transaction is tried again as a whole, and a connection may be lost while it commits: then nobody knows whether
it did.  So every function that changes something finds what an earlier try of its own has done.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.threadpool import ThreadPool

from htmengine.errors import DatabaseClosed
from htmengine.process.progress import Progress
from htmengine.process.twisted_types import Reactor, Timer, in_thread, later
from htmengine.repository.connections import COMMAND_TIMEOUT_S, SQLITE_TIMEOUT_S, OpenConnections, make_engine
from htmengine.repository.failures import in_one_line, is_away, passes
from htmengine.repository.outage import Outage

P = ParamSpec("P")
T = TypeVar("T")

#: A transaction that meets a deadlock or a lost connection is tried this often, each time a little later.
TRIES = 8
FIRST_DELAY_S = 0.05
#: A server that is away is tried at least this often.
AWAY_DELAY_S = 5.0
#: What is in flight when the process stops has this long to end; then the connections are cut.
GRACE_S = 2.0


class Database:
    """One database, reached through SQLAlchemy.

    With a reactor: `run` and `read` in threads, for services.  Without: `run_sync`, for the command line.  With
    ``patient=False`` a server that is away is not waited for, and a lock on SQLite only while somebody is ``busy`` with
    it.  What it is at it tells ``progress``.

    >>> from htmengine.repository import queries, schema
    >>> database = Database("sqlite:///:memory:")
    >>> database.run_sync(schema.metadata.create_all)
    >>> database.run_sync(queries.list_metrics)
    []
    >>> database.close()
    """

    def __init__(
        self,
        url: str,
        *,
        reactor: Reactor | None = None,
        threads: int = 4,
        patient: bool = True,
        busy: bool = False,
        progress: Progress | None = None,
    ) -> None:
        self._url = url
        self._progress = progress or Progress(time.time)
        self._patient = patient
        lock_s = SQLITE_TIMEOUT_S if patient or busy else COMMAND_TIMEOUT_S
        self._engine = make_engine(url, lock_s=lock_s, only_look=not patient)
        self._connections = OpenConnections(self._engine)
        self._dialect = self._engine.dialect.name
        self._reactor = reactor
        self._closing = False
        self._cutting: Timer | None = None  #: cuts off what is in flight when the process stops
        self._waiting: set[Deferred[None]] = set()
        self._outage = Outage(time.monotonic)
        # SQLite has one writer at a time: a thread of its own keeps the order, and readers never wait for it.
        self._writers = ThreadPool(0, 1 if self._dialect == "sqlite" else threads, "database writers")
        self._readers = ThreadPool(0, threads, "database readers")
        if reactor is not None:
            self._writers.start()
            self._readers.start()

    @property
    def away(self) -> bool:
        """Whether the server is waited for now."""
        return self._outage.lasts

    async def run(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """``fn(conn, ...)`` in one transaction, in a thread.  It may be called again, so it must have no other effect.

        Raises what ``fn`` raises, `DatabaseClosed`, and `DatabaseFailed` if it is not patient.
        """
        with self._progress.doing(f"waiting for the database ({_name_of(fn)})"):
            return await self._persist(self._writers, self._write, fn, *args, **kwargs)

    async def read(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """As `run`, for functions that only read."""
        with self._progress.doing(f"waiting for the database ({_name_of(fn)})"):
            return await self._persist(self._readers, self._read, fn, *args, **kwargs)

    def run_sync(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """As `run`, in the caller's thread; a server that is away is not waited for.  Raises `DatabaseFailed`."""
        with in_one_line(self._url):
            return self._in_tries(lambda: self._write(fn, *args, **kwargs))

    def read_sync(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """As `run_sync`, for functions that only read."""
        with in_one_line(self._url):
            return self._in_tries(lambda: self._read(fn, *args, **kwargs))

    def stop_waiting(self) -> None:
        """From now on nobody waits for a server that is away: such calls end with `DatabaseClosed`.

        What is in flight is given `GRACE_S`.
        """
        self._closing = True
        for waiting in list(self._waiting):
            waiting.cancel()
        if self._reactor is not None and self._cutting is None:
            self._cutting = self._reactor.callLater(GRACE_S, self._connections.hang_up)

    def close(self) -> None:
        """End all connections."""
        self.stop_waiting()
        if self._cutting is not None and self._cutting.active():
            self._cutting.cancel()
        if self._reactor is not None:
            self._connections.hang_up()
            self._writers.stop()
            self._readers.stop()
        self._engine.dispose()

    async def _persist(self, pool: ThreadPool, call: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Call in a thread, again and again while that helps."""
        assert self._reactor is not None, "without a reactor there is `run_sync`"
        attempt, began = 0, time.monotonic()
        while True:
            if self._closing and self.away:
                raise DatabaseClosed
            try:
                result = await in_thread(self._reactor, pool, call, *args, **kwargs)
            except DBAPIError as error:
                attempt += 1
                away = is_away(error, self._dialect)
                if not self._patient and (away or not passes(error, self._dialect) or self._is_late(began)):
                    with in_one_line(self._url):
                        raise
                if away:
                    self._outage.meets(pool, error.orig)
                elif attempt == TRIES or not passes(error, self._dialect):
                    raise
                await self._wait(_delay_s(attempt))
            else:
                self._outage.ends(pool)
                return result

    async def _wait(self, delay_s: float) -> None:
        if self._closing or self._reactor is None:
            raise DatabaseClosed
        waiting = later(self._reactor, delay_s)
        self._waiting.add(waiting)
        try:
            await waiting
        except CancelledError:
            raise DatabaseClosed from None
        finally:
            self._waiting.discard(waiting)

    def _write(self, fn: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        with self._engine.begin() as conn:
            return fn(conn, *args, **kwargs)

    def _read(self, fn: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        with self._engine.connect().execution_options(htmengine_read=True) as conn:
            return fn(conn, *args, **kwargs)

    def _in_tries(self, call: Callable[[], T]) -> T:
        attempt, began = 0, time.monotonic()
        while True:
            try:
                return call()
            except DBAPIError as error:
                attempt += 1
                if attempt == TRIES or not passes(error, self._dialect) or self._is_late(began):
                    raise
            time.sleep(_delay_s(attempt))

    def _is_late(self, began: float) -> bool:
        """Whether a command has waited for so long that its user is told."""
        return not self._patient and time.monotonic() - began > COMMAND_TIMEOUT_S


def _name_of(fn: Callable[..., Any]) -> str:
    return str(getattr(fn, "__name__", type(fn).__name__)).strip("_")


def _delay_s(attempt: int) -> float:
    return min(FIRST_DELAY_S * 2.0 ** min(attempt - 1, 10), AWAY_DELAY_S)


def as_of_now(conn: Connection) -> None:
    """Let all that a transaction reads be as of one moment.  Called before it reads anything."""
    if conn.dialect.name != "sqlite":  # whose transactions always do
        conn.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
