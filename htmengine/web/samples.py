# SPDX-License-Identifier: MIT
"""Samples in requests, checked: JSON objects or lines, of one metric or of many.

In: a body.  Out: Graphite lines for the samples queue, or `Refused` that names what is bad in it; then none is taken.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from htmengine.errors import InvalidSample
from htmengine.messages import MAX_FUTURE_S, parse_sample
from htmengine.web.document import MOST_ERRORS, parse_json, refused
from htmengine.web.refused import Refused

MOST_SAMPLES = 10_000


def read_json(body: bytes, metric: str | None, now: float, max_future_s: float = MAX_FUTURE_S) -> list[str]:
    """``{"samples": [...]}``, objects with value and timestamp, and the metric's name if ``metric`` is None.

    >>> read_json(b'{"samples": [{"value": 1.5, "timestamp": 60}]}', "web.requests", 100.0)
    ['web.requests 1.5 60']
    """
    value = parse_json(body)
    if not isinstance(value, dict) or set(value) != {"samples"}:
        raise Refused(400, "give an object with samples and nothing else", [("samples", "is missing")])
    samples = value["samples"]
    if not isinstance(samples, list):
        raise refused([("samples", "is not a list")])
    names = ("value", "timestamp") if metric is not None else ("metric", "value", "timestamp")

    def read(sample: Any) -> str:
        given = _fields(sample, names)
        name = metric if metric is not None else given.get("metric")
        if not isinstance(name, str) or name.split() != [name]:
            raise _Bad("name_characters", ".metric", "is not a name without spaces")
        return f"{name} {_number(given, 'value')!r} {_timestamp(given)}"

    return _read_all(samples, read, lambda number: f"samples[{number}]", now, max_future_s)


def read_text(body: bytes, metric: str | None, now: float, max_future_s: float = MAX_FUTURE_S) -> list[str]:
    """Lines ``value timestamp``, or ``name value timestamp`` if ``metric`` is None; without a timestamp it is now."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        raise Refused(400, "the body is not UTF-8") from None

    def read(line: str) -> str:
        fields = line.split() if metric is None else [metric, *line.split()]
        if len(fields) == 2:
            fields.append("-1")
        return " ".join(fields)

    lines = {number: line for number, line in enumerate(text.split("\n"), 1) if line and not line.isspace()}
    numbers = list(lines)
    return _read_all(list(lines.values()), read, lambda index: f"line {numbers[index]}", now, max_future_s)


class RefusedSamples(Refused):
    """``samples`` are those that are bad, as many as there are: (reason, line, or sample in JSON)."""

    def __init__(self, refused: Refused, samples: Sequence[tuple[str, str]]) -> None:
        super().__init__(refused.status, refused.detail, refused.errors)
        self.samples = samples


class _Bad(InvalidSample):
    """A part of a sample in JSON is refused."""

    def __init__(self, reason: str, part: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.part = part


def _read_all(
    samples: Sequence[Any],
    read: Callable[[Any], str],
    place: Callable[[int], str],
    now: float,
    max_future_s: float,
) -> list[str]:
    if not samples:
        raise refused([("samples", "there are none")])
    if len(samples) > MOST_SAMPLES:
        raise refused([("samples", f"{len(samples)} of them; at most {MOST_SAMPLES} are allowed")])
    lines: list[str] = []
    errors: list[tuple[str, str]] = []
    rejects: list[tuple[str, str]] = []
    for number, each in enumerate(samples):
        try:
            lines.append(parse_sample(read(each), now, max_future_s).line)
        except InvalidSample as bad:
            rejects.append((bad.reason, each if isinstance(each, str) else json.dumps(each)))
            if len(errors) < MOST_ERRORS:
                errors.append((place(number) + (bad.part if isinstance(bad, _Bad) else ""), bad.detail))
    if errors:
        raise RefusedSamples(refused(errors), rejects)
    return lines


def _fields(sample: Any, names: Sequence[str]) -> Mapping[str, Any]:
    if not isinstance(sample, dict):
        raise _Bad("field_count", "", "is not an object")
    for name in sample:
        if name not in names:
            raise _Bad("field_count", f".{name[:60]}", f"unknown; allowed are {', '.join(names)}")
    return sample


def _number(sample: Mapping[str, Any], name: str) -> float:
    if name not in sample:
        raise _Bad("field_count", f".{name}", "is missing")
    value = sample[name]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _Bad(f"{name}_not_a_number", f".{name}", "is not a number")
    return float(value)


def _timestamp(sample: Mapping[str, Any]) -> str:
    return "-1" if sample.get("timestamp") is None else repr(_number(sample, "timestamp"))
