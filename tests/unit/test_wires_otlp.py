# SPDX-License-Identifier: MIT
"""OTLP: each kind of point, partial success, JSON."""

from __future__ import annotations

import contextlib
import json
from typing import Any
from unittest import TestCase

from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList

from htmengine.errors import InvalidBody
from htmengine.wires.otlp import MAX_BODY_BYTES, OtlpOptions, OtlpReader, accepted_body
from htmengine.wires.samples import Kind, Received
from tests.support.protobuf import message

AT_NS = 1_700_000_000_500_000_000
AT = 1_700_000_000.5
STARTED_NS = 1_600_000_000_000_000_000


def values(received: Received) -> dict[str, tuple[float, Kind]]:
    return {sample.name: (sample.value, sample.kind) for sample in received.samples}


class Request:
    """One request of one resource, put together a metric at a time."""

    def __init__(self, **resource: str) -> None:
        self.message = ExportMetricsServiceRequest()
        self._resource = self.message.resource_metrics.add()
        for key, value in resource.items():
            self._resource.resource.attributes.add(key=key.replace("__", "."), value=AnyValue(string_value=value))
        self._metrics = self._resource.scope_metrics.add().metrics

    def point(self, name: str, form: str, **fields: Any) -> Any:
        metric = self._metrics.add(name=name)
        data = getattr(metric, form)
        for key in ("aggregation_temporality", "is_monotonic"):
            if key in fields:
                setattr(data, key, fields.pop(key))
        return data.data_points.add(**{"time_unix_nano": AT_NS, **fields})

    def read(self, reader: OtlpReader | None = None) -> Received:
        return (reader or OtlpReader()).read(self.message.SerializeToString())


