# SPDX-License-Identifier: MIT
"""Prometheus remote_write, from bytes put together by the two specifications."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from unittest import TestCase

from hypothesis import given
from hypothesis import strategies as st

from htmengine.errors import InvalidBody
from htmengine.wires.remote_write import (
    MAX_BODY_BYTES,
    MAX_FAMILIES,
    MetricTypes,
    read_version_1,
    read_version_2,
    version_of,
)
from htmengine.wires.samples import Kind, Received, Sample
from tests.support.protobuf import double, message, varint, varint_field

STALE = bytes.fromhex("7ff0000000000002")
TIME_MS = 1_700_000_000_250
AT = 1_700_000_000.25

Values = list[tuple[float | bytes, int]]


def samples(values: Values) -> list[bytes]:
    return [message(2, double(1, value), varint_field(2, timestamp)) for value, timestamp in values]


def series_1(labels: Mapping[str, str], values: Values, *more: bytes) -> bytes:
    pairs = [message(1, message(1, k.encode()), message(2, v.encode())) for k, v in labels.items()]
    return message(1, *pairs, *samples(values), *more)


def metadata_1(family: str, metric_type: int) -> bytes:
    return message(3, varint_field(1, metric_type), message(2, family.encode()), message(4, b"help"), message(5, b"s"))


class Symbols:
    def __init__(self) -> None:
        self.numbers = {"": 0}

    def references(self, *texts: str) -> bytes:
        return b"".join(varint(self.numbers.setdefault(text, len(self.numbers))) for text in texts)

    def series(self, labels: Mapping[str, str], values: Values, metric_type: int = 0, created_ms: int = 0) -> bytes:
        references = self.references(*(text for pair in labels.items() for text in pair))
        metadata = message(5, varint_field(1, metric_type), varint_field(3, 1))
        return message(5, message(1, references), *samples(values), metadata, varint_field(6, created_ms))

    def request(self, *series: bytes) -> bytes:
        return b"".join(message(4, text.encode()) for text in self.numbers) + b"".join(series)


def read_1(*parts: bytes, types: MetricTypes | None = None) -> Received:
    return read_version_1(b"".join(parts), types or MetricTypes())


class Version1Test(TestCase):
    def test_a_series_is_named_by_its_labels(self) -> None:
        received = read_1(series_1({"__name__": "up", "job": "api", "instance": "a:1", "empty": ""}, [(1.0, TIME_MS)]))
        self.assertEqual(received.samples, [Sample("up;instance=a:1;job=api", 1.0, AT, Kind.UNKNOWN)])

    def test_all_samples_of_a_series_are_taken_in_order(self) -> None:
        received = read_1(series_1({"__name__": "up"}, [(1.0, 1000), (2.0, 2000), (3.0, 3000)]))
        self.assertEqual([(s.timestamp, s.value) for s in received.samples], [(1.0, 1.0), (2.0, 2.0), (3.0, 3.0)])

    def test_staleness_markers_histograms_and_exemplars_are_left_out_and_counted(self) -> None:
        received = read_1(
            series_1({"__name__": "up"}, [(STALE, TIME_MS), (1.0, TIME_MS)]),
            series_1({"__name__": "h"}, [], message(4, b"\x08\x01"), message(4, b"\x08\x02"), message(3, b"")),
        )
        self.assertEqual(dict(received.left_out), {"stale_marker": 1, "native_histogram": 2, "exemplar": 1})
        self.assertEqual((len(received.samples), dict(received.rejected)), (1, {}))

    def test_one_bad_series_is_rejected_alone(self) -> None:
        good = series_1({"__name__": "good"}, [(1.0, TIME_MS)])
        twice = message(1, *[message(1, message(1, b"a"), message(2, b"1"))] * 2, *samples([(1.0, 1)] * 3))
        received = read_1(
            good,
            twice,
            series_1({"job": "api"}, [(1.0, TIME_MS)]),
            series_1({"__name__": "long", "x": "y" * 5000}, [(1.0, TIME_MS)]),
            series_1({"__name__": "much", "x": "y" * 50_000}, [(1.0, TIME_MS)]),
            message(1, message(1, b"\xff"), *samples([(1.0, 1)])),
            series_1({"__name__": "nan"}, [(float("nan"), TIME_MS), (float("inf"), TIME_MS)]),
            series_1({"__name__": "time"}, [(1.0, -5)]),
            good,
        )
        self.assertEqual([s.name for s in received.samples], ["good", "good"])
        self.assertEqual(
            dict(received.rejected),
            {
                "label_repeated": 3,
                "name_empty": 1,
                "name_too_long": 2,
                "label_form": 1,
                "value_not_finite": 1,
                "timestamp_out_of_range": 1,
            },
        )

    def test_metadata_of_a_message_of_their_own_tell_what_later_series_are(self) -> None:
        types = MetricTypes()
        names = ("hits", "rpc_seconds_sum", "rpc_seconds", "jobs_count", "hits_total")
        before = [types.kind_of(name) for name in names]
        read_1(metadata_1("hits", 1), metadata_1("rpc_seconds", 5), metadata_1("jobs_count", 2), types=types)
        after = [types.kind_of(name) for name in names]
        counter, gauge, unknown = Kind.COUNTER, Kind.GAUGE, Kind.UNKNOWN
        self.assertEqual(before, [unknown, counter, unknown, counter, counter])
        self.assertEqual(after, [counter, counter, gauge, gauge, counter])

    def test_a_gauge_histogram_s_parts_are_gauges(self) -> None:
        types = MetricTypes()
        read_1(metadata_1("sizes", 4), types=types)
        self.assertEqual(types.kind_of("sizes_bucket"), Kind.GAUGE)

    def test_families_are_bounded(self) -> None:
        types = MetricTypes()
        for number in range(MAX_FAMILIES + 5):
            types.learn(f"family_{number}", 2)
        self.assertEqual(len(types.families), MAX_FAMILIES)

    @given(
        labels=st.dictionaries(
            st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20),
            st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
            max_size=6,
        ),
        value=st.floats(allow_nan=False, allow_infinity=False),
    )
    def test_any_labels_and_values_are_taken_as_they_are(self, labels: dict[str, str], value: float) -> None:
        received = read_1(series_1({"__name__": "m", **labels}, [(value, TIME_MS)]))
        self.assertEqual([s.value for s in received.samples], [value] if received.samples else [])
        self.assertEqual(received.rejected.total() + len(received.samples), 1)


class Version2Test(TestCase):
    def test_a_series_is_named_by_its_symbols_and_knows_its_type_and_start(self) -> None:
        symbols = Symbols()
        first = symbols.series({"__name__": "hits", "job": "api"}, [(5.0, TIME_MS)], metric_type=1, created_ms=60_000)
        second = symbols.series({"__name__": "temperature", "job": "api"}, [(21.5, TIME_MS)], metric_type=2)
        received = read_version_2(symbols.request(first, second))
        self.assertEqual(
            received.samples,
            [Sample("hits;job=api", 5.0, AT, Kind.COUNTER, 60.0), Sample("temperature;job=api", 21.5, AT)],
        )

    def test_a_sample_may_tell_its_start_itself(self) -> None:
        symbols = Symbols()
        sample = message(2, double(1, 5.0), varint_field(2, TIME_MS), varint_field(3, 60_000))
        series = message(5, message(1, symbols.references("__name__", "hits_total")), sample)
        self.assertEqual(read_version_2(symbols.request(series)).samples[0].started_at, 60.0)

    def test_references_to_no_symbol_are_rejected_alone(self) -> None:
        symbols = Symbols()
        good = symbols.series({"__name__": "good"}, [(1.0, TIME_MS)])
        unknown = message(5, message(1, varint(1), varint(99)), *samples([(1.0, 1)]))
        odd = message(5, message(1, varint(1)), *samples([(1.0, 1)]))
        received = read_version_2(symbols.request(unknown, odd, good))
        self.assertEqual([s.name for s in received.samples], ["good"])
        self.assertEqual(dict(received.rejected), {"symbol_reference": 2})

    def test_symbols_that_do_not_begin_with_the_empty_one_are_refused(self) -> None:
        with self.assertRaises(InvalidBody) as caught:
            read_version_2(message(4, b"a"))
        self.assertEqual(caught.exception.reason, "symbols")


class RequestTest(TestCase):
    def test_the_content_type_tells_the_version(self) -> None:
        for text, version in (
            ("application/x-protobuf", 1),
            ("application/x-protobuf; proto=prometheus.WriteRequest", 1),
            ("application/x-protobuf;proto=io.prometheus.write.v2.Request", 2),
        ):
            self.assertEqual(version_of(text), version)
        for text in ("", "application/json", "application/x-protobuf;proto=io.prometheus.write.v3.Request"):
            with self.assertRaises(InvalidBody):
                version_of(text)

    @given(st.binary(max_size=200))
    def test_any_bytes_are_samples_or_refused(self, body: bytes) -> None:
        for read in (lambda: read_1(body), lambda: read_version_2(body)):
            with contextlib.suppress(InvalidBody):
                read()

    @given(st.integers(0, 200), st.integers(0, 255))
    def test_damaged_bytes_are_samples_or_refused(self, place: int, flip: int) -> None:
        body = bytearray(series_1({"__name__": "up", "job": "api", "instance": "web:1"}, [(1.0, TIME_MS)] * 4))
        body[place % len(body)] ^= flip
        with contextlib.suppress(InvalidBody):
            read_1(bytes(body))

    def test_a_request_of_too_many_series_or_samples_is_refused_whole(self) -> None:
        many = [message(2)] * 60_000
        for read in (
            lambda: read_1(message(1) * 60_000),
            lambda: read_1(message(1, *many)),
            lambda: read_version_2(message(5) * 60_000),
            lambda: read_version_2(message(5, *many)),
        ):
            with self.assertRaises(InvalidBody) as caught:
                read()
            self.assertEqual(caught.exception.reason, "too_many_samples")

    def test_a_body_is_bounded(self) -> None:
        with self.assertRaises(InvalidBody) as caught:
            read_version_2(bytes(MAX_BODY_BYTES + 1))
        self.assertEqual(caught.exception.reason, "body_too_long")
