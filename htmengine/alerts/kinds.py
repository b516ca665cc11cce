# SPDX-License-Identifier: MIT
"""Kinds of values in alerts.conf that no other file has.

In: an option's text.  Out: its value; raises ValueError for one that is not allowed (`Kind`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

from htmengine.config import Kind
from htmengine.errors import InvalidRule
from htmengine.selectors import Selection, name_pattern, separated

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,59}")
NAME_ALLOWED = "at most 60 letters, digits, - and _ are allowed"
_LABEL = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def listed(text: str, fits: Callable[[str], Any] = bool) -> tuple[str, ...]:
    """The parts between commas or line ends, each of which fits; raises ValueError for none."""
    parts = tuple(part.strip() for part in text.replace("\n", ",").split(",") if part.strip())
    if not parts or not all(fits(part) for part in parts):
        raise ValueError(text)
    return parts


def _selectors(text: str) -> tuple[str, ...]:
    parts = tuple(separated(text))
    if not parts:
        raise ValueError(text)
    try:
        Selection.of(parts)
    except InvalidRule as error:
        raise ValueError(str(error)) from None
    return parts


def _name_patterns(text: str) -> tuple[str, ...]:
    patterns = listed(text) if text else ()
    try:
        for each in patterns:
            name_pattern(each)
    except InvalidRule as error:
        raise ValueError(str(error)) from None
    return patterns


def _labels(text: str) -> tuple[tuple[str, str], ...]:
    pairs = [part.partition("=") for part in listed(text)] if text else []
    if not all(equals and _LABEL.fullmatch(name.strip()) for name, equals, _ in pairs):
        raise ValueError(text)
    return tuple((name.strip(), value.strip()) for name, _, value in pairs)


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number


@dataclass(frozen=True, slots=True)
class Change:
    """How far a value has to be from the expected one: an amount, or a share of the expected value.

    >>> str(Change(0.1, relative=True)), Change(0.1, relative=True).amount(-50.0)
    ('10%', 5.0)
    """

    least: float = 0.0
    relative: bool = False

    def amount(self, expected: float) -> float:
        """The same in the value's unit."""
        return self.least * abs(expected) if self.relative else self.least

    def __str__(self) -> str:
        return f"{100 * self.least:g}%" if self.relative else f"{self.least:g}"


ANY_CHANGE = Change()


def _change(text: str) -> Change:
    number = _number(text.removesuffix("%"))
    if number < 0:
        raise ValueError(text)
    return Change(number / 100, True) if text.endswith("%") else Change(number)


def _range(text: str) -> tuple[float, float] | None:
    if not text:
        return None
    low, dots, high = text.partition("..")
    bounds = (_number(low) if low else -math.inf, _number(high) if high else math.inf)
    if not (dots and (low or high)) or not bounds[0] < bounds[1]:
        raise ValueError(text)
    return bounds


def _silence(text: str) -> float | None:
    """Seconds; 0: as the metric's own past says; None: silence is no alarm."""
    if text in {"yes", "no"}:
        return 0.0 if text == "yes" else None
    seconds = _number(text)
    if seconds < 1:
        raise ValueError(text)
    return seconds


def _severities(text: str) -> tuple[tuple[str, float], ...]:
    pairs = [part.partition("=") for part in listed(text)] if text else []
    found = [(name.strip(), _number(height or "0")) for name, _, height in pairs]
    if not all(NAME.fullmatch(name) for name, _ in found):
        raise ValueError(text)
    return tuple(sorted(found, key=lambda pair: pair[1]))


def _zone(text: str) -> ZoneInfo:
    try:
        return ZoneInfo(text)
    except (LookupError, OSError):  # names of folders are OSErrors
        raise ValueError(text) from None


def _moment(text: str) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


SELECTORS = Kind(
    'globs (web.*), labels ({job="api",host=~"web.*"}) or both, separated by commas; one with a ! before it excludes',
    _selectors,
)
NAME_PATTERNS = Kind("patterns of names such as servers.{host}.{what}, separated by commas", _name_patterns)
NAMES = Kind("names, separated by commas", partial(listed, fits=NAME.fullmatch))
LABELS = Kind("name=value pairs, separated by commas", _labels)
CHANGE = Kind("a number from 0, or one with %", _change)
RANGE = Kind("LOW..HIGH; one of them may be left out", _range)
SILENCE = Kind("yes, no, or a number of seconds from 1", _silence)
MOMENT = Kind("a time such as 2026-03-01 22:00", _moment)
ZONE = Kind("a time zone such as Europe/Berlin", _zone)
SEVERITIES = Kind("a name, or name=height pairs, separated by commas", _severities)


UTC = ZoneInfo("UTC")
