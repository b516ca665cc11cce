# SPDX-License-Identifier: MIT
"""OpenTelemetry's metrics over HTTP (OTLP), in protobuf or JSON.

In: the body of ``POST /v1/metrics``, decompressed.  Out: a `Received`:

    gauge                    NAME
    sum                      NAME, a counter or a delta; what may fall and is a total stays a gauge
    histogram                NAME.count, NAME.sum, and quantiles as NAME.p50 of what was added since the point before
    exponential histogram    NAME.count, NAME.sum
    summary                  NAME.count, NAME.sum, and its quantiles; those of 0 and 1 are NAME.min and NAME.max

Labels are the attributes of the resource and of the point, which win.  Attributes of the resource that change when a
process starts, or when its SDK is upgraded, are left out.  A data point that cannot be taken is one reject.
Source: the OTLP specification, its messages from the package opentelemetry-proto.
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, TypeAlias

from htmengine.errors import InvalidBody, InvalidSample
from htmengine.labels import MAX_TEXT_BYTES, compose, shown
from htmengine.process.extras import optional
from htmengine.wires.histograms import Buckets, TotalsOfHistograms, quantile
from htmengine.wires.protobuf_messages import parse
from htmengine.wires.samples import MAX_PARTS, Kind, Received, bound

MAX_BODY_BYTES = 10 * 1024 * 1024
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
#: In a second.
NANOSECONDS = 10**9
#: An attribute's value may hold values; deeper ones refuse the body.
MAX_DEPTH = 40
#: JSON takes long to be read.
MAX_JSON_OBJECTS = 100_000
MAX_BUCKETS = 1000

_DELTA, _CUMULATIVE = 1, 2
_NO_RECORDED_VALUE = 1

#: A part of a point: the end of its name, its value and its kind.
_Part: TypeAlias = tuple[str, float, Kind]


@dataclass(frozen=True, slots=True)
class OtlpOptions:
    """Which quantiles histograms give, and which attributes of a resource are no labels."""

    quantiles: tuple[float, ...] = (0.5, 0.95, 0.99)
    left_out_attributes: tuple[str, ...] = ("telemetry.*", "process.*")


def with_percentiles(text: str) -> OtlpOptions:
    """As the configuration has them.

    >>> with_percentiles("50 95").quantiles
    (0.5, 0.95)
    """
    return OtlpOptions(tuple(float(each) / 100 for each in text.split()))


def quantile_name(share: float) -> str:
    """The end of a quantile's name.

    >>> [quantile_name(share) for share in (0.0, 0.5, 0.999, 1.0)]
    ['.min', '.p50', '.p99_9', '.max']
    """
    if share in (0, 1):
        return ".max" if share else ".min"
    return f".p{100 * share:g}".replace(".", "_").replace("_p", ".p", 1)


def accepted_body(received: Received, as_json: bool) -> bytes:
    """The answer to a request that was taken, whole or in part: an ``ExportMetricsServiceResponse``."""
    response = _service().ExportMetricsServiceResponse()
    if received.rejected:
        response.partial_success.rejected_data_points = received.rejected.total()
        response.partial_success.error_message = received.error()
    if as_json:
        return str(optional("google.protobuf.json_format", "wires").MessageToJson(response)).encode()
    return bytes(response.SerializeToString())


class OtlpReader:
    """Reads requests, and remembers the totals of histograms from one to the next."""

    def __init__(self, options: OtlpOptions | None = None) -> None:
        self._options = options or OtlpOptions()
        self._totals = TotalsOfHistograms()
        self._readers = {
            "gauge": self._gauge,
            "sum": self._sum,
            "histogram": self._histogram,
            "exponential_histogram": self._exponential_histogram,
            "summary": self._summary,
        }

    def read(self, body: bytes, as_json: bool = False) -> Received:
        """Raises `InvalidBody` if it is no ``ExportMetricsServiceRequest``, `MissingExtra` without the packages."""
        request = _request(body, as_json)
        _bound(request)
        received = Received()
        for resource_metrics in request.resource_metrics:
            try:
                resource = self._labels(resource_metrics.resource.attributes)
            except InvalidSample as bad:
                received.reject(
                    bad.reason, bad.detail, sum(len(data.data_points) for data in _all_data(resource_metrics))
                )
                continue
            for scope_metrics in resource_metrics.scope_metrics:
                for metric in scope_metrics.metrics:
                    self._read_metric(received, metric, resource)
        return received

    def _labels(self, attributes: Iterable[Any]) -> dict[str, str]:
        left_out = self._options.left_out_attributes
        return {
            attribute.key: _text(attribute)
            for attribute in attributes
            if not any(fnmatchcase(attribute.key, glob) for glob in left_out) and not _is_random(attribute)
        }

    def _read_metric(self, received: Received, metric: Any, resource: Mapping[str, str]) -> None:
        data = _data(metric)
        if data is None:
            received.left_out["no_data_points"] += 1
            return
        reader = self._readers[metric.WhichOneof("data")]
        for point in data.data_points:
            if point.flags & _NO_RECORDED_VALUE:
                received.left_out["no_recorded_value"] += 1
                continue
            try:
                labels = {**resource, **{attribute.key: _text(attribute) for attribute in point.attributes}}
                name = _Name(compose(metric.name, labels))
            except InvalidSample as bad:
                received.refuse(bad)
            else:
                reader(received, data, point, name)

    def _gauge(self, received: Received, data: Any, point: Any, name: _Name) -> None:
        value = _number(received, point, name)
        if value is not None:
            _add(received, point, name, [("", value, Kind.GAUGE)])

    def _sum(self, received: Received, data: Any, point: Any, name: _Name) -> None:
        kind = _kind(received, data, name)
        value = _number(received, point, name) if kind is not None else None
        if kind is not None and value is not None:
            falls = kind is Kind.COUNTER and not data.is_monotonic
            _add(received, point, name, [("", value, Kind.GAUGE if falls else kind)])

    def _histogram(self, received: Received, data: Any, point: Any, name: _Name) -> None:
        kind = _kind(received, data, name)
        if kind is None:
            return
        buckets = len(point.bucket_counts)
        if buckets > MAX_BUCKETS or (buckets and buckets != len(point.explicit_bounds) + 1):
            received.reject(
                "histogram_buckets",
                f"{shown(name.text)}: {buckets} buckets and {len(point.explicit_bounds)} bounds; "
                f"one bound fewer, and at most {MAX_BUCKETS} buckets are allowed",
            )
            return
        _add(received, point, name, [*_count_and_sum(point, kind), *self._quantiles(point, kind, name)])

    def _exponential_histogram(self, received: Received, data: Any, point: Any, name: _Name) -> None:
        kind = _kind(received, data, name)
        if kind is not None:
            _add(received, point, name, list(_count_and_sum(point, kind)))

    def _summary(self, received: Received, data: Any, point: Any, name: _Name) -> None:
        parts: list[_Part] = [(".count", float(point.count), Kind.COUNTER), (".sum", point.sum, Kind.COUNTER)]
        for each in point.quantile_values:
            if math.isnan(each.value) or not 0 <= each.quantile <= 1:
                received.left_out["empty_quantile"] += 1
            else:
                parts.append((quantile_name(each.quantile), each.value, Kind.GAUGE))
        _add(received, point, name, parts)

    def _quantiles(self, point: Any, kind: Kind, name: _Name) -> Iterator[_Part]:
        bounds, counts = tuple(point.explicit_bounds), tuple(point.bucket_counts)
        if not bounds or not self._options.quantiles:
            return
        if kind is Kind.COUNTER:
            now = Buckets(bounds, counts, point.time_unix_nano / NANOSECONDS, point.start_time_unix_nano / NANOSECONDS)
            added = self._totals.added(name.text, now)
            if added is None:
                return
            counts = added
        for share in self._options.quantiles:
            value = quantile(bounds, counts, share)
            if value is not None:
                yield quantile_name(share), _between_extremes(value, point), Kind.GAUGE


def _between_extremes(value: float, point: Any) -> float:
    """A quantile that is not beyond the least and the greatest observation, which a point may tell."""
    below_max = min(value, point.max) if point.HasField("max") else value
    return max(below_max, point.min) if point.HasField("min") else below_max


class _Name:
    """A metric's text, to which parts of a point add an ending."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._name, semicolon, tags = text.partition(";")
        self._tags = semicolon + tags

    def ending(self, end: str) -> str:
        return f"{self._name}{end}{self._tags}"


