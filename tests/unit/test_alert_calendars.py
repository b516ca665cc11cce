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

from htmengine.alerts.calendars import FileCalendar, Window, Windows, cron_calendar, one_window, upcoming

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


def in_window(calendar: Windows, text: str) -> bool:
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

    def test_beginnings_that_are_meant_as_all_of_a_time_are_refused(self) -> None:
        with self.assertRaises(ValueError) as caught:
            cron_calendar("* * * * *", 7 * DAY, BERLIN)
        self.assertIn("more than 2000 windows", str(caught.exception))

    def test_the_next_windows_are_found_however_far_they_are_apart(self) -> None:
        yearly = upcoming(cron_calendar("0 3 24 12 *", 3600.0, BERLIN), at("2026-12-24T02:30Z"), 3)
        expected = [at(f"{year}-12-24T02:00Z") for year in (2026, 2027, 2028)]
        self.assertEqual([each.start for each in yearly], expected)

    def test_one_window_is_that_one(self) -> None:
        once = one_window(datetime(2026, 7, 1, 22), 3600.0, BERLIN)
        self.assertEqual(
            upcoming(once, at("2026-06-30T00:00Z"), 5), [(at("2026-07-01T20:00Z"), at("2026-07-01T21:00Z"))]
        )
        self.assertFalse(in_window(once, "2026-07-01T21:00Z"))


class FileTest(SynchronousTestCase):
    def calendar(self, text: str) -> FileCalendar:
        path = Path(self.mktemp())
        path.write_text(text)
        return FileCalendar(path, BERLIN)

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

    def test_a_file_that_changes_is_read_again(self) -> None:
        path = Path(self.mktemp())
        path.write_text(EVENTS)
        calendar = FileCalendar(path, BERLIN)
        self.assertTrue(in_window(calendar, "2026-01-01T01:30Z"))
        path.write_text(EVENTS.replace("20260101T020000", "20260101T100000"))
        self.assertIsNone(calendar.renew())
        self.assertFalse(in_window(calendar, "2026-01-01T01:30Z"))
        self.assertTrue(in_window(calendar, "2026-01-01T09:30Z"))

    def test_one_that_is_no_calendar_any_more_changes_nothing_and_is_told_of(self) -> None:
        path = Path(self.mktemp())
        path.write_text(EVENTS)
        calendar = FileCalendar(path, BERLIN)
        for spoil in (lambda: path.write_text("hello"), path.unlink):
            spoil()
            self.assertIn(f"{path} is not read again: ", calendar.renew() or "")
            self.assertTrue(in_window(calendar, "2026-01-01T01:30Z"))
        path.write_text(EVENTS.replace("BYDAY=TH", "BYDAY=FR"))
        self.assertIsNone(calendar.renew())
        self.assertTrue(in_window(calendar, "2026-01-02T01:30Z"))

    def test_one_that_is_not_needed_has_no_events_until_it_can_be_read(self) -> None:
        path = Path(self.mktemp())
        calendar = FileCalendar(path, BERLIN, needed=False)
        self.assertIn(f"{path} has no events yet: ", calendar.renew() or "")
        path.write_text("hello")
        self.assertIn(f"{path} has no events yet: ", calendar.renew() or "")
        self.assertFalse(in_window(calendar, "2026-01-01T01:30Z"))
        path.write_text(EVENTS)
        self.assertIsNone(calendar.renew())
        self.assertTrue(in_window(calendar, "2026-01-01T01:30Z"))

    def test_events_that_the_libraries_fail_on_or_never_end_with_are_refused(self) -> None:
        day = "DTSTART;VALUE=DATE:20260601\n"
        for wrong in (
            EVENTS.replace(day, ""),
            EVENTS.replace(day, f"{day}DTEND;VALUE=DATE:99991231\n"),
            EVENTS.replace("PT2H", "P99999999D"),
            EVENTS.replace("BYDAY=TH", "INTERVAL=0"),
        ):
            self.assertRaises(ValueError, self.calendar, wrong)

    def test_what_is_no_calendar_is_refused(self) -> None:
        for wrong in ("", "hello", EVENTS.replace("20260101T020000\n", "tomorrow\n"), EVENTS.replace("WEEKLY", "FOO")):
            self.assertRaises(ValueError, self.calendar, wrong)
        self.assertRaises(OSError, FileCalendar, Path(self.mktemp()), BERLIN)
