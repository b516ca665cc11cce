# SPDX-License-Identifier: MIT
"""Carbon's pickles: read as pickle.loads would read the harmless ones; everything else is refused by name."""

from __future__ import annotations

import contextlib
import os
import pickle
import pickletools
import struct
from typing import Any

import graphitesend
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from htmengine.errors import InvalidBody
from htmengine.messages.samples import MAX_TIMESTAMP
from htmengine.wires import pickle_frames
from htmengine.wires.pickle_frames import MAX_FRAME_BYTES, MAX_MARKS, read_frame

NAMES = st.text(st.sampled_from("abcxyz.-_ü"), min_size=1, max_size=40).filter(lambda name: bool(name.replace(".", "")))
POINTS = st.lists(
    st.tuples(
        NAMES,
        st.tuples(
            st.integers(0, MAX_TIMESTAMP) | st.floats(0, MAX_TIMESTAMP),
            st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**70), 2**70),
        ),
    ),
    max_size=40,
)

OPCODES = st.sampled_from([opcode.code.encode("latin-1") for opcode in pickletools.opcodes])


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch /tmp/never",)


class PickleFramesTest(SynchronousTestCase):
    def reason(self, body: bytes) -> str:
        with self.assertRaises(InvalidBody) as caught:
            read_frame(body)
        return str(caught.exception.reason)

    @given(points=POINTS, protocol=st.integers(0, pickle.HIGHEST_PROTOCOL))
    def test_every_protocol_gives_the_values_that_were_pickled(self, points: list[Any], protocol: int) -> None:
        received = read_frame(pickle.dumps(points, protocol))
        self.assertEqual(
            [(sample.timestamp, sample.value) for sample in received.samples],
            [(float(timestamp), float(value)) for _, (timestamp, value) in points],
        )
        self.assertEqual(dict(received.rejected), {})

    def test_lists_for_tuples_and_texts_for_numbers_are_read(self) -> None:
        body = pickle.dumps([["a.b", ["60", "0.5"]], (b"a.c", (60.5, True + 1))])
        self.assertEqual([s[:3] for s in read_frame(body).samples], [("a.b", 0.5, 60.0), ("a.c", 2.0, 60.5)])

    def test_what_python_2_wrote_is_read(self) -> None:
        body = b"(lp0\n(S'a.\\xc3\\xbc'\np1\n(I60\nF0.5\ntp2\ntp3\na(S\"b'c\"\n(L61L\nI2\ntta."
        self.assertEqual([s[:3] for s in read_frame(body).samples], [("a.ü", 0.5, 60.0), ("b'c", 2.0, 61.0)])

    def test_what_graphitesend_sends_is_read(self) -> None:
        client = graphitesend.init(
            init_type="pickle", prefix="apps", system_name="web", dryrun=True, graphite_server="127.0.0.1"
        )
        self.addCleanup(graphitesend.reset)
        message = client.str2listtuple("apps.web.logins 3.000000 1400000000\n")
        (length,) = struct.unpack("!L", message[:4])
        self.assertEqual(length, len(message) - 4)
        self.assertEqual([s[:3] for s in read_frame(message[4:]).samples], [("apps.web.logins", 3.0, 1.4e9)])

    def test_nothing_is_imported_or_called(self) -> None:
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            self.assertEqual(self.reason(pickle.dumps([("a", (60, Evil()))], protocol)), "pickle_opcode")
        with self.assertRaisesRegex(InvalidBody, "opcode GLOBAL is not allowed"):
            read_frame(b"cos\nsystem\n(S'true'\ntR.")

    def test_every_other_opcode_is_refused_by_its_name(self) -> None:
        calls = ["GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX"]
        objects = ["EXT1", "EXT2", "EXT4", "PERSID", "BINPERSID", "NEXT_BUFFER", "BYTEARRAY8"]
        others = ["DICT", "EMPTY_DICT", "SETITEM", "SETITEMS", "EMPTY_SET", "ADDITEMS", "FROZENSET", "DUP", "POP"]
        codes = {opcode.name: opcode.code.encode("latin-1") for opcode in pickletools.opcodes}
        for name in calls + objects + others:
            with self.assertRaisesRegex(InvalidBody, f"opcode {name} is not allowed"):
                read_frame(codes[name] + bytes(16))

    def test_one_bad_point_is_rejected_alone(self) -> None:
        points = [
            ("a", (60, 1)),
            ("a", (60, "one")),
            ("a", (60, None)),
            ("a", (60, True)),
            ("a", (60, 10**400)),
            ("a", (60, float("nan"))),
            ("a", (-5, 1)),
            ("a b", (60, 1)),
            ("x" * 5000, (60, 1)),
            ("a", 60, 1),
            (7, (60, 1)),
            "ab",
            ("b", (61, 2)),
        ]
        received = read_frame(pickle.dumps(points))
        self.assertEqual([s[:3] for s in received.samples], [("a", 1.0, 60.0), ("b", 2.0, 61.0)])
        self.assertEqual(
            dict(received.rejected),
            {
                "value_not_a_number": 4,
                "value_not_finite": 1,
                "timestamp_out_of_range": 1,
                "name_characters": 1,
                "name_too_long": 1,
                "pickle_form": 3,
            },
        )

    def test_a_frame_that_is_no_list_or_is_too_long_is_refused(self) -> None:
        self.assertEqual(self.reason(pickle.dumps("text")), "pickle_form")
        self.assertEqual(self.reason(bytes(MAX_FRAME_BYTES + 1)), "body_too_long")

    def test_a_frame_of_too_many_points_is_refused(self) -> None:
        self.assertEqual(self.reason(pickle.dumps([("a", (60, 1))] * 60_000)), "too_many_samples")

    def test_marks_within_each_other_are_bounded(self) -> None:
        self.assertEqual(read_frame(b"(" * MAX_MARKS + b"l" * MAX_MARKS + b".").rejected, {"pickle_form": 1})
        self.assertEqual(self.reason(b"(" * (MAX_MARKS + 1)), "pickle_form")

    def test_opcodes_are_bounded_whatever_they_make(self) -> None:
        self.patch(pickle_frames, "MAX_PARTS", 100)
        for body in (b")" + b"\x85" * 100, b"]" * 101, b"(t" * 51):
            self.assertEqual(self.reason(body), "too_many_samples")
        self.assertEqual(len(read_frame(pickle.dumps([("a", (60, 1))] * 20)).samples), 20)

    @given(st.binary(max_size=200) | st.lists(OPCODES | st.binary(max_size=4), max_size=60).map(b"".join))
    def test_any_bytes_are_points_or_refused(self, body: bytes) -> None:
        with contextlib.suppress(InvalidBody):
            read_frame(body)

    @given(points=POINTS, cut=st.integers(0, 400), flip=st.integers(0, 255))
    def test_a_damaged_pickle_is_points_or_refused(self, points: list[Any], cut: int, flip: int) -> None:
        body = bytearray(pickle.dumps(points))
        body[cut % len(body)] ^= flip
        with contextlib.suppress(InvalidBody):
            read_frame(bytes(body))

    def test_a_list_within_itself_ends(self) -> None:
        points: list[Any] = [("a", (60, 1))]
        points.append(points)
        self.assertEqual(dict(read_frame(pickle.dumps(points)).rejected), {"pickle_form": 1})
