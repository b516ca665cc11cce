# SPDX-License-Identifier: MIT
"""Server-sent events: each new result, to every client that wants it.

In: the numbered results in the database (`repository.results`), read on from the last one while anybody listens.
Out: events whose id is the result's number, so that a client that comes back gets what it missed.

The bus is not involved: a client that reads slowly, or not at all, costs the engine nothing.  It loses results and
is told how many; what it holds here is bounded.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sqlalchemy import Connection
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.logger import Logger
from twisted.web.server import Request
from zope.interface import implementer

from htmengine.labels import spellings
from htmengine.process.twisted_types import Clock, every
from htmengine.repository import results
from htmengine.repository.reading import name_pattern
from htmengine.repository.results import Result
from htmengine.web.http import dump, unregister_producer
from htmengine.web.reader import Reader
from htmengine.web.refused import Refused
from htmengine.web.views import result_json

POLL_S = 0.25
HEARTBEAT_S = 15.0
#: A client that has read nothing for this long is let go.
STALLED_S = 120.0
MOST_CLIENTS = 200
#: Names of metrics of which a client's filter is remembered.
NAMES_KNOWN = 5000
#: Events that wait for one client.
BUFFERED = 1000
#: Results that a client that comes back is given at most.
RESUMED = 10_000
#: Results behind which a read that cannot keep up jumps to the newest.
MOST_BEHIND = 20_000
READ_AT_ONCE = 1000
#: Events that a client is given in one write, some 20 KB: it may say after each that it has enough.
WRITTEN_AT_ONCE = 100

RETRY = b"retry: 3000\n\n"


@dataclass(frozen=True, slots=True)
class Filter:
    """Which results a client wants; no patterns: those of all metrics."""

    patterns: Sequence[re.Pattern[str]] = ()
    threshold: float = 0.0
    limit: int | None = None  #: the stream ends after this many
    timeout_s: float | None = None  #: it ends then

    @classmethod
    def of(cls, metrics: Sequence[str], **others: Any) -> Filter:
        """From names, or patterns with * and ?."""
        return cls([name_pattern(name) for metric in metrics for name in spellings(metric)], **others)

    def matches(self, name: str) -> bool:
        """Whether a metric's results are wanted."""
        return not self.patterns or any(pattern.match(name) for pattern in self.patterns)


class Event:
    """A result for all clients that want it: made into bytes once, and only if there is one."""

    log = Logger()

    def __init__(self, result: Result) -> None:
        self.result = result

    @cached_property
    def encoded(self) -> bytes:
        """What clients get.  A result that cannot be shown is left out, or nobody would get those after it."""
        number = self.result.number
        try:
            return b"id: %d\nevent: result\ndata: %s\n\n" % (number, dump(result_json(self.result)))
        except Exception as error:
            self.log.error("result {number} cannot be shown: {error!r}", number=number, error=error)
            return b""


@implementer(IPushProducer)
class EventClient:
    """One client's connection.  While it does not read, events wait, and when too many do, the newest are dropped."""

    def __init__(self, request: Request, wanted: Filter, clock: Clock) -> None:
        self._request = request
        self._wanted = wanted
        self._clock = clock
        self._waiting: deque[bytes] = deque()
        self._dropped = 0
        self._left = wanted.limit
        self._known: dict[str, bool] = {}
        self._paused_at: float | None = None
        self._room: Deferred[None] | None = None
        self.position = 0  #: number of the newest result that it was offered
        self.closed: Deferred[None] = Deferred()
        request.registerProducer(self, True)

    @property
    def stalled(self) -> bool:
        """Whether it has read nothing for a long time."""
        return self._paused_at is not None and self._clock.seconds() - self._paused_at > STALLED_S

    def offer(self, events: Sequence[Event]) -> None:
        """Results that come after those before."""
        wanted = [event for event in events if self._wants(event.result)][: self._left]
        self.position = max(self.position, events[-1].result.number)
        if self._left is not None:
            self._left -= len(wanted)
        for at in range(0, len(wanted), WRITTEN_AT_ONCE):
            self._give([event.encoded for event in wanted[at : at + WRITTEN_AT_ONCE]])
        self._close_if_done()

    def _give(self, encoded: Sequence[bytes]) -> None:
        """Write events, or keep them for later."""
        if self._paused_at is None:
            self._request.write(b"".join(encoded))
            return
        room = 0 if self._dropped else BUFFERED - len(self._waiting)
        self._waiting.extend(encoded[:room])
        self._dropped += len(encoded[room:])

    def skip(self, position: int, reason: str) -> None:
        """Tell it that it will not get the results up to a number."""
        if position > self.position:
            self._write(_skipped(position - self.position, reason))
            self.position = position

    def heartbeat(self) -> None:
        """Show that the connection lives, and how far the results are."""
        self._write(b": heartbeat\nid: %d\n\n" % self.position)

    def room(self) -> Deferred[None]:
        """Fires when it reads."""
        self._room = Deferred()
        if self._paused_at is None:
            self._room.callback(None)
        return self._room

    def close(self) -> None:
        """End the stream."""
        if not self.closed.called:
            self.closed.callback(None)

    def _wants(self, result: Result) -> bool:
        new = result.number > self.position and result.anomaly_score >= self._wanted.threshold
        return new and self._wants_metric(result.name)

    def _wants_metric(self, name: str) -> bool:
        """Matched once a name: many clients with many patterns must not keep the reactor busy."""
        if name not in self._known:
            if len(self._known) >= NAMES_KNOWN:
                self._known.clear()
            self._known[name] = self._wanted.matches(name)
        return self._known[name]

    def _close_if_done(self) -> None:
        if self._left == 0 and self._paused_at is None:
            self.close()

    def _write(self, event: bytes) -> None:
        if self._paused_at is None:
            self._request.write(event)

    # --- IPushProducer ----------------------------------------------------------------------------------

    def pauseProducing(self) -> None:
        if self._paused_at is None:
            self._paused_at = self._clock.seconds()

    def resumeProducing(self) -> None:
        self._paused_at = None
        while self._waiting and self._paused_at is None:
            self._request.write(self._waiting.popleft())
        if self._paused_at is None and self._dropped:
            dropped, self._dropped = self._dropped, 0
            self._request.write(_skipped(dropped, "slow_client"))
        if self._paused_at is None and self._room is not None and not self._room.called:
            self._room.callback(None)
        self._close_if_done()

    def stopProducing(self) -> None:
        self.close()


