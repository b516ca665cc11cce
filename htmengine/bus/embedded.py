# SPDX-License-Identifier: MIT
"""The bus of one machine: durable queues in one SQLite file, no server.

In: calls of the services of this process, and, through the file, of other processes (command line, client).  Out:
deliveries.  Chosen by deployment.py.

One thread makes all operations that wait in one transaction; those that come meanwhile wait for the next one.  So
the transactions are the larger the busier the bus is.  What is published in this process goes to its
subscriber from memory as soon as it is durable; a subscriber that has fallen behind, and what another process has
published, is read from the file.  Another process's work is noticed within `POLL_S`.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from os import PathLike
from typing import Any, Protocol, TypeVar

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from htmengine.bus.inbox import Inbox
from htmengine.bus.interface import DEFAULT_LIMITS, Delivery, QueueLimits, QueueState
from htmengine.bus.queue_file import Arrival, Part, QueueFile
from htmengine.errors import BusClosed, BusError, HtmEngineError, QueueFull, UnroutableMessage
from htmengine.process.figures import Figure
from htmengine.process.progress import Progress
from htmengine.process.seldom import Seldom
from htmengine.process.sqlite_files import REFUSALS, error_number
from htmengine.process.twisted_types import Clock, Reactor, every, in_thread, later

#: How often the file is looked at for the work of other processes.
POLL_S = 0.05
#: A disk that takes nothing is tried again after this.
DISK_RETRY_S = 1.0
#: How often queues that nobody reads any more are removed, and unused space is given back.
HOUSEKEEPING_S = 5.0
#: A subscriber that has this much waiting for it is given no more from memory.
INBOX_MESSAGES = 2000
INBOX_BYTES = 8 << 20
#: Read from the file at once.
READ_MESSAGES = 500
READ_BYTES = 2 << 20

T = TypeVar("T")


class WriterThread(Protocol):
    """Where the file is worked on: one call after the other."""

    def start(self) -> None: ...
    def run(self, function: Callable[..., T], *args: Any) -> Deferred[T]: ...
    def stop(self) -> None: ...


class _Thread:
    """A thread of its own."""

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor

    def start(self) -> None:
        self._pool = ThreadPool(1, 1, "bus")
        self._pool.start()

    def run(self, function: Callable[..., T], *args: Any) -> Deferred[T]:
        return in_thread(self._reactor, self._pool, function, *args)

    def stop(self) -> None:
        self._pool.stop()


@dataclass(slots=True, eq=False)
class _Operation:
    """Something to do in a transaction, and who waits for it."""

    perform: Callable[[QueueFile], Any]
    since: float
    done: Deferred[Any] = field(default_factory=Deferred)
    arrived: Callable[[list[Arrival]], None] | None = None  #: is told what a publication has put where


@dataclass(slots=True)
class _Lane:
    """Publications to one queue or exchange, made in their order."""

    waiting: deque[_Operation] = field(default_factory=deque)
    full: QueueFull | None = None  #: why they wait for more than their turn


@dataclass(frozen=True, slots=True)
class _Report:
    """What came of one transaction."""

    results: Sequence[Any]  #: of each operation; an error of ours stands for its failure
    newest: Mapping[str, int | None]  #: when others wrote: each subscribed queue's last id; None: it is gone
    roomy: set[str]  #: full queues that have room again
    heard: set[str] | None  #: when others wrote: the exchanges that a queue is bound to


class EmbeddedBus(Service):
    """A `htmengine.bus.interface.Bus` in the SQLite file ``path``.

    Nothing published is lost, neither by ``kill -9`` nor by a power cut: each transaction is synced to the disk.
    Publications to a full queue wait, and with ``full_timeout_s`` fail with `QueueFull` after that long.  Its start
    raises `StartError`.
    """

    log = Logger()

    def __init__(
        self,
        path: str | PathLike[str],
        *,
        reactor: Reactor,
        full_timeout_s: float | None = None,
        thread: WriterThread | None = None,
    ) -> None:
        self._path = path
        self._full_timeout_s = full_timeout_s
        self._clock = reactor
        self.progress = Progress(reactor.seconds)
        self._thread = thread or _Thread(reactor)
        self._file: QueueFile | None = None
        self._stopped = False
        self._committing = False
        self._transactions = self.progress.stage("the file of the queues is being written", lambda: self._committing)
        self._operations: list[_Operation] = []
        self._lanes: dict[tuple[str, str], _Lane] = {}
        self._subscriptions: dict[str, list[EmbeddedSubscription]] = {}
        self._members: Counter[str] = Counter()
        self._disk_refuses = Seldom(reactor.seconds)
        self._idle: list[Deferred[None]] = []
        self._expired: set[str] = set()
        self._heard: set[str] = set()  #: exchanges that a queue is bound to, or was a while ago
        self._timers = [
            _survivor(reactor, self._poll, POLL_S),
            _survivor(reactor, self._keep_house, HOUSEKEEPING_S),
        ]

    # --- service ---------------------------------------------------------------------------------------

    def privilegedStartService(self) -> None:
        super().privilegedStartService()
        self._open()

    def startService(self) -> None:
        self._open()
        super().startService()
        self._stopped = False
        self._thread.start()
        for call, interval in self._timers:
            call.start(interval, now=False)
        self._commit()

    def _open(self) -> None:
        if self._file is None:
            self._file = QueueFile(self._path)
            self._heard = self._file.heard()

    def stopService(self) -> Deferred[None]:
        """Everything that was asked before is done first, but for what waits for room in a full queue."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        for call, _ in self._timers:
            call.stop()
        self._stopped = True
        for subscriptions in list(self._subscriptions.values()):
            for subscription in list(subscriptions):
                subscription.end(BusClosed("the bus is stopped"))
        while self._committing or self._work():
            idle: Deferred[None] = Deferred()
            self._idle.append(idle)
            await idle
        for lane in self._lanes.values():
            _fail(lane.waiting, BusClosed("the bus is stopped"))
        self._lanes.clear()
        assert self._file is not None
        await self._thread.run(self._file.close)
        self._thread.stop()
        self._file = None

    def why_away(self) -> str:
        """What its operator is told when it does not answer."""
        return f"the queues' file {self._path} does not answer; look at its disk"

    def figures(self) -> Iterable[Figure]:
        """None: nothing of it can be away.  The queues' lengths are asked for as of every bus."""
        return ()

    # --- bus -------------------------------------------------------------------------------------------

    async def differences(self) -> list[str]:
        """None: whoever makes a queue makes it as it is declared."""
        return []

    async def declare_queue(self, name: str, *, limits: QueueLimits = DEFAULT_LIMITS) -> None:
        """See `Bus.declare_queue`."""
        await self._do(lambda file: file.declare_queue(name, limits, self._clock.seconds()))

    async def declare_fanout(self, name: str, *, topic: bool = False) -> None:
        """See `Bus.declare_fanout`."""
        await self._do(lambda file: file.declare_fanout(name))

    async def bind(self, queue: str, exchange: str) -> None:
        """See `Bus.bind`."""
        await self._do(lambda file: file.bind(queue, exchange))
        self._heard.add(exchange)

    async def delete_queue(self, name: str) -> None:
        """See `Bus.delete_queue`."""
        await self._do(lambda file: file.delete_queue(name))
        self._queue_is_gone(name)

    async def publish(self, queue: str, bodies: Sequence[bytes], headers: Mapping[str, str] | None = None) -> None:
        """See `Bus.publish`."""
        await self._put(("queue", queue), bodies, headers, QueueFile.put)

    async def broadcast(self, exchange: str, bodies: Sequence[bytes], headers: Mapping[str, str] | None = None) -> None:
        """See `Bus.broadcast`."""
        await self._put(("exchange", exchange), bodies, headers, QueueFile.broadcast)

    def is_heard(self, exchange: str) -> bool:
        """See `Bus.is_heard`.  Whoever binds a queue in another process writes the file before the message comes."""
        return exchange in self._heard

    async def subscribe(self, queue: str, *, prefetch: int) -> EmbeddedSubscription:
        """See `Bus.subscribe`.  Between processes it is up to them that a queue has one subscriber."""
        await self._do(lambda file: file.queue(queue))
        subscription = EmbeddedSubscription(self, queue, prefetch)
        subscriptions = self._subscriptions.setdefault(queue, [])
        subscriptions.append(subscription)
        subscriptions[0].read_more()
        return subscription

    async def claim(self, queue: str, *, prefetch: int) -> EmbeddedSubscription | None:
        """See `Bus.claim`."""
        return None if queue in self._subscriptions else await self.subscribe(queue, prefetch=prefetch)

    async def join(self, group: str) -> None:
        """See `Bus.join`.  One process owns the file: its members are all there are."""
        self._members[group] += 1

    async def members(self, group: str) -> int:
        """See `Bus.members`."""
        if group not in self._members:
            raise UnroutableMessage(group)
        return self._members[group]

    async def inspect(self, names: Sequence[str] = ()) -> list[QueueState]:
        """See `Bus.inspect`."""
        return await self._do(lambda file: file.states(self._clock.seconds(), 3 * HOUSEKEEPING_S))

    async def depth(self, queue: str) -> int:
        """See `Bus.depth`."""
        return (await self._do(lambda file: file.queue(queue))).messages

    # --- for subscriptions -----------------------------------------------------------------------------

    def read(self, queue: str, after: int) -> Deferred[Part]:
        """The next messages of a queue."""
        return self._do(lambda file: file.read(queue, after, READ_MESSAGES, READ_BYTES))

    def remove(self, queue: str, ids: Sequence[int]) -> Deferred[None]:
        """Fires when the messages are gone for good."""
        return self._do(lambda file: file.remove(queue, ids))

    def is_active(self, subscription: EmbeddedSubscription) -> bool:
        """Whether it is this subscription's turn."""
        return subscription in self._subscriptions.get(subscription.queue, [])[:1]

    def forget(self, subscription: EmbeddedSubscription) -> None:
        """It has ended: the next one's turn."""
        subscriptions = self._subscriptions[subscription.queue]
        subscriptions.remove(subscription)
        if subscriptions:
            subscriptions[0].read_more()
        else:
            del self._subscriptions[subscription.queue]

    # --- transactions ----------------------------------------------------------------------------------

    def _do(self, perform: Callable[[QueueFile], T]) -> Deferred[T]:
        operation = _Operation(perform, self._clock.seconds())
        if self._stopped:
            _fail([operation], BusClosed("the bus is stopped"))
        else:
            self._operations.append(operation)
            self._commit()
        return operation.done

    async def _put(
        self,
        destination: tuple[str, str],
        bodies: Sequence[bytes],
        headers: Mapping[str, str] | None,
        put: Callable[..., list[Arrival]],
    ) -> None:
        if self._stopped:
            raise BusClosed("the bus is stopped")
        bodies, headers = tuple(bodies), dict(headers or {})
        operation = _Operation(
            lambda file: put(file, destination[1], bodies, headers, self._clock.seconds()),
            self._clock.seconds(),
            arrived=partial(self._hand_over, bodies, headers),
        )
        self._lanes.setdefault(destination, _Lane()).waiting.append(operation)
        self._commit()
        with self.progress.doing(partial(self._publishing, destination)):
            await operation.done

    def _publishing(self, destination: tuple[str, str]) -> str:
        """What a publication waits for."""
        kind, name = destination
        lane = self._lanes.get(destination)
        room = f" waits for room in queue {lane.full.queue!r}" if lane is not None and lane.full is not None else ""
        return f"publishing to {kind} {name!r}{room}"

    def _work(self) -> list[_Operation]:
        """What can be done now.  Publications come last: what is removed makes room for them."""
        publications = [each for lane in self._lanes.values() if lane.full is None for each in lane.waiting]
        return self._operations + publications

    def _commit(self, *, look: bool = False) -> None:
        """Begin the next transaction, unless one is on its way; with ``look`` even if there is nothing to do."""
        work = self._work()
        started = self.running or self._stopped
        if self._committing or not started or not (work or look):
            return
        self._committing = True
        self._operations = []
        full = [lane.full.queue for lane in self._lanes.values() if lane.full is not None]
        performs = [operation.perform for operation in work]
        done = self._thread.run(self._transact, performs, list(self._subscriptions), full)
        done.addCallbacks(partial(self._committed, work), partial(self._failed, work))
        done.addErrback(lambda failure: self.log.failure("bus", failure))
        done.addBoth(lambda _: self._go_on())

    def _transact(
        self, performs: Sequence[Callable[[QueueFile], Any]], subscribed: Sequence[str], full: Sequence[str]
    ) -> _Report:
        """In the thread: one transaction."""
        file = self._file
        assert file is not None
        changed = file.changed()
        results: list[Any] = []
        if performs:
            with file.transaction():
                results += [_attempt(perform, file) for perform in performs]
        newest = {queue: file.newest(queue) for queue in subscribed} if changed else {}
        roomy = {queue for queue in full if file.has_room(queue)}
        return _Report(results, newest, roomy, file.heard() if changed else None)

    def _committed(self, work: Sequence[_Operation], report: _Report) -> None:
        if report.heard is not None:
            self._heard = report.heard
        done = list(zip(work, report.results, strict=True))
        for operation, result in done:
            if operation.arrived is not None and not isinstance(result, HtmEngineError):
                operation.arrived(result)
        self._settle_lanes(dict(done), report.roomy)
        for operation, result in done:
            if isinstance(result, QueueFull):
                continue  # waits in its lane
            if isinstance(result, HtmEngineError):
                operation.done.errback(result)
            else:
                operation.done.callback(result)
        for queue, newest in report.newest.items():
            if newest is None:
                self._queue_is_gone(queue)
            for subscription in self._subscriptions.get(queue, [])[:1]:
                subscription.others_wrote(newest or 0)

    def _settle_lanes(self, results: Mapping[_Operation, Any], roomy: set[str]) -> None:
        """Take what was published out of its lane; what found its queue full waits there for room."""
        for destination, lane in list(self._lanes.items()):
            if lane.full is not None and lane.full.queue in roomy:
                lane.full = None
            while lane.waiting and lane.waiting[0] in results:
                result = results[lane.waiting[0]]
                if isinstance(result, QueueFull):
                    lane.full = result
                    break
                lane.waiting.popleft()
            if not lane.waiting:
                del self._lanes[destination]

    def _failed(self, work: Sequence[_Operation], failure: Failure) -> Deferred[None] | None:
        """A transaction failed as a whole: a process held its lock for too long, or the disk has a fault.

        If the disk takes nothing any more, all that was asked for waits, until it does or the bus stops.
        """
        assert self._file is not None
        if error_number(failure.value) in REFUSALS and not self._stopped and not self._file.read_only:
            return self._wait_for_disk(work, failure)
        self.log.error("bus file {path}: {error}", path=self._path, error=failure.getErrorMessage())
        kind = BusClosed if self._stopped else BusError
        error = kind(f"bus file {self._path}: {failure.getErrorMessage()}")
        self._settle_lanes(dict.fromkeys(work, error), set())
        _fail(work, error)
        return None

    def _wait_for_disk(self, work: Sequence[_Operation], failure: Failure) -> Deferred[None]:
        if self._disk_refuses.due():
            error = failure.getErrorMessage()
            self.log.critical("bus file {path}: {error}; all services wait", path=self._path, error=error)
        publications = {each for lane in self._lanes.values() for each in lane.waiting}
        self._operations = [each for each in work if each not in publications] + self._operations
        return later(self._clock, DISK_RETRY_S)

    def _go_on(self) -> None:
        self._committing = False
        self._transactions.finished()
        self._commit()
        if not self._committing:
            idle, self._idle = self._idle, []
            for deferred in idle:
                deferred.callback(None)

    def _hand_over(self, bodies: Sequence[bytes], headers: Mapping[str, str], arrivals: Sequence[Arrival]) -> None:
        for arrival in arrivals:
            for subscription in self._subscriptions.get(arrival.queue, [])[:1]:
                subscription.arrived(arrival.first, bodies, headers)

    # --- timers ----------------------------------------------------------------------------------------

    def _poll(self) -> None:
        if self._full_timeout_s is not None:
            self._give_up(self._clock.seconds() - self._full_timeout_s)
        self._commit(look=True)

    def _give_up(self, before: float) -> None:
        """Fail publications that have waited for room since before then."""
        for lane in list(self._lanes.values()):
            while lane.full is not None and lane.waiting and lane.waiting[0].since < before:
                lane.waiting.popleft().done.errback(QueueFull(lane.full.queue))

    def _keep_house(self) -> None:
        tidied = self._do(self._tidy)
        tidied.addCallback(self._tidied)
        tidied.addErrback(self._not_tidied)

    def _tidy(self, file: QueueFile) -> set[str]:
        """Returns the exchanges that a queue is bound to still."""
        now = self._clock.seconds()
        file.touch(list(self._subscriptions), now)
        # Twice in a row: after a suspended machine wakes, subscribers say first that they are there.
        expired = file.expired(now)
        for queue in expired & self._expired:
            file.delete_queue(queue)
        self._expired = expired
        file.vacuum()
        return file.heard()

    def _tidied(self, heard: set[str]) -> None:
        self._heard = heard

    def _not_tidied(self, failure: Failure) -> None:
        if not failure.check(BusClosed):
            self.log.failure("housekeeping of the bus", failure)

    def _queue_is_gone(self, name: str) -> None:
        for subscription in list(self._subscriptions.get(name, [])):
            subscription.end(BusClosed(f"queue {name!r} is deleted"))


