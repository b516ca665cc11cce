# SPDX-License-Identifier: MIT
"""The companion's frames are the engine's: what one side packs the other reads.  Its own tests are beside it."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from htmengine.htm import opf
from htmengine.htm.params import NUPIC_MAX_INFERENCE, ModelParams
from htmengine.messages import CHECKPOINTS_REFUSED, SNAPSHOT_MODEL, InputRow, ModelCommand, ResultRow
from htmengine.model_swapper import frames
from htmengine.model_swapper.turns import Claim, Need, Outcome, Slice, Verdict

sys.path.insert(0, str(Path(__file__).parents[2] / "companions" / "htmengine-nupic"))

from htmengine_nupic import descriptions, worker
from htmengine_nupic import frames as theirs

SLICES = (
    Slice("a", 1, 5, (InputRow(6, 60, 0.1), InputRow(7, 120, -1.5, False)), 4),
    Slice("é", 2, 9, definition={"params": ModelParams.for_range(0, 1).to_json()}),
    Slice("c", 3, command=ModelCommand(SNAPSHOT_MODEL, "c", 3, "id", {"version": 1})),
    Slice("d", 1, 3, verdict=Verdict(Claim(3, None), True, 2)),
)


class FramesTest(SynchronousTestCase):
    def test_both_speak_the_same_version(self) -> None:
        self.assertEqual((theirs.VERSION, theirs.PAGE_FD), (frames.VERSION, frames.PAGE_FD))
        self.assertEqual(theirs.PLACE.pack(7, 1), frames.PLACE.pack(7, 1))

    def test_a_turn_is_read_as_it_was_sent(self) -> None:
        got = theirs.slices_of(*theirs.unpack(theirs.read(io.BytesIO(frames.pack_turn(3, SLICES)))))
        self.assertEqual(
            [(each.model_id, each.generation, each.after, each.confirmed) for each in got],
            [(each.model_id, each.generation, each.after, each.confirmed) for each in SLICES],
        )
        self.assertEqual(got[0].rows, ((6, 60, 0.1, True), (7, 120, -1.5, False)))
        self.assertEqual(got[1].definition, SLICES[1].definition)
        self.assertEqual((got[2].command["method"], got[2].command["args"]), (SNAPSHOT_MODEL, {"version": 1}))
        self.assertEqual((got[3].verdict["claim"], got[3].verdict["fits"]), ({"rowid": 3, "digest": None}, True))

    def test_an_answer_is_read_as_it_was_sent(self) -> None:
        rows = [theirs.Result(6, 60, 0.1, 1.0, None), theirs.Result(7, 120, -1.5, 1 / 3, {"1": [[0.5, 0.75]]})]
        claim = {"rowid": 3, "digest": None}
        sent = [
            theirs.outcome(SLICES[0], 7, rows),
            theirs.outcome(SLICES[1], need="definition"),
            theirs.outcome(SLICES[2], refused="no"),
            theirs.outcome(SLICES[3], need="proof", claim=claim),
            theirs.outcome(SLICES[0], error="é"),
        ]
        body = frames.read(io.BytesIO(theirs.pack_answer(3, sent, {"models": 1}, ["full"])))
        head, columns = frames.unpack(body)
        self.assertEqual((head["turn"], head["statistics"], head["troubles"]), (3, {"models": 1}, ["full"]))
        self.assertEqual(
            frames.outcomes_of(head, columns),
            [
                Outcome("a", 1, 7, (ResultRow(*rows[0]), ResultRow(*rows[1]))),
                Outcome("é", 2, need=Need.DEFINITION),
                Outcome("c", 3, refused="no"),
                Outcome("d", 1, need=Need.PROOF, claim=Claim(3, None)),
                Outcome("a", 1, error="é"),
            ],
        )


class DescriptionTest(SynchronousTestCase):
    def test_what_becomes_of_a_model_in_nupic_is_read_back_as_the_same_model(self) -> None:
        params = ModelParams.for_sample([0.0, 65.0, 130.0], classifier=True)
        back = opf.model_params(descriptions.model_config(params.to_json()))
        given: dict[str, Any] = params.to_json()
        # Without counterpart in NuPIC: see descriptions.py.
        given["value"] |= {"minval": None, "maxval": None}
        given["spatial"]["learn_every"] = 1
        self.assertEqual(back.to_json(), given)
        self.assertEqual(back.temporal.max_inference, NUPIC_MAX_INFERENCE)


class TroublesTest(SynchronousTestCase):
    def test_old_rows_stay_while_its_checkpoints_cannot_be_written(self) -> None:
        self.assertEqual(worker.CHECKPOINTS_REFUSED, CHECKPOINTS_REFUSED)
