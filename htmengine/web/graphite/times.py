# SPDX-License-Identifier: MIT
"""Times as Graphite's clients write them: ``-1h``, ``now``, ``1400000000``, ``10:00_20140513``, ``6pm yesterday``."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

from htmengine.web.graphite.series import LATEST
from htmengine.web.refused import Refused

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_CLOCKS = {"noon": (12, 0), "midnight": (0, 0), "teatime": (16, 0)}
_DAYS = {"today": 0, "yesterday": -1, "tomorrow": 1}

_TIME = re.compile(
    rf"""(?P<now>now)?
    (?P<clock>[0-9]{{1,2}}:[0-9]{{2}}(?:am|pm)?|[0-9]{{1,2}}(?:am|pm)|{"|".join(_CLOCKS)})?
    (?P<day>{"|".join(_DAYS)}
      |[0-9]{{8}}
      |[0-9]{{1,2}}/[0-9]{{1,2}}/(?:[0-9]{{4}}|[0-9]{{2}})
      |(?:{"|".join(_MONTHS)})[a-z]*[0-9]{{1,2}}
      |(?:{"|".join(_WEEKDAYS)})[a-z]*)?
    (?P<offset>[+-](?:[0-9]{{1,9}}[a-z]+)+)?""",
    re.VERBOSE,
)
_LENGTH = re.compile(r"[+-]?(?:[0-9]{1,9}[a-z]+)+")
_PART = re.compile(r"([0-9]+)([a-z]+)")
#: The longest prefix decides; months and years are Graphite's 30 and 365 days.
_UNITS = (
    ("mon", 30 * 86_400),
    ("m", 60),  # min, and the m that Graphite refuses and everybody writes
    ("s", 1),
    ("h", 3600),
    ("d", 86_400),
    ("w", 604_800),
    ("y", 365 * 86_400),
)
_LONGEST = 100


def parse_time(text: str, now: float, zone: tzinfo, name: str = "time") -> int:
    """Epoch seconds.  Raises `Refused` naming the parameter.

    >>> [parse_time(text, 1_400_000_000.0, ZoneInfo("UTC")) for text in ("-1h", "now", "1399990000", "20140513")]
    [1399996400, 1400000000, 1399990000, 1399939200]
    """
    squeezed = re.sub(r"[_, ]", "", text.lower())
    if squeezed.isascii() and squeezed.isdigit() and _date(squeezed) is None and len(squeezed) <= 10:
        return int(squeezed)
    found = _TIME.fullmatch(squeezed)
    if not found or not squeezed or len(text) > _LONGEST:
        raise _bad(name, text)
    try:
        moment = _reference(found, datetime.fromtimestamp(now, zone))
        return min(max(0, int(moment.timestamp()) + _offset(found["offset"] or "")), LATEST)
    except (ValueError, OverflowError):
        raise _bad(name, text) from None


def parse_zone(text: str) -> tzinfo:
    """A time zone by its name, such as Europe/Berlin.  Raises `Refused`."""
    try:
        return ZoneInfo(text)
    except (ValueError, OSError, KeyError):  # an unknown name is a ZoneInfoNotFoundError, a KeyError
        raise Refused(400, f"tz: {text[:60]!r} is not a time zone", [("tz", "is not a time zone")]) from None


def _reference(found: re.Match[str], now: datetime) -> datetime:
    if found["now"] or not (found["clock"] or found["day"]):
        if found["clock"] or found["day"]:
            raise ValueError("now and another time")
        return now
    hour, minute = _clock(found["clock"] or "midnight")
    return _day(found["day"] or "today", now.replace(hour=hour, minute=minute, second=0, microsecond=0))


def _clock(text: str) -> tuple[int, int]:
    if text in _CLOCKS:
        return _CLOCKS[text]
    hour, _, minute = text.removesuffix("am").removesuffix("pm").partition(":")
    return (int(hour) + 12) % 24 if text.endswith("pm") else int(hour), int(minute or 0)


def _day(text: str, today: datetime) -> datetime:
    if text in _DAYS:
        return today + timedelta(days=_DAYS[text])
    if text.isdigit():
        date = _date(text)
        if date is None:
            raise ValueError(text)
        return today.replace(year=date[0], month=date[1], day=date[2])
    if "/" in text:
        month, day, year = (int(part) for part in text.split("/"))
        return today.replace(year=year + (0 if year >= 100 else 2000 if year < 70 else 1900), month=month, day=day)
    if text[-1].isdigit():
        return today.replace(month=_MONTHS.index(text[:3]) + 1, day=int(re.sub(r"[a-z]", "", text)))
    return today - timedelta(days=(today.weekday() - _WEEKDAYS.index(text[:3])) % 7)


def _date(text: str) -> tuple[int, int, int] | None:
    """Year, month and day, if eight digits can be that."""
    if len(text) != 8:
        return None
    year, month, day = int(text[:4]), int(text[4:6]), int(text[6:])
    return (year, month, day) if year > 1900 and 1 <= month <= 12 and 1 <= day <= 31 else None


def _offset(text: str) -> int:
    seconds = sum(int(number) * _unit(unit) for number, unit in _PART.findall(text))
    return -seconds if text.startswith("-") else seconds


def parse_length(text: str, function: str) -> int:
    """Seconds of a length of time: 10min, -1d, +1h30min.  Raises `Refused` naming the function.

    >>> parse_length("1h30min", "summarize"), parse_length("-1d", "timeShift")
    (5400, -86400)
    """
    squeezed = text.replace(" ", "").lower()
    try:
        if not _LENGTH.fullmatch(squeezed):
            raise ValueError(text)
        return _offset(squeezed)
    except ValueError:
        raise Refused(
            400, f"target: {function}: {text[:60]!r} is not a length of time; allowed are 10min, 1h, 7d"
        ) from None


def _unit(text: str) -> int:
    for prefix, seconds in _UNITS:
        if text.startswith(prefix):
            return seconds
    raise ValueError(text)


def _bad(name: str, text: str) -> Refused:
    detail = (
        f"{text[:60]!r} is not a time; allowed are -1h, now, 1400000000, 20140513, 10:00_20140513, yesterday, monday"
    )
    return Refused(400, f"{name}: {detail}", [(name, detail)])
