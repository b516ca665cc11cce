# SPDX-License-Identifier: MIT
"""Samples a CPU second that each protocol's reader takes, beside the same number of Graphite lines.

One process reads bodies of a usual size again and again, from bytes to samples; sockets and queues are no part of it.
Prometheus is measured twice: with series that were seen before, as at each scrape but the first, and with more series
than are remembered, so that each is new.

    python -m benchmarks.wires --seconds 2 --rounds 3
"""

from __future__ import annotations

import argparse
import itertools
import pickle
import statistics
import time
from collections.abc import Callable, Sequence

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality

from htmengine.messages.samples import parse_sample
from htmengine.wires import influx, otlp, pickle_frames, protobuf_frames, remote_write, statsd
from tests.support.protobuf import double, message, varint, varint_field

SERIES = 500  #: in a body
AT = 1_700_000_000
LABELS = {"cluster": "eu-west-1", "code": "200", "handler": "/api/v1/query", "job": "api", "method": "GET"}

#: Reads the bodies in turn; each holds `SERIES` samples.
Reader = Callable[[bytes], object]


def graphite_lines() -> tuple[Reader, list[bytes]]:
    body = "\n".join(f"{name(number)} {number}.5 {AT}" for number in range(SERIES)).encode()
    return lambda body: [parse_sample(line, AT) for line in body.decode().split("\n")], [body]


def pickles(protocol: int) -> tuple[Reader, list[bytes]]:
    return pickle_frames.read_frame, [pickle.dumps([(name(n), (AT, n + 0.5)) for n in range(SERIES)], protocol)]


def protobuf() -> tuple[Reader, list[bytes]]:
    point = message(2, varint_field(1, AT), double(2, 0.5))
    return protobuf_frames.read_frame, [b"".join(message(1, text(1, name(n)), point) for n in range(SERIES))]


def prometheus_1(bodies: int) -> tuple[Reader, list[bytes]]:
    types = remote_write.MetricTypes()

    def series(number: int) -> bytes:
        pairs = [message(1, text(1, key), text(2, value)) for key, value in labels(number).items()]
        return message(1, *pairs, message(2, double(1, 0.5), varint_field(2, AT * 1000)))

    made = [b"".join(map(series, range(n * SERIES, (n + 1) * SERIES))) for n in range(bodies)]
    return lambda body: remote_write.read_version_1(body, types), made


def prometheus_2(bodies: int) -> tuple[Reader, list[bytes]]:
    def request(first: int) -> bytes:
        symbols = {"": 0}
        made = []
        for number in range(first, first + SERIES):
            texts = itertools.chain.from_iterable(labels(number).items())
            references = b"".join(varint(symbols.setdefault(each, len(symbols))) for each in texts)
            sample = message(2, double(1, 0.5), varint_field(2, AT * 1000))
            made.append(message(5, message(1, references), sample, message(5, varint_field(1, 1))))
        return b"".join([*(text(4, symbol) for symbol in symbols), *made])

    return remote_write.read_version_2, [request(n * SERIES) for n in range(bodies)]


def opentelemetry() -> tuple[Reader, list[bytes]]:
    request = ExportMetricsServiceRequest()
    resource = request.resource_metrics.add()
    resource.resource.attributes.add(key="service.name").value.string_value = "shop"
    data = resource.scope_metrics.add().metrics.add(name="http.server.requests").sum
    data.aggregation_temporality = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
    data.is_monotonic = True
    for number in range(SERIES):
        point = data.data_points.add(time_unix_nano=AT * 10**9, as_int=number)
        for key, value in labels(number).items():
            point.attributes.add(key=key).value.string_value = value
    return otlp.OtlpReader().read, [request.SerializeToString()]


def influx_lines() -> tuple[Reader, list[bytes]]:
    lines = [f"http,host=web{n},region=eu-west a=1.5,b=2i,c=3.25,d=4.5 {AT}" for n in range(SERIES // 4)]
    return lambda body: influx.read_lines(body, "s", AT), ["\n".join(lines).encode()]


def statsd_lines(ending: str) -> tuple[Reader, list[bytes]]:
    aggregator = statsd.Aggregator(statsd.StatsdOptions())
    lines = [f"web{n}.http.requests:{n}|{ending}" for n in range(SERIES)]
    return lambda body: aggregator.take(body, AT), ["\n".join(lines).encode()]


def name(number: int) -> str:
    return f"servers.web{number}.http.requests"


def labels(number: int) -> dict[str, str]:
    return {"__name__": "http_requests_total", **LABELS, "instance": f"web{number}.example.org:9100"}


def text(number: int, value: str) -> bytes:
    return message(number, value.encode())


def rate(reader: Reader, bodies: Sequence[bytes], seconds: float) -> float:
    """Samples a CPU second, after each body was read once."""
    for body in bodies:
        reader(body)
    began, read = time.process_time(), 0
    for body in itertools.cycle(bodies):
        reader(body)
        read += SERIES
        if (spent := time.process_time() - began) >= seconds:
            return read / spent
    raise AssertionError("there are no bodies")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0, help="of CPU for each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    more_than_remembered = 2 * remote_write.MAX_REMEMBERED // SERIES
    wires = {
        "Graphite lines": graphite_lines(),
        "pickle, protocol 2": pickles(2),
        "pickle, protocol 4": pickles(4),
        "carbon's protobuf": protobuf(),
        "Prometheus 1.0, known series": prometheus_1(1),
        "Prometheus 1.0, new series": prometheus_1(more_than_remembered),
        "Prometheus 2.0, known series": prometheus_2(1),
        "Prometheus 2.0, new series": prometheus_2(more_than_remembered),
        "OTLP, protobuf": opentelemetry(),
        "Influx, 4 fields a line": influx_lines(),
        "statsd counters": statsd_lines("c"),
        "statsd timers with tags": statsd_lines("ms|@0.5|#site:shop,dc:eu"),
    }
    rates: dict[str, list[float]] = {wire: [] for wire in wires}
    for _ in range(options.rounds):
        for wire, (reader, bodies) in wires.items():
            rates[wire].append(rate(reader, bodies, options.seconds))
    for wire, found in rates.items():
        print(f"{wire:30} {statistics.median(found):10,.0f} samples a CPU second")


if __name__ == "__main__":
    main()
