# SPDX-License-Identifier: MIT
"""The embedded bus's file: queues, exchanges and messages in SQLite (WAL).

In: calls of `htmengine.bus.embedded`, which groups them into transactions on one thread.  Out: rows.  Nothing is
cached here, since other processes write to the same file.

::

    queue      name, limits, used_at; newest: the id of the last message ever; messages, bytes: what it holds;
               dropped: how many have made room for others
    exchange   name
    binding    exchange, queue
    message    id, size, headers (JSON), body, put_at (epoch seconds; 0: by version 1)

A message's id is its queue's id and its place in the queue.  So a queue's messages lie side by side, in order, and
the primary key is the only index.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, groupby
from os import PathLike
from typing import Any

from htmengine.bus.interface import QueueLimits, QueueState
from htmengine.errors import QueueFull, StartError, UnroutableMessage
from htmengine.process import sqlite_files

#: Written to the file as its user_version.
VERSION = 2
#: A queue's messages have the ids from ``queue.id << PLACE_BITS``: 2**40 messages in each of 2**23 queues.
PLACE_BITS = 40
#: How long a transaction waits for one of another process.
LOCK_TIMEOUT_S = 30.0
#: Of a new file.  A commit writes whole pages, and most messages are small.
PAGE_BYTES = 4096
#: Free pages are given back to the file system when there are more of them than pages in use, and than this.
FREE_PAGES_KEPT = 2048
#: Pages given back at a time.
FREE_PAGES_AT_ONCE = 4096

_SCHEMA = """
CREATE TABLE queue (
    id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE,
    max_messages INTEGER NOT NULL, max_bytes INTEGER NOT NULL, overflow TEXT NOT NULL, expires_s REAL,
    used_at REAL NOT NULL, newest INTEGER NOT NULL DEFAULT 0,
    messages INTEGER NOT NULL DEFAULT 0, bytes INTEGER NOT NULL DEFAULT 0);
