# SPDX-License-Identifier: MIT
"""Graphite's lines from RabbitMQ, as collectd's amqp plugin and others publish them for carbon.

In: messages of lines ``name value timestamp``, or ``value timestamp`` with the name as routing key, published to an
exchange that the engine's own queue is bound to.  Out: messages on the samples queue.  A message is acknowledged when
its samples are durable there; a line that breaks the rules is rejected alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from twisted.logger import Logger
from twisted.python.failure import Failure

from htmengine.bus.interface import SAMPLES_LIMITS, Bus, Delivery, QueueLimits
from htmengine.bus.queue_consumer import QueueConsumer
from htmengine.errors import InvalidSample
from htmengine.messages import Reject, SampleBatch, encode_samples, in_messages, line_at, shown_line, with_rejects
from htmengine.process.twisted_types import Clock

#: Messages that are read at once.
PREFETCH = 64
#: Rejected lines that a message shows.
SHOWN_REJECTS = 10
#: Whoever publishes to an exchange cannot be told to wait: the oldest messages make room.
LIMITS = QueueLimits(overflow="drop-head")


@dataclass(frozen=True, slots=True)
class CarbonQueueOptions:
    """Where the lines come from, and where they go."""

    exchange: str
    samples_queue: str
    max_future_s: float
    topic: bool = False  #: the exchange's type; else it is a fanout exchange
    name_in_body: bool = True

    @property
    def queue(self) -> str:
        """The engine's own, bound to the exchange."""
        return queue_from(self.exchange, self.samples_queue)


def queue_from(exchange: str, samples_queue: str) -> str:
    """The queue that takes what is published to an exchange."""
    return f"{samples_queue}.from.{exchange}"


class CarbonQueue(QueueConsumer):
    """Reads the queue."""

    log = Logger()

    def __init__(
        self, *, bus: Bus, clock: Clock, options: CarbonQueueOptions, on_failure: Callable[[Failure], None]
    ) -> None:
        super().__init__(bus=bus, on_failure=on_failure)
        self._clock = clock
        self._options = options

    async def consume(self) -> None:
        """Until the service or the bus stops."""
        options = self._options
        await self._bus.declare_queue(options.samples_queue, limits=SAMPLES_LIMITS)
        await self._bus.declare_fanout(options.exchange, topic=options.topic)
        await self._bus.declare_queue(options.queue, limits=LIMITS)
        await self._bus.bind(options.queue, options.exchange)
        self._subscription = await self._bus.subscribe(options.queue, prefetch=PREFETCH)
        self.log.info("reading lines from the exchange {exchange}", exchange=options.exchange)
        while self.running:
            deliveries = await self._subscription.get(PREFETCH)
            now = self._clock.seconds()
            batches = [batch for each in deliveries for batch in batches_of(each, now, options)]
            await self._bus.publish(options.samples_queue, [encode_samples(batch) for batch in batches])
            await self._subscription.ack(deliveries)


def batches_of(delivery: Delivery, now: float, options: CarbonQueueOptions) -> Iterator[SampleBatch]:
    """The lines of a message that can be taken, and counts of the others with the first message.

    >>> options = CarbonQueueOptions("carbon", "samples", 600.0, name_in_body=False)
    >>> delivery = Delivery(b"1 60\\r\\nx 60\\n", {}, None, routing_key="a")
    >>> [(batch.lines, batch.rejected) for batch in batches_of(delivery, 100.0, options)]
    [(['a 1 60'], {'value_not_a_number': 1})]
    """
    name = "" if options.name_in_body else f"{delivery.routing_key} "
    sender = f"exchange {options.exchange}"
    rejected: Counter[str] = Counter()
    rejects: list[Reject] = []
    lines: list[str] = []
    for line in delivery.body.splitlines():
        try:
            if line and not line.isspace():
                lines.append(line_at(name + line.decode(), now, options.max_future_s))
        except (InvalidSample, UnicodeDecodeError) as error:
            reason = error.reason if isinstance(error, InvalidSample) else "not_utf8"
            rejected[reason] += 1
            rejects.append(Reject(reason, shown_line(line), sender))
    batches = (SampleBatch(part, senders=[(sender, len(part))]) for part in in_messages(lines))
    return with_rejects(batches, dict(rejected), rejects[:SHOWN_REJECTS])
