# SPDX-License-Identifier: MIT
"""The database, and the only hop to a thread.

In: synchronous functions that take ``conn`` first (`queries`), from services, command line and HTTP API.  Out: their
results, each after one transaction.  What passes (a deadlock, a lost connection) is tried again; a server that
is away is waited for, so that its callers simply take longer, and nothing is lost.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError, OperationalError
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool

from htmengine.errors import BusClosed
from htmengine.twisted_types import Reactor

P = ParamSpec("P")
T = TypeVar("T")

#: A transaction that meets a deadlock or a lost connection is tried this often, each time a little later.
TRIES = 8
FIRST_DELAY_S = 0.05
#: A server that is away is tried at least this often, and the log says so once a minute.
AWAY_DELAY_S = 5.0
LOG_INTERVAL_S = 60.0
SQLITE_TIMEOUT_S = 60.0

#: What is worth another try.  MySQL: lock wait timeout, deadlock.  PostgreSQL: serialization failure, deadlock.
RETRY = {"mysql": {1205, 1213}, "postgresql": {"40001", "40P01"}}
#: The server cannot be reached, or threw us out.  MySQL: gone away, lost connection, cannot connect, too many
#: connections, shutting down, read-only after a failover.  PostgreSQL: admin shutdown, crash, starting, no connection.
AWAY = {
    "mysql": {2006, 2013, 2003, 2002, 1040, 1053, 1290},
    "postgresql": {"57P01", "57P02", "57P03", "53300", "08000", "08001", "08003", "08006", None},
}


class Database:
    """One database, reached through SQLAlchemy.

    With a reactor: `run` and `read` in threads, for services.  Without: `run_sync`, for the command line.

    >>> from htmengine.repository import queries, schema
    >>> database = Database("sqlite:///:memory:")
    >>> database.run_sync(schema.metadata.create_all)
    >>> database.run_sync(queries.list_metrics)
    []
    >>> database.close()
    """

    log = Logger()

    def __init__(self, url: str, *, reactor: Reactor | None = None, threads: int = 4) -> None:
        self._engine = _make_engine(url)
        self._dialect = self._engine.dialect.name
        self._reactor = reactor
        self._closed = False
        self._away_since: float | None = None
        self._logged_at = 0.0
        # SQLite has one writer at a time: a thread of its own keeps the order, and readers never wait for it.
        self._writers = ThreadPool(0, 1 if self._dialect == "sqlite" else threads, "database writers")
        self._readers = ThreadPool(0, threads, "database readers")
        if reactor is not None:
            self._writers.start()
            self._readers.start()

    async def run(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """``fn(conn, ...)`` in one transaction, in a thread.  It may be called again, so it must have no other effect.

        Raises what ``fn`` raises.
        """
        return await self._persist(self._writers, self._write, fn, *args, **kwargs)

    async def read(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """As `run`, for functions that only read."""
        return await self._persist(self._readers, self._read, fn, *args, **kwargs)

    def run_sync(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """As `run`, in the caller's thread; a server that is away is not waited for."""
        for attempt in range(TRIES):
            try:
                return self._write(fn, *args, **kwargs)
            except DBAPIError as error:
                if not self._is(RETRY, error) or attempt == TRIES - 1:
                    raise
            time.sleep(FIRST_DELAY_S * 2**attempt)
        raise AssertionError("unreachable")

    def close(self) -> None:
        """End all connections; what still waits for a server that is away ends with `BusClosed`."""
        self._closed = True
        if self._reactor is not None:
            self._writers.stop()
            self._readers.stop()
        self._engine.dispose()

    async def _persist(self, pool: ThreadPool, call: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Call in a thread, again and again while that helps."""
        assert self._reactor is not None
        reactor: Any = self._reactor
        attempt = 0
        while True:
            try:
                result: T = await deferToThreadPool(reactor, pool, call, *args, **kwargs)
            except DBAPIError as error:
                away = self._is(AWAY, error)
                attempt += 1
                if self._closed:
                    raise BusClosed("the database is closed") from None
                if not away and (attempt == TRIES or not self._is(RETRY, error)):
                    raise
                if away:
                    self._log_away(error)
                delay = min(FIRST_DELAY_S * 2 ** min(attempt, 10), AWAY_DELAY_S)
            else:
                self._back()
                return result
            await deferLater(reactor, delay)

    def _write(self, fn: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        with self._engine.begin() as conn:
            return fn(conn, *args, **kwargs)

    def _read(self, fn: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        with self._engine.connect().execution_options(htmengine_read=True) as conn:
            return fn(conn, *args, **kwargs)

    def _is(self, kinds: dict[str, Any], error: DBAPIError) -> bool:
        """Whether the driver's error number is among those of a kind."""
        if self._dialect == "mysql":
            number = error.orig.args[0] if error.orig is not None and error.orig.args else None
            return number in kinds["mysql"]
        if self._dialect == "postgresql":
            known = kinds["postgresql"]
            state = getattr(error.orig, "sqlstate", None)
            return state in known and (state is not None or isinstance(error, OperationalError))
        return False

    def _log_away(self, error: DBAPIError) -> None:
        now = time.monotonic()
        self._away_since = self._away_since or now
        if now - self._logged_at >= LOG_INTERVAL_S:
            self._logged_at = now
            self.log.error(
                "the database is away for {seconds:.0f} s: {error}",
                seconds=now - self._away_since,
                error=error.orig,
            )

    def _back(self) -> None:
        if self._away_since is not None:
            self.log.info("the database is back")
            self._away_since, self._logged_at = None, 0.0


def as_of_now(conn: Connection) -> None:
    """Let all that a transaction reads be as of one moment.  Called before it reads anything."""
    if conn.dialect.name != "sqlite":  # whose transactions always do
        conn.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")


def _make_engine(url: str) -> Engine:
    if url.startswith("sqlite"):
        engine = create_engine(url, connect_args={"timeout": SQLITE_TIMEOUT_S, "check_same_thread": False})
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    # pool_pre_ping: a connection that the server closed meanwhile is replaced before it is used.
    return create_engine(url, pool_pre_ping=True, pool_size=8, max_overflow=8, isolation_level="READ COMMITTED")


def _prepare_sqlite(connection: Any, _record: object) -> None:
    """WAL: readers see the last commit while a writer is at work.  Transactions are begun by `_begin_sqlite`."""
    connection.isolation_level = None
    for pragma in (
        "journal_mode = WAL",
        "synchronous = NORMAL",
        "foreign_keys = ON",
        "journal_size_limit = 67108864",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(conn: Connection) -> None:
    """A writer takes the lock at once: one that begins as a reader cannot become a writer if another was faster."""
    reading = conn.get_execution_options().get("htmengine_read", False)
    conn.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")
