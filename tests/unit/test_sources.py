# SPDX-License-Identifier: MIT
"""History from other systems, by their answers."""

from __future__ import annotations

import gzip
import sqlite3
import tempfile
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from unittest import TestCase
from unittest.mock import Mock

import msgspec

from htmengine.csv_files import Notes
from htmengine.errors import HtmEngineError, InvalidCsv, SourceFailed
from htmengine.sources import Piece, influx, sql
from htmengine.sources.graphite import render
from htmengine.sources.http_json import Server
from htmengine.sources.pieces import by_name
from htmengine.sources.prometheus import query_range

SPAN = (60, 180)
INFLUXQL = """name,tags,time,idle,user
cpu,"host=a,dc=x",1400000000000000000,90.5,
cpu,"host=a,dc=x",1400000060000000000,91,3
"""
FLUX = """#group,false,false,true,true,false,false,true,true,true
#datatype,string,long,dateTime:RFC3339,dateTime:RFC3339,dateTime:RFC3339,double,string,string,string
#default,_result,,,,,,,,
,result,table,_start,_stop,_time,_value,_field,_measurement,host
,,0,2014-05-13T00:00:00Z,2014-05-14T00:00:00Z,2014-05-13T16:53:20Z,90.5,idle,cpu,a
,,0,2014-05-13T00:00:00Z,2014-05-14T00:00:00Z,2014-05-13T16:54:20Z,,idle,cpu,a

#group,false,false,false,false,true,true
#datatype,string,long,dateTime:RFC3339,double,string,string
#default,_result,,,,,
,result,table,_time,_value,_field,_measurement
,,1,2014-05-13T16:53:20Z,7,count,jobs
"""


def server(*answers: object) -> Mock:
    """A server that gives these answers in turn."""
    given = iter(answers)
    return Mock(spec=Server, get=Mock(side_effect=lambda path, query, kind: msgspec.convert(next(given), kind)))


def matrix(labels: dict[str, str], *values: tuple[float, str]) -> object:
    return {"status": "success", "data": {"resultType": "matrix", "result": [{"metric": labels, "values": values}]}}


def listed(pieces: object) -> list[tuple[str, list[tuple[float, float]]]]:
    return [(piece.name, list(piece.rows)) for piece in pieces if isinstance(piece, Piece)]  # type: ignore[attr-defined]


class PrometheusTest(TestCase):
    def test_a_series_has_its_name_and_labels_and_what_is_no_number_is_left_out(self) -> None:
        notes = Notes()
        labels = {"__name__": "load", "job": "node", "instance": "a:9100"}
        read = query_range(server(matrix(labels, (60.0, "1.5"), (120.0, "NaN"))), "load", SPAN, 60)
        self.assertEqual(listed(read(notes)), [("load;instance=a:9100;job=node", [(60.0, 1.5)])])
        self.assertEqual(notes.empty, 1)

    def test_a_long_span_is_asked_for_in_parts_that_share_no_row(self) -> None:
        asked = server(matrix({"__name__": "m"}), matrix({"__name__": "m"}))
        list(query_range(asked, "m", (0, 15_000), 1)(Notes()))
        spans = [(call.args[1]["start"], call.args[1]["end"]) for call in asked.get.call_args_list]
        self.assertEqual(spans, [("0", "9999"), ("10000", "15000")])

    def test_a_series_without_a_name_gets_one_or_is_refused(self) -> None:
        series = matrix({"job": "node"}, (60.0, "1"))
        self.assertEqual(
            listed(query_range(server(series), "rate(x[5m])", SPAN, 60, "x.rate")(Notes()))[0][0], "x.rate;job=node"
        )
        with self.assertRaisesRegex(SourceFailed, "give it one by --metric"):
            listed(query_range(server(series), "rate(x[5m])", SPAN, 60)(Notes()))


class GraphiteTest(TestCase):
    def test_series_as_render_answers(self) -> None:
        notes, asked = Notes(), server([{"target": "a.b", "datapoints": [[1.5, 60], [None, 120], [2, 180]]}])
        self.assertEqual(listed(render(asked, "a.*", SPAN)(notes)), [("a.b", [(60, 1.5), (180, 2.0)])])
        given = asked.get.call_args.args[1]
        self.assertEqual((notes.empty, given["from"], given["maxDataPoints"]), (1, "59", "1000000"))

    def test_a_function_is_no_name(self) -> None:
        asked = server([{"target": "sum(a, b)", "datapoints": []}])
        with self.assertRaisesRegex(SourceFailed, r"alias\(\)"):
            listed(render(asked, "sum(a, b)", SPAN)(Notes()))


class ServerTest(TestCase):
    def test_what_is_no_address_is_refused_and_shows_no_password(self) -> None:
        with self.assertRaises(SourceFailed) as refused:
            Server("ftp://user:secret@host/")
        self.assertNotIn("secret", str(refused.exception))
        self.assertNotIn("secret", Server("http://user:secret@host:9090").shown)


