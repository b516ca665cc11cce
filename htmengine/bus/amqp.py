# SPDX-License-Identifier: MIT
"""The bus of many processes and hosts: RabbitMQ.

In: calls of the services of this process.  Out: deliveries.  Chosen by deployment.py.

There are two connections: RabbitMQ stops reading from one that publishes while it is short of memory or disk, and
acknowledgements must not wait for that.  Both are made again when they are lost (`amqp_link`); everything that
was in flight then comes again.

A queue has its bound in its publishers (`amqp_publisher`) and its one active subscriber by exclusive consumption, so
that it needs no arguments, and HTM Engine's applications may declare it as they always did.  What has to be
an argument is one: the limits of followers' queues, and a quorum queue's type.
"""

from __future__ import annotations

import contextlib
import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

from pika.adapters.twisted_connection import ClosableDeferredQueue, TwistedChannel
from pika.exceptions import ChannelClosedByBroker
from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredLock, gatherResults
from twisted.internet.defer import TimeoutError as DeferTimeout
from twisted.logger import Logger
from twisted.python.failure import Failure

from htmengine.bus.amqp_link import CLOSE_S, LOST, RETRY_S, AmqpParams, Link
from htmengine.bus.amqp_publisher import Destination, Publisher
from htmengine.bus.inbox import Inbox
from htmengine.bus.interface import DEFAULT_LIMITS, Delivery, QueueLimits, QueueState
from htmengine.errors import BusClosed, BusError, UnroutableMessage
from htmengine.process.figures import Figure, counter
from htmengine.process.progress import Progress
from htmengine.process.twisted_types import Reactor, every, within

__all__ = ["AmqpBus", "AmqpParams", "AmqpSubscription"]

QueueType = Literal["classic", "quorum"]

#: A subscriber that waits for its turn looks this often whether the other one has ended.
TURN_POLL_S = 0.5

#: Bindings are made again this often.
BINDINGS_S = 30.0

#: A queue that goes when nobody has read it for so long needs no replicas.
SHORT_S = 3600.0

#: What a process is at while the broker does not answer.
ASKING = "waiting for RabbitMQ to answer"

NOT_FOUND, REFUSED, DIFFERENT = 404, 403, 406
#: As the key of a binding to a topic exchange.
EVERYTHING = "#"


