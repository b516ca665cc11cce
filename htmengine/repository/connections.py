# SPDX-License-Identifier: MIT
"""The ways to the databases: drivers, time-outs, and what each connection is set to.

In: a database's URL.  Out: SQLAlchemy's engine for `htmengine.repository.engine` and the migrations.  No connection
waits without a bound: not while it is made, not for an answer, and not when the host at its other end is gone.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sqlite3
from typing import Any

from sqlalchemy import URL, Connection, Engine, ExceptionContext, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from htmengine.errors import ConfigError, MissingExtra
from htmengine.process import sqlite_files
from htmengine.process.extras import optional

#: A service waits this long for another process's lock on SQLite, a command, unless an engine runs, that long.
SQLITE_TIMEOUT_S = 60.0
COMMAND_TIMEOUT_S = 5.0
#: A connection keeps this much of the file in memory: more than a transaction changes.
SQLITE_CACHE_KB = 16_384
#: A server that accepts no connection for this long counts as away.
CONNECT_TIMEOUT_S = 5
#: So does one that does not answer a statement.  The answer may wait for a lock, which MySQL gives up after 50 s.
ANSWER_TIMEOUT_S = 60
#: A connection is given up when its other end has acknowledged no byte for this long.
SILENCE_S = 20

#: What users write, and the driver that we bring for it.
DRIVERS = {
    "mysql": "mysql+pymysql",
    "mariadb": "mysql+pymysql",
    "mariadb+pymysql": "mysql+pymysql",
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
}
#: The package of each driver, and the extra that brings it.
_PACKAGES = {"mysql+pymysql": ("pymysql", "mysql"), "postgresql+psycopg": ("psycopg", "postgresql")}
_EXAMPLE = "mysql://user:password@host/database"


def database_url(url: str, option: str = "[repository] url") -> URL:
    """SQLAlchemy's URL of a database, with our driver where none is named.  Raises `ConfigError`.

    ``option``: where the URL was written.

    >>> database_url("mariadb://root@127.0.0.1/htmengine").drivername
    'mysql+pymysql'
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # ValueError: of a port that is no number
        raise ConfigError([f"{option} is not a SQLAlchemy URL such as {_EXAMPLE}"]) from None
    if "@" in (parsed.host or ""):  # shown with its host, the URL would show a part of the password
        raise ConfigError([f"{option}: write %40 for an @ in the user's name or the password"])
    return parsed.set(drivername=DRIVERS.get(parsed.drivername, parsed.drivername))


def require_driver(url: URL, option: str) -> None:
    """Raises `ConfigError`, which names the extra, if our driver of such a database is not installed."""
    if url.drivername in _PACKAGES:
        try:
            optional(*_PACKAGES[url.drivername])
        except MissingExtra as missing:
            raise ConfigError([f"{option}: {url.get_backend_name()}: {missing}"]) from None


def make_engine(
    url: str,
    *,
    patient: bool = False,
    database: str | None = None,
    lock_s: float = SQLITE_TIMEOUT_S,
    only_look: bool = False,
    option: str = "[repository] url",
) -> Engine:
    """The way to a database; nothing is connected yet.  Raises `ConfigError`.

    ``patient``: an answer is waited for as long as it takes, as when a large table is changed.  ``database``: another
    one of the same server; empty: none.  ``lock_s``: how long another process's lock on SQLite is waited for.
    ``only_look``: SQLite's file may be one that cannot be written.  ``option``: where the URL was written.
    """
    parsed = database_url(url, option)
    if database is not None:
        parsed = parsed.set(database=database)
    kind = parsed.get_backend_name()
    if kind not in _ENGINES:
        raise ConfigError([f"{option}: {kind} is not supported; supported are {', '.join(_ENGINES)}"])
    if kind == "mysql" and database is None and not parsed.database:
        raise ConfigError([f"{option} names no database; write it as in {_EXAMPLE}"])
    answer_s = lock_s if kind == "sqlite" else None if patient else ANSWER_TIMEOUT_S
    require_driver(parsed, option)
    try:
        engine = _ENGINES[kind](parsed, answer_s)
    except (ImportError, NoSuchModuleError) as error:
        raise ConfigError([f"{option}: no driver for {parsed.drivername}: {error}"]) from None
    if only_look and kind == "sqlite":
        event.listen(engine, "do_connect", _look)
    return engine


def _look(_dialect: object, _record: object, args: Any, options: Any) -> Any:
    return sqlite_files.connect(*args, **options)