def _service() -> Any:
    return optional("opentelemetry.proto.collector.metrics.v1.metrics_service_pb2", "wires")


def _request(body: bytes, as_json: bool) -> Any:
    message = optional(
        "opentelemetry.proto.collector.metrics.v1.metrics_service_pb2", "wires"
    ).ExportMetricsServiceRequest
    if not as_json:
        return parse(message, body, MAX_BODY_BYTES)
    if len(body) > MAX_BODY_BYTES:
        raise InvalidBody("body_too_long", f"{len(body)} bytes; at most {MAX_BODY_BYTES} are allowed")
    bound(body.count(b"{"), MAX_JSON_OBJECTS)
    json_format = optional("google.protobuf.json_format", "wires")
    try:
        found = json.loads(body)
        if not isinstance(found, dict):
            raise ValueError("not a JSON object")
        return json_format.ParseDict(found, message(), ignore_unknown_fields=True, max_recursion_depth=MAX_DEPTH)
    except (json_format.ParseError, ValueError, RecursionError) as error:
        raise InvalidBody("not_otlp_json", f"the body is no ExportMetricsServiceRequest: {str(error)[:200]}") from None


def _bound(request: Any) -> None:
    """Refuse a request of too many points, or of too much around them."""
    bound(len(request.resource_metrics))
    scopes = [scope for resource in request.resource_metrics for scope in resource.scope_metrics]
    bound(len(scopes))
    bound(sum(len(scope.metrics) for scope in scopes))
    attributes = points = 0
    for resource in request.resource_metrics:
        attributes += len(resource.resource.attributes)
        for data in _all_data(resource):
            points += len(data.data_points)
            bound(points)
            attributes += sum(len(point.attributes) for point in data.data_points)
            bound(attributes, MAX_PARTS)


