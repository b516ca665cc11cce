# SPDX-License-Identifier: MIT
"""Lines from RabbitMQ: acknowledged when they are durable, and rejected one by one."""

from __future__ import annotations

from collections.abc import Coroutine
from dataclasses import replace
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from htmengine.bus.interface import Delivery
from htmengine.cli.queues import own_queues
from htmengine.config import Config, MetricListenerSection
from htmengine.deployment import Deployment
from htmengine.messages import SampleBatch, decode_samples
from htmengine.process.twisted_types import for_twisted
from htmengine.runtime.carbon_queue import CarbonQueue, CarbonQueueOptions, batches_of
from htmengine.testing import MemoryBus

T = TypeVar("T")
OPTIONS = CarbonQueueOptions("collectd", "samples", 600.0)


class CarbonQueueTest(SynchronousTestCase):
    def setUp(self) -> None:
        clock = Clock()
        clock.advance(1000)
        self.bus = MemoryBus(clock)
        self.bus.startService()
        self.failures: list[Failure] = []
        self.service = CarbonQueue(
            bus=self.bus, clock=for_twisted(clock), options=OPTIONS, on_failure=self.failures.append
        )
        self.service.startService()

    def tearDown(self) -> None:
        self.successResultOf(self.service.stopService())
        self.assertEqual(self.failures, [])

    def do(self, work: Coroutine[Deferred[Any], Any, T]) -> T:
        return self.successResultOf(Deferred.fromCoroutine(work))

    def samples(self) -> list[SampleBatch]:
        subscription = self.do(self.bus.subscribe("samples", prefetch=10))
        return [decode_samples(delivery.body) for delivery in self.do(subscription.get(10))]

    def test_the_queue_is_listed_as_one_of_the_engine_s_own(self) -> None:
        section = MetricListenerSection(queue_name="samples", amqp_exchange="collectd")
        for listener, listed in ((section, True), (MetricListenerSection(queue_name="samples"), False)):
            own = own_queues(Deployment(Config(metric_listener=listener), None))
            self.assertEqual((OPTIONS.queue in own, "samples" in own), (listed, True))

    def test_lines_go_on_and_messages_are_acknowledged(self) -> None:
        self.do(self.bus.broadcast("collectd", [b"a.load 0.5 60\r\nb 1 -1\n", b"c 2 120"]))
        first, second = self.samples()
        self.assertEqual((first.lines, second.lines), (["a.load 0.5 60", "b 1.0 1000"], ["c 2 120"]))
        self.assertEqual(first.senders, [("exchange collectd", 2)])
        self.assertEqual(self.do(self.bus.depth(OPTIONS.queue)), 0)

    def test_a_bad_line_is_rejected_alone(self) -> None:
        self.do(self.bus.broadcast("collectd", [b"a 1 60\n\xff 1 60\nb x 60\n\nc 1 5000\n", b"nonsense"]))
        first, second = self.samples()
        self.assertEqual(first.lines, ["a 1 60"])
        self.assertEqual(first.rejected, {"not_utf8": 1, "value_not_a_number": 1, "timestamp_future": 1})
        self.assertEqual((second.lines, second.rejected), ([], {"field_count": 1}))
        self.assertEqual({each.sender for each in first.rejects}, {"exchange collectd"})

    def test_a_large_message_becomes_several(self) -> None:
        batches = list(batches_of(Delivery(b"bad\n" * 30 + b"a 1 60\n" * 2500, {}, None), 100.0, OPTIONS))
        self.assertEqual([len(batch.lines) for batch in batches], [1000, 1000, 500])
        self.assertEqual([batch.rejected for batch in batches], [{"field_count": 30}, {}, {}])
        self.assertEqual(len(batches[0].rejects), 10)

    def test_the_name_may_be_the_routing_key(self) -> None:
        options = replace(OPTIONS, name_in_body=False)
        given = [("web;dc=a", b"1 60\n2 -1"), ("", b"1 60"), ("b", b"c 1 60")]
        [[named], [nameless], [both]] = [
            list(batches_of(Delivery(body, {}, None, key), 100.0, options)) for key, body in given
        ]
        self.assertEqual(named.lines, ["web;dc=a 1 60", "web;dc=a 2.0 100"])
        self.assertEqual((nameless.rejected, both.rejected), ({"field_count": 1}, {"field_count": 1}))