def _sqlite_engine(url: URL, lock_s: float | None) -> Engine:
    engine = create_engine(url, connect_args={"timeout": lock_s, "check_same_thread": False})
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    event.listen(engine, "handle_error", _open_again)
    return engine


def _mysql_engine(url: URL, answer_s: float | None) -> Engine:
    timeouts = dict.fromkeys(("connect_timeout", "read_timeout", "write_timeout"), CONNECT_TIMEOUT_S)
    engine = create_engine(url, connect_args={"charset": "utf8mb4", **timeouts}, **_SERVER)

    def connected(connection: Any, _record: object) -> None:
        """PyMySQL has one time-out for the greeting and for all answers, so it is set again after the greeting."""
        connection._read_timeout = connection._write_timeout = answer_s
        _watch(connection._sock)

    event.listen(engine, "connect", connected)
    return engine


def _postgresql_engine(url: URL, answer_s: float | None) -> Engine:
    import psycopg

    class BoundedConnection(psycopg.Connection[Any]):
        """psycopg itself waits for an answer without end; a connection whose answer is late is closed."""

        def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = answer_s) -> Any:
            try:
                return super().wait(gen, interval, timeout)
            except psycopg.OperationalError:
                if not self.closed and self.pgconn.transaction_status == psycopg.pq.TransactionStatus.ACTIVE:
                    self.close()
                raise

    def connect(_dialect: object, _record: object, args: Any, options: Any) -> Any:
        return BoundedConnection.connect(*args, **options)

    timeouts = {
        "connect_timeout": CONNECT_TIMEOUT_S,
        "tcp_user_timeout": SILENCE_S * 1000,
        "keepalives_idle": SILENCE_S,
        "keepalives_interval": SILENCE_S // 4,
        "keepalives_count": 3,
    }
    waits = f"-c lock_timeout={ANSWER_TIMEOUT_S // 2}s -c timezone=UTC"
    engine = create_engine(url, connect_args={**timeouts, "options": waits}, **_SERVER)
    event.listen(engine, "do_connect", connect)
    return engine


#: pool_pre_ping: a connection that the server closed meanwhile is replaced before it is used.  Locks on what was
#: looked for and not found (MySQL's default) would only make deadlocks.
_SERVER: dict[str, Any] = {
    "pool_pre_ping": True,
    "pool_size": 8,
    "max_overflow": 8,
    "isolation_level": "READ COMMITTED",
}
_ENGINES = {"sqlite": _sqlite_engine, "mysql": _mysql_engine, "postgresql": _postgresql_engine}


def _watch(connection: socket.socket) -> None:
    """Let the system notice that the host at the other end is gone."""
    if connection.family == socket.AF_UNIX:
        return
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEP_ALIVE.items():
        if hasattr(socket, name):  # Linux has them all
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


_KEEP_ALIVE = {
    "TCP_KEEPIDLE": SILENCE_S,
    "TCP_KEEPINTVL": SILENCE_S // 4,
    "TCP_KEEPCNT": 3,
    "TCP_USER_TIMEOUT": SILENCE_S * 1000,
}


class OpenConnections:
    """The connections of one engine to a server, so that those that wait for an answer can be ended."""

    def __init__(self, engine: Engine) -> None:
        self._open: set[Any] = set()
        if engine.dialect.name != "sqlite":
            event.listen(engine, "connect", lambda connection, _: self._open.add(connection))
            event.listen(engine, "close", lambda connection, _: self._open.discard(connection))

    def hang_up(self) -> None:
        """End them from another thread: whoever waits for an answer gets an error at once."""
        for connection in list(self._open):
            with contextlib.suppress(Exception):  # it was closed just now
                number = connection._sock.fileno() if hasattr(connection, "_sock") else connection.fileno()
                with socket.socket(fileno=os.dup(number)) as same:
                    same.shutdown(socket.SHUT_RDWR)


def _prepare_sqlite(connection: Any, _record: object) -> None:
    """Transactions are begun by `_begin_sqlite`."""
    connection.isolation_level = None
    sqlite_files.prepare(connection)
    for pragma in ("foreign_keys = ON", f"cache_size = -{SQLITE_CACHE_KB}"):
        connection.execute(f"PRAGMA {pragma}")


def _open_again(context: ExceptionContext) -> None:
    """A connection that was opened while the disk was read-only stays so."""
    if sqlite_files.error_number(context.original_exception) == sqlite3.SQLITE_READONLY:
        context.is_disconnect = True


def _begin_sqlite(conn: Connection) -> None:
    """A writer takes the lock at once: one that begins as a reader cannot become a writer if another was faster."""
    reading = conn.get_execution_options().get("htmengine_read", False)
    conn.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")
