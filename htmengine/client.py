# SPDX-License-Identifier: MIT
"""What an application imports: its way to an engine, embedded or distributed, running or not.

`AsyncClient` is for programs on Twisted, `Client` the same for all others: it blocks, and runs Twisted's reactor in a
thread of its own.  Both find the engine as the command line does: by the folder of its configuration
(``APPLICATION_CONFIG_PATH`` if none is given), or its data folder.  The command line works through `AsyncClient` too.

Errors are those of `htmengine.errors`.  What a call has returned for is durable; while broker or database are away,
calls wait.
"""

from __future__ import annotations

import threading
import uuid
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self, TypeVar

from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.threads import blockingCallFromThread
from twisted.logger import Logger

from htmengine.adapters.datasource.custom import ModelSpec
from htmengine.bus.interface import Bus, Delivery, QueueLimits, Subscription
from htmengine.deployment import BusService, Deployment
from htmengine.errors import BusAway, BusClosed, InvalidMessage, UnroutableMessage
from htmengine.messages import decode_broadcast
from htmengine.operations import Operations
from htmengine.process.twisted_types import Reactor, for_twisted, installed_reactor, within
from htmengine.repository import queries
from htmengine.repository.queries import Metric, Row

T = TypeVar("T")
#: (name, value, epoch seconds; -1: now)
SampleTuple = tuple[str, float, int]

#: Messages that a follower has not acknowledged.
PREFETCH = 100
#: A broker that does not answer within this is away.
REACH_S = 6.0
#: A follower's queue without a name is gone this long after the follower, and holds this many messages.
TEMPORARY = QueueLimits(max_messages=10_000, overflow="drop-head", expires_s=60.0)


async def reach(bus: BusService, queue: str, reactor: Reactor) -> None:
    """Ask a bus for a queue, which need not be there.  Raises `BusAway`."""
    try:
        await within(Deferred.fromCoroutine(bus.depth(queue)), REACH_S, reactor)
    except UnroutableMessage:
        pass  # it answers
    except TimeoutError:
        raise BusAway(bus.why_away()) from None


class AsyncClient:
    """For programs on Twisted::

    async with AsyncClient(reactor) as client:
        await client.monitor("web1.cpu.load", min=0, max=64)
        await client.send([("web1.cpu.load", 0.42, -1)])
        async for message in await client.results(queue="my.application.results"):
            ...
    """

    def __init__(
        self,
        reactor: Reactor,
        deployment: Deployment | None = None,
        *,
        config_dir: Path | None = None,
        data_dir: Path | None = None,
        patient: bool = True,
    ) -> None:
        """Of that deployment; without one, of that which the folders tell.  Raises `ConfigError`.

        Without patience nothing is made, and what is away is not waited for: it raises `StartError`,
        `DatabaseFailed` and `BusAway`.
        """
        self._reactor = reactor
        self._patient = patient
        self._at_stop: Any = None
        self._deployment = deployment or Deployment.find(config_dir, data_dir)

    async def __aenter__(self) -> Self:
        deployment = self._deployment
        self._database = (deployment.database if self._patient else deployment.existing_database)(self._reactor)
        self._bus = deployment.bus(self._reactor)
        try:
            self._bus.startService()
        except BaseException:
            self._database.close()
            raise
        self._at_stop = self._reactor.addSystemEventTrigger("before", "shutdown", self._stopped)
        if not self._patient:
            await self._reach()
        return self

    async def _reach(self) -> None:
        """Ask the bus something.  Raises `BusAway`."""
        try:
            await reach(self._bus, self._deployment.config.metric_listener.queue_name, self._reactor)
        except BaseException:
            await self.__aexit__()
            raise

    async def __aexit__(self, *_: object) -> None:
        if self._at_stop is None:
            return  # the reactor stops, which has closed it
        self._reactor.removeSystemEventTrigger(self._at_stop)
        await self._close()

    def _stopped(self) -> Deferred[None]:
        """A reactor that stops does not come back to who uses this: threads would hold up the end of the process."""
        self._at_stop = None
        return Deferred.fromCoroutine(self._close())

    async def _close(self) -> None:
        self._at_stop = None
        self._database.stop_waiting()
        await self._bus.stopService()
        self._database.close()

    @property
    def operations(self) -> Operations:
        """All that can be done with metrics and models."""
        return self._deployment.operations(self._bus, self._database)

    async def create(self, spec: str | Mapping[str, Any]) -> Metric:
        """A metric without a model, by its name or its model specification.  Raises `MetricExists`."""
        return await self.operations.create(_spec(spec, {}))

    async def monitor(self, spec: str | Mapping[str, Any], **params: Any) -> Metric:
        """Give a metric a model; one that does not exist is created.

        ``spec`` is a model specification, or a name with ``params`` as in its ``modelParams``: ``min``, ``max``,
        ``minResolution``, ``enableClassifier``.  Raises `InvalidModelSpec`.
        """
        return await self.operations.monitor(_spec(spec, params))

    async def unmonitor(self, name: str) -> Metric:
        """Stop a metric's model; its rows stay.  ``name`` may be its uid.  Raises `MetricNotFound`."""
        return await self.operations.unmonitor(name)

    async def delete(self, name: str) -> Metric:
        """Remove a metric with its rows and its model.  Raises `MetricNotFound`."""
        return await self.operations.delete(name)

    async def metrics(self) -> list[Metric]:
        """All metrics, by name."""
        return await self._database.read(queries.list_metrics)

    async def rows(self, uid: str, after_rowid: int = 0, limit: int = 1000) -> list[Row]:
        """A metric's stored rows with their scores, in order."""
        return await self._database.read(queries.get_rows, uid, after_rowid, limit)

    async def send(self, samples: Iterable[SampleTuple]) -> None:
        """Samples, each a name, a value and a timestamp; returns when they are durable in the samples queue."""
        await self.operations.send(f"{name} {float(value)!r} {timestamp}" for name, value, timestamp in samples)

    async def results(self, queue: str | None = None) -> Results:
        """The messages of the results exchange (docs/messages.md) from now on.

        A ``queue`` with a name keeps them while nobody follows, up to its bounds (``[metric_streamer]
        queue_max_messages``, ``queue_max_mb``); then it loses the oldest, and after ``queue_expire_days`` it is
        forgotten.  Without a name it ends with its follower.
        """
        name = queue or f"htmengine.follower.{uuid.uuid4().hex}"
        exchange = self._deployment.config.metric_streamer.results_exchange_name
        await self._bus.declare_fanout(exchange)
        await self._bus.declare_queue(name, limits=self._deployment.application_limits if queue else TEMPORARY)
        await self._bus.bind(name, exchange)
        return Results(self._bus, await self._bus.subscribe(name, prefetch=PREFETCH), None if queue else name)


