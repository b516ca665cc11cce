# SPDX-License-Identifier: MIT
"""Windows of maintenance: cron expressions and iCalendar files, with time zones and daylight saving."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from htmengine.alerts.calendars import Calendar, Window, cron_calendar, file_calendar

pytest.importorskip("cronsim")
pytest.importorskip("recurring_ical_events")

BERLIN, DAY = ZoneInfo("Europe/Berlin"), 86_400
EVENTS = """BEGIN:VCALENDAR
BEGIN:VEVENT
UID:1
DTSTAMP:20260101T000000Z
DTSTART;TZID=Europe/Berlin:20260101T020000
DURATION:PT2H
RRULE:FREQ=WEEKLY;BYDAY=TH
EXDATE;TZID=Europe/Berlin:20260108T020000
END:VEVENT
BEGIN:VEVENT
UID:2
DTSTAMP:20260101T000000Z
DTSTART;VALUE=DATE:20260601
END:VEVENT
END:VCALENDAR
"""


def at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def in_window(calendar: Calendar, text: str) -> bool:
    return calendar.window(at(text)) is not None


class CronTest(SynchronousTestCase):
    def test_a_window_begins_by_the_zones_clock_and_lasts_as_long_as_it_says(self) -> None:
        nights = cron_calendar("30 2 * * *", 1800.0, BERLIN)
        self.assertEqual(nights.window(at("2026-01-05T01:59:59Z")), (at("2026-01-05T01:30Z"), at("2026-01-05T02:00Z")))
        self.assertFalse(in_window(nights, "2026-01-05T02:00Z"))
        self.assertTrue(in_window(nights, "2026-07-05T00:30Z"))

    def test_a_time_that_daylight_saving_skips_is_at_the_change_and_one_that_comes_twice_is_once(self) -> None:
        nights = cron_calendar("30 2 * * *", 1800.0, BERLIN)
        self.assertEqual(nights.window(at("2026-03-29T01:15Z")), (at("2026-03-29T01:00Z"), at("2026-03-29T01:30Z")))
        self.assertTrue(in_window(nights, "2026-10-25T00:45Z"))
        self.assertFalse(in_window(nights, "2026-10-25T01:45Z"))

    def test_a_window_goes_on_over_midnight_and_for_days(self) -> None:
        weekends = cron_calendar("0 22 * * fri", 2.5 * DAY, ZoneInfo("UTC"))
        self.assertTrue(in_window(weekends, "2026-01-05T09:59Z"))
        self.assertFalse(in_window(weekends, "2026-01-05T10:00Z"))

    @settings(max_examples=25)
    @given(st.integers(1_760_000_000, 1_800_000_000), st.sampled_from(["Europe/Berlin", "Asia/Kathmandu"]))
    def test_asked_day_by_day_or_once_is_the_same(self, moment: int, zone: str) -> None:
        hourly = cron_calendar("17 */5 * * *", 4000.0, ZoneInfo(zone))
        found = [each for each in hourly.between(moment, moment + 1) if each.start <= moment < each.end]
        self.assertEqual(hourly.window(moment), max(found, key=lambda each: each.end, default=None))

    def test_what_is_no_expression_is_refused(self) -> None:
        for wrong in ("", "* * *", "61 * * * *", "0 2 * * someday"):
            self.assertRaises(ValueError, cron_calendar, wrong, 60.0, BERLIN)


class FileTest(SynchronousTestCase):
    def calendar(self, text: str) -> Calendar:
        path = Path(self.mktemp())
        path.write_text(text)
        return file_calendar(path, BERLIN)

    def test_events_recur_but_for_their_exceptions(self) -> None:
        calendar = self.calendar(EVENTS)
        self.assertEqual(
            calendar.window(at("2026-01-01T01:30Z")), Window(at("2026-01-01T01:00Z"), at("2026-01-01T03:00Z"))
        )
        self.assertFalse(in_window(calendar, "2026-01-08T01:30Z"))
        self.assertTrue(in_window(calendar, "2026-07-02T00:30Z"))

    def test_a_day_without_a_time_is_the_zones_day(self) -> None:
        calendar = self.calendar(EVENTS)
        found = [in_window(calendar, text) for text in ("2026-05-31T21:59Z", "2026-05-31T22:00Z", "2026-06-01T22:00Z")]
        self.assertEqual(found, [False, True, False])

    def test_what_is_no_calendar_is_refused(self) -> None:
        for wrong in ("", "hello", EVENTS.replace("20260101T020000\n", "tomorrow\n"), EVENTS.replace("WEEKLY", "FOO")):
            self.assertRaises(ValueError, self.calendar, wrong)
        self.assertRaises(OSError, file_calendar, Path(self.mktemp()), BERLIN)
