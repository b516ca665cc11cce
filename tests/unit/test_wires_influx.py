# SPDX-License-Identifier: MIT
"""Influx lines."""

from __future__ import annotations

import contextlib
from unittest import TestCase

from hypothesis import given
from hypothesis import strategies as st

from htmengine.errors import InvalidBody
from htmengine.labels import MAX_TEXT_BYTES
from htmengine.wires.influx import MAX_BODY_BYTES, read_lines


class InfluxTest(TestCase):
    def reason(self, body: bytes, precision: str = "ns") -> str:
        with self.assertRaises(InvalidBody) as caught:
            read_lines(body, precision, 0.0)
        return str(caught.exception.reason)

    def test_each_number_is_a_sample_and_others_are_left_out(self) -> None:
        received = read_lines(b'cpu,host=a,dc=b idle=1.5,n=2i,u=3u,on=true,text="x y" 1400000000000000000\n', "ns", 0.0)
        self.assertEqual(
            sorted(s[:3] for s in received.samples),
            [(f"cpu.{field};dc=b;host=a", value, 1.4e9) for field, value in (("idle", 1.5), ("n", 2.0), ("u", 3.0))],
        )
        self.assertEqual((dict(received.left_out), dict(received.rejected)), ({"boolean": 1, "text": 1}, {}))

    def test_a_timestamp_counts_in_its_precision_and_is_now_without_one(self) -> None:
        for precision, time in (("n", 10**18), ("us", 10**15), ("ms", 10**12), ("s", 10**9)):
            self.assertEqual(read_lines(b"m v=1 %d" % time, precision, 0.0).samples[0].timestamp, 1e9)
        for precision, seconds in (("s", 60.0), ("m", 3600.0), ("h", 216_000.0)):
            self.assertEqual(read_lines(b"m v=1 60", precision, 0.0).samples[0].timestamp, seconds)
        self.assertEqual(read_lines(b"m v=1", "ns", 99.5).samples[0].timestamp, 99.5)
        self.assertEqual(self.reason(b"m v=1", "d"), "precision")

    def test_a_time_of_another_precision_is_refused_and_the_likely_one_is_told(self) -> None:
        for time, precision, likely in (
            (1_400_000_000, "ns", "s"),
            (1_400_000_000_000, "ns", "ms"),
            (1_400_000_000_000_000, "n", "us"),
            (1_400_000_000, "ms", "s"),
            (1_400_000_000, "h", "s"),
            (1_400_000_000_000, "s", "ms"),
            (1_400_000_000_000, "us", "ms"),
            (1_400_000_000_000_000, "ms", "us"),
            (1_400_000_000_000_000_000, "s", "ns"),
        ):
            received = read_lines(b"m v=1 %d\nm v=1" % time, precision, 99.5)
            self.assertEqual((len(received.samples), dict(received.rejected)), (1, {"timestamp_precision": 1}))
            self.assertIn(f"precision={likely},", received.error())

    def test_one_bad_line_is_rejected_alone(self) -> None:
        lines = b"m v=1 1\nm v=\nm\nm,a= v=1\n\n# said\nm v=1 x\nm v=nan 1\r\nm v=2 2\r\n"
        received = read_lines(lines, "s", 0.0)
        self.assertEqual([s.value for s in received.samples], [1.0, 2.0])
        self.assertEqual(dict(received.rejected), {"line_form": 5})

    def test_a_newline_in_a_text_ends_no_line_and_a_quote_elsewhere_is_none(self) -> None:
        lines = (
            b'm,a=5" v=1 1\nm s="two\nlines \\" and a half",v=2 2\n# it\'s 5" wide\nm v=3 3\nm s="open,v=4 4\nm v=5 5'
        )
        received = read_lines(lines, "s", 0.0)
        self.assertEqual([s.value for s in received.samples], [1.0, 2.0, 3.0])
        self.assertEqual(dict(received.rejected), {"line_form": 1})

    def test_a_byte_that_is_not_utf_8_harms_its_line_alone(self) -> None:
        received = read_lines(b"m v=1 1\nm,host=\xff v=2 2\nm v=3 3\n", "s", 0.0)
        self.assertEqual([s.value for s in received.samples], [1.0, 3.0])
        self.assertEqual(dict(received.rejected), {"not_utf8": 1})

    def test_a_key_that_is_too_long_for_a_name_harms_its_line_alone(self) -> None:
        tags = b"".join(b",t%d=v" % number for number in range(1000))
        for key in (b"m" + tags, b"  m" + tags, b"\t m" + tags, b"m\\ " + tags, b"m\\\\ " + tags):
            received = read_lines(b"m v=1 1\n" + key + b' s="no name is made" 2\nm v=3 3\n', "s", 0.0)
            self.assertEqual([s.value for s in received.samples], [1.0, 3.0])
            self.assertEqual(dict(received.rejected), {"name_too_long": 1})

    def test_a_key_may_be_as_long_as_a_name_and_other_parts_longer(self) -> None:
        key = b"m,a=" + b"x" * (MAX_TEXT_BYTES - 6)  # ".v" is added
        text = b"x" * MAX_TEXT_BYTES
        received = read_lines(key + b" v=1 1\n#" + text + b'\nm s="' + text + b'",v=2 2', "s", 0.0)
        self.assertEqual(([s.value for s in received.samples], dict(received.rejected)), ([1.0, 2.0], {}))

    def test_bodies_that_are_too_long_are_refused(self) -> None:
        self.assertEqual(self.reason(bytes(MAX_BODY_BYTES + 1)), "body_too_long")

    def test_a_body_of_too_many_lines_or_fields_is_refused(self) -> None:
        fields = b",".join(b"f%d=1" % number for number in range(60_000))
        for body in (b"m v=1\n" * 60_000, b"m " + fields):
            self.assertEqual(self.reason(body), "too_many_samples")

    @given(st.binary(max_size=100) | st.text(st.sampled_from('m,=v1 "\\\ni#t'), max_size=60).map(str.encode))
    def test_any_bytes_are_samples_or_refused(self, body: bytes) -> None:
        with contextlib.suppress(InvalidBody):
            read_lines(body, "ns", 0.0)