class AmqpBus(Service):
    """A `htmengine.bus.interface.Bus` on RabbitMQ.

    It starts whether the broker is there or not, and waits for it.  With ``queue_type="quorum"`` queues are
    replicated in the broker's cluster.  Messages of a full queue wait in their publishers; the bound on bytes is
    estimated from what this process has published.
    """

    log = Logger()

    def __init__(self, params: AmqpParams, *, reactor: Reactor, queue_type: QueueType = "classic") -> None:
        self._reactor = reactor
        self.progress = Progress(reactor.seconds)
        self._queue_type = queue_type
        self._limits: dict[str, QueueLimits] = {}  #: of the queues that were declared here
        self._bindings: dict[str, set[str]] = {}  #: the exchanges that they are bound to
        self._exchanges: dict[str, bool] = {}  #: that were declared here, and whether they are of the type topic
        self._leaving: set[str] = set()  #: queues that are being deleted
        self.remade = 0  #: queues that were gone
        self._different: dict[str, str] = {}  #: queues that are not as they were declared here, and how
        self._subscriptions: list[AmqpSubscription] = []
        self._stopped = False
        self._consuming = Link(params, "consuming", reactor=reactor, on_lost=self._lost)
        self._publishing = Link(params, "publishing", reactor=reactor, on_lost=lambda: None)
        self._publisher = Publisher(
            self._publishing,
            clock=reactor,
            limits_of=self._limits_of,
            depth_of=self._waiting,
            check_exchange=self._check_exchange,
        )
        self._keeping = every(reactor, lambda: Deferred.fromCoroutine(self._keep_bindings()))
        self._asking = DeferredLock()
        self._asked: TwistedChannel | None = None  #: the channel for questions about queues

    def why_away(self) -> str:
        """What its operator is told when the broker does not answer."""
        return self._consuming.why_away()

    def figures(self) -> Iterable[Figure]:
        """What was lost and made again, connections and queues, and what applications' queues have refused."""
        lost = self._consuming.lost + self._publishing.lost
        yield counter("htmengine_bus_lost_connections", "Connections to RabbitMQ that were lost", lost)
        yield counter("htmengine_bus_remade_queues", "Queues that were gone and were made again", self.remade)
        refused = self._publisher.refused
        yield counter("htmengine_bus_refused", "Broadcast messages that an application's queue refused", refused)

    # --- service ---------------------------------------------------------------------------------------

    def startService(self) -> None:
        super().startService()
        self._consuming.startService()
        self._publishing.startService()
        self._keeping.start(BINDINGS_S, now=False)

    def stopService(self) -> Deferred[Any]:
        """What waits for the broker ends with `BusClosed`."""
        super().stopService()
        self._stopped = True
        if self._keeping.running:
            self._keeping.stop()
        for subscription in list(self._subscriptions):
            subscription.end(BusClosed("the bus is stopped"))
        return gatherResults([self._publishing.stopService(), self._consuming.stopService()])

    # --- bus -------------------------------------------------------------------------------------------

    async def differences(self) -> list[str]:
        """Queues that are not as this process declares them, and how they differ."""
        return list(self._different.values())

    async def declare_queue(self, name: str, *, limits: QueueLimits = DEFAULT_LIMITS) -> None:
        """See `Bus.declare_queue`.  A queue that another program has made with other arguments is taken as it is, and
        told of; raises `BusError` if it is not durable.
        """
        arguments = _arguments(limits, self._queue_type)
        try:
            await self._ask(lambda channel: channel.queue_declare(name, durable=True, arguments=arguments))
        except ChannelClosedByBroker as error:
            if error.reply_code != DIFFERENT:
                raise BusError(error.reply_text) from None
            if "'durable'" in error.reply_text:
                self._different[name] = (
                    f"queue {name!r} is not durable, RabbitMQ loses it at its restart: stop its readers, delete it"
                    f" with `rabbitmqctl delete_queue {name}`, and declare it durable where it is made"
                )
                raise BusError(self._different[name]) from None
            if name not in self._limits:
                self.log.warn("queue {name} exists with other arguments: {why}", name=name, why=error.reply_text)
            self._different[name] = (
                f"queue {name!r} exists with other arguments and is used as it is: {error.reply_text}"
            )
        else:
            self._different.pop(name, None)
        self._limits.setdefault(name, limits)

    async def remake(self, name: str) -> bool:
        """Make a queue of ours again that somebody has deleted, or RabbitMQ has lost, with its bindings.

        False: it is none of ours, or one that goes when nobody reads it.
        """
        if name not in self._limits or name in self._leaving or self._limits[name].expires_s is not None:
            return False
        self.remade += 1
        self.log.error("queue {name} is gone with its messages; it is made again", name=name)
        await self.declare_queue(name, limits=self._limits[name])
        for exchange in self._bindings.get(name, ()):
            await self.declare_fanout(exchange, topic=self._exchanges.get(exchange, False))
            await self._bind(name, exchange)
        return True

    async def _remake_exchange(self, name: str) -> bool:
        """The same for an exchange.  False: it is none of ours."""
        if name not in self._exchanges:
            return False
        self.log.error("exchange {name} is gone; it is made again", name=name)
        await self.declare_fanout(name, topic=self._exchanges[name])
        for queue in [queue for queue, exchanges in self._bindings.items() if name in exchanges]:
            await self._bind(queue, name)
        return True

    async def _keep_bindings(self) -> None:
        """Bind again what is bound: an exchange that is deleted takes other processes' bindings along, untold."""
        with contextlib.suppress(BusClosed):
            for queue, exchanges in list(self._bindings.items()):
                for exchange in exchanges:
                    with contextlib.suppress(UnroutableMessage):  # whoever uses what is gone makes it again
                        await self._bind(queue, exchange)

    async def declare_fanout(self, name: str, *, topic: bool = False) -> None:
        """See `Bus.declare_fanout`."""
        kind = "topic" if topic else "fanout"
        await self._ask_for(name, lambda channel: channel.exchange_declare(name, kind, durable=True))
        self._exchanges[name] = topic

    async def bind(self, queue: str, exchange: str) -> None:
        """See `Bus.bind`."""
        await self._state(queue)
        await self._bind(queue, exchange)
        self._bindings.setdefault(queue, set()).add(exchange)

    async def _bind(self, queue: str, exchange: str) -> None:
        key = EVERYTHING if self._exchanges.get(exchange, False) else ""
        await self._ask_for(exchange, lambda channel: channel.queue_bind(queue, exchange, routing_key=key))

    async def delete_queue(self, name: str) -> None:
        """See `Bus.delete_queue`."""
        self._leaving.add(name)  # or its subscribers and publishers would make it again
        try:
            await self._ask_for(name, lambda channel: channel.queue_delete(name))
            self._limits.pop(name, None)
            self._bindings.pop(name, None)
        finally:
            self._leaving.discard(name)

    async def publish(self, queue: str, bodies: Sequence[bytes], headers: Mapping[str, str] | None = None) -> None:
        """See `Bus.publish`."""
        self._check_open()
        while True:
            try:
                with self.progress.doing(partial(self._publishing_to, queue)):
                    await self._publisher.publish(Destination(queue=queue), bodies, headers or {})
            except UnroutableMessage:
                if not await self.remake(queue):
                    raise
            else:
                return

    async def broadcast(self, exchange: str, bodies: Sequence[bytes], headers: Mapping[str, str] | None = None) -> None:
        """See `Bus.broadcast`.  A queue that refuses messages when it is full does without them."""
        self._check_open()
        while True:
            try:
                with self.progress.doing(f"publishing to exchange {exchange!r}"):
                    await self._publisher.publish(Destination(exchange=exchange), bodies, headers or {})
            except UnroutableMessage:
                if not await self._remake_exchange(exchange):
                    raise
            else:
                return

    def is_heard(self, exchange: str) -> bool:
        """See `Bus.is_heard`."""
        return True

    async def subscribe(self, queue: str, *, prefetch: int) -> AmqpSubscription:
        """See `Bus.subscribe`."""
        return await self._start(AmqpSubscription(self, queue, prefetch))

    async def claim(self, queue: str, *, prefetch: int) -> AmqpSubscription | None:
        """See `Bus.claim`."""
        subscription = await self._start(AmqpSubscription(self, queue, prefetch, lasting=False))
        return None if subscription.ended else subscription

    async def join(self, group: str) -> None:
        """See `Bus.join`.  A member is a consumer of the group's queue, to which nobody publishes."""
        await self.declare_queue(group)
        await self._start(AmqpSubscription(self, group, prefetch=1, shared=True))

    async def members(self, group: str) -> int:
        """See `Bus.members`."""
        return int((await self._state(group)).consumer_count)

    async def inspect(self, names: Sequence[str] = ()) -> list[QueueState]:
        """See `Bus.inspect`."""
        states = []
        for name in sorted(set(names)):
            with contextlib.suppress(UnroutableMessage):
                state = await self._state(name)
                states.append(QueueState(name, int(state.message_count), has_reader=state.consumer_count > 0))
        return states

    async def depth(self, queue: str) -> int:
        """See `Bus.depth`.  Unacknowledged messages are counted if this process has them."""
        waiting = await self._waiting(queue)
        return waiting + sum(len(each) for each in self._subscriptions if each.queue == queue)

    # --- for subscriptions -----------------------------------------------------------------------------

    async def channel(self) -> TwistedChannel:
        """A channel for consuming."""
        self._check_open()
        with self.progress.doing(ASKING):
            return await self._consuming.channel()

    async def sleep(self, seconds: float) -> None:
        """Raises `BusClosed` when the bus stops first."""
        await self._consuming.sleep(seconds)

    async def no_longer_than(self, seconds: float, answer: Deferred[None]) -> None:
        """Wait for a broker that may hang."""
        with contextlib.suppress(DeferTimeout):
            await within(answer, seconds, self._reactor)

    def forget(self, subscription: AmqpSubscription) -> None:
        """It has ended."""
        if subscription in self._subscriptions:
            self._subscriptions.remove(subscription)

    # --- operations ------------------------------------------------------------------------------------

    def _check_open(self) -> None:
        if self._stopped:
            raise BusClosed("the bus is stopped")

    def _publishing_to(self, queue: str) -> str:
        """What a publication waits for."""
        room = " waits for room in it" if self._publisher.waits_for_room(queue) else ""
        return f"publishing to queue {queue!r}{room}"

    def _limits_of(self, queue: str) -> QueueLimits:
        return self._limits.get(queue, DEFAULT_LIMITS)

    async def _waiting(self, queue: str) -> int:
        return int((await self._state(queue)).message_count)

    async def _state(self, queue: str) -> Any:
        """A queue's length and consumers.  One question at a time: a refusal closes the channel for all of them."""
        async with self._asking:
            while True:
                if self._asked is None or not self._asked.is_open:
                    self._asked = await self.channel()
                try:
                    with self.progress.doing(ASKING):
                        return (await self._asked.queue_declare(queue, passive=True)).method
                except ChannelClosedByBroker as error:
                    if error.reply_code != NOT_FOUND or not await self.remake(queue):
                        raise _error(error, queue) from None
                except LOST:
                    await self.sleep(RETRY_S)

    async def _start(self, subscription: AmqpSubscription) -> AmqpSubscription:
        self._subscriptions.append(subscription)
        try:
            await subscription.start()
        except BusError as error:
            subscription.end(error)
            raise
        return subscription

    async def _check_exchange(self, exchange: str) -> None:
        await self._ask_for(exchange, lambda channel: channel.exchange_declare(exchange, passive=True))

    async def _ask_for(self, name: str, operation: Callable[[TwistedChannel], Deferred[Any]]) -> Any:
        """As `_ask`; raises `UnroutableMessage` if there is nothing of that name."""
        try:
            return await self._ask(operation)
        except ChannelClosedByBroker as error:
            raise _error(error, name) from None

    async def _ask(self, operation: Callable[[TwistedChannel], Deferred[Any]]) -> Any:
        """An operation on a channel of its own, since a refusal closes it; asked again when the connection is lost."""
        while True:
            channel = await self.channel()
            try:
                with self.progress.doing(ASKING):
                    result = await operation(channel)
                channel.close()
            except ChannelClosedByBroker:
                raise
            except LOST:
                await self.sleep(RETRY_S)
            else:
                return result

    def _lost(self) -> None:
        for subscription in list(self._subscriptions):
            subscription.connection_lost()


