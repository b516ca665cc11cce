# SPDX-License-Identifier: MIT
"""STAND-IN."""

from __future__ import annotations

import json
import sqlite3
from collections import deque

from twisted.application.service import Service
from twisted.internet.defer import Deferred

from htmengine.bus.interface import Delivery, QueueLimits
from htmengine.errors import BusClosed, UnroutableMessage


class EmbeddedBus(Service):
    def __init__(self, path, *, reactor, synchronous="NORMAL"):
        self.c = sqlite3.connect(path, timeout=30, isolation_level=None)
        self.c.execute("PRAGMA journal_mode=WAL")
        self.c.execute("PRAGMA synchronous=" + synchronous)
        self.c.execute(
            "CREATE TABLE IF NOT EXISTS msg (id INTEGER PRIMARY KEY AUTOINCREMENT, queue TEXT, body BLOB, headers TEXT)"
        )
        self.c.execute("CREATE INDEX IF NOT EXISTS q ON msg (queue, id)")
        self.queues = set()
        self.bindings = {}
        self.subs = {}

    async def declare_queue(self, name, *, limits=QueueLimits()):
        self.queues.add(name)

    async def declare_fanout(self, name):
        self.bindings.setdefault(name, set())

    async def bind(self, queue, exchange):
        self.bindings.setdefault(exchange, set()).add(queue)

    async def delete_queue(self, name):
        self.queues.discard(name)

    async def publish(self, queue, bodies, headers=None):
        if queue not in self.queues:
            raise UnroutableMessage(queue)
        h = json.dumps(dict(headers or {}))
        self.c.execute("BEGIN IMMEDIATE")
        ids = [
            self.c.execute("INSERT INTO msg(queue, body, headers) VALUES (?,?,?)", (queue, b, h)).lastrowid
            for b in bodies
        ]
        self.c.execute("COMMIT")
        if queue in self.subs:
            self.subs[queue].put([Delivery(b, dict(headers or {}), i) for i, b in zip(ids, bodies)])

    async def broadcast(self, exchange, bodies, headers=None):
        for queue in self.bindings.get(exchange, ()):
            await self.publish(queue, bodies, headers)

    async def subscribe(self, queue, *, prefetch):
        sub = self.subs[queue] = Sub(self, queue, prefetch)
        rows = self.c.execute("SELECT id, body, headers FROM msg WHERE queue=? ORDER BY id", (queue,)).fetchall()
        sub.put([Delivery(b, json.loads(h), i) for i, b, h in rows])
        return sub

    async def depth(self, queue):
        return self.c.execute("SELECT count(*) FROM msg WHERE queue=?", (queue,)).fetchone()[0]

    def stopService(self):
        super().stopService()
        for s in self.subs.values():
            s._close()
        self.c.close()


class Sub:
    def __init__(self, bus, queue, prefetch):
        self.bus, self.queue, self.prefetch = bus, queue, prefetch
        self.ready = deque()
        self.unacked = 0
        self.waiting = None
        self.closed = False

    def put(self, deliveries):
        self.ready.extend(deliveries)
        self.wake()

    def wake(self):
        if self.waiting and self.ready and self.unacked < self.prefetch:
            w, self.waiting = self.waiting, None
            w.callback(None)

    async def get(self, most):
        while not (self.ready and self.unacked < self.prefetch):
            if self.closed:
                raise BusClosed()
            self.waiting = Deferred()
            await self.waiting
        if self.closed:
            raise BusClosed()
        n = min(most, len(self.ready), self.prefetch - self.unacked)
        self.unacked += n
        return [self.ready.popleft() for _ in range(n)]

    async def ack(self, deliveries):
        if self.closed:
            return
        self.bus.c.execute("BEGIN IMMEDIATE")
        self.bus.c.executemany("DELETE FROM msg WHERE id=?", [(d.tag,) for d in deliveries])
        self.bus.c.execute("COMMIT")
        self.unacked -= len(deliveries)
        self.wake()

    async def close(self):
        self._close()

    def _close(self):
        self.closed = True
        if self.waiting:
            w, self.waiting = self.waiting, None
            w.errback(BusClosed())