def _skipped(number: int, reason: str) -> bytes:
    return b"event: skipped\ndata: %s\n\n" % dump({"results": number, "reason": reason})


class EventFeed:
    """Reads on while there are clients, and offers them what it reads."""

    log = Logger()

    def __init__(self, reader: Reader, clock: Clock) -> None:
        self._reader = reader
        self._clock = clock
        self._position = 0
        self._clients: set[EventClient] = set()
        self._joined: set[EventClient] = set()
        self._polling = every(clock, lambda: Deferred.fromCoroutine(self._poll()))
        self._beating = every(clock, self._beat)

    @property
    def clients(self) -> int:
        """How many there are."""
        return len(self._clients)

    def check_room(self) -> None:
        """Raises `Refused` when there are too many clients."""
        if len(self._clients) >= MOST_CLIENTS:
            raise Refused(429, f"{MOST_CLIENTS} clients have event streams already", headers={"Retry-After": "30"})

    async def serve(self, request: Request, wanted: Filter, last_event_id: int | None) -> None:
        """One client, from its first event to its end."""
        client = EventClient(request, wanted, self._clock)
        self._clients.add(client)
        end = None if wanted.timeout_s is None else self._clock.callLater(wanted.timeout_s, client.close)
        try:
            request.write(RETRY)
            await self._catch_up(client, last_event_id)
            self._join(client)
            await client.closed
        finally:
            self._clients.discard(client)
            self._leave(client)
            if end is not None and end.active():
                end.cancel()
            unregister_producer(request)

    def stop(self) -> None:
        """End all streams."""
        for client in list(self._clients):
            client.close()

    async def _catch_up(self, client: EventClient, last_event_id: int | None) -> None:
        """What came after the last event that the client knows, up to where the others are."""
        oldest, newest = await self._reader.read(_bounds)
        if last_event_id is None or last_event_id > newest:
            client.position = newest
            return
        client.position = last_event_id
        client.skip(max(oldest - 1, newest - RESUMED), "too_old")
        while client.position < max(newest, self._position) and not client.closed.called:
            found, reached = await self._reader.read(results.results_after, client.position, READ_AT_ONCE)
            if found:
                client.offer([Event(result) for result in found])
            client.position = max(reached, client.position)
            if not found:
                return
            await client.room()

    def _join(self, client: EventClient) -> None:
        if not self._joined:
            self._position = client.position
            self._polling.start(POLL_S, now=False)
            self._beating.start(HEARTBEAT_S, now=False)
        self._joined.add(client)

    def _leave(self, client: EventClient) -> None:
        self._joined.discard(client)
        if not self._joined and self._polling.running:
            self._polling.stop()
            self._beating.stop()

    async def _poll(self) -> None:
        try:
            await self._read_on()
        except Refused:
            return  # the readers are busy; the next time will do
        except Exception:
            self.log.failure("reading results for event streams failed")

    async def _read_on(self) -> None:
        newest = await self._reader.read(results.last_number)
        if newest - self._position > MOST_BEHIND:
            self._position = newest - READ_AT_ONCE
            for client in list(self._joined):
                client.skip(self._position, "too_old")
        while self._position < newest and self._joined:
            found, reached = await self._reader.read(results.results_after, self._position, READ_AT_ONCE)
            events = [Event(result) for result in found]
            for client in list(self._joined) if events else ():  # one that has got all it wants leaves
                client.offer(events)
            self._position = max(reached, self._position)
            for client in self._joined:
                client.position = max(client.position, self._position)
            if not found and reached < newest:
                return

    def _beat(self) -> None:
        for client in list(self._joined):
            if client.stalled:
                client.close()
            else:
                client.heartbeat()


def _bounds(conn: Connection) -> tuple[int, int]:
    newest = results.last_number(conn)
    return results.first_number(conn) or newest + 1, newest
