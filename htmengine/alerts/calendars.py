# SPDX-License-Identifier: MIT
"""When maintenance is: windows of time by a cron expression or a file of events (iCalendar).

In: an expression with a duration, or a file, and a time zone.  Out: whether a time is within a window.  Wall-clock
times follow the zone's daylight saving.  The libraries are the extra ``calendars``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from htmengine.process.extras import optional

DAY_S = 86_400
#: Days whose windows are kept.
KEPT_DAYS = 32
EXTRA = "calendars"
#: A larger file is no calendar of maintenance.
MOST_BYTES = 4 << 20


class Window(NamedTuple):
    """Epoch seconds, the end excluded."""

    start: float
    end: float


@dataclass(slots=True, eq=False)
class Calendar:
    """Windows, made day by day when they are asked for.  ``between``: those that touch a span of epoch seconds."""

    between: Callable[[float, float], Iterator[Window]]
    _days: dict[int, list[Window]] = field(default_factory=dict)

    def window(self, at: float) -> Window | None:
        """The window that epoch second ``at`` is in; of several, the one that ends last."""
        found = [each for each in self._of_day(int(at // DAY_S)) if each.start <= at < each.end]
        return max(found, key=lambda each: each.end, default=None)

    def _of_day(self, day: int) -> list[Window]:
        if day not in self._days:
            if len(self._days) >= KEPT_DAYS:
                self._days.clear()
            self._days[day] = list(self.between(day * DAY_S, (day + 1) * DAY_S))
        return self._days[day]


#: No window at all.
NEVER = Calendar(lambda since, until: iter(()))


def cron_calendar(expression: str, seconds: float, zone: ZoneInfo) -> Calendar:
    """A window of that many seconds after each time that a cron expression names.

    A time that daylight saving skips counts at the change; one that comes twice counts once.  Raises
    ValueError for an expression that is none, and `MissingExtra`.

    >>> sundays = cron_calendar("0 2 * * sun", 3600.0, ZoneInfo("Europe/Berlin"))
    >>> [sundays.window(at) for at in (1_772_326_800, 1_772_330_400)]  # 2026-03-01 01:00 and 02:00 UTC
    [Window(start=1772326800.0, end=1772330400.0), None]
    """
    library = optional("cronsim", EXTRA)
    try:
        library.CronSim(expression, datetime.fromtimestamp(0, zone))
    except library.CronSimError as error:
        raise ValueError(str(error)) from None
    return Calendar(partial(_cron_windows, library.CronSim, expression, seconds, zone))


def _cron_windows(
    cron: Any, expression: str, seconds: float, zone: ZoneInfo, since: float, until: float
) -> Iterator[Window]:
    first = datetime.fromtimestamp(since - seconds, zone) - timedelta(minutes=1)
    for start in cron(expression, first):
        at = start.timestamp()
        if at >= until:
            return
        if at + seconds > since:
            yield Window(at, at + seconds)


def file_calendar(path: Path, zone: ZoneInfo) -> Calendar:
    """The events of an iCalendar file, those that recur included; ``zone`` is that of times without one.

    Raises ValueError for a file that is none, OSError for one that cannot be read, and `MissingExtra`.
    """
    library, recurring = optional("icalendar", EXTRA), optional("recurring_ical_events", EXTRA)
    with path.open("rb") as file:
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise ValueError(f"the file is larger than {MOST_BYTES} bytes")
    events = recurring.of(library.Calendar.from_ical(data))
    list(_file_windows(events, zone, 0, DAY_S))  # what is wrong with its rules is found here
    return Calendar(partial(_file_windows, events, zone))


def _file_windows(events: Any, zone: ZoneInfo, since: float, until: float) -> Iterator[Window]:
    for event in events.between(datetime.fromtimestamp(since, zone), datetime.fromtimestamp(until, zone)):
        start, end = (_epoch(each, zone) for each in (event.start, event.end))
        if end > start:
            yield Window(start, end)


def _epoch(at: Any, zone: ZoneInfo) -> float:
    """A date begins at midnight."""
    if not isinstance(at, datetime):
        at = datetime(at.year, at.month, at.day)
    return float((at if at.tzinfo is not None else at.replace(tzinfo=zone)).timestamp())