class Results:
    """Message after message, each as its JSON object.

    A message is acknowledged when the next one is asked for: it comes again if its receiver did not get that far.
    They end when the client is closed, as it is when the reactor stops.
    """

    log = Logger()

    def __init__(self, bus: Bus, subscription: Subscription, temporary: str | None) -> None:
        self._bus = bus
        self._subscription = subscription
        self._temporary = temporary
        self._deliveries: deque[Delivery] = deque()
        self._given: list[Delivery] = []

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> dict[str, Any]:
        while True:
            await self._acknowledge()
            if not self._deliveries:
                try:
                    self._deliveries.extend(await self._subscription.get(PREFETCH))
                except BusClosed:  # so is the client
                    raise StopAsyncIteration from None
            delivery = self._deliveries.popleft()
            self._given.append(delivery)
            try:
                return decode_broadcast(delivery.body)
            except InvalidMessage as error:
                self.log.error("message skipped: {error}", error=error)

    async def close(self) -> None:
        """What was not acknowledged goes to the next follower of the queue."""
        await self._subscription.close()
        if self._temporary is not None:
            await self._bus.delete_queue(self._temporary)

    async def _acknowledge(self) -> None:
        if self._given:
            given, self._given = self._given, []
            await self._subscription.ack(given)


class Client:
    """For programs that block; the methods are those of `AsyncClient`::

        with Client() as client:
            client.monitor("web1.cpu.load", min=0, max=64)
            client.send([("web1.cpu.load", 0.42, -1)])
            for message in client.results(queue="my.application.results"):
                ...

    Any thread may call it.  Not for a program that runs Twisted's reactor itself.
    """

    def __init__(self, *, config_dir: Path | None = None, data_dir: Path | None = None) -> None:
        self._reactor = _running_reactor()
        self._client = AsyncClient(self._reactor, config_dir=config_dir, data_dir=data_dir)

    def __enter__(self) -> Self:
        self._call(self._client.__aenter__)
        return self

    def __exit__(self, *_: object) -> None:
        self._call(self._client.__aexit__)

    def create(self, spec: str | Mapping[str, Any]) -> Metric:
        """See `AsyncClient.create`."""
        return self._call(self._client.create, spec)

    def monitor(self, spec: str | Mapping[str, Any], **params: Any) -> Metric:
        """See `AsyncClient.monitor`."""
        return self._call(self._client.monitor, spec, **params)

    def unmonitor(self, name: str) -> Metric:
        """See `AsyncClient.unmonitor`."""
        return self._call(self._client.unmonitor, name)

    def delete(self, name: str) -> Metric:
        """See `AsyncClient.delete`."""
        return self._call(self._client.delete, name)

    def metrics(self) -> list[Metric]:
        """See `AsyncClient.metrics`."""
        return self._call(self._client.metrics)

    def rows(self, uid: str, after_rowid: int = 0, limit: int = 1000) -> list[Row]:
        """See `AsyncClient.rows`."""
        return self._call(self._client.rows, uid, after_rowid, limit)

    def send(self, samples: Iterable[SampleTuple]) -> None:
        """See `AsyncClient.send`."""
        self._call(self._client.send, list(samples))

    def results(self, queue: str | None = None) -> Iterator[dict[str, Any]]:
        """See `AsyncClient.results`; the iterator's ``close`` ends it."""
        return self._follow(self._call(self._client.results, queue))

    def _follow(self, results: Results) -> Iterator[dict[str, Any]]:
        try:
            while True:
                yield self._call(results.__anext__)
        except StopAsyncIteration:
            return
        finally:
            self._call(results.close)

    def _call(self, method: Callable[..., Coroutine[Any, Any, T]], *args: Any, **kwargs: Any) -> T:
        def start() -> Any:
            return Deferred.fromCoroutine(method(*args, **kwargs))

        result: T = blockingCallFromThread(for_twisted(self._reactor), start)
        return result


def _spec(spec: str | Mapping[str, Any], params: Mapping[str, Any]) -> ModelSpec:
    return ModelSpec.for_name(spec, **params) if isinstance(spec, str) else ModelSpec.parse(spec)


_reactor_lock = threading.Lock()


def _running_reactor() -> Reactor:
    """Twisted's reactor, which runs in a thread that ends with the program."""
    reactor = installed_reactor()
    with _reactor_lock:
        if not reactor.running:
            started = threading.Event()
            reactor.callWhenRunning(started.set)
            threading.Thread(target=reactor.run, kwargs={"installSignalHandlers": False}, daemon=True).start()
            started.wait()
    return reactor
