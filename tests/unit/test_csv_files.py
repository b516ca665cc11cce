# SPDX-License-Identifier: MIT
"""CSV files of one metric: what is read, and how a bad row is named."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from htmengine.csv_files import read_rows
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
        self.assertIn("line 3: could not convert", self.refused("timestamp,value\n60,1\n120,x\n"))
        self.assertIn("line 2: timestamp 'soon'", self.refused("timestamp,value\nsoon,1\n"))
        self.assertIn("line 2:", self.refused("timestamp,value\n60\n"))

    def test_a_header_without_the_columns_is_refused(self) -> None:
        self.assertIn("line 1: the header must have", self.refused("60,1\n"))
        self.assertIn("line 1: the header must have", self.refused(""))

    def test_bytes_that_are_not_utf8_are_refused(self) -> None:
        self.assertIn(
            r"line 2: could not convert string to float: '\\xff'", self.refused(b"timestamp,value\n60,\xff\n")
        )
