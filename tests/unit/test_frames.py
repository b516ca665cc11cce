# SPDX-License-Identifier: MIT
"""Frames between scheduler and worker: what goes in comes out."""

from __future__ import annotations

import io
import math
from unittest import TestCase

from htmengine.messages import DEFINE_MODEL, SNAPSHOT_MODEL, InputRow, ModelCommand, ResultRow
from htmengine.model_swapper import frames
from htmengine.model_swapper.turns import Claim, Need, Outcome, Slice, Verdict

BIG = 2**62


def body(frame: bytes) -> bytes:
    read = frames.read(io.BytesIO(frame))
    assert read is not None
    return read


class TurnTest(TestCase):
    def assert_kept(self, *slices: Slice) -> None:
        head, columns = frames.unpack(body(frames.pack_turn(BIG, slices)))
        self.assertEqual(head["turn"], BIG)
        self.assertEqual(frames.slices_of(head, columns), list(slices))

    def test_rows_stay_with_their_slices(self) -> None:
        self.assert_kept(
            Slice("a", 1, 5, (InputRow(6, 60, 0.1), InputRow(7, 120, -math.pi)), 4),
            Slice("b", 2, 9),
            Slice("m", 1, 0, (InputRow(1, 60, 0.5), InputRow(2, 120, 0.5, learn=False), InputRow(3, 180, 0.5))),
            Slice("c", BIG, BIG, (InputRow(BIG, -1, 1e300),), BIG),
        )

    def test_definitions_and_commands_stay_with_theirs(self) -> None:
        define = ModelCommand(DEFINE_MODEL, "é", 3, "id", {"params": {"x": [1, None]}, "upTo": 7})
        self.assert_kept(
            Slice("plain", 1, 0, (InputRow(1, 60, 1.0),)),
            Slice("é", 3, command=define),
            Slice("d", 1, 3, definition={"params": {}}),
            Slice("f", 1, 3, verdict=Verdict(Claim(3, BIG), True, 2, None)),
            Slice("e", 1, command=ModelCommand(SNAPSHOT_MODEL, "e", 1, "id"), definition={"after": 4}),
        )

    def test_a_turn_may_be_empty(self) -> None:
        self.assert_kept()

    def test_a_row_takes_24_bytes(self) -> None:
        row = InputRow(1, 60, 1.0)
        one, two = (frames.pack_turn(1, [Slice("a", 1, 0, (row,) * count)]) for count in (1, 2))
        self.assertEqual(len(two) - len(one), 24)


class AnswerTest(TestCase):
    def assert_kept(self, *outcomes: Outcome) -> None:
        head, columns = frames.unpack(body(frames.pack_answer(3, outcomes, {"models": 2}, ["full"])))
        self.assertEqual((head["turn"], head["statistics"], head["troubles"]), (3, {"models": 2}, ["full"]))
        self.assertEqual(frames.outcomes_of(head, columns), list(outcomes))

    def test_scores_are_kept_to_the_last_bit(self) -> None:
        rows = [ResultRow(n, 60 * n, math.nextafter(n, 0), 1 / 3) for n in range(1, 4)]
        self.assert_kept(Outcome("a", 1, 2, tuple(rows[:2])), Outcome("b", 1, 0), Outcome("c", 2, 3, tuple(rows[2:])))

    def test_needs_errors_states_and_predictions_stay_with_theirs(self) -> None:
        predicted = ResultRow(2, 120, 1.0, 0.0, {"1": [[1.5, 0.75]]})
        self.assert_kept(
            Outcome("a", 1, need=Need.DEFINITION),
            Outcome("b", 1, 2, (ResultRow(1, 60, 1.0, 1.0), predicted)),
            Outcome("c", 1, error="ValueError: no"),
            Outcome("d", 1, 7, model=bytes(range(256))),
            Outcome("e", 1, 8, (predicted,), Need.ROWS),
            Outcome("f", 1, need=Need.PROOF, claim=Claim(7, None)),
            Outcome("g", 1, 8, refused="no snapshots"),
        )


class ReadTest(TestCase):
    def test_frames_follow_each_other(self) -> None:
        file = io.BytesIO(frames.pack({"doubt": 1}) + frames.pack({"stop": True}))
        heads = [frames.unpack(frames.read(file) or b"")[0] for _ in range(2)]
        self.assertEqual(heads, [{"doubt": 1}, {"stop": True}])

    def test_the_end_is_none_within_a_frame_too(self) -> None:
        frame = frames.pack({"stop": True})
        for length in range(len(frame)):
            self.assertIsNone(frames.read(io.BytesIO(frame[:length])))
