# SPDX-License-Identifier: MIT
"""When maintenance is: windows of time by a cron expression, a file of events (iCalendar), or one by its beginning.

In: an expression or a time with a duration, or a file, and a time zone.  Out: whether a time is within a window, and
the next windows.  Wall-clock times follow the zone's daylight saving.  The libraries are the extra ``calendars``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from zoneinfo import ZoneInfo

from htmengine.process.extras import optional

DAY_S = 86_400
#: Days whose windows are kept.
KEPT_DAYS = 32
EXTRA = "calendars"
#: A larger file is no calendar of maintenance.
MOST_BYTES = 4 << 20
#: Windows by a cron expression that touch a day; more are a mistake: it names beginnings, not the time within a window.
MOST_OF_A_DAY = 2000
#: The next windows are looked for so many days ahead, first near and then far: a file tells those of a span at once.
LOOKED_AHEAD_DAYS = (8, 400, 10_000)


class Window(NamedTuple):
    """Epoch seconds, the end excluded."""

    start: float
    end: float


class Windows(Protocol):
    """Windows of time, as they are now."""

    @property
    def between(self) -> Callable[[float, float], Iterator[Window]]:
        """The windows that touch a span of epoch seconds, by their beginnings."""
        ...

    def window(self, at: float) -> Window | None:
        """The window that epoch second ``at`` is in; of several, the one that ends last."""
        ...

    def renew(self) -> str | None:
        """Read again what has changed; what is wrong with it, if it cannot be read: then all stays as it was."""
        ...


def upcoming(windows: Windows, now: float, most: int) -> list[Window]:
    """The next windows, and the one that is open now.

    >>> nights = cron_calendar("0 2 * * *", 3600.0, ZoneInfo("UTC"))
    >>> [(window.start - 10 * DAY_S) / 3600 for window in upcoming(nights, 10 * DAY_S + 8000.0, 2)]
    [2.0, 26.0]
    """
    found: list[Window] = []
    for days in LOOKED_AHEAD_DAYS:
        found = list(islice(windows.between(now, now + days * DAY_S), most))
        if len(found) == most:
            break
    return found


@dataclass(slots=True, eq=False)
class Calendar:
    """Windows, made day by day when they are asked for.  ``between``: those that touch a span of epoch seconds."""

    between: Callable[[float, float], Iterator[Window]]
    _days: dict[int, list[Window]] = field(default_factory=dict)

    def renew(self) -> None:
        """What it was made of does not change."""

    def window(self, at: float) -> Window | None:
        """The window that epoch second ``at`` is in; of several, the one that ends last."""
        found = [each for each in self._of_day(int(at // DAY_S)) if each.start <= at < each.end]
        return max(found, key=lambda each: each.end, default=None)

    def _of_day(self, day: int) -> list[Window]:
        found = self._days.get(day)
        if found is None:  # several threads may ask at a time
            if len(self._days) >= KEPT_DAYS:
                self._days.clear()
            found = self._days[day] = list(self.between(day * DAY_S, (day + 1) * DAY_S))
        return found


#: No window at all.
NEVER = Calendar(lambda since, until: iter(()))


def one_window(start: datetime, seconds: float, zone: ZoneInfo) -> Calendar:
    """A single window; ``zone`` is that of a time without one.

    >>> one_window(datetime(2026, 3, 1, 1), 60.0, ZoneInfo("Europe/Berlin")).window(1_772_323_200.0)
    Window(start=1772323200.0, end=1772323260.0)
    """
    at = _epoch(start, zone)
    return Calendar(
        lambda since, until: iter([Window(at, at + seconds)] if at < until and at + seconds > since else [])
    )


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
    calendar = Calendar(partial(_cron_windows, library.CronSim, expression, seconds, zone))
    if len(list(islice(calendar.between(seconds, seconds + DAY_S), MOST_OF_A_DAY + 1))) > MOST_OF_A_DAY:
        raise ValueError(f"more than {MOST_OF_A_DAY} windows, which last {seconds:g} s each, touch one day")
    return calendar


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


class FileCalendar:
    """The events of an iCalendar file as it is now, those that recur included.

    ``zone`` is that of times without one.  Making one raises ValueError for a file that is none, OSError for one that
    cannot be read, and `MissingExtra`.  One that is not ``needed`` has no events until its file can be read.
    """

    def __init__(self, path: Path, zone: ZoneInfo, *, needed: bool = True) -> None:
        self._libraries = optional("icalendar", EXTRA), optional("recurring_ical_events", EXTRA)
        self._path = path
        self._zone = zone
        self._read_at: tuple[int, int, int] | None = None
        self._calendar = NEVER
        if needed:
            self._read()
        else:
            self.renew()

    @property
    def between(self) -> Callable[[float, float], Iterator[Window]]:
        """The windows that touch a span of epoch seconds."""
        return self._calendar.between

    def window(self, at: float) -> Window | None:
        """The window that epoch second ``at`` is in."""
        return self._calendar.window(at)

    def renew(self) -> str | None:
        """Read the file again if it has changed.  One that is no calendar, or gone, changes nothing and is told of."""
        try:
            self._read()
        except (ValueError, OSError) as error:
            kept = "is not read again" if self._read_at else "has no events yet"
            return f"{self._path} {kept}: {error}"
        return None

    def _read(self) -> None:
        version = _version(self._path)
        if version != self._read_at:
            self._calendar = _file_calendar(self._path, self._zone, *self._libraries)
            self._read_at = version


def _version(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_size, found.st_ino


def _file_calendar(path: Path, zone: ZoneInfo, library: Any, recurring: Any) -> Calendar:
    with path.open("rb") as file:
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise ValueError(f"the file is larger than {MOST_BYTES} bytes")
    try:
        parsed = library.Calendar.from_ical(data)
        _refuse_endless(parsed)
        events = recurring.of(parsed)
        list(_file_windows(events, zone, 0, DAY_S))  # what is wrong with its rules is found here
    except ValueError:
        raise
    except Exception as error:  # the libraries' own, such as OverflowError of an event that ends in 9999
        raise ValueError(f"an event cannot be read: {type(error).__name__}: {error}") from error
    return Calendar(partial(_file_windows, events, zone))


def _refuse_endless(parsed: Any) -> None:
    """Raises ValueError for a rule that stays at one time, which the library would follow for ever."""
    for event in parsed.walk("VEVENT"):
        rules = event.get("RRULE", [])
        if any(0 in rule.get("INTERVAL", []) for rule in (rules if isinstance(rules, list) else [rules])):
            raise ValueError("an RRULE has INTERVAL=0; 1 or more is allowed")


def _file_windows(events: Any, zone: ZoneInfo, since: float, until: float) -> Iterator[Window]:
    found = events.between(datetime.fromtimestamp(since, zone), datetime.fromtimestamp(until, zone))
    windows = (Window(_epoch(event.start, zone), _epoch(event.end, zone)) for event in found)
    yield from sorted(each for each in windows if each.end > each.start)


def _epoch(at: Any, zone: ZoneInfo) -> float:
    """A date begins at midnight."""
    if not isinstance(at, datetime):
        at = datetime(at.year, at.month, at.day)
    return float((at if at.tzinfo is not None else at.replace(tzinfo=zone)).timestamp())
