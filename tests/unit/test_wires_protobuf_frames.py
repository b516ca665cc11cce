# SPDX-License-Identifier: MIT
"""Carbon's protobuf, from bytes put together by the format's description."""

from __future__ import annotations

import contextlib
import struct
from unittest import TestCase

from hypothesis import given
from hypothesis import strategies as st

from htmengine.errors import InvalidBody
from htmengine.wires.protobuf_frames import MAX_FRAME_BYTES, read_frame
from tests.support.protobuf import double, message, varint_field


def metric(name: bytes, *points: tuple[int, float]) -> bytes:
    read = [message(2, varint_field(1, timestamp), double(2, value)) for timestamp, value in points]
    return message(1, message(1, name), *read)


class ProtobufFramesTest(TestCase):
    def test_all_points_of_all_metrics_are_read(self) -> None:
        received = read_frame(metric(b"a;z=1;b=2", (60, 0.5), (120, -1.0)) + metric("ü".encode(), (2**32 - 1, 2.0)))
        self.assertEqual([s[:3] for s in received.samples], [("a;b=2;z=1", 0.5, 60.0), ("a;b=2;z=1", -1.0, 120.0)])
        self.assertEqual(dict(received.rejected), {"timestamp_out_of_range": 1})

    def test_a_bad_name_rejects_its_own_points(self) -> None:
        received = read_frame(
            metric(b"\xff", (60, 1.0)) + metric(b"a b", (60, 1.0), (61, 1.0)) + metric(b"c", (60, 1.0))
        )
        self.assertEqual([s.name for s in received.samples], ["c"])
        self.assertEqual(dict(received.rejected), {"not_utf8": 1, "name_characters": 2})

    def test_other_bytes_are_refused(self) -> None:
        for body, reason in ((b"\x0a\xff", "not_protobuf"), (bytes(MAX_FRAME_BYTES + 1), "body_too_long")):
            with self.assertRaises(InvalidBody) as caught:
                read_frame(body)
            self.assertEqual(caught.exception.reason, reason)

    @given(st.binary(max_size=100))
    def test_any_bytes_are_points_or_refused(self, body: bytes) -> None:
        with contextlib.suppress(InvalidBody):
            read_frame(body)

    @given(
        st.lists(st.tuples(st.integers(0, 4 * 10**9), st.floats(allow_nan=False, allow_infinity=False)), max_size=20)
    )
    def test_values_are_read_to_the_last_bit(self, points: list[tuple[int, float]]) -> None:
        read = [(int(s.timestamp), struct.pack(">d", s.value)) for s in read_frame(metric(b"m", *points)).samples]
        self.assertEqual(read, [(timestamp, struct.pack(">d", value)) for timestamp, value in points])