class PointsTest(TestCase):
    def test_gauges_and_sums_are_what_their_temporality_says(self) -> None:
        request = Request()
        request.point("g", "gauge", as_double=1.5)
        request.point("i", "gauge", as_int=-3)
        started = {"start_time_unix_nano": STARTED_NS}
        request.point("total", "sum", as_int=5, aggregation_temporality=2, is_monotonic=True, **started)
        request.point("level", "sum", as_int=6, aggregation_temporality=2, **started)
        request.point("added", "sum", as_int=7, aggregation_temporality=1, is_monotonic=True, **started)
        received = request.read()
        self.assertEqual(
            [(s.name, s.value, s.timestamp, s.kind, s.started_at) for s in received.samples],
            [
                ("g", 1.5, AT, Kind.GAUGE, 0.0),
                ("i", -3.0, AT, Kind.GAUGE, 0.0),
                ("total", 5.0, AT, Kind.COUNTER, 1.6e9),
                ("level", 6.0, AT, Kind.GAUGE, 0.0),
                ("added", 7.0, AT, Kind.DELTA, 1.6e9),
            ],
        )

    def test_a_delta_histogram_gives_count_sum_and_quantiles(self) -> None:
        request = Request()
        request.point(
            "h", "histogram", aggregation_temporality=1, count=20, sum=30.0,
            explicit_bounds=[1.0, 2.0, 4.0], bucket_counts=[10, 10, 0, 0],
        )  # fmt: skip
        received = request.read(OtlpReader(OtlpOptions(quantiles=(0.5, 0.75))))
        self.assertEqual(
            values(received),
            {
                "h.count": (20.0, Kind.DELTA),
                "h.sum": (30.0, Kind.DELTA),
                "h.p50": (1.0, Kind.GAUGE),
                "h.p75": (1.5, Kind.GAUGE),
            },
        )

    def test_quantiles_are_not_beyond_the_observations(self) -> None:
        for counts, extremes, expected in (
            ([0, 0, 100, 0], {"min": 2.5, "max": 3.0}, (2.5, 3.0)),
            ([0, 0, 0, 9], {"min": 7.0, "max": 9.0}, (7.0, 7.0)),
            ([0, 0, 100, 0], {"max": 0.0}, (0.0, 0.0)),
            ([0, 0, 100, 0], {}, (2.02, 3.98)),
        ):
            request = Request()
            request.point(
                "h", "histogram", aggregation_temporality=1, explicit_bounds=[1.0, 2.0, 4.0], bucket_counts=counts,
                **extremes,
            )  # fmt: skip
            found = values(request.read(OtlpReader(OtlpOptions(quantiles=(0.01, 0.99)))))
            self.assertEqual((found["h.p1"][0], found["h.p99"][0]), expected)

    def test_a_cumulative_histogram_s_quantiles_are_of_what_was_added(self) -> None:
        reader = OtlpReader(OtlpOptions(quantiles=(0.5,)))
        found = []
        for seconds, counts in ((0, [1000, 0, 0, 0]), (10, [1000, 0, 10, 0]), (10, [1000, 0, 10, 0])):
            request = Request()
            request.point(
                "h", "histogram", aggregation_temporality=2, count=sum(counts), explicit_bounds=[1.0, 2.0, 4.0],
                bucket_counts=counts, time_unix_nano=AT_NS + seconds * 10**9,
            )  # fmt: skip
            found.append(values(request.read(reader)))
        self.assertEqual(
            found,
            [
                {"h.count": (1000.0, Kind.COUNTER)},
                {"h.count": (1010.0, Kind.COUNTER), "h.p50": (3.0, Kind.GAUGE)},
                {"h.count": (1010.0, Kind.COUNTER), "h.p50": (3.0, Kind.GAUGE)},
            ],
        )

    def test_exponential_histograms_give_count_and_sum(self) -> None:
        request = Request()
        request.point("e", "exponential_histogram", aggregation_temporality=2, count=4, sum=9.0)
        self.assertEqual(values(request.read()), {"e.count": (4.0, Kind.COUNTER), "e.sum": (9.0, Kind.COUNTER)})

    def test_summaries_give_their_quantiles(self) -> None:
        request = Request()
        point = request.point("s", "summary", count=4, sum=9.0)
        for share, value in ((0.0, 1.0), (0.5, 2.0), (0.999, 3.0), (1.0, 4.0), (0.9, float("nan"))):
            point.quantile_values.add(quantile=share, value=value)
        received = request.read()
        self.assertEqual(
            {name: value for name, (value, _) in values(received).items()},
            {"s.count": 4.0, "s.sum": 9.0, "s.min": 1.0, "s.p50": 2.0, "s.p99_9": 3.0, "s.max": 4.0},
        )
        self.assertEqual(dict(received.left_out), {"empty_quantile": 1})

    def test_attributes_of_resource_and_point_are_labels(self) -> None:
        request = Request(
            service__name="shop", service__instance__id="1", process__pid="77", telemetry__sdk__version="1.2"
        )
        point = request.point("g", "gauge", as_int=1)
        nested = AnyValue(array_value=ArrayValue(values=[AnyValue(int_value=1), AnyValue(bool_value=True)]))
        inner = AnyValue(kvlist_value=KeyValueList(values=[KeyValue(key="k", value=AnyValue(double_value=0.5))]))
        for key, value in (
            ("service.instance.id", AnyValue(string_value="2")),
            ("b", AnyValue(bool_value=False)),
            ("n", AnyValue(int_value=-1)),
            ("list", nested),
            ("map", inner),
            ("raw", AnyValue(bytes_value=b"\xff")),
            ("none", AnyValue()),
        ):
            point.attributes.append(KeyValue(key=key, value=value))
        self.assertEqual(
            [sample.name for sample in request.read().samples],
            ['g;b=false;list=[1,true];map={"k":0.5};n=-1;raw=/w==;service.instance.id=2;service.name=shop'],
        )

    def test_points_that_cannot_be_taken_are_each_one_reject(self) -> None:
        request = Request()
        request.point("", "gauge", as_int=1)
        request.point("no value", "gauge")
        request.point("nan", "gauge", as_double=float("nan"))
        request.point("no time", "gauge", as_int=1, time_unix_nano=0)
        request.point("unspecified", "sum", as_int=1)
        request.point("x" * 5000, "histogram", aggregation_temporality=1, count=1, sum=1.0)
        request.point("odd", "histogram", aggregation_temporality=1, bucket_counts=[1, 2], explicit_bounds=[1.0, 2.0])
        request.point("inf", "histogram", aggregation_temporality=1, count=1, sum=float("inf"))
        request.point("unused", "gauge", flags=1)
        request.point("good", "gauge", as_int=1)
        received = request.read()
        self.assertEqual(list(values(received)), ["good"])
        self.assertEqual(
            dict(received.rejected),
            {
                "name_empty": 1,
                "value_missing": 1,
                "value_not_finite": 2,
                "timestamp_missing": 1,
                "temporality": 1,
                "name_too_long": 1,
                "histogram_buckets": 1,
            },
        )
        self.assertEqual(dict(received.left_out), {"no_recorded_value": 1})

    def test_an_attribute_of_a_resource_that_is_too_long_rejects_all_its_points(self) -> None:
        request = Request(note="x" * 5000)
        for number in range(3):
            request.point("g", "gauge", as_int=number)
        self.assertEqual(dict(request.read().rejected), {"name_too_long": 3})

    def test_a_request_of_too_much_is_refused_whole(self) -> None:
        points = message(2, message(1, b"g"), message(5, *[message(1)] * 60_000))
        for body in (
            message(1) * 60_000,
            message(1, message(2, *[message(2)] * 60_000)),
            message(1, message(2, points)),
        ):
            with self.assertRaises(InvalidBody) as caught:
                OtlpReader().read(body)
            self.assertEqual(caught.exception.reason, "too_many_samples")
        with self.assertRaises(InvalidBody) as caught:
            OtlpReader().read(b'{"resourceMetrics":[' + b"{}," * 200_000 + b"{}]}", as_json=True)
        self.assertEqual(caught.exception.reason, "too_many_samples")


