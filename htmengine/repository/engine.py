# SPDX-License-Identifier: MIT
"""The database, and the only hop to a thread.

In: synchronous functions that take ``conn`` first (`queries`), from services, command line and HTTP API.  Out: their
results, each after one transaction.  What passes (a deadlock, a lost connection) is tried again; a server that
is away is waited for, so that its callers simply take longer, and nothing is lost.

A transaction is tried again as a whole, and a connection may be lost while it commits: then nobody knows whether
it did.  So every function that changes something finds what an earlier try of its own has done.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

from pymysql.constants import CR, ER
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, OperationalError
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool

from htmengine.errors import ConfigError, DatabaseClosed
from htmengine.process.seldom import Seldom
from htmengine.process.twisted_types import Reactor, in_thread, later

P = ParamSpec("P")
T = TypeVar("T")

#: A transaction that meets a deadlock or a lost connection is tried this often, each time a little later.
TRIES = 8
FIRST_DELAY_S = 0.05
#: A server that is away is tried at least this often.
AWAY_DELAY_S = 5.0
SQLITE_TIMEOUT_S = 60.0
#: A server that accepts no connection, or does not answer a statement, for this long counts as away.  An answer may
#: wait for a lock, which MySQL gives up after 50 s.
CONNECT_TIMEOUT_S = 10
ANSWER_TIMEOUT_S = 120

#: MariaDB's, when an administrator ends a connection.
CONNECTION_KILLED = 1927

#: What is worth another try, by the driver's number.  A key is there twice when two transactions looked for it in vain
#: and both made it: the next try finds it.
RETRY: dict[str, set[int | str]] = {
    "mysql": {ER.LOCK_WAIT_TIMEOUT, ER.LOCK_DEADLOCK, ER.DUP_ENTRY},
    "postgresql": {
        "40001",  # serialization failure
        "40P01",  # deadlock
        "55P03",  # lock not available
        "23505",  # duplicate key
    },
    "sqlite": {sqlite3.SQLITE_BUSY},
}
#: The server cannot be reached, threw us out, or has no room.
AWAY: dict[str, set[int | str]] = {
    "mysql": {
        CR.CR_SERVER_GONE_ERROR,
        CR.CR_SERVER_LOST,
        CR.CR_CONN_HOST_ERROR,
        CR.CR_CONNECTION_ERROR,
        ER.CON_COUNT_ERROR,
        ER.SERVER_SHUTDOWN,
        ER.OPTION_PREVENTS_STATEMENT,  # read-only after a failover
        ER.DISK_FULL,
        ER.RECORD_FILE_FULL,
        CONNECTION_KILLED,
    },
    "postgresql": {
        "57P01",  # shut down by its administrator
        "57P02",  # shut down by a crash
        "57P03",  # starting
        "25006",  # read-only after a failover
        "53300",  # too many connections
        "53100",  # disk full
    },
    "sqlite": {sqlite3.SQLITE_FULL},
}
#: What users write, and the driver that we bring for it.
DRIVERS = {
    "mysql": "mysql+pymysql",
    "mariadb": "mysql+pymysql",
    "mariadb+pymysql": "mysql+pymysql",
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
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
        self._engine = make_engine(url)
        self._dialect = self._engine.dialect.name
        self._reactor = reactor
        self._closing = False
        self._waiting: set[Deferred[None]] = set()
        self._away_since: float | None = None
        self._away = Seldom(time.monotonic)
        # SQLite has one writer at a time: a thread of its own keeps the order, and readers never wait for it.
        self._writers = ThreadPool(0, 1 if self._dialect == "sqlite" else threads, "database writers")
        self._readers = ThreadPool(0, threads, "database readers")
        if reactor is not None:
            self._writers.start()
            self._readers.start()

    @property
    def away(self) -> bool:
        """Whether the server is waited for now."""
        return self._away_since is not None

    async def run(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """``fn(conn, ...)`` in one transaction, in a thread.  It may be called again, so it must have no other effect.

        Raises what ``fn`` raises, and `DatabaseClosed`.
        """
        return await self._persist(self._writers, self._write, fn, *args, **kwargs)

    async def read(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """As `run`, for functions that only read."""
        return await self._persist(self._readers, self._read, fn, *args, **kwargs)

    def run_sync(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """As `run`, in the caller's thread; a server that is away is not waited for."""
        attempt = 0
        while True:
            try:
                return self._write(fn, *args, **kwargs)
            except DBAPIError as error:
                attempt += 1
                if attempt == TRIES or not self._passes(error):
                    raise
            time.sleep(_delay_s(attempt))

    def stop_waiting(self) -> None:
        """From now on nobody waits for a server that is away: such calls end with `DatabaseClosed`."""
        self._closing = True
        for waiting in list(self._waiting):
            waiting.cancel()

    def close(self) -> None:
        """End all connections."""
        self.stop_waiting()
        if self._reactor is not None:
            self._writers.stop()
            self._readers.stop()
        self._engine.dispose()

    async def _persist(self, pool: ThreadPool, call: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Call in a thread, again and again while that helps."""
        assert self._reactor is not None, "without a reactor there is `run_sync`"
        attempt = 0
        while True:
            try:
                result = await in_thread(self._reactor, pool, call, *args, **kwargs)
            except DBAPIError as error:
                attempt += 1
                away = self._is_away(error)
                if away:
                    self._log_away(error)
                elif attempt == TRIES or not self._passes(error):
                    raise
                await self._wait(_delay_s(attempt))
            else:
                self._back()
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

    # --- errors ----------------------------------------------------------------------------------------

    def _passes(self, error: DBAPIError) -> bool:
        """Whether the same transaction may well succeed the next time."""
        return self._number(error) in RETRY[self._dialect]

    def _is_away(self, error: DBAPIError) -> bool:
        """Whether there is no server, or it ended our connection."""
        number = self._number(error)
        nameless = self._dialect == "postgresql" and number is None and isinstance(error, OperationalError)
        return error.connection_invalidated or number in AWAY[self._dialect] or nameless

    def _number(self, error: DBAPIError) -> int | str | None:
        """The driver's number of an error; PostgreSQL's is a text, and missing when there is no connection."""
        original: Any = error.orig
        if self._dialect == "mysql":
            return original.args[0] if original.args else None
        if self._dialect == "postgresql":
            return getattr(original, "sqlstate", None)
        return getattr(original, "sqlite_errorcode", 0) & 0xFF  # above it: details

    def _log_away(self, error: DBAPIError) -> None:
        now = time.monotonic()
        if self._away_since is None:
            self._away_since = now
        if self._away.due():
            self.log.error(
                "the database is away for {seconds:.0f} s: {error}",
                seconds=now - self._away_since,
                error=error.orig,
            )

    def _back(self) -> None:
        if self._away_since is not None:
            self.log.info("the database is back")
            self._away_since = None
            self._away.reset()


def _delay_s(attempt: int) -> float:
    return min(FIRST_DELAY_S * 2.0 ** min(attempt - 1, 10), AWAY_DELAY_S)


def as_of_now(conn: Connection) -> None:
    """Let all that a transaction reads be as of one moment.  Called before it reads anything."""
    if conn.dialect.name != "sqlite":  # whose transactions always do
        conn.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")


# --- connections ----------------------------------------------------------------------------------------


def database_url(url: str) -> URL:
    """SQLAlchemy's URL of a database, with our driver where none is named.  Raises `ConfigError`.

    >>> database_url("mariadb://root@127.0.0.1/htmengine").drivername
    'mysql+pymysql'
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        example = "mysql://user:password@host/database"
        raise ConfigError([f"[repository] url is no SQLAlchemy URL such as {example}"]) from None
    return parsed.set(drivername=DRIVERS.get(parsed.drivername, parsed.drivername))


def make_engine(url: str) -> Engine:
    """The way to a database; nothing is connected yet.  Raises `ConfigError`."""
    parsed = database_url(url)
    kind = parsed.get_backend_name()
    if kind not in RETRY:
        raise ConfigError([f"[repository] url: {kind} is no database of ours; {', '.join(RETRY)} are"])
    try:
        return _ENGINES[kind](parsed)
    except (ImportError, NoSuchModuleError) as error:
        raise ConfigError([f"[repository] url: no driver for {parsed.drivername}: {error}"]) from None


def _sqlite_engine(url: URL) -> Engine:
    engine = create_engine(url, connect_args={"timeout": SQLITE_TIMEOUT_S, "check_same_thread": False})
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _mysql_engine(url: URL) -> Engine:
    timeouts = {"connect_timeout": CONNECT_TIMEOUT_S, "read_timeout": ANSWER_TIMEOUT_S}
    return create_engine(url, connect_args={"charset": "utf8mb4", **timeouts}, **_SERVER)


def _postgresql_engine(url: URL) -> Engine:
    timeouts = {"connect_timeout": CONNECT_TIMEOUT_S, "tcp_user_timeout": ANSWER_TIMEOUT_S * 1000}
    waits = f"-c lock_timeout={ANSWER_TIMEOUT_S // 2}s -c timezone=UTC"
    return create_engine(url, connect_args={**timeouts, "options": waits}, **_SERVER)


#: pool_pre_ping: a connection that the server closed meanwhile is replaced before it is used.  Locks on what was
#: looked for and not found (MySQL's default) would only make deadlocks.
_SERVER: dict[str, Any] = {
    "pool_pre_ping": True,
    "pool_size": 8,
    "max_overflow": 8,
    "isolation_level": "READ COMMITTED",
}
_ENGINES = {"sqlite": _sqlite_engine, "mysql": _mysql_engine, "postgresql": _postgresql_engine}


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