def _all_data(resource_metrics: Any) -> Iterator[Any]:
    for scope_metrics in resource_metrics.scope_metrics:
        yield from filter(None, map(_data, scope_metrics.metrics))


def _data(metric: Any) -> Any:
    """The points of a metric and what they have in common, or None."""
    form = metric.WhichOneof("data")
    return None if form is None else getattr(metric, form)


def _kind(received: Received, data: Any, name: _Name) -> Kind | None:
    if data.aggregation_temporality == _DELTA:
        return Kind.DELTA
    if data.aggregation_temporality == _CUMULATIVE:
        return Kind.COUNTER
    received.reject("temporality", f"{shown(name.text)} is neither cumulative nor delta")
    return None


def _number(received: Received, point: Any, name: _Name) -> float | None:
    form = point.WhichOneof("value")
    if form is None:
        received.reject("value_missing", f"{shown(name.text)} has a point without a value")
        return None
    return float(getattr(point, form))


def _count_and_sum(point: Any, kind: Kind) -> Iterator[_Part]:
    yield ".count", float(point.count), kind
    if point.HasField("sum"):
        yield ".sum", point.sum, kind


def _add(received: Received, point: Any, name: _Name, parts: list[_Part]) -> None:
    """Take all parts of a point or, if one cannot be taken, none."""
    if not point.time_unix_nano:
        received.reject("timestamp_missing", f"{shown(name.text)} has a point without a time")
        return
    taken = len(received.samples)
    for end, value, kind in parts:
        before = len(received.samples)
        started_at = 0.0 if kind is Kind.GAUGE else point.start_time_unix_nano / NANOSECONDS
        received.add(name.ending(end), value, point.time_unix_nano / NANOSECONDS, kind, started_at)
        if len(received.samples) == before:
            del received.samples[taken:]
            return


def _is_random(attribute: Any) -> bool:
    """Whether an SDK has made it up at its start: it would be another metric after each."""
    return attribute.key == "service.instance.id" and bool(_UUID.fullmatch(attribute.value.string_value))


def _text(attribute: Any) -> str:
    """An attribute's value as a label's."""
    if attribute.ByteSize() > MAX_TEXT_BYTES:
        raise InvalidSample("name_too_long", f"attribute {shown(attribute.key)} has more than {MAX_TEXT_BYTES} bytes")
    plain = _plain(attribute.value)
    return plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False, separators=(",", ":"))


def _plain(value: Any) -> Any:
    form = value.WhichOneof("value")
    if form is None:
        return ""
    found = getattr(value, form)
    if form == "array_value":
        return [_plain(each) for each in found.values]
    if form == "kvlist_value":
        return {each.key: _plain(each.value) for each in found.values}
    return base64.b64encode(found).decode() if form == "bytes_value" else found
