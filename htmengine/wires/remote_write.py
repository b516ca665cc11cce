# SPDX-License-Identifier: MIT
"""Prometheus remote_write, 1.0 and 2.0: requests are read, and those of 1.0 written, too.

In: a request's body, decompressed.  Out: a `Received`, each series named by ``__name__`` and its other labels.
Staleness markers, native histograms and exemplars are left out, and counted.  Source: the two specifications.

A series is a counter when its metadata say so (2.0 sends them with each series, 1.0 once a minute), or without
metadata when its name ends in ``_total``, ``_bucket``, ``_count`` or ``_sum``, as Prometheus names counters.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from typing import Any, TypeAlias, TypeVar

from htmengine.errors import InvalidBody, InvalidSample
from htmengine.labels import MAX_TEXT_BYTES, compose, shown
from htmengine.process.extras import optional
from htmengine.wires.protobuf_messages import (
    BYTES,
    DOUBLE,
    INT32,
    INT64,
    REPEATED,
    STRING,
    UINT32,
    Field,
    message_classes,
    parse,
)
from htmengine.wires.samples import MAX_PARTS, Kind, Received, bound

#: A request, decompressed; Prometheus sends at most 2,000 samples, which are less than 1 MB.
MAX_BODY_BYTES = 10 * 1024 * 1024

#: Series whose texts are remembered from one request to the next, those of each version.
MAX_REMEMBERED = 30_000

#: Families of metrics whose types are remembered, the oldest of which is forgotten first.
MAX_FAMILIES = 20_000

COUNTER, GAUGE, HISTOGRAM, GAUGE_HISTOGRAM, SUMMARY = 1, 2, 3, 4, 5

#: The bits of the NaN that says that a series has ended.
_STALE = bytes.fromhex("7ff0000000000002")

_NAME = "__name__"
#: Names and values of a series, its own name among them.
Labels: TypeAlias = tuple[tuple[str, str], ...]
_Part = TypeVar("_Part", bytes, str)
_PARTS_OF_HISTOGRAMS = ("bucket", "count", "sum")


@cache
def _version_1() -> dict[str, Any]:
    return message_classes(
        "htmengine.prometheus1",
        {
            "Label": [Field("name", 1, STRING), Field("value", 2, STRING)],
            "Sample": [Field("value", 1, DOUBLE), Field("timestamp", 2, INT64)],
            "TimeSeries": [
                Field("labels", 1, BYTES, REPEATED),  # read only when they are new
                Field("samples", 2, "Sample", REPEATED),
                Field("exemplars", 3, BYTES, REPEATED),
                Field("histograms", 4, BYTES, REPEATED),
            ],
            "Metadata": [Field("type", 1, INT32), Field("family", 2, STRING)],
            "WriteRequest": [
                Field("timeseries", 1, "TimeSeries", REPEATED),
                Field("metadata", 3, "Metadata", REPEATED),
            ],
        },
    )


@cache
def _version_2() -> Any:
    return message_classes(
        "htmengine.prometheus2",
        {
            "Sample": [Field("value", 1, DOUBLE), Field("timestamp", 2, INT64), Field("start_timestamp", 3, INT64)],
            "Metadata": [Field("type", 1, INT32)],
            "TimeSeries": [
                Field("labels_refs", 1, UINT32, REPEATED),
                Field("samples", 2, "Sample", REPEATED),
                Field("histograms", 3, BYTES, REPEATED),
                Field("exemplars", 4, BYTES, REPEATED),
                Field("metadata", 5, "Metadata"),
                Field("created_timestamp", 6, INT64),
            ],
            "Request": [Field("symbols", 4, STRING, REPEATED), Field("timeseries", 5, "TimeSeries", REPEATED)],
        },
    )["Request"]


def version_of(content_type: str) -> int:
    """Which of the two a request is, by its Content-Type; raises `InvalidBody` for any other, which is HTTP's 415.

    >>> version_of("application/x-protobuf;proto=io.prometheus.write.v2.Request")
    2
    """
    form, *parameters = (part.strip() for part in content_type.split(";"))
    message = next((part[len("proto=") :] for part in parameters if part.startswith("proto=")), "")
    if form.lower() == "application/x-protobuf":
        if message in ("", "prometheus.WriteRequest"):
            return 1
        if message == "io.prometheus.write.v2.Request":
            return 2
    raise InvalidBody(
        "content_type",
        f"Content-Type {shown(content_type)}; application/x-protobuf is allowed, "
        "with proto=prometheus.WriteRequest or proto=io.prometheus.write.v2.Request",
    )


class MetricTypes:
    """The types of families that 1.0 tells now and then: 1 counter, 2 gauge, 3 histogram and so on.

    >>> types = MetricTypes()
    >>> types.kind_of("rpc_seconds_count"), types.kind_of("goroutines")
    (<Kind.COUNTER: 'counter'>, <Kind.UNKNOWN: 'unknown'>)
    """

    def __init__(self) -> None:
        self.families: dict[str, int] = {}  #: may be stored, and given back after a restart

    def learn(self, family: str, metric_type: int) -> None:
        """Remember a family's type."""
        self.families[family] = metric_type
        if len(self.families) > MAX_FAMILIES:
            del self.families[next(iter(self.families))]

    def kind_of(self, name: str) -> Kind:
        """What a series of this name is."""
        found = self.families.get(name) or self.families.get(name.rpartition("_")[0], 0)
        return _kind(name, found)


def _kind(name: str, metric_type: int) -> Kind:
    """What a series is by its metadata's type, which is 0 when there are none."""
    ending = name.rpartition("_")[2]
    if metric_type in (HISTOGRAM, SUMMARY):
        counts = ending in _PARTS_OF_HISTOGRAMS
    elif metric_type == 0:
        counts = ending == "total" or ending in _PARTS_OF_HISTOGRAMS
    else:
        counts = metric_type == COUNTER
    if counts:
        return Kind.COUNTER
    return Kind.GAUGE if metric_type else Kind.UNKNOWN


