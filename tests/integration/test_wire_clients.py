# SPDX-License-Identifier: MIT
"""What other programs' real clients write, read without an engine: InfluxDB's, OpenTelemetry's SDK, two of statsd."""

from __future__ import annotations

import socket
from collections.abc import Callable
from datetime import UTC, datetime

import statsd
from datadog.dogstatsd.base import DogStatsd
from hypothesis import given
from hypothesis import strategies as st
from influxdb_client.client.write.point import Point
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource
from twisted.trial.unittest import SynchronousTestCase

from htmengine.labels import split
from htmengine.wires.influx import read_lines
from htmengine.wires.otlp import OtlpOptions, OtlpReader
from htmengine.wires.samples import Kind, Received
from htmengine.wires.statsd import Aggregator, StatsdOptions
from tests.unit.test_wires_otlp import values as values_and_kinds
from tests.unit.test_wires_statsd import values

KEYS = st.text(st.characters(exclude_categories=["C", "Z"], exclude_characters='\\"#'), min_size=1, max_size=12)
TEXTS = st.text(st.sampled_from('ab ,=\\"\n#ü'), max_size=12)


class InfluxTest(SynchronousTestCase):
    @given(
        measurement=KEYS,
        tags=st.dictionaries(KEYS, KEYS, max_size=4),
        field=KEYS,
        text=TEXTS,
        # The parser takes no subnormal numbers (below 2.2e-308): such a line is a reject.
        value=st.floats(allow_nan=False, allow_infinity=False, allow_subnormal=False),
    )
    def test_what_the_client_writes_is_read(
        self, measurement: str, tags: dict[str, str], field: str, text: str, value: float
    ) -> None:
        point = Point(measurement).field(field, value).field(f"{field}x", text)
        for key, tag in tags.items():
            point = point.tag(key, tag)
        line = point.time(datetime(2023, 11, 14, tzinfo=UTC)).to_line_protocol()
        received = read_lines(f"{line}\n{line}".encode(), "ns", 0.0)
        self.assertEqual([(s.value, s.timestamp) for s in received.samples], [(value, 1_699_920_000.0)] * 2, line)
        self.assertEqual(split(received.samples[0].name)[1], tags)
        self.assertEqual(dict(received.left_out), {"text": 2})


class OpenTelemetryTest(SynchronousTestCase):
    def exported(self, temporality: AggregationTemporality) -> Received:
        reader = InMemoryMetricReader({Counter: temporality, Histogram: temporality})
        views = [View(instrument_name="size", aggregation=ExponentialBucketHistogramAggregation())]
        provider = MeterProvider([reader], Resource({"service.name": "shop"}), views=views)
        self.addCleanup(provider.shutdown)
        meter = provider.get_meter("tests")
        counter = meter.create_counter("logins")
        latency = meter.create_histogram("latency", explicit_bucket_boundaries_advisory=[10.0, 20.0, 40.0])
        size = meter.create_histogram("size")
        meter.create_up_down_counter("queue").add(-2)
        engine = OtlpReader(OtlpOptions(quantiles=(0.5,)))
        for value in (5, 15):
            counter.add(3, {"site": "de"})
            latency.record(value)
            size.record(100)
            body = encode_metrics(reader.get_metrics_data()).SerializeToString()
            received = engine.read(body)
            self.assertEqual(dict(received.rejected), {})
        return received

    def test_cumulative_metrics_of_the_sdk(self) -> None:
        self.assertEqual(
            values_and_kinds(self.exported(AggregationTemporality.CUMULATIVE)),
            {
                "logins;service.name=shop;site=de": (6.0, Kind.COUNTER),
                "queue;service.name=shop": (-2.0, Kind.GAUGE),
                "latency.count;service.name=shop": (2.0, Kind.COUNTER),
                "latency.sum;service.name=shop": (20.0, Kind.COUNTER),
                "latency.p50;service.name=shop": (15.0, Kind.GAUGE),
                "size.count;service.name=shop": (2.0, Kind.COUNTER),
                "size.sum;service.name=shop": (200.0, Kind.COUNTER),
            },
        )

    def test_delta_metrics_of_the_sdk(self) -> None:
        found = values_and_kinds(self.exported(AggregationTemporality.DELTA))
        self.assertEqual(found["logins;service.name=shop;site=de"], (3.0, Kind.DELTA))
        self.assertEqual(found["latency.p50;service.name=shop"], (15.0, Kind.GAUGE))


class StatsdTest(SynchronousTestCase):
    """Over a socket of this machine, since that is how these clients send."""

    def received(self, send: Callable[[int], object]) -> dict[str, float]:
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(server.close)
        server.bind(("127.0.0.1", 0))
        server.settimeout(5.0)
        send(server.getsockname()[1])
        server.sendto(b"end", server.getsockname())
        aggregator = Aggregator(StatsdOptions())
        while (datagram := server.recv(65_536)) != b"end":
            self.assertEqual(dict(aggregator.take(datagram, now=1.0).rejected), {})
        return values(aggregator.flush(10.0))

    def test_the_statsd_package(self) -> None:
        def send(port: int) -> None:
            client = statsd.StatsClient("127.0.0.1", port, prefix="shop")
            client.incr("logins", 3)
            client.decr("logins")
            client.timing("page", 320)
            client.gauge("queue", 70)
            client.gauge("queue", -5, delta=True)
            client.set("users", "ann")
            with client.pipeline() as pipe:
                pipe.incr("a")
                pipe.incr("b")
            client.close()

        found = self.received(send)
        self.assertEqual(found["stats.counters.shop.logins.count"], 2.0)
        self.assertEqual(found["stats.timers.shop.page.upper_90"], 320.0)
        self.assertEqual(found["stats.gauges.shop.queue"], 65.0)
        self.assertEqual(found["stats.sets.shop.users.count"], 1.0)
        self.assertEqual(found["stats.counters.shop.b.count"], 1.0)

    def test_the_datadog_package(self) -> None:
        def send(port: int) -> None:
            client = DogStatsd(host="127.0.0.1", port=port, disable_telemetry=True, disable_buffering=True)
            client.increment("logins", 3, tags=["site:shop", "beta"])
            client.distribution("page", 0.25)
            client.event("deployed", "version 2")
            client.close_socket()

        found = self.received(send)
        self.assertEqual(found["stats.counters.logins.count;beta=true;site=shop"], 3.0)
        self.assertEqual(found["stats.timers.page.mean"], 0.25)