class EmbeddedSubscription:
    """A queue's messages: from memory while it keeps up, else from the file."""

    def __init__(self, bus: EmbeddedBus, queue: str, prefetch: int) -> None:
        self.queue = queue
        self._bus = bus
        self._inbox = Inbox(prefetch)
        self._read_to = 0  #: every message up to this id has been in the inbox
        self._behind = True  #: the file may have messages after ``_read_to``
        self._reading = False

    async def get(self, most: int) -> list[Delivery]:
        """See `Subscription.get`."""
        self.read_more()
        deliveries = await self._inbox.get(most)
        self.read_more()
        return deliveries

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        """See `Subscription.ack`."""
        settled = self._inbox.settle(deliveries)
        if settled:
            await self._bus.remove(self.queue, [delivery.tag for delivery in settled])
            self._inbox.more()

    async def nack(self, deliveries: Sequence[Delivery]) -> None:
        """See `Subscription.nack`."""
        self._inbox.put_back(self._inbox.settle(deliveries))

    async def close(self) -> None:
        """See `Subscription.close`."""
        self.end(BusClosed("the subscription is closed"))

    def end(self, error: BusError) -> None:
        """Called by the bus, too, when it stops or the queue is gone."""
        if not self._inbox.closed:
            self._inbox.close(error)
            self._bus.forget(self)

    def arrived(self, first: int, bodies: Sequence[bytes], headers: Mapping[str, str]) -> None:
        """Messages that this process has published."""
        room = self._inbox.ready < INBOX_MESSAGES and self._inbox.ready_bytes < INBOX_BYTES
        if room and not self._reading and self._read_to == first - 1:
            self._read_to += len(bodies)
            self._inbox.put([Delivery(body, headers, first + place) for place, body in enumerate(bodies)])
        else:
            self._behind = True
            self.read_more()

    def others_wrote(self, newest: int) -> None:
        """Another process has written; the queue's last id is now this."""
        self._behind |= newest > self._read_to
        self.read_more()

    def read_more(self) -> None:
        """Read from the file, if there is something and somebody is running out of messages."""
        wanted = self._inbox.ready < READ_MESSAGES and self._inbox.ready_bytes < READ_BYTES
        if wanted and self._behind and not self._reading and not self._inbox.closed and self._bus.is_active(self):
            self._reading, self._behind = True, False
            self._bus.read(self.queue, self._read_to).addCallbacks(self._have_read, self._cannot_read)

    def _have_read(self, part: Part) -> None:
        self._reading = False
        if not self._inbox.closed:
            self._read_to = part.end
            self._behind |= not part.complete
            self._inbox.put([Delivery(body, headers, id_) for id_, headers, body in part.messages])
            self.read_more()

    def _cannot_read(self, failure: Failure) -> None:
        error = failure.value
        self.end(error if isinstance(error, BusError) else BusError(str(error)))


def _attempt(perform: Callable[[QueueFile], Any], file: QueueFile) -> Any:
    """The result, or the error of ours that it raised, which leaves the transaction as it was."""
    try:
        return perform(file)
    except HtmEngineError as error:
        return error


def _fail(operations: Sequence[_Operation] | deque[_Operation], error: BusError) -> None:
    for operation in list(operations):
        if not operation.done.called:
            operation.done.errback(error)


def _survivor(clock: Clock, function: Callable[[], None], interval: float) -> tuple[LoopingCall, float]:
    """A timer that goes on when its function fails."""
    log = Logger()

    def guarded() -> None:
        try:
            function()
        except Exception:
            log.failure("a timer of the bus failed")

    return every(clock, guarded), interval