def read_version_1(body: bytes, types: MetricTypes) -> Received:
    """Read ``prometheus.WriteRequest``; its metadata are put into ``types``.  Raises `InvalidBody`."""
    request = parse(_version_1()["WriteRequest"], body, MAX_BODY_BYTES)
    _bound(request)
    bound(len(request.metadata))
    for metadata in request.metadata:
        types.learn(metadata.family, metadata.type)
    received = Received()
    for series in request.timeseries:
        _leave_out(received, series)
        try:
            name, text = _named_by_messages(_bounded(series.labels))
        except InvalidSample as bad:
            received.reject(bad.reason, bad.detail, len(series.samples))
            continue
        kind = types.kind_of(name)
        for sample in series.samples:
            _add(received, text, sample, kind, 0.0)
    return received


def read_version_2(body: bytes) -> Received:
    """Read ``io.prometheus.write.v2.Request``.  Raises `InvalidBody`."""
    request = parse(_version_2(), body, MAX_BODY_BYTES)
    _bound(request)
    bound(len(request.symbols), MAX_PARTS)
    symbols = list(request.symbols)
    if symbols and symbols[0]:
        raise InvalidBody("symbols", f"the first symbol is {shown(symbols[0])}; it must be empty")
    received = Received()
    for series in request.timeseries:
        _leave_out(received, series)
        try:
            name, text = _named_by_texts(_bounded(_texts(series.labels_refs, symbols)))
        except InvalidSample as bad:
            received.reject(bad.reason, bad.detail, len(series.samples))
            continue
        kind = _kind(name, series.metadata.type)
        for sample in series.samples:
            _add(received, text, sample, kind, (series.created_timestamp or sample.start_timestamp) / 1000)
    return received


def write_version_1(series: Mapping[Labels, Sequence[tuple[float, float]]]) -> bytes:
    """``prometheus.WriteRequest``: of each series, named by its labels, (epoch seconds, value) in the order of time.

    >>> body = write_version_1({(("__name__", "up"), ("job", "api")): [(60.0, 1.0)]})
    >>> read_version_1(body, MetricTypes()).samples[0][:3]
    ('up;job=api', 1.0, 60.0)
    """
    request = _version_1()["WriteRequest"]()
    for labels, samples in series.items():
        added = request.timeseries.add(labels=_label_messages(labels))
        for timestamp, value in samples:
            added.samples.add(value=value, timestamp=round(timestamp * 1000))
    return bytes(request.SerializeToString())


@lru_cache(MAX_REMEMBERED)
def _label_messages(labels: Labels) -> tuple[bytes, ...]:
    """Sorted, as the protocol wants them."""
    label = _version_1()["Label"]
    return tuple(label(name=name, value=value).SerializeToString() for name, value in sorted(labels))


def _bound(request: Any) -> None:
    bound(len(request.timeseries))
    bound(sum(len(series.samples) for series in request.timeseries))


def _texts(references: Sequence[int], symbols: list[str]) -> list[str]:
    if len(references) > MAX_TEXT_BYTES:
        raise _too_many_labels(len(references))
    try:
        return [symbols[reference] for reference in references]
    except IndexError:
        raise InvalidSample("symbol_reference", f"a label refers to none of the {len(symbols)} symbols") from None


def _bounded(parts: Sequence[_Part]) -> tuple[_Part, ...]:
    """Names and values, or messages of them, that are worth remembering."""
    if len(parts) > MAX_TEXT_BYTES or sum(map(len, parts)) > 2 * MAX_TEXT_BYTES:
        raise _too_many_labels(len(parts))
    return tuple(parts)


def _too_many_labels(count: int) -> InvalidSample:
    return InvalidSample("name_too_long", f"a series of {count} labels; all of them may have {MAX_TEXT_BYTES} bytes")


@lru_cache(MAX_REMEMBERED)
def _named_by_messages(labels: tuple[bytes, ...]) -> tuple[str, str]:
    label = _version_1()["Label"]
    try:
        return _named([(each.name, each.value) for each in map(label.FromString, labels)])
    except optional("google.protobuf.message", "wires").DecodeError:
        raise InvalidSample("label_form", f"a label cannot be read: {labels!r:.100}") from None


@lru_cache(MAX_REMEMBERED)
def _named_by_texts(texts: tuple[str, ...]) -> tuple[str, str]:
    if len(texts) % 2:
        raise InvalidSample("symbol_reference", f"{len(texts)} references to symbols; labels are pairs of them")
    return _named(list(zip(texts[::2], texts[1::2], strict=True)))


def _named(pairs: list[tuple[str, str]]) -> tuple[str, str]:
    """The value of ``__name__``, and the text of the whole metric."""
    labels = dict(pairs)
    if len(labels) != len(pairs):
        raise InvalidSample("label_repeated", f"a series of {shown(labels.get(_NAME, ''))} has a label twice")
    name = labels.pop(_NAME, "")
    return name, compose(name, labels)


def _add(received: Received, text: str, sample: Any, kind: Kind, started_at: float) -> None:
    value = sample.value
    if math.isnan(value):  # an ended series, or a summary that has seen nothing: no fault of the sender's
        received.left_out["stale_marker" if struct.pack(">d", value) == _STALE else "nan"] += 1
    else:
        received.add(text, value, sample.timestamp / 1000, kind, started_at)


def _leave_out(received: Received, series: Any) -> None:
    if series.histograms:
        received.left_out["native_histogram"] += len(series.histograms)
    if series.exemplars:
        received.left_out["exemplar"] += len(series.exemplars)