class AmqpSubscription:
    """A queue's messages, from a channel of its own.

    A ``lasting`` one waits for its turn while another has the queue, and again after a lost connection; one that is
    not ends instead.  A ``shared`` one takes the queue beside others.
    """

    log = Logger()

    def __init__(self, bus: AmqpBus, queue: str, prefetch: int, *, lasting: bool = True, shared: bool = False) -> None:
        self.queue = queue
        self._bus = bus
        self._prefetch = prefetch
        self._lasting = lasting
        self._shared = shared
        self._inbox = Inbox(prefetch)
        self._channel: TwistedChannel | None = None
        self._channels = 0  #: so far; part of a delivery's tag, since each channel counts its messages from 1

    def __len__(self) -> int:
        """Messages that have come and are not acknowledged."""
        return len(self._inbox)

    @property
    def ended(self) -> bool:
        """Whether it will give nothing any more."""
        return self._inbox.closed

    async def start(self) -> None:
        """Take the queue if it is free; if it is not, wait for it in the background, or end."""
        incoming = await self._take()
        if incoming is None and not self._lasting:
            self.end(BusClosed(f"queue {self.queue!r} has a subscriber"))
            return
        Deferred.fromCoroutine(self._receive(incoming)).addErrback(self._failed)

    async def get(self, most: int) -> list[Delivery]:
        """See `Subscription.get`."""
        return await self._inbox.get(most)

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        """See `Subscription.ack`."""
        for delivery in self._inbox.settle(deliveries):
            if self._channel is not None and self._channel.is_open:
                self._channel.basic_ack(delivery.tag[1])
        self._inbox.more()

    async def nack(self, deliveries: Sequence[Delivery]) -> None:
        """See `Subscription.nack`."""
        self._inbox.put_back(self._inbox.settle(deliveries))

    async def close(self) -> None:
        """See `Subscription.close`."""
        channel = self._channel
        self.end(BusClosed("the subscription is closed"))
        if channel is not None and not channel.is_closed:
            closed: Deferred[None] = Deferred()
            channel.on_closed.chainDeferred(closed)
            if channel.is_open:
                channel.close()
            await self._bus.no_longer_than(CLOSE_S, closed)

    def end(self, error: BusError) -> None:
        """Called by the bus, too, when it stops."""
        self._inbox.close(error)
        self._bus.forget(self)

    def connection_lost(self) -> None:
        """Called by the bus: what was in flight comes again."""
        self._channel = None
        if self._lasting:
            self._inbox.clear()
        else:
            self.end(BusClosed(f"the connection that had queue {self.queue!r} is lost"))

    # --- the queue -------------------------------------------------------------------------------------

    async def _take(self) -> ClosableDeferredQueue | None:
        """Become the queue's subscriber, unless it has one.  Raises `UnroutableMessage`."""
        channel = await self._bus.channel()
        try:
            if await self._subscribers(channel) and not self._shared:
                channel.close()
                return None
            await channel.basic_qos(prefetch_count=self._prefetch)
            incoming, _ = await channel.basic_consume(self.queue, exclusive=not self._shared)
            if not self._shared and await self._subscribers(channel) > 1:  # a quorum queue takes every consumer
                channel.close()
                return None
        except ChannelClosedByBroker as error:
            if error.reply_code == REFUSED and "exclusive" in error.reply_text:
                return None
            if error.reply_code == NOT_FOUND and await self._bus.remake(self.queue):
                return await self._take()
            raise _error(error, self.queue) from None
        except LOST:
            return None
        self._channel = channel
        self._channels += 1
        return incoming

    async def _subscribers(self, channel: TwistedChannel) -> int:
        declared = await channel.queue_declare(self.queue, passive=True)
        return int(declared.method.consumer_count)

    async def _receive(self, incoming: ClosableDeferredQueue | None) -> None:
        """Hand over what comes, until the end; whenever the queue is lost, wait for it."""
        while not self._inbox.closed:
            if incoming is not None:
                try:
                    while True:
                        self._arrived(await incoming.get())
                except LOST:
                    self.connection_lost()
            if not self._inbox.closed:
                await self._bus.sleep(TURN_POLL_S * random.uniform(0.5, 1.0))
                incoming = await self._take()

    def _arrived(self, message: Any) -> None:
        if not self._inbox.closed:
            tag = (self._channels, message.method.delivery_tag)
            headers = _headers(message.properties.headers)
            self._inbox.put([Delivery(message.body, headers, tag, message.method.routing_key)])

    def _failed(self, failure: Failure) -> None:
        error = failure.value
        if isinstance(error, UnroutableMessage):
            error = BusClosed(f"queue {self.queue!r} is deleted")
        elif not isinstance(error, BusError):
            self.log.failure("subscription of {queue}", failure, queue=self.queue)
            error = BusError(str(error))
        self.end(error)


def _arguments(limits: QueueLimits, queue_type: QueueType) -> dict[str, Any]:
    arguments: dict[str, Any] = {}
    if queue_type == "quorum" and (limits.expires_s or math.inf) > SHORT_S:
        arguments["x-queue-type"] = "quorum"
    if limits.overflow == "drop-head":
        arguments |= {"x-max-length": limits.max_messages, "x-max-length-bytes": limits.max_bytes}
    if limits.expires_s is not None:
        arguments["x-expires"] = round(1000 * limits.expires_s)
    return arguments


def _headers(headers: Mapping[str, Any] | None) -> dict[str, str]:
    """Those of the publisher; RabbitMQ adds some of its own, ``x-...``."""
    return {name: value for name, value in (headers or {}).items() if isinstance(value, str) and name[:2] != "x-"}


def _error(error: ChannelClosedByBroker, name: str) -> BusError:
    return UnroutableMessage(name) if error.reply_code == NOT_FOUND else BusError(error.reply_text)