class AnswerTest(TestCase):
    def test_a_whole_success_is_an_empty_message(self) -> None:
        self.assertEqual(accepted_body(Received(), as_json=False), b"")
        self.assertEqual(json.loads(accepted_body(Received(), as_json=True)), {})

    def test_a_partial_success_counts_what_was_rejected(self) -> None:
        received = Received()
        received.reject("value_missing", "'m' has a point without a value", 3)
        response = ExportMetricsServiceResponse.FromString(accepted_body(received, as_json=False))
        self.assertEqual(response.partial_success.rejected_data_points, 3)
        self.assertEqual(
            json.loads(accepted_body(received, as_json=True)),
            {
                "partialSuccess": {
                    "rejectedDataPoints": "3",
                    "errorMessage": "value_missing (3): 'm' has a point without a value",
                }
            },
        )


class JsonTest(TestCase):
    def test_json_is_read_with_integers_as_texts_and_ids_in_hexadecimal(self) -> None:
        point = {
            "asInt": "5", "timeUnixNano": str(AT_NS), "startTimeUnixNano": "1600000000000000000",
            "exemplars": [{"asInt": "1", "traceId": "5b8aa5a2d2c872e8321cf37308d69df2", "spanId": "051581bf3cb55c13"}],
        }  # fmt: skip
        total = {"dataPoints": [point], "aggregationTemporality": 2, "isMonotonic": True, "unknownField": 1}
        resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "shop"}}]}
        body = {
            "resourceMetrics": [{"resource": resource, "scopeMetrics": [{"metrics": [{"name": "t", "sum": total}]}]}]
        }
        received = OtlpReader().read(json.dumps(body).encode(), as_json=True)
        self.assertEqual(values(received), {"t;service.name=shop": (5.0, Kind.COUNTER)})

    def test_both_forms_give_the_same(self) -> None:
        request = Request(service__name="shop")
        request.point("t", "sum", as_int=5, aggregation_temporality=2, is_monotonic=True)
        as_json = json_format.MessageToJson(request.message, use_integers_for_enums=True).encode()
        self.assertEqual(OtlpReader().read(as_json, as_json=True).samples, request.read().samples)

    def test_other_bodies_are_refused(self) -> None:
        deep = (
            b'{"resourceMetrics":[{"resource":{"attributes":[{"key":"a","value":' + b'{"arrayValue":{"values":[' * 500
        )
        for body in (
            b"",
            b"[]",
            b'"x"',
            b"{",
            b"\xff",
            b'{"resourceMetrics": 1}',
            deep,
            b"[" * 100_000,
            bytes(MAX_BODY_BYTES + 1),
        ):
            with self.assertRaises(InvalidBody):
                OtlpReader().read(body, as_json=True)
        for body in (b"\xff", bytes(MAX_BODY_BYTES + 1)):
            with self.assertRaises(InvalidBody):
                OtlpReader().read(body)

    @given(st.binary(max_size=200), st.booleans())
    def test_any_bytes_are_samples_or_refused(self, body: bytes, as_json: bool) -> None:
        with contextlib.suppress(InvalidBody):
            OtlpReader().read(body, as_json)