CREATE TABLE exchange (name TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE binding (exchange TEXT NOT NULL, queue INTEGER NOT NULL, PRIMARY KEY (exchange, queue)) WITHOUT ROWID;
CREATE TABLE message (id INTEGER PRIMARY KEY, size INTEGER NOT NULL, headers TEXT NOT NULL, body BLOB NOT NULL);
"""
#: From the version before.
_UPGRADES = {
    2: """
ALTER TABLE queue ADD COLUMN dropped INTEGER NOT NULL DEFAULT 0;
ALTER TABLE message ADD COLUMN put_at REAL NOT NULL DEFAULT 0
"""
}
_QUEUE = "SELECT id, name, newest, messages, bytes, max_messages, max_bytes, overflow, dropped FROM queue "


@dataclass(slots=True)
class Queue:
    """A row of the table queue."""

    id: int
    name: str
    newest: int  #: id of the last message that was ever put
    messages: int
    bytes: int
    max_messages: int
    max_bytes: int
    overflow: str
    dropped: int

    @property
    def full(self) -> bool:
        """Whether publishers have to wait."""
        return self.overflow == "wait" and self.exceeds(1.0)

    def exceeds(self, part: float) -> bool:
        """Whether it holds at least this part of a bound."""
        return self.messages >= part * self.max_messages or self.bytes >= part * self.max_bytes


@dataclass(frozen=True, slots=True)
class Arrival:
    """Messages that were put in a queue: ``first`` is the id of the first of them, the others follow."""

    queue: str
    first: int


@dataclass(frozen=True, slots=True)
class Part:
    """Messages of a queue (id, headers, body).  There are no others up to the id ``end``."""

    messages: Sequence[tuple[int, Mapping[str, str], bytes]]
    end: int
    complete: bool  #: there are none after it either


class QueueFile:
    """One connection to the file, which is made if need be, and only read where it may not be written.

    Raises `StartError`.

    What is committed is on the disk, and survives a power cut.
    Methods that write are called within `transaction`.  Those that raise an error of ours have changed nothing.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        try:
            self.read_only = sqlite_files.is_read_only(path)  #: from the start
            self._begin = "BEGIN" if self.read_only else "BEGIN IMMEDIATE"
            options: dict[str, Any] = {"isolation_level": None, "check_same_thread": False}
            self._db = sqlite_files.connect(path, timeout=LOCK_TIMEOUT_S, **options)
            self._prepare()
        except sqlite3.Error as error:
            raise StartError(f"bus file {path}: {error}") from None
        self._data_version = self._number("PRAGMA data_version")

    def _prepare(self) -> None:
        version = self._number("PRAGMA user_version")
        new = [f"page_size={PAGE_BYTES}", "auto_vacuum=INCREMENTAL"] if version == 0 else []
        for pragma in new:
            self._db.execute(f"PRAGMA {pragma}").fetchall()
        sqlite_files.prepare(self._db)
        if version != VERSION:  # else nothing is written: the disk may be full
            self._make()

    def _make(self) -> None:
        with self.transaction():
            found = self._number("PRAGMA user_version")
            if found > VERSION:
                raise sqlite3.DatabaseError(f"has version {found}, this engine reads versions up to {VERSION}")
            steps = [_SCHEMA] if found == 0 else []
            steps += [_UPGRADES[version] for version in range(max(found, 1) + 1, VERSION + 1)]
            for statement in ";".join(steps).split(";"):
                self._db.execute(statement)
            self._db.execute(f"PRAGMA user_version={VERSION}")

    def close(self) -> None:
        """Close it; the last connection leaves one file without a log."""
        self._db.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything within it, or nothing, is in the file afterwards."""
        self._db.execute(self._begin)
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:  # some errors have rolled it back already
                self._db.execute("ROLLBACK")
            raise

    def changed(self) -> bool:
        """Whether another process has written since this was asked last."""
        before, self._data_version = self._data_version, self._number("PRAGMA data_version")
        return self._data_version != before

    # --- queues and exchanges --------------------------------------------------------------------------

    def declare_queue(self, name: str, limits: QueueLimits, now: float) -> None:
        """Make a queue, if it does not exist."""
        self._db.execute(
            "INSERT INTO queue (name, max_messages, max_bytes, overflow, expires_s, used_at)"
            " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET used_at = excluded.used_at",
            (name, limits.max_messages, limits.max_bytes, limits.overflow, limits.expires_s, now),
        )

    def declare_fanout(self, name: str) -> None:
        """Make an exchange, if it does not exist."""
        self._db.execute("INSERT OR IGNORE INTO exchange VALUES (?)", (name,))

    def bind(self, queue: str, exchange: str) -> None:
        """Raises `UnroutableMessage` if either does not exist."""
        found = self.queue(queue)
        self._require_exchange(exchange)
        self._db.execute("INSERT OR IGNORE INTO binding VALUES (?, ?)", (exchange, found.id))

    def heard(self) -> set[str]:
        """The exchanges that a queue is bound to."""
        return {exchange for (exchange,) in self._db.execute("SELECT DISTINCT exchange FROM binding")}

    def delete_queue(self, name: str) -> None:
        """Remove a queue and its messages, if it exists."""
        for (id_,) in self._db.execute("SELECT id FROM queue WHERE name = ?", (name,)).fetchall():
            self._db.execute("DELETE FROM message WHERE id BETWEEN ? AND ?", _places(id_))
            self._db.execute("DELETE FROM binding WHERE queue = ?", (id_,))
            self._db.execute("DELETE FROM queue WHERE id = ?", (id_,))

    def queue(self, name: str) -> Queue:
        """Raises `UnroutableMessage`."""
        row = self._db.execute(_QUEUE + "WHERE name = ?", (name,)).fetchone()
        if row is None:
            raise UnroutableMessage(name)
        return Queue(*row)

    def newest(self, name: str) -> int | None:
        """The id of a queue's last message ever; None when there is no such queue."""
        row = self._db.execute("SELECT newest FROM queue WHERE name = ?", (name,)).fetchone()
        return row and int(row[0])

    def has_room(self, name: str) -> bool:
        """Whether publishers who wait for a queue go on: half of it is free, or it is gone."""
        row = self._db.execute(_QUEUE + "WHERE name = ?", (name,)).fetchone()
        return row is None or not Queue(*row).exceeds(0.5)

    def touch(self, names: Iterable[str], now: float) -> None:
        """Say that queues are in use."""
        self._db.executemany("UPDATE queue SET used_at = ? WHERE name = ?", [(now, name) for name in names])

    def states(self, now: float, read_within_s: float) -> list[QueueState]:
        """All queues, by name; one that was in use within that many seconds has a reader."""
        states = []
        rows = self._db.execute("SELECT id, name, messages, bytes, dropped, used_at FROM queue ORDER BY name")
        oldest = "SELECT put_at FROM message WHERE id BETWEEN ? AND ? ORDER BY id LIMIT 1"
        for id_, name, messages, size, dropped, used_at in rows.fetchall():
            put_at = (self._db.execute(oldest, _places(id_)).fetchone() or (0.0,))[0]
            bound = self._db.execute("SELECT exchange FROM binding WHERE queue = ? ORDER BY exchange", (id_,))
            unread_s = max(now - used_at, 0.0)
            states.append(
                QueueState(
                    name,
                    messages,
                    has_reader=unread_s <= read_within_s,
                    bytes=size,
                    oldest_s=max(now - put_at, 0.0) if put_at else None,
                    dropped=dropped,
                    unread_s=unread_s,
                    exchanges=[exchange for (exchange,) in bound],
                )
            )
        return states

    def expired(self, now: float) -> set[str]:
        """Queues that have not been in use for too long."""
        rows = self._db.execute("SELECT name FROM queue WHERE used_at + expires_s < ?", (now,))
        return {name for (name,) in rows}

    # --- messages --------------------------------------------------------------------------------------

    def put(self, name: str, bodies: Sequence[bytes], headers: Mapping[str, str], now: float) -> list[Arrival]:
        """Append to a queue.  Raises `UnroutableMessage`, `QueueFull`."""
        queue = self.queue(name)
        if queue.full:
            raise QueueFull(queue.name)
        return [self._append(queue, bodies, headers, now, drop=queue.overflow == "drop-head")]

    def broadcast(
        self, exchange: str, bodies: Sequence[bytes], headers: Mapping[str, str], now: float
    ) -> list[Arrival]:
        """Append to all queues that are bound; the oldest messages make room.  Raises `UnroutableMessage`."""
        self._require_exchange(exchange)
        bound = _QUEUE + "JOIN binding ON queue = id WHERE exchange = ?"
        rows = self._db.execute(bound, (exchange,)).fetchall()
        return [self._append(Queue(*row), bodies, headers, now, drop=True) for row in rows]

    def read(self, name: str, after: int, most: int, most_bytes: int) -> Part:
        """A queue's messages after an id: up to ``most``, and no more when they have ``most_bytes``.

        Raises `UnroutableMessage`.
        """
        queue = self.queue(name)
        first, last = _places(queue.id)
        cursor = self._db.execute(
            "SELECT id, headers, body FROM message WHERE id BETWEEN ? AND ? ORDER BY id LIMIT ?",
            (max(first, after + 1), last, most),
        )
        messages = []
        size = 0
        for id_, text, body in cursor:
            messages.append((id_, json.loads(text), body))
            size += len(body)
            if size >= most_bytes:
                break
        cursor.close()
        complete = len(messages) < most and size < most_bytes
        return Part(messages, queue.newest if complete else messages[-1][0], complete)

    def remove(self, name: str, ids: Iterable[int]) -> None:
        """Remove messages of a queue; those that are gone already do no harm."""
        sizes = []
        for first, last in _runs(ids):
            rows = self._db.execute("DELETE FROM message WHERE id BETWEEN ? AND ? RETURNING size", (first, last))
            sizes += [size for (size,) in rows]
        self._db.execute(
            "UPDATE queue SET messages = messages - ?, bytes = bytes - ? WHERE name = ?",
            (len(sizes), sum(sizes), name),
        )

    def vacuum(self) -> None:
        """Give some free pages back to the file system, if there are many."""
        free, pages = self._number("PRAGMA freelist_count"), self._number("PRAGMA page_count")
        if free > max(FREE_PAGES_KEPT, pages - free):
            self._db.execute(f"PRAGMA incremental_vacuum({FREE_PAGES_AT_ONCE})").fetchall()

    # ---------------------------------------------------------------------------------------------------

    def _append(
        self, queue: Queue, bodies: Sequence[bytes], headers: Mapping[str, str], now: float, *, drop: bool
    ) -> Arrival:
        text = json.dumps(dict(headers))
        first = max(queue.newest + 1, queue.id << PLACE_BITS)
        rows = [(id_, len(body), text, body, now) for id_, body in zip(count(first), bodies)]
        self._db.executemany("INSERT INTO message VALUES (?, ?, ?, ?, ?)", rows)
        queue.newest = first + len(rows) - 1
        queue.messages += len(rows)
        queue.bytes += sum(map(len, bodies))
        if drop:
            self._drop_head(queue)
        self._db.execute(
            "UPDATE queue SET newest = ?, messages = ?, bytes = ?, dropped = ? WHERE id = ?",
            (queue.newest, queue.messages, queue.bytes, queue.dropped, queue.id),
        )
        return Arrival(queue.name, first)

    def _drop_head(self, queue: Queue) -> None:
        """Make a queue hold no more than it may."""
        first, last = _places(queue.id)
        dropped = first
        cursor = self._db.execute("SELECT id, size FROM message WHERE id BETWEEN ? AND ? ORDER BY id", (first, last))
        for id_, size in cursor:
            if queue.messages <= queue.max_messages and queue.bytes <= queue.max_bytes:
                break
            queue.messages -= 1
            queue.dropped += 1
            queue.bytes -= size
            dropped = id_ + 1
        cursor.close()
        self._db.execute("DELETE FROM message WHERE id >= ? AND id < ?", (first, dropped))

    def _require_exchange(self, name: str) -> None:
        if self._db.execute("SELECT 1 FROM exchange WHERE name = ?", (name,)).fetchone() is None:
            raise UnroutableMessage(name)

    def _number(self, statement: str) -> int:
        row: tuple[Any, ...] = self._db.execute(statement).fetchone()
        return int(row[0])


def _places(queue_id: int) -> tuple[int, int]:
    """The first and last id that a queue's messages can have."""
    return queue_id << PLACE_BITS, ((queue_id + 1) << PLACE_BITS) - 1


def _runs(ids: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Ids without gaps between them, as (first, last).

    >>> list(_runs([5, 3, 4, 9]))
    [(3, 5), (9, 9)]
    """
    for _, run in groupby(enumerate(sorted(ids)), lambda each: each[1] - each[0]):
        members = [id_ for _, id_ in run]
        yield members[0], members[-1]
