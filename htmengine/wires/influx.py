# SPDX-License-Identifier: MIT
"""InfluxDB's line protocol: ``measurement,tag=v field=1.5,other=2i timestamp``.

In: a request's body and its precision.  Out: a `Received`: a sample a field, named ``measurement.field`` with the tags
as labels.  Texts and booleans are no numbers and are left out; a line that cannot be read is one reject.  The lines are
read by the package line-protocol-parser.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from htmengine.errors import InvalidBody, InvalidSample
from htmengine.labels import MAX_TEXT_BYTES, shown
from htmengine.messages.samples import MAX_TIMESTAMP
from htmengine.process.extras import optional
from htmengine.wires.samples import MAX_PARTS, Received, bound

#: A timestamp of each precision in seconds, as multiplier and divisor, which keep whole seconds exact.  "u" and "n" are
#: version 1's names, "us" and "ns" version 2's.
PRECISIONS = {
    "n": (1, 10**9),
    "ns": (1, 10**9),
    "u": (1, 10**6),
    "us": (1, 10**6),
    "µ": (1, 10**6),
    "ms": (1, 1000),
    "s": (1, 1),
    "m": (60, 1),
    "h": (3600, 1),
}

#: What lies before this time, in April of 1970, was written in seconds or so and is read as nanoseconds or so.
COARSER = 10_000_000
#: The precisions that are told as likely, the finest first.
LIKELY = ("ns", "us", "ms", "s")

MAX_BODY_BYTES = 10 * 1024 * 1024

#: Bytes that were not UTF-8.
_NOT_UTF8 = re.compile("[\udc80-\udcff]")
#: The space that ends a line's key, its measurement and tags.
_KEY_END = re.compile(r"(?<!\\) ")
#: A comment, or a line whose quotes count after its first space.
_LINE = re.compile(
    r"""[ \t]*+(?:\#[^\n]*+|(?:[^ \n\\]|\\[^\n]?)*+(?:"(?:[^"\\]|\\.)*+(?:"|\Z)|[^"\n])*+)(?:\n|\Z)""", re.DOTALL
)


def read_lines(body: bytes, precision: str, now: float) -> Received:
    """Lines without a timestamp are of ``now``, epoch seconds.  Raises `InvalidBody` or `MissingExtra`.

    >>> read_lines(b'cpu,host=a usage=1.5,up=t 60', "s", 0.0).samples[0][:3]
    ('cpu.usage;host=a', 1.5, 60.0)
    """
    if precision not in PRECISIONS:
        raise InvalidBody("precision", f"precision {shown(precision)}; allowed are {', '.join(PRECISIONS)}")
    if len(body) > MAX_BODY_BYTES:
        raise InvalidBody("body_too_long", f"{len(body)} bytes; at most {MAX_BODY_BYTES} are allowed")
    bound(body.count(b"\n"))
    bound(body.count(b"="), MAX_PARTS)
    text = body.decode(errors="surrogateescape")  # a bad byte harms its line alone
    parser = optional("line_protocol_parser", "wires")
    received = Received()
    for line in _lines(text):
        if _NOT_UTF8.search(line):
            received.reject("not_utf8", f"{line.encode(errors='surrogateescape')[:60]!r} is not UTF-8")
            continue
        if _has_long_key(line):  # the parser's time grows with the square of the number of tags
            received.reject(
                "name_too_long", f"{shown(line)}: name and tags; at most {MAX_TEXT_BYTES} bytes are allowed"
            )
            continue
        try:
            point = parser.parse_line(line)
        except (parser.LineFormatError, ValueError) as error:
            received.reject("line_form", f"{shown(line)}: {error}")
            continue
        if point is not None:
            _take(received, point, precision, now)
    return received


def precision_of(time: int) -> str:
    """The precision that a number of our days is written in.

    >>> [precision_of(time) for time in (1_400_000_000_000_000_000, 1_400_000_000_000, 1_400_000_000, 60)]
    ['ns', 'ms', 's', 's']
    """
    return next((name for name in LIKELY if COARSER <= _seconds(time, name) <= MAX_TIMESTAMP), "s")


def _take(received: Received, point: dict[str, Any], precision: str, now: float) -> None:
    fields = point["fields"]
    bound(len(received.samples) + len(fields))
    try:
        timestamp = now if point["time"] is None else _timestamp(point["time"], precision)
    except InvalidSample as bad:
        received.refuse(bad)
        return
    for field, value in fields.items():
        if isinstance(value, bool):
            received.left_out["boolean"] += 1
        elif isinstance(value, int | float):
            name = received.name(f"{point['measurement']}.{field}", point["tags"])
            if name is not None:
                received.add(name, float(value), timestamp)
        else:
            received.left_out["text"] += 1


def _timestamp(time: int, precision: str) -> float:
    timestamp = _seconds(time, precision)
    if PRECISIONS[precision][1] > 1 and 0 <= timestamp < COARSER:
        raise _of_another_precision(time, f"is in 1970 if it counts {precision}")
    if timestamp > MAX_TIMESTAMP >= _seconds(time, precision_of(time)):
        raise _of_another_precision(time, f"is after 2099 if it counts {precision}")
    return timestamp


def _seconds(time: int, precision: str) -> float:
    multiplier, divisor = PRECISIONS[precision]
    return time * multiplier / divisor


def _of_another_precision(time: int, why: str) -> InvalidSample:
    likely = precision_of(time)
    return InvalidSample(
        "timestamp_precision",
        f"timestamp {time} {why}; it is written with precision={likely}, which the request has to say",
    )


def _has_long_key(line: str) -> bool:
    if len(line) <= MAX_TEXT_BYTES:
        return False
    line = line.lstrip(" \t\r\n")
    return not line.startswith("#") and _KEY_END.search(line, 0, MAX_TEXT_BYTES + 1) is None


def _lines(text: str) -> Iterator[str]:
    """Lines that are not blank; a newline within a field's quotes ends none."""
    lines = text.split("\n") if '"' not in text else (found[0] for found in _LINE.finditer(text))
    return (line for line in lines if line and not line.isspace())
