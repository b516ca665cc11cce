# SPDX-License-Identifier: MIT
"""Carbon's protobuf: what the frames of port 2005 carry.

In: a frame's body, without its four bytes of length.  Out: a `Received`.
Source: carbon's protocol: ``Payload {repeated Metric metrics = 1}``,
``Metric {string metric = 1; repeated Point points = 2}``, ``Point {uint32 timestamp = 1; double value = 2}``.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

from htmengine.errors import InvalidSample
from htmengine.labels import normalize
from htmengine.wires.protobuf_messages import BYTES, DOUBLE, REPEATED, UINT32, Field, message_classes, parse
from htmengine.wires.samples import PART_SAMPLES, Received, bound, joined

#: As for pickles: carbon's own limit of a frame.
MAX_FRAME_BYTES = 1024 * 1024


@cache
def _payload() -> Any:
    return message_classes(
        "carbon",
        {
            "Point": [Field("timestamp", 1, UINT32), Field("value", 2, DOUBLE)],
            "Metric": [Field("metric", 1, BYTES), Field("points", 2, "Point", REPEATED)],
            "Payload": [Field("metrics", 1, "Metric", REPEATED)],
        },
    )["Payload"]


def read_frame(body: bytes) -> Received:
    """Raises `InvalidBody` if it is no such message.

    >>> read_frame(bytes.fromhex("0a12" "0a03" "637075" "120b" "083c" "11" "000000000000e03f")).samples[0][:3]
    ('cpu', 0.5, 60.0)
    """
    return joined(read_parts(body))


def read_parts(body: bytes) -> Iterator[Received]:
    """As `read_frame`, a part at a time."""
    metrics = parse(_payload(), body, MAX_FRAME_BYTES).metrics
    bound(len(metrics))
    bound(sum(len(metric.points) for metric in metrics))
    received = Received()
    for metric in metrics:
        try:
            name = normalize(metric.metric.decode())
        except UnicodeDecodeError:
            received.reject("not_utf8", f"{metric.metric[:60]!r} is not UTF-8", len(metric.points))
        except InvalidSample as bad:
            received.reject(bad.reason, bad.detail, len(metric.points))
        else:
            for point in metric.points:
                received.add(name, point.value, float(point.timestamp))
                if len(received.samples) >= PART_SAMPLES:
                    yield received
                    received = Received()
    yield received