class FilesTestCase(TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = Path(folder.name) / "file"

    def write(self, text: str) -> Path:
        self.path.write_text(text)
        return self.path


class InfluxTest(FilesTestCase):
    def test_influxql_and_flux_name_series_alike(self) -> None:
        notes = Notes()
        for text, expected in [
            (
                INFLUXQL,
                [
                    ("cpu.idle;dc=x;host=a", [(1_400_000_000.0, 90.5), (1_400_000_060.0, 91.0)]),
                    ("cpu.user;dc=x;host=a", [(1_400_000_060.0, 3.0)]),
                ],
            ),
            (FLUX, [("cpu.idle;host=a", [(1_400_000_000.0, 90.5)]), ("jobs.count", [(1_400_000_000.0, 7.0)])]),
        ]:
            path = self.write(text)
            self.assertTrue(influx.is_export(path))
            self.assertEqual(listed(influx.read(path, notes)), expected)
        self.assertEqual(notes.empty, 2)

    def test_another_csv_is_no_export(self) -> None:
        self.assertFalse(influx.is_export(self.write("timestamp,value\n1,2\n")))
        self.assertFalse(influx.is_export(self.write("")))

    def test_what_cannot_be_read_is_left_out_alone_and_named(self) -> None:
        notes = Notes()
        path = self.write("name,tags,time,state,idle\ncpu,,60,ok,1\ncpu,,120,ok\ncpu,,soon,,2\ncpu,,180,,3\n")
        self.assertEqual(listed(influx.read(path, notes)), [("cpu.idle", [(60.0, 1.0), (180.0, 3.0)])])
        self.assertEqual((notes.unreadable, notes.empty), (3, 2))
        self.assertIn("line 2: value 'ok'", notes.problem)

    def test_a_table_of_flux_that_is_no_series_is_left_out_and_named(self) -> None:
        notes = Notes()
        path = self.write(FLUX + "\n#datatype,string,string\n,error,reference\n,it failed,897\n")
        self.assertEqual(len(listed(influx.read(path, notes))), 2)
        self.assertEqual(notes.unreadable, 1)
        self.assertIn(
            "needs _field, _measurement, _time, _value (no pivot()); there are error, reference", notes.problem
        )
        path = self.write("#group,false,true\n#default,,\n,_time,used\n,2014-05-13T00:00:00Z,1\n")
        self.assertTrue(influx.is_export(path))

    def test_a_file_that_ends_early_is_refused(self) -> None:
        whole = gzip.compress(
            b"name,tags,time,idle\n" + b"".join(b"cpu,,%d,%d\n" % (at, at % 977) for at in range(9999))
        )
        self.path.write_bytes(whole[: len(whole) // 2])
        self.assertTrue(influx.is_export(self.path))
        with self.assertRaisesRegex(InvalidCsv, "end-of-stream"):
            listed(influx.read(self.path, Notes()))
        self.path.write_bytes(whole[:20])
        self.assertFalse(influx.is_export(self.path))


class SqlTest(FilesTestCase):
    def setUp(self) -> None:
        super().setUp()
        with sqlite3.connect(self.path) as database:
            database.execute("create table samples (name text, at text, value real)")
            rows = [("a", "2014-05-13 16:53:20", 1.5), ("b", "1400000000000", 2), ("a", "1400000060", None)]
            database.executemany("insert into samples values (?, ?, ?)", rows)
        database.close()
        self.url = f"sqlite:///{self.path}"

    def test_rows_of_many_metrics_and_of_one(self) -> None:
        notes = Notes()
        found = listed(sql.query(self.url, "select name, at, value from samples")(notes))
        self.assertEqual(found, [("a", [(1_400_000_000.0, 1.5)]), ("b", [(1_400_000_000.0, 2.0)])])
        self.assertEqual((notes.empty, notes.units), (1, {"milliseconds": 1}))
        self.assertEqual(listed(sql.query(self.url, "select at, value from samples", "c")(notes))[0][0], "c")

    def test_rows_that_cannot_be_read_are_left_out_and_noted(self) -> None:
        notes = Notes()
        rows = ("'a', 'then', 1", "'a', 60, 'x'", "null, 60, 1", "'a', null, 1", "'a', 60, x'01'", "'a', 60, 2")
        statement = " union all ".join(f"select {row}" for row in rows)
        self.assertEqual(listed(sql.query(self.url, statement)(notes)), [("a", [(60.0, 2.0)])])
        self.assertEqual((notes.unreadable, notes.problem[:28]), (5, "a row of a: timestamp 'then'"))

    def test_decimals_and_booleans_are_values(self) -> None:
        rows = [("a", 60, Decimal("1.5")), ("a", 120, True)]
        self.assertEqual(listed(by_name(sql._points(rows, Notes()))), [("a", [(60.0, 1.5), (120.0, 1.0)])])

    def test_dates_are_midnights_of_utc(self) -> None:
        for at in (date(2014, 5, 13), datetime(2014, 5, 13), datetime(2014, 5, 13, tzinfo=UTC)):
            self.assertEqual(listed(by_name(sql._points([("a", at, 1)], Notes()))), [("a", [(1_399_939_200.0, 1.0)])])

    def test_what_is_wrong_is_said_without_the_password(self) -> None:
        for url, statement, expected in [
            (self.url, "select at, value from samples", "2 columns; select 3: name, time, value"),
            (self.url, "select missing", "no such column"),
            ("nonsense", "select 1", "--sql is not a SQLAlchemy URL"),
            ("mysql://reader@127.0.0.1:port/old", "select 1", "--sql is not a SQLAlchemy URL"),
            ("nosuch://user:secret@host/db", "select 2", "nosuch"),
        ]:
            with self.subTest(statement), self.assertRaisesRegex(HtmEngineError, expected) as refused:
                listed(sql.query(url, statement)(Notes()))
            self.assertNotIn("secret", str(refused.exception))
