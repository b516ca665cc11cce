# SPDX-License-Identifier: MIT
"""The embedded bus: durable queues in one SQLite file, no server.

In and out: see `interface`.  All operations of a process go through one thread, which puts those that wait
together into one commit; a message published here is handed to its subscriber here from memory, after that
commit.  Other processes (the command line, the client) may open the same file: every transaction of ours first
looks whether another process has committed something, so that messages are delivered in the order of their ids,
and twenty times a second an idle bus looks too.

::

    queue     name, limits, how many messages and bytes it holds, when it was last used
    binding   exchange, queue
    message   id (ascending), queue, headers (JSON), body
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from htmengine.bus.interface import DEFAULT_LIMITS, Delivery, QueueLimits
from htmengine.errors import BusClosed, UnroutableMessage
from htmengine.twisted_types import Reactor

T = TypeVar("T")

#: How often an idle bus looks for what other processes did.
POLL_S = 0.05
#: How often waiting publications look for room, queues of vanished followers expire, and the file is trimmed.
TIDY_S = 0.25
TRIM_S = 10.0
#: Messages of one queue in memory; more stay on disk until they are wanted.
IN_MEMORY = 2000
#: Operations in one commit.
OPERATIONS_IN_COMMIT = 500

_SCHEMA = """
CREATE TABLE IF NOT EXISTS queue (
    name TEXT PRIMARY KEY, max_messages INTEGER NOT NULL, max_bytes INTEGER NOT NULL, overflow TEXT NOT NULL,
    expires_s REAL, used_at REAL NOT NULL, messages INTEGER NOT NULL DEFAULT 0, bytes INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS exchange (name TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS binding (
    exchange TEXT NOT NULL, queue TEXT NOT NULL, PRIMARY KEY (exchange, queue)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS message (
    id INTEGER PRIMARY KEY AUTOINCREMENT, queue TEXT NOT NULL, headers TEXT NOT NULL, body BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS message_queue ON message (queue, id);
"""


class _QueueFull(Exception):
    """Nothing was published: a queue is at its bound."""


# --- the file, used by the writer's thread alone --------------------------------------------------------


class _Store:
    """The SQLite file.  Every method but `commit` runs inside a transaction."""

    def __init__(self, path: Path, synchronous: str) -> None:
        self._db = sqlite3.connect(path, timeout=60, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA auto_vacuum = INCREMENTAL")
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute(f"PRAGMA synchronous = {synchronous}")
        self._db.execute("PRAGMA journal_size_limit = 67108864")
        self._db.executescript(_SCHEMA)
        self._version = self._data_version()
        #: Everything up to this id was told to this process's subscribers, or stood there before they came.
        self._seen = self._newest()
        self._seen_before = self._seen
        #: Queues that have a subscriber in this process.
        self.watched: set[str] = set()
        #: What this transaction adds for the subscribers: other processes' messages, then our own.
        self.arrived: list[tuple[str, Delivery]] = []

    def begin(self) -> None:
        """Start a transaction, and take in what other processes published since the last one."""
        self._db.execute("BEGIN IMMEDIATE")
        self.arrived = []
        self._seen_before = self._seen
        version = self._data_version()
        if version != self._version:
            self._version = version
            rows = self._db.execute(
                "SELECT id, queue, headers, body FROM message WHERE id > ? ORDER BY id", (self._seen,)
            )
            for id, queue, headers, body in rows:
                self._arrive(queue, Delivery(body, json.loads(headers), id))
            self._seen = self._newest()

    def commit(self) -> None:
        """Make the transaction durable."""
        self._db.execute("COMMIT")

    def rollback(self) -> None:
        """Undo the transaction."""
        self._seen = self._seen_before
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def declare_queue(self, name: str, limits: QueueLimits) -> None:
        self._db.execute(
            "INSERT OR IGNORE INTO queue (name, max_messages, max_bytes, overflow, expires_s, used_at)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (name, limits.max_messages, limits.max_bytes, limits.overflow, limits.expires_s, time.time()),
        )

    def declare_exchange(self, name: str) -> None:
        self._db.execute("INSERT OR IGNORE INTO exchange VALUES (?)", (name,))

    def bind(self, queue: str, exchange: str) -> None:
        self._db.execute("INSERT OR IGNORE INTO binding VALUES (?, ?)", (exchange, queue))

    def delete_queue(self, name: str) -> None:
        for statement in (
            "DELETE FROM binding WHERE queue = ?",
            "DELETE FROM message WHERE queue = ?",
            "DELETE FROM queue WHERE name = ?",
        ):
            self._db.execute(statement, (name,))

    def depth(self, queue: str) -> int:
        row = self._db.execute("SELECT messages FROM queue WHERE name = ?", (queue,)).fetchone()
        if row is None:
            raise UnroutableMessage(queue)
        return int(row[0])

    def bound_queues(self, exchange: str) -> list[str]:
        self._expire()
        rows = self._db.execute("SELECT queue FROM binding WHERE exchange = ? ORDER BY queue", (exchange,))
        return [queue for (queue,) in rows.fetchall()]

    def publish(self, queues: Sequence[str], bodies: Sequence[bytes], headers: str) -> None:
        """Insert into all queues or, if one has no room, into none (`_QueueFull`)."""
        limits = {queue: self._limits_for(queue) for queue in queues}
        read_headers = json.loads(headers)
        for queue in queues:
            for body in bodies:
                cursor = self._db.execute(
                    "INSERT INTO message (queue, headers, body) VALUES (?, ?, ?)", (queue, headers, body)
                )
                assert cursor.lastrowid is not None
                self._seen = cursor.lastrowid
                self._arrive(queue, Delivery(body, read_headers, cursor.lastrowid))
            self._count(queue, len(bodies), sum(map(len, bodies)))
            max_messages, overflow = limits[queue]
            if overflow == "drop-head":
                self._drop_head(queue, max_messages)

    def _arrive(self, queue: str, delivery: Delivery) -> None:
        if queue in self.watched:
            self.arrived.append((queue, delivery))

    def _limits_for(self, queue: str) -> tuple[int, str]:
        row = self._db.execute(
            "SELECT messages, bytes, max_messages, max_bytes, overflow FROM queue WHERE name = ?", (queue,)
        ).fetchone()
        if row is None:
            raise UnroutableMessage(queue)
        messages, size, max_messages, max_bytes, overflow = row
        if overflow == "wait" and (messages >= max_messages or size >= max_bytes):
            raise _QueueFull
        return max_messages, overflow

    def _drop_head(self, queue: str, most: int) -> None:
        surplus = self.depth(queue) - most
        if surplus > 0:
            rows = self._db.execute("SELECT id FROM message WHERE queue = ? ORDER BY id LIMIT ?", (queue, surplus))
            self.remove(queue, [id for (id,) in rows.fetchall()])

    def remove(self, queue: str, ids: Iterable[int]) -> None:
        """Delete messages; those that are gone already do not matter."""
        removed = size = 0
        for id in ids:
            row = self._db.execute(
                "DELETE FROM message WHERE id = ? AND queue = ? RETURNING length(body)", (id, queue)
            ).fetchone()
            if row is not None:
                removed += 1
                size += row[0]
        self._count(queue, -removed, -size)

    def read(self, queue: str, after: int, most: int) -> list[Delivery]:
        rows = self._db.execute(
            "SELECT id, headers, body FROM message WHERE queue = ? AND id > ? ORDER BY id LIMIT ?",
            (queue, after, most),
        )
        return [Delivery(body, json.loads(headers), id) for id, headers, body in rows]

    def tidy(self, queues: Iterable[str]) -> None:
        """These queues have subscribers; free pages go back to the file system."""
        self._db.executemany(
            "UPDATE queue SET used_at = ? WHERE name = ?", [(time.time(), queue) for queue in queues]
        )
        self._db.execute("PRAGMA incremental_vacuum(10000)").fetchall()

    def _expire(self) -> None:
        rows = self._db.execute("SELECT name FROM queue WHERE used_at + expires_s < ?", (time.time(),))
        for (name,) in rows.fetchall():
            self.delete_queue(name)

    def _count(self, queue: str, messages: int, size: int) -> None:
        self._db.execute(
            "UPDATE queue SET messages = messages + ?, bytes = bytes + ? WHERE name = ?", (messages, size, queue)
        )

    def _data_version(self) -> int:
        return int(self._db.execute("PRAGMA data_version").fetchone()[0])

    def _newest(self) -> int:
        row = self._db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'message'").fetchone()
        return int(row[0]) if row else 0


# --- subscriptions --------------------------------------------------------------------------------------


class EmbeddedSubscription:
    """A consumer of one queue.  ``ready`` holds the next messages; beyond a bound they stay on disk."""

    def __init__(self, bus: EmbeddedBus, queue: str, prefetch: int) -> None:
        self._bus = bus
        self.queue = queue
        self._prefetch = prefetch
        self._ready: deque[Delivery] = deque()
        #: Whether all messages after the last one in memory were put into memory too.
        self._complete = False
        self._last = 0
        self._unacknowledged: dict[int, Delivery] = {}
        self._waiting: Deferred[None] | None = None
        self._closed = False
        self.active = False

    def activate(self) -> None:
        """It is this subscription's turn."""
        self.active = True
        self._wake()

    def arrived(self, delivery: Delivery) -> None:
        """A message was committed to the queue."""
        if self._complete and len(self._ready) < IN_MEMORY:
            self._ready.append(delivery)
            self._last = delivery.tag
            self._wake()
        else:
            self._complete = False
            self._wake()

    async def get(self, most: int) -> list[Delivery]:
        while True:
            self._check_open()
            room = min(most, self._prefetch - len(self._unacknowledged))
            if self.active and room > 0:
                if self._ready:
                    return [self._give() for _ in range(min(room, len(self._ready)))]
                if not self._complete:
                    await self._read()
                    continue
            self._waiting = Deferred()
            await self._waiting

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        if self._closed:
            return
        ids = [delivery.tag for delivery in deliveries if self._unacknowledged.pop(delivery.tag, None)]
        await self._bus.run(lambda store: store.remove(self.queue, ids))
        self._bus.make_room()
        self._wake()

    async def nack(self, deliveries: Sequence[Delivery]) -> None:
        back = [delivery for delivery in deliveries if self._unacknowledged.pop(delivery.tag, None)]
        self._ready.extendleft(sorted(back, key=lambda delivery: -delivery.tag))
        self._wake()

    async def close(self) -> None:
        self.end()
        self._bus.subscription_closed(self)

    def end(self) -> None:
        """Give nothing more."""
        self._closed = True
        self._wake()

    async def _read(self) -> None:
        """Take the next messages from disk."""
        self._complete = True  # what is committed after the read will arrive by itself
        after = self._last
        read = await self._bus.run(lambda store: store.read(self.queue, after, IN_MEMORY))
        arrived_meanwhile, self._ready = self._ready, deque(read)
        if len(read) == IN_MEMORY:
            self._complete = False
        else:
            newest = read[-1].tag if read else after
            self._ready.extend(delivery for delivery in arrived_meanwhile if delivery.tag > newest)
        if self._ready:
            self._last = self._ready[-1].tag

    def _give(self) -> Delivery:
        delivery = self._ready.popleft()
        self._unacknowledged[delivery.tag] = delivery
        return delivery

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)

    def _check_open(self) -> None:
        if self._closed:
            raise BusClosed(f"the subscription of {self.queue} is closed")


# --- the bus --------------------------------------------------------------------------------------------


class EmbeddedBus(Service):
    """Queues and exchanges in one file.

    ``synchronous``: NORMAL outlives any crash of a process, FULL a power cut too.
    """

    log = Logger()

    def __init__(self, path: Path, *, reactor: Reactor, synchronous: str = "NORMAL") -> None:
        self._path = path
        self._reactor = reactor
        self._synchronous = synchronous
        self._operations: SimpleQueue[tuple[Callable[[_Store], Any], Deferred[Any]] | None] = SimpleQueue()
        self._subscriptions: dict[str, list[EmbeddedSubscription]] = {}
        self._waiting_for_room: list[Deferred[None]] = []
        self._timers: list[LoopingCall] = []
        self._ended: Deferred[None] = Deferred()
        self._open = False

    def startService(self) -> None:
        """Open the file.  Raises sqlite3.Error if it cannot be."""
        super().startService()
        store = _Store(self._path, self._synchronous)
        self._open = True
        threading.Thread(target=self._work, args=(store,), name="bus", daemon=True).start()
        for interval, call in ((POLL_S, self._poll), (TIDY_S, self.make_room), (TRIM_S, self._tidy)):
            timer = LoopingCall(call)
            timer.clock = self._reactor  # type: ignore[assignment]
            timer.start(interval, now=False)
            self._timers.append(timer)

    def stopService(self) -> Deferred[None]:
        """Finish the operations that were begun; then every waiting call raises `BusClosed`."""
        super().stopService()
        for timer in self._timers:
            timer.stop()
        for subscriptions in self._subscriptions.values():
            for subscription in subscriptions:
                subscription.end()
        self._open = False
        self.make_room()
        self._operations.put(None)
        return self._ended

    # --- the bus's operations

    async def declare_queue(self, name: str, *, limits: QueueLimits = DEFAULT_LIMITS) -> None:
        await self.run(lambda store: store.declare_queue(name, limits))

    async def declare_fanout(self, name: str) -> None:
        await self.run(lambda store: store.declare_exchange(name))

    async def bind(self, queue: str, exchange: str) -> None:
        await self.run(lambda store: store.bind(queue, exchange))

    async def delete_queue(self, name: str) -> None:
        await self.run(lambda store: store.delete_queue(name))

    async def depth(self, queue: str) -> int:
        return await self.run(lambda store: store.depth(queue))

    async def publish(self, queue: str, bodies: Sequence[bytes], headers: Mapping[str, str] | None = None) -> None:
        text = json.dumps(dict(headers or {}))
        await self._publish(lambda store: store.publish([queue], bodies, text))

    async def broadcast(
        self, exchange: str, bodies: Sequence[bytes], headers: Mapping[str, str] | None = None
    ) -> None:
        text = json.dumps(dict(headers or {}))
        await self._publish(lambda store: store.publish(store.bound_queues(exchange), bodies, text))

    async def subscribe(self, queue: str, *, prefetch: int) -> EmbeddedSubscription:
        await self.run(lambda store: self._watch(store, queue))
        subscription = EmbeddedSubscription(self, queue, prefetch)
        waiting = self._subscriptions.setdefault(queue, [])
        waiting.append(subscription)
        waiting[0].activate()
        return subscription

    # --- for subscriptions

    def run(self, operation: Callable[[_Store], T]) -> Deferred[T]:
        """Run an operation in the next transaction; fires when that is committed."""
        done: Deferred[T] = Deferred()
        if self._open:
            self._operations.put((operation, done))
        else:
            done.errback(BusClosed("the bus is closed"))
        return done

    def subscription_closed(self, subscription: EmbeddedSubscription) -> None:
        """The next in line takes over."""
        waiting = self._subscriptions.get(subscription.queue, [])
        if subscription in waiting:
            waiting.remove(subscription)
            if waiting:
                waiting[0].activate()

    # --- inside

    async def _publish(self, operation: Callable[[_Store], None]) -> None:
        while True:
            try:
                await self.run(operation)
            except _QueueFull:
                room: Deferred[None] = Deferred()
                self._waiting_for_room.append(room)
                await room
            else:
                return

    def _watch(self, store: _Store, queue: str) -> None:
        store.depth(queue)  # raises if there is no such queue
        store.watched.add(queue)
        store.tidy([queue])

    def make_room(self) -> None:
        """Let the publications that wait try again, in the order in which they came."""
        waiting, self._waiting_for_room = self._waiting_for_room, []
        for deferred in waiting:
            deferred.callback(None)

    def _poll(self) -> None:
        """Look for other processes' messages."""
        self.run(lambda store: None).addErrback(self._ignore_closed)

    def _tidy(self) -> None:
        queues = list(self._subscriptions)
        self.run(lambda store: store.tidy(queues)).addErrback(self._ignore_closed)

    def _ignore_closed(self, failure: Any) -> None:
        if not isinstance(failure.value, BusClosed):
            self.log.failure("the bus's housekeeping failed", failure=failure)

    def _committed(
        self, results: Sequence[tuple[Deferred[Any], Any]], arrived: Sequence[tuple[str, Delivery]]
    ) -> None:
        """Called in the reactor after each commit: messages to the subscribers, results to the callers."""
        for queue, delivery in arrived:
            for subscription in self._subscriptions.get(queue, ())[:1]:
                subscription.arrived(delivery)
        for deferred, result in results:
            if isinstance(result, Exception):
                deferred.errback(result)
            else:
                deferred.callback(result)

    # --- the writer's thread

    def _work(self, store: _Store) -> None:
        ending = False
        while not ending:
            batch = [self._operations.get()]
            while len(batch) < OPERATIONS_IN_COMMIT and not self._operations.empty():
                batch.append(self._operations.get())
            ending = None in batch
            operations = [each for each in batch if each is not None]
            results, arrived = self._transaction(store, operations)
            self._reactor.callFromThread(self._committed, results, arrived)
        store.close()
        self._reactor.callFromThread(self._ended.callback, None)

    def _transaction(
        self, store: _Store, operations: Sequence[tuple[Callable[[_Store], Any], Deferred[Any]]]
    ) -> tuple[list[tuple[Deferred[Any], Any]], list[tuple[str, Delivery]]]:
        """One commit for all operations; an operation that is refused has changed nothing."""
        results: list[tuple[Deferred[Any], Any]] = []
        try:
            store.begin()
            for operation, deferred in operations:
                try:
                    results.append((deferred, operation(store)))
                except (_QueueFull, UnroutableMessage) as refused:
                    results.append((deferred, refused))
            store.commit()
        except Exception as error:  # whatever it is, every caller is told
            store.rollback()
            return [(deferred, error) for _, deferred in operations], []
        return results, store.arrived
