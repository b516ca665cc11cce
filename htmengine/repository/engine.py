# SPDX-License-Identifier: MIT
"""The only hop to a thread: transactions for the reactor, on a thread pool."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection, create_engine, event
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from htmengine.repository.schema import metadata

P = ParamSpec("P")
T = TypeVar("T")


class Database:
    """STAND-IN for SQLite."""

    def __init__(self, url: str, *, reactor: Any = None, pool_size: int = 4) -> None:
        self._reactor = reactor
        self._engine = create_engine(url)

        @event.listens_for(self._engine, "connect")
        def connect(dbapi: Any, _: Any) -> None:
            dbapi.isolation_level = None
            dbapi.execute("PRAGMA journal_mode=WAL")
            dbapi.execute("PRAGMA synchronous=NORMAL")
            dbapi.execute("PRAGMA busy_timeout=30000")
            dbapi.execute("PRAGMA foreign_keys=ON")

        @event.listens_for(self._engine, "begin")
        def begin(conn: Any) -> None:
            conn.exec_driver_sql("BEGIN IMMEDIATE")

        metadata.create_all(self._engine)
        self._pool = ThreadPool(0, 1, "database")
        if reactor is not None:
            self._pool.start()

    def run_sync(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        with self._engine.begin() as conn:
            return fn(conn, *args, **kwargs)

    async def run(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await deferToThreadPool(self._reactor, self._pool, self.run_sync, fn, *args, **kwargs)

    read = run

    def close(self) -> None:
        if self._reactor is not None:
            self._pool.stop()
        self._engine.dispose()
