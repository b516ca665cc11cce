# SPDX-License-Identifier: MIT
"""CSV files of one metric: what is read, and how a bad row is named."""

from __future__ import annotations

import gzip
import os
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from twisted.trial.unittest import SynchronousTestCase

from htmengine.csv_files import Columns, Notes, read_rows, series_files
from htmengine.errors import InvalidCsv


class ReadRowsTest(SynchronousTestCase):
    def read(self, text: str | bytes) -> list[tuple[float, float]]:
        path = Path(self.mktemp())
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return list(read_rows(path))

    def refused(self, text: str | bytes) -> str:
        return str(self.assertRaises(InvalidCsv, self.read, text))

    def test_iso_and_epoch_timestamps_are_read_as_utc(self) -> None:
        rows = self.read("timestamp,value\n2014-04-01 00:00:00,1.5\n1396310460,2\n2014-04-01T00:02:00Z,3\n")
        self.assertEqual(rows, [(1396310400.0, 1.5), (1396310460.0, 2.0), (1396310520.0, 3.0)])

    def test_columns_may_stand_in_any_order_among_others(self) -> None:
        self.assertEqual(self.read("value,label,timestamp\n1,x,60\n"), [(60.0, 1.0)])

    def test_blank_lines_are_passed_over(self) -> None:
        self.assertEqual(self.read("timestamp,value\n\n60,1\n\n"), [(60.0, 1.0)])

    def test_a_bad_row_is_named_by_its_line(self) -> None:
        self.assertIn("line 3: value 'x'; a number such as 1.5", self.refused("timestamp,value\n60,1\n120,x\n"))
        self.assertIn("line 2: timestamp 'soon'", self.refused("timestamp,value\nsoon,1\n"))
        self.assertIn("line 2: fewer columns", self.refused("timestamp,value\n60\n"))

    def test_a_decimal_comma_among_commas_is_no_other_figure(self) -> None:
        self.assertIn("line 2: more columns", self.refused("timestamp,value\n60,20,45\n"))
        self.assertEqual(self.read("timestamp,value\n60,20,\n"), [(60.0, 20.0)])

    def test_with_semicolons_a_decimal_comma_is_read(self) -> None:
        self.assertEqual(self.read("timestamp;value\n60;20,45\n120;1.5\n"), [(60.0, 20.45), (120.0, 1.5)])
        self.assertIn("value '1.120,82'", self.refused("timestamp;value\n60;1.120,82\n"))

    def test_utf16_with_its_mark_is_read(self) -> None:
        for encoding, mark in (("utf-16-le", b"\xff\xfe"), ("utf-16-be", b"\xfe\xff")):
            text = mark + "timestamp,value\n60,1\n".encode(encoding)
            self.assertEqual(self.read(text), [(60.0, 1.0)])
            self.assertEqual(self.read(gzip.compress(text)), [(60.0, 1.0)])

    def test_a_header_without_the_columns_is_refused(self) -> None:
        self.assertIn("line 1: the header must have", self.refused("60,1\n"))
        self.assertIn("line 1: the header must have", self.refused(""))

    def test_bytes_that_are_not_utf8_are_refused(self) -> None:
        self.assertIn(r"line 2: value '\\xff'; a number", self.refused(b"timestamp,value\n60,\xff\n"))

    def test_semicolons_tabs_and_gzip_are_recognised(self) -> None:
        for text in ("timestamp;value\n60;1\n", "value\ttimestamp\n1\t60\n"):
            self.assertEqual(self.read(text), [(60.0, 1.0)])
            self.assertEqual(self.read(gzip.compress(text.encode())), [(60.0, 1.0)])
        self.assertIn("end-of-stream", self.refused(gzip.compress(b"timestamp,value\n" * 999)[:20]))

    def test_nupics_three_lines_of_header_are_passed_over(self) -> None:
        self.assertEqual(self.read("timestamp,value\ndatetime,float\nT,\n60,1\n"), [(60.0, 1.0)])

    def test_columns_have_the_names_that_are_given(self) -> None:
        path = Path(self.mktemp())
        path.write_text("Time,Load\n60,1\n")
        self.assertEqual(list(read_rows(path, Columns("time", "load"))), [(60.0, 1.0)])
        self.assertIn("there are time, load", self.refused("Time,Load\n60,1\n"))

    def test_rows_without_a_value_are_left_out_and_counted(self) -> None:
        path, notes = Path(self.mktemp()), Notes()
        path.write_text("timestamp,value\n60,1\n120,\n180,N/A\n240, null \n300,2\n")
        self.assertEqual(list(read_rows(path, notes=notes)), [(60.0, 1.0), (300.0, 2.0)])
        self.assertEqual(notes.empty, 3)

    def test_rows_that_cannot_be_read_are_left_out_and_noted(self) -> None:
        path, notes = Path(self.mktemp()), Notes()
        path.write_text("timestamp,value\n60,1\n120,true\nsoon,2\n180\n240,1,5\n300,2\n(6 rows)\n")
        self.assertEqual(list(read_rows(path, notes=notes)), [(60.0, 1.0), (300.0, 2.0)])
        self.assertEqual(notes.unreadable, 5)
        self.assertIn("line 3: value 'true'", notes.problem)
        notes.check(rows=2)
        self.assertRaises(InvalidCsv, notes.check, rows=0)

    def test_local_times_are_of_the_zone_that_is_given_also_where_a_clock_is_set(self) -> None:
        zone = ZoneInfo("Europe/Berlin")
        for first in (datetime(2026, 3, 28, 12, tzinfo=UTC), datetime(2026, 10, 24, 12, tzinfo=UTC)):
            times = [first.timestamp() + 300 * row for row in range(300)]
            written = [datetime.fromtimestamp(at, zone).strftime("%Y-%m-%d %H:%M:%S") for at in times]
            path = Path(self.mktemp())
            path.write_text("timestamp,value\n" + "".join(f"{at},1\n" for at in written))
            self.assertEqual([at for at, _ in read_rows(path, Columns(zone=zone))], times)

    def test_epoch_numbers_that_are_no_seconds_are_made_seconds_and_counted(self) -> None:
        path, notes = Path(self.mktemp()), Notes()
        path.write_text("timestamp,value\n" + "".join(f"14000000{'0' * n},1\n" for n in (2, 5, 8, 11)))
        self.assertEqual({timestamp for timestamp, _ in read_rows(path, notes=notes)}, {1_400_000_000.0})
        self.assertEqual(notes.units, {"milliseconds": 1, "microseconds": 1, "nanoseconds": 1})


class SeriesFilesTest(SynchronousTestCase):
    def test_files_of_folders_have_their_names(self) -> None:
        folder = Path(self.mktemp())
        (folder / "web1").mkdir(parents=True)
        for name in ("web1/cpu.csv.gz", "load.csv", "readme.txt", "web1/mem.TSV"):
            (folder / name).touch()
        named = [name for name, _ in series_files([folder, folder / "readme.txt"])]
        self.assertEqual(named, ["load", "web1.cpu", "web1.mem", "readme"])

    def test_pipes_and_folders_that_are_named_like_files_are_left_out(self) -> None:
        """Nobody writes to such a pipe, so whoever reads it waits for ever."""
        folder = Path(self.mktemp())
        (folder / "old.csv").mkdir(parents=True)
        os.mkfifo(folder / "pipe.csv")
        (folder / "lost.csv").symlink_to("nowhere")
        (folder / "old.csv" / "load.csv").touch()
        self.assertEqual([name for name, _ in series_files([folder])], ["lost", "old.csv.load"])
