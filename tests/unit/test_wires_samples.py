# SPDX-License-Identifier: MIT
"""What all wires share: checks of values, compressed bodies within bounds, packages that are not installed."""

from __future__ import annotations

import contextlib
import gzip
import zlib
from unittest import TestCase

import cramjam
from hypothesis import given
from hypothesis import strategies as st

from htmengine.errors import InvalidBody, InvalidSample
from htmengine.export.metric_series import BAND, SCORE, TIMESTAMP, VALUE, alarm
from htmengine.web.wires import batches_of
from htmengine.wires.compression import decompress
from htmengine.wires.samples import RESULT_NAMES, Received, number


class ReceivedTest(TestCase):
    def test_a_value_or_a_time_that_cannot_be_taken_is_counted(self) -> None:
        received = Received()
        for value, timestamp in ((float("inf"), 1.0), (1.0, -1.0), (1.0, 5e9), (1.0, float("nan")), (1.0, 0.0)):
            received.add("m", value, timestamp)
        self.assertEqual(len(received.samples), 1)
        self.assertEqual(dict(received.rejected), {"value_not_finite": 1, "timestamp_out_of_range": 3})

    def test_the_first_reject_of_each_reason_is_told(self) -> None:
        received = Received()
        received.add("first", float("nan"), 1.0)
        received.add("second", float("nan"), 1.0)
        self.assertEqual(received.error(), "value_not_finite (2): 'first': value nan; only finite numbers are allowed")

    def test_results_of_an_engine_are_left_out_and_nothing_else_is(self) -> None:
        series = [family.full_name for family in (VALUE, TIMESTAMP, SCORE, *BAND, alarm(set()))]
        self.assertEqual(set(series), RESULT_NAMES)
        received = Received()
        others = [
            "htmengine_metric_values",
            "htmengine_remote_write_waiting;metric=a",
            "cpu;name=htmengine_metric_value",
        ]
        for text in (*series, *(f"{name};metric=cpu" for name in series), *others):
            received.add(text, 1.0, 60.0)
        received.leave_out_results()
        self.assertEqual([sample.name for sample in received.samples], others)
        self.assertEqual(dict(received.left_out), {"own_result": 2 * len(series)})

    def test_what_is_left_out_goes_to_the_ledger_beside_the_rejects(self) -> None:
        received = Received()
        received.left_out.update({"nan": 3})
        received.reject("line_form", "no line")
        [batch] = batches_of(received)
        self.assertEqual(batch.rejected, {"nan": 3, "line_form": 1})
        self.assertEqual([reject.reason for reject in batch.rejects], ["line_form"])

    def test_numbers_and_their_texts_are_numbers(self) -> None:
        for value, found in ((1, 1.0), ("1e3", 1000.0), (2.5, 2.5)):
            self.assertEqual(number(value), found)
        for other in (True, None, "1_0", "x", b"1", 10**400, "1" * 401):
            with self.assertRaises(InvalidSample):
                number(other)


class DecompressTest(TestCase):
    ENCODED = (
        ("gzip", gzip.compress),
        ("deflate", zlib.compress),
        ("snappy", lambda body: bytes(cramjam.snappy.compress_raw(body))),
        ("identity", bytes),
        ("", bytes),
    )

    def reason(self, body: bytes, encoding: str, most: int) -> str:
        with self.assertRaises(InvalidBody) as caught:
            decompress(body, encoding, most)
        return str(caught.exception.reason)

    @given(st.binary(max_size=2000))
    def test_every_encoding_is_read_back(self, body: bytes) -> None:
        for encoding, encode in self.ENCODED:
            self.assertEqual(decompress(encode(body), encoding, 2000), body)

    def test_nothing_is_nothing_compressed_too(self) -> None:
        for encoding in ("gzip", "deflate"):
            self.assertEqual(decompress(b"", encoding, 1000), b"")

    def test_a_body_that_would_be_too_long_is_refused(self) -> None:
        for encoding, encode in self.ENCODED:
            self.assertEqual(decompress(encode(bytes(1000)), encoding, 1000), bytes(1000))
            self.assertEqual(self.reason(encode(bytes(1001)), encoding, 1000), "body_too_long")

    def test_snappy_that_declares_too_much_is_refused_before_it_is_read(self) -> None:
        self.assertEqual(self.reason(b"\xff\xff\xff\xff\x0f", "snappy", 1 << 24), "body_too_long")

    def test_damaged_and_unknown_encodings_are_refused(self) -> None:
        for body, encoding, reason in (
            (b"no", "gzip", "not_gzip"),
            (gzip.compress(bytes(100))[:-9], "gzip", "not_gzip"),
            (gzip.compress(b"")[:-1], "gzip", "not_gzip"),
            (b"", "snappy", "not_snappy"),
            (b"\x64\x00", "snappy", "not_snappy"),
            (b"", "br", "encoding"),
        ):
            self.assertEqual(self.reason(body, encoding, 1000), reason)

    @given(st.binary(max_size=100), st.sampled_from(["gzip", "deflate", "snappy"]))
    def test_any_bytes_are_a_body_or_refused(self, body: bytes, encoding: str) -> None:
        with contextlib.suppress(InvalidBody):
            self.assertLessEqual(len(decompress(body, encoding, 1000)), 1000)
