# SPDX-License-Identifier: MIT
"""The scheduler's decisions: whole lists of instructions, and random histories against a model of the world."""

from __future__ import annotations

import contextlib
import random
from collections import Counter, deque
from collections.abc import Sequence
from pathlib import Path
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from htmengine.errors import InvalidTransition
from htmengine.messages import (
    CLONE_MODEL,
    DEFINE_MODEL,
    DELETE_MODEL,
    SNAPSHOT_MODEL,
    CommandResult,
    InputRow,
    ModelCommand,
    ModelError,
    ModelInput,
    ModelResult,
    ModelSnapshot,
    ResultRow,
)
from htmengine.model_swapper.progress import TRANSITIONS, ModelState, Progress
from htmengine.model_swapper.swap_controller import (
    REFUSED,
    Acknowledge,
    FetchDefinition,
    FetchProof,
    FetchRows,
    Instruction,
    Limits,
    Publish,
    RunTurn,
    SwapController,
)
from htmengine.model_swapper.turns import Claim, Need, Outcome, Slice, Verdict
from tools import states_page


def row(rowid: int) -> InputRow:
    return InputRow(rowid, 60 * rowid, float(rowid))


def rows(first: int, last: int) -> tuple[InputRow, ...]:
    return tuple(row(rowid) for rowid in range(first, last + 1))


def scored(first: int, last: int) -> tuple[ResultRow, ...]:
    return tuple(ResultRow(rowid, 60 * rowid, float(rowid), 0.5) for rowid in range(first, last + 1))


def fed(first: int, last: int, *, model_id: str = "m", generation: int = 1) -> ModelInput:
    return ModelInput(model_id, generation, first - 1, rows(first, last))


DEFINE = ModelCommand(DEFINE_MODEL, "m", 1, "c1", {"params": {"p": 1}, "upTo": 0})


class RowsTest(SynchronousTestCase):
    def setUp(self) -> None:
        self.controller = SwapController(shards=4, workers=1)
        self.controller.worker_started(0)

    def test_rows_run_are_published_and_then_their_message_is_acknowledged(self) -> None:
        [turn] = self.controller.inputs_arrived(7, [fed(1, 2)])
        self.assertEqual(turn, RunTurn(0, 1, (Slice("m", 1, 0, rows(1, 2)),)))
        [publish] = self.controller.turn_done(0, 1, [Outcome("m", 1, at=2, rows=scored(1, 2))])
        self.assertEqual(publish, Publish(2, (ModelResult("m", 1, scored(1, 2)),), ()))
        self.assertEqual(self.controller.published(2), [Acknowledge((7,))])
        self.assertEqual(self.controller.open_messages, 0)
        self.assertEqual(self.controller.cached_rows, 0)

    def test_a_message_waits_for_all_its_models(self) -> None:
        [turn] = self.controller.inputs_arrived(7, [fed(1, 1), fed(1, 1, model_id="n")])
        self.assertEqual([each.model_id for each in turn.slices], ["m", "n"])
        done = [Outcome("m", 1, at=1, rows=scored(1, 1)), Outcome("n", 1, need=Need.DEFINITION)]
        publish, fetch = self.controller.turn_done(0, turn.turn, done)
        self.assertEqual(fetch, FetchDefinition("n", 1))
        self.assertEqual(self.controller.published(publish.publication), [])

    def test_a_worker_without_the_model_is_given_its_definition(self) -> None:
        [turn] = self.controller.inputs_arrived(7, [fed(1, 1)])
        [asked] = self.controller.turn_done(0, turn.turn, [Outcome("m", 1, need=Need.DEFINITION)])
        [again] = self.controller.definition_fetched(asked, {"p": 1})
        self.assertEqual(again.slices, (Slice("m", 1, 0, rows(1, 1), definition={"p": 1}),))

    def test_a_bounded_number_of_definitions_is_in_memory(self) -> None:
        controller = SwapController(shards=4, workers=1, limits=Limits(definitions=2, turns_ahead=1))
        controller.worker_started(0)
        [turn] = controller.inputs_arrived(7, [fed(1, 1, model_id=name) for name in "mnop"])
        missing = [Outcome(name, 1, need=Need.DEFINITION) for name in "mnop"]
        first, second = controller.turn_done(0, turn.turn, missing)
        self.assertEqual((first, second), (FetchDefinition("m", 1), FetchDefinition("n", 1)))
        [made] = controller.definition_fetched(first, {"p": 1})
        self.assertEqual(controller.definition_fetched(second, {"p": 1}), [])
        _, third, another = controller.turn_done(0, made.turn, [Outcome("m", 1, at=1, rows=scored(1, 1))])
        self.assertEqual(third, FetchDefinition("o", 1))
        self.assertEqual([each.model_id for each in another.slices], ["n"])

    def test_a_checkpoint_without_proof_waits_for_the_databases_verdict(self) -> None:
        [turn] = self.controller.inputs_arrived(7, [fed(5, 5)])
        claim = Claim(4, 99)
        [asked] = self.controller.turn_done(0, turn.turn, [Outcome("m", 1, need=Need.PROOF, claim=claim)])
        self.assertEqual(asked, FetchProof("m", 1, claim))
        verdict = Verdict(claim, True, 4, 99)
        [again] = self.controller.proof_fetched(asked, verdict)
        self.assertEqual(again.slices, (Slice("m", 1, 4, rows(5, 5), verdict=verdict),))
        self.controller.turn_done(0, again.turn, [Outcome("m", 1, at=5, rows=scored(5, 5))])
        [turn] = self.controller.inputs_arrived(8, [fed(6, 6)])
        self.assertEqual(turn.slices, (Slice("m", 1, 5, rows(6, 6)),))

    def test_a_checkpoint_beyond_what_is_scored_tells_how_far_it_has_come(self) -> None:
        for scored_to, told in ((3, (ModelResult("m", 1, (), at=4),)), (4, ())):
            self.setUp()
            [turn] = self.controller.inputs_arrived(7, [ModelInput("m", 1, 4, ())])
            claim = Claim(4, 99)
            [asked] = self.controller.turn_done(0, turn.turn, [Outcome("m", 1, need=Need.PROOF, claim=claim)])
            [again] = self.controller.proof_fetched(asked, Verdict(claim, True, scored_to, 99))
            [publish] = self.controller.turn_done(0, again.turn, [Outcome("m", 1, at=4)])
            self.assertEqual(publish.results, told)
            self.assertEqual(self.controller.published(publish.publication), [Acknowledge((7,))])

    def test_the_proof_of_a_model_that_is_gone_lets_its_rows_go(self) -> None:
        [turn] = self.controller.inputs_arrived(7, [fed(5, 5)])
        outcome = Outcome("m", 1, need=Need.PROOF, claim=Claim(4, 99))
        [asked] = self.controller.turn_done(0, turn.turn, [outcome])
        self.assertEqual(self.controller.proof_fetched(asked, None), [Acknowledge((7,))])
        self.assertEqual(self.controller.proof_fetched(asked, None), [])

    def test_rows_of_a_metric_that_is_gone_are_let_go(self) -> None:
        [turn] = self.controller.inputs_arrived(7, [fed(1, 1)])
        [asked] = self.controller.turn_done(0, turn.turn, [Outcome("m", 1, need=Need.DEFINITION)])
        self.assertEqual(self.controller.definition_fetched(asked, None), [Acknowledge((7,))])

    def test_a_model_whose_definition_or_rows_cannot_be_read_fails_alone(self) -> None:
        for need, later in ((Need.DEFINITION, 1), (Need.ROWS, 5)):
            controller = SwapController(shards=1, workers=1)
            controller.worker_started(0)
            [turn] = controller.inputs_arrived(7, [fed(later, later)])
            [asked] = controller.turn_done(0, turn.turn, [Outcome("m", 1, at=2, need=need)])
            [publish] = controller.fetch_failed(asked, "KeyError: 'params'")
            self.assertEqual(publish.notices, (ModelError("m", 1, "KeyError: 'params'"),))
            self.assertEqual(controller.published(publish.publication), [Acknowledge((7,))])
            [other] = controller.inputs_arrived(8, [ModelInput("n", 1, 0, rows(1, 1))])
            self.assertEqual(other.slices, (Slice("n", 1, 0, rows(1, 1)),))

    def test_a_model_behind_its_rows_gets_the_missing_ones(self) -> None:
        [turn] = self.controller.inputs_arrived(7, [fed(5, 6)])
        [asked] = self.controller.turn_done(0, turn.turn, [Outcome("m", 1, at=2, need=Need.ROWS)])
        self.assertEqual(asked, FetchRows("m", 1, after=2, limit=2000))
        [again] = self.controller.rows_fetched(asked, rows(3, 6))
        self.assertEqual(again.slices, (Slice("m", 1, 2, rows(3, 6)),))

    def test_rows_that_were_deleted_from_the_database_are_not_waited_for(self) -> None:
        [turn] = self.controller.inputs_arrived(7, [fed(5, 5)])
        [asked] = self.controller.turn_done(0, turn.turn, [Outcome("m", 1, at=2, need=Need.ROWS)])
        [again] = self.controller.rows_fetched(asked, rows(5, 5))
        self.assertEqual(again.slices, (Slice("m", 1, 2, rows(5, 5)),))

    def test_a_message_about_rows_that_never_were_keeps_no_later_row_waiting(self) -> None:
        [turn] = self.controller.inputs_arrived(7, [fed(1, 2)])
        [publish] = self.controller.turn_done(0, turn.turn, [Outcome("m", 1, at=2, rows=scored(1, 2))])
        self.assertEqual(self.controller.published(publish.publication), [Acknowledge((7,))])
        [asked] = self.controller.inputs_arrived(8, [ModelInput("m", 1, 1000, ())])
        [empty] = self.controller.rows_fetched(asked, [])
        self.assertEqual(self.controller.published(empty.publication), [Acknowledge((8,))])
        [turn] = self.controller.inputs_arrived(9, [fed(3, 4)])
        self.assertEqual(turn.slices[0].rows, rows(3, 4))

    def test_a_backlog_beyond_the_bound_is_not_kept_in_memory_but_fetched(self) -> None:
        controller = SwapController(shards=1, workers=1, limits=Limits(rows_cached=4, rows_per_turn=4))
        controller.worker_started(0)
        [turn] = controller.inputs_arrived(1, [fed(1, 4)])
        self.assertEqual(controller.inputs_arrived(2, [fed(5, 8)]), [])
        self.assertEqual(controller.cached_rows, 4)
        publish, asked = controller.turn_done(0, turn.turn, [Outcome("m", 1, at=4, rows=scored(1, 4))])
        self.assertEqual(asked, FetchRows("m", 1, after=4, limit=4))
        self.assertEqual(controller.published(publish.publication), [Acknowledge((1,))])

    def test_models_take_turns(self) -> None:
        controller = SwapController(
            shards=1, workers=1, limits=Limits(rows_per_turn=2, models_in_turn=1, turns_ahead=1)
        )
        controller.worker_started(0)
        [first] = controller.inputs_arrived(1, [fed(1, 4)])
        controller.inputs_arrived(2, [fed(1, 1, model_id="n")])
        _, second = controller.turn_done(0, first.turn, [Outcome("m", 1, at=2, rows=scored(1, 2))])
        self.assertEqual([each.model_id for each in second.slices], ["n"])

    def test_a_message_that_comes_twice_is_acknowledged_without_running_again(self) -> None:
        [turn] = self.controller.inputs_arrived(7, [fed(1, 1)])
        [publish] = self.controller.turn_done(0, turn.turn, [Outcome("m", 1, at=1, rows=scored(1, 1))])
        self.controller.published(publish.publication)
        [empty] = self.controller.inputs_arrived(8, [fed(1, 1)])
        self.assertEqual(empty.results, ())
        self.assertEqual(self.controller.published(empty.publication), [Acknowledge((8,))])


class WorkersTest(SynchronousTestCase):
    def setUp(self) -> None:
        self.controller = SwapController(shards=4, workers=1)
        self.controller.worker_started(0)

    def test_what_a_dead_worker_had_not_answered_is_given_to_its_successor(self) -> None:
        self.controller.inputs_arrived(7, [fed(1, 2)])
        self.controller.worker_died(0, None)
        [turn] = self.controller.worker_started(0)
        self.assertEqual(turn.slices, (Slice("m", 1, after=2),))  # asks how far the model is

    def test_a_model_that_kills_three_workers_fails_and_its_messages_are_let_go(self) -> None:
        self.controller.inputs_arrived(7, [fed(1, 2)])
        for _ in range(2):
            self.assertEqual(self.controller.worker_died(0, "m"), [])
            self.controller.worker_started(0)
        [publish] = self.controller.worker_died(0, "m")
        self.assertEqual([type(notice) for notice in publish.notices], [ModelError])
        self.assertEqual(self.controller.published(publish.publication), [Acknowledge((7,))])
        self.assertEqual(self.controller.states()[ModelState.FAILED], 1)
        self.assertEqual(self.controller.inputs_arrived(8, [fed(3, 3)]), [Acknowledge((8,))])

    def test_a_failed_model_does_not_hold_up_another(self) -> None:
        [turn] = self.controller.inputs_arrived(7, [fed(1, 1), fed(1, 1, model_id="n")])
        outcomes = [Outcome("m", 1, error="bad"), Outcome("n", 1, at=1, rows=scored(1, 1))]
        [publish] = self.controller.turn_done(0, turn.turn, outcomes)
        self.assertEqual(publish.notices, (ModelError("m", 1, "bad"),))
        self.assertEqual(publish.results, (ModelResult("n", 1, scored(1, 1)),))

    def test_a_new_definition_revives_a_failed_model(self) -> None:
        [turn] = self.controller.inputs_arrived(7, [fed(1, 1)])
        self.controller.turn_done(0, turn.turn, [Outcome("m", 1, error="bad")])
        again = ModelCommand(DEFINE_MODEL, "m", 2, "c2", {"params": {}, "upTo": 1})
        [turn] = self.controller.command_arrived(8, again)
        self.assertEqual(turn.slices, (Slice("m", 2, command=again),))

    def test_draining_lets_the_turns_in_flight_end_and_starts_no_other(self) -> None:
        [turn] = self.controller.inputs_arrived(7, [fed(1, 600)])
        self.controller.drain()
        self.assertFalse(self.controller.at_rest)
        [publish] = self.controller.turn_done(0, turn.turn, [Outcome("m", 1, at=500, rows=scored(1, 500))])
        self.assertEqual(self.controller.published(publish.publication), [])
        self.assertTrue(self.controller.at_rest)


class CommandsTest(SynchronousTestCase):
    def setUp(self) -> None:
        self.controller = SwapController(shards=4, workers=1)
        self.controller.worker_started(0)

    def test_a_definition_is_answered_at_once_and_acknowledged_when_the_stored_rows_are_run(self) -> None:
        define = ModelCommand(DEFINE_MODEL, "m", 1, "c1", {"params": {}, "upTo": 3})
        [turn] = self.controller.command_arrived(7, define)
        publish, asked = self.controller.turn_done(0, turn.turn, [Outcome("m", 1)])
        self.assertEqual(publish.notices, (CommandResult(DEFINE_MODEL, "m", 1, "c1"),))
        self.assertEqual(asked, FetchRows("m", 1, after=0, limit=2000))
        self.assertEqual(self.controller.published(publish.publication), [])
        [turn] = self.controller.rows_fetched(asked, rows(1, 3))
        [publish] = self.controller.turn_done(0, turn.turn, [Outcome("m", 1, at=3, rows=scored(1, 3))])
        self.assertEqual(self.controller.published(publish.publication), [Acknowledge((7,))])

    def test_deleting_a_model_lets_its_waiting_rows_go(self) -> None:
        [turn] = self.controller.inputs_arrived(7, [fed(1, 1)])
        delete = ModelCommand(DELETE_MODEL, "m", 1, "c2")
        acknowledged, deletion = self.controller.command_arrived(8, delete)
        self.assertEqual(acknowledged, Acknowledge((7,)))
        self.assertEqual(self.controller.turn_done(0, turn.turn, [Outcome("m", 1, at=1, rows=scored(1, 1))])[-1:], [])
        [publish] = self.controller.turn_done(0, deletion.turn, [Outcome("m", 1)])
        self.assertEqual(self.controller.published(publish.publication), [Acknowledge((8,))])
        self.assertEqual(sum(self.controller.states().values()), 0)

    def test_what_an_older_generation_still_sends_is_let_go(self) -> None:
        self.controller.inputs_arrived(7, [fed(1, 1, generation=2)])
        self.assertEqual(self.controller.inputs_arrived(8, [fed(1, 1, generation=1)]), [Acknowledge((8,))])

    def test_a_model_that_starts_from_its_metrics_definition_is_given_it(self) -> None:
        clone = ModelCommand(CLONE_MODEL, "n", 1, "c3", {"upTo": 5})
        [turn] = self.controller.command_arrived(8, clone)
        [asked] = self.controller.turn_done(0, turn.turn, [Outcome("n", 1, need=Need.DEFINITION)])
        self.assertEqual(asked, FetchDefinition("n", 1))
        definition = {"params": {}, "model": "abc", "after": 5}
        [turn] = self.controller.definition_fetched(asked, definition)
        self.assertEqual(turn.slices, (Slice("n", 1, definition=definition, command=clone),))
        [publish] = self.controller.turn_done(0, turn.turn, [Outcome("n", 1, at=5)])
        self.assertEqual(publish.notices, (CommandResult(CLONE_MODEL, "n", 1, "c3"),))
        self.assertEqual(self.controller.published(publish.publication), [Acknowledge((8,))])

    def test_a_snapshot_waits_for_the_rows_that_it_is_to_contain(self) -> None:
        snapshot = ModelCommand(SNAPSHOT_MODEL, "m", 1, "c4", {"version": 3, "upTo": 6})
        [question] = self.controller.command_arrived(7, snapshot)
        self.assertEqual(question.slices, (Slice("m", 1, 6),))
        [asked] = self.controller.turn_done(0, question.turn, [Outcome("m", 1, at=4, need=Need.ROWS)])
        [turn] = self.controller.rows_fetched(asked, rows(5, 6))
        published, turn = self.controller.turn_done(0, turn.turn, [Outcome("m", 1, at=6, rows=scored(5, 6))])
        self.assertEqual(published.results, (ModelResult("m", 1, scored(5, 6)),))
        self.assertEqual(turn.slices, (Slice("m", 1, command=snapshot),))
        [publish] = self.controller.turn_done(0, turn.turn, [Outcome("m", 1, at=6, model=b"state")])
        self.assertEqual(publish.notices, (ModelSnapshot("m", 1, "c4", 3, 6, b"state"),))
        self.assertEqual(self.controller.published(publish.publication), [Acknowledge((7,))])

    def test_a_command_that_a_worker_refuses_ends_with_the_reason_and_the_model_goes_on(self) -> None:
        snapshot = ModelCommand(SNAPSHOT_MODEL, "m", 1, "c4", {"version": 3})
        [question] = self.controller.command_arrived(7, snapshot)
        [turn] = self.controller.turn_done(0, question.turn, [Outcome("m", 1, at=0)])
        [publish] = self.controller.turn_done(0, turn.turn, [Outcome("m", 1, at=0, refused="no snapshots")])
        self.assertEqual(publish.notices, (CommandResult(SNAPSHOT_MODEL, "m", 1, "c4", REFUSED, "no snapshots"),))
        self.assertEqual(self.controller.published(publish.publication), [Acknowledge((7,))])


class StatesTest(SynchronousTestCase):
    def model(self) -> Progress:
        return Progress("load.web1", 1, deque(maxlen=10))

    def test_a_transition_that_the_table_does_not_have_is_refused_with_the_models_story(self) -> None:
        model = self.model()
        Progress("load.web2", 1, model.log).go(ModelState.FETCHING)
        model.go(ModelState.READY)
        model.go(ModelState.RUNNING)
        error = self.assertRaises(InvalidTransition, model.go, ModelState.READY)
        self.assertEqual(error.story, ["generation 1: idle to ready", "generation 1: ready to running"])
        self.assertEqual(
            str(error),
            "load.web1 cannot go from running to ready; before that: "
            "generation 1: idle to ready, generation 1: ready to running",
        )
        self.assertIs(model.state, ModelState.RUNNING)

    def test_exactly_the_transitions_of_the_table_are_possible(self) -> None:
        possible = set()
        for before in ModelState:
            for after in ModelState:
                model = self.model()
                model.state = before
                with contextlib.suppress(InvalidTransition):
                    model.go(after)
                    possible.add((before, after))
        self.assertEqual(possible, set(TRANSITIONS))

    def test_every_transition_of_the_table_happens(self) -> None:
        happened = set()
        for seed in range(10):
            world = World(seed, models=3)
            for event in [world.step] * 100 + [world.settle, world.lose]:
                event()  # some restart the world with a new controller
                happened |= {(before, after) for _, _, before, after in world.controller._log}
        controller = SwapController(shards=1, workers=1)
        controller.worker_started(0)
        [turn] = controller.inputs_arrived(7, [fed(1, 1)])
        controller.turn_done(0, turn.turn, [Outcome("m", 1, error="bad")])
        controller.shard_left(0)
        [turn] = controller.inputs_arrived(8, [fed(1, 1)])
        [asked] = controller.turn_done(0, turn.turn, [Outcome("m", 1, need=Need.DEFINITION)])
        controller.fetch_failed(asked, "bad")
        controller.shard_left(0)
        for token, model_id in enumerate(("first", "second", "waiting"), 9):
            controller.inputs_arrived(token, [fed(1, 1, model_id=model_id)])
        controller.model_failed("waiting", 1, "bad")
        with mock.patch.object(Progress, "keep", side_effect=ZeroDivisionError):
            controller.inputs_arrived(12, [fed(1, 1, model_id="broken")])
        happened |= {(before, after) for _, _, before, after in controller._log}
        self.assertEqual(happened, set(TRANSITIONS))

    def test_the_page_of_states_has_the_picture_of_the_table_and_a_paragraph_a_state(self) -> None:
        page = (Path(__file__).parents[2] / states_page.PAGE).read_text()
        self.assertEqual(page, states_page.renewed(page), "make pages renews the picture")
        for state in ModelState:
            self.assertIn(f"- **{state.name}**: ", page)


def validate(controller: SwapController) -> None:
    """What is true of a controller between any two events."""
    models = controller._models
    for model_id, model in models.items():
        assert (model.model_id, model.state is ModelState.FORGOTTEN) == (model_id, False)
        rowids = [each.rowid for each in model.rows]
        assert [model.after, *rowids] == sorted({model.after, *rowids}), model
        assert model.confirmed <= model.handed_out, model
        if model.state is ModelState.FAILED:
            assert [*model.rows, *model.tickets, *model.commands] == [], model
        if model.state is ModelState.IDLE:
            assert not model.commands, model
            assert model.done is not None, model
            assert model.done >= model.target, model
    in_line = [model for line in controller._ready for model in line if model.state is not ModelState.FORGOTTEN]
    in_turns = [
        model
        for turns in controller._turns.values()
        for sent_out in turns.values()
        for model, _ in sent_out
        if model.state is not ModelState.FORGOTTEN
    ]
    for where, state in ((in_line, ModelState.READY), (in_turns, ModelState.RUNNING)):
        assert Counter(map(id, where)) == Counter(id(each) for each in models.values() if each.state is state), state
    assert controller.cached_rows == sum(len(model.rows) for model in models.values())
    open_parts = Counter(message for model in models.values() for _, message in [*model.tickets, *model.commands])
    open_parts.update(message for messages, _ in controller._publications.values() for message in messages)
    assert open_parts == controller._open_parts


class World:
    """Database, bus and worker as the controller sees them, with deaths and redeliveries at random."""

    def __init__(self, seed: int, models: int) -> None:
        self.random = random.Random(seed)
        self.models = [f"m{number}" for number in range(models)]
        self.stored = dict.fromkeys(self.models, 0)
        self.checkpoint: dict[str, int] = {}  # the worker's models on disk
        self.memory: dict[str, int] = {}
        self.published: dict[str, list[int]] = {model: [] for model in self.models}
        self.unacknowledged: dict[int, list[ModelInput] | ModelCommand] = {}
        self.serial = 0
        self.unpublished: dict[str, list[int]] = {model: [] for model in self.models}  # in memory
        self.carried: dict[str, list[int]] = {}  # by the checkpoints
        self.restored: set[str] = set()
        self.controller = self.new_controller()
        self.pending: deque[Instruction] = deque()
        self.turns: deque[RunTurn | None] = deque()  # None: results of what was run may be lost
        self.left: set[int] = set()  # messages that are not ours any more
        self.alive = False

    def new_controller(self) -> SwapController:
        limits = Limits(rows_per_turn=3, rows_in_turn=5, models_in_turn=2, rows_cached=4, definitions=1, strikes=10**6)
        return SwapController(shards=8, workers=1, limits=limits)

    def restart(self) -> None:
        """kill -9 of everything: what was in flight is gone, what was not acknowledged comes again."""
        self.alive = False
        self.memory.clear()
        self.turns.clear()
        self.pending.clear()
        self.controller = self.new_controller()
        redelivered = list(self.unacknowledged.values())
        self.unacknowledged.clear()
        for inputs in redelivered:
            self.arrive(inputs)

    def lose(self) -> None:
        """The bus's connection is lost, and all shards with it; then they come back, and their messages again."""
        redelivered = list(self.unacknowledged.values())
        self.left.update(self.unacknowledged)
        self.unacknowledged.clear()
        for shard in range(8):
            self.do(self.controller.shard_left(shard))
        self.turns.append(None)  # the worker is told after the turns that were sent before
        for inputs in redelivered:
            self.arrive(inputs)

    def do(self, instructions: Sequence[Instruction]) -> None:
        for instruction in instructions:
            if isinstance(instruction, RunTurn):
                self.turns.append(instruction)
            elif isinstance(instruction, Acknowledge):
                for message in set(instruction.messages) - self.left:
                    for model_id, rowid in _asked_for(self.unacknowledged.pop(message)):
                        assert max(self.published[model_id], default=0) >= rowid
            else:
                self.pending.append(instruction)

    def step(self) -> None:
        action = self.random.choice(
            ["feed", "feed", "worker", "worker", "worker", "io", "io", "die", "redeliver", "restart", "lose"]
        )
        if action == "feed":
            self.feed()
        elif action == "redeliver" and self.unacknowledged:
            again = self.random.choice(list(self.unacknowledged.values()))
            self.arrive(again)
        elif action == "restart":
            if self.random.random() < 0.3:
                self.restart()
        elif action == "lose":
            self.lose()
        elif action == "io" and self.pending:
            self.answer(self.pending.popleft())
        elif action == "worker":
            self.work()
        elif action == "die" and self.alive:
            self.alive = False
            self.memory.clear()
            culprit = self.turns[0].slices[0].model_id if self.turns and self.turns[0] else None
            self.turns.clear()
            self.do(self.controller.worker_died(0, culprit))

    def feed(self) -> None:
        inputs: list[ModelInput] = []
        for model in self.random.sample(self.models, self.random.randint(1, len(self.models))):
            first = self.stored[model] + 1
            self.stored[model] += self.random.randint(1, 6)
            if first == 1:
                self.arrive(ModelCommand(DEFINE_MODEL, model, 1, "c", {"params": {}, "upTo": self.stored[model]}))
            else:
                inputs.append(fed(first, self.stored[model], model_id=model))
        self.arrive(inputs)

    def arrive(self, message: list[ModelInput] | ModelCommand) -> None:
        self.serial += 1
        self.unacknowledged[self.serial] = message
        if isinstance(message, ModelCommand):
            self.do(self.controller.command_arrived(self.serial, message))
        else:
            self.do(self.controller.inputs_arrived(self.serial, message))

    def work(self) -> None:
        if not self.alive:
            self.alive = True
            self.do(self.controller.worker_started(0))
        elif self.turns:
            turn = self.turns.popleft()
            if turn is None:
                self.restored.update(self.memory)
                return
            self.do(self.controller.turn_done(0, turn.turn, [self.run(each) for each in turn.slices]))

    def run(self, sent: Slice) -> Outcome:
        model = sent.model_id
        if model not in self.memory:
            if model not in self.checkpoint and sent.definition is None and sent.command is None:
                return Outcome(model, 1, need=Need.DEFINITION)
            self.memory[model] = self.checkpoint.get(model, 0)
            self.unpublished[model] = list(self.carried.get(model, []))
            self.restored.add(model)
        at = self.memory[model]
        self.unpublished[model] = [rowid for rowid in self.unpublished[model] if rowid > sent.confirmed]
        again = [row(rowid) for rowid in self.unpublished[model]] if model in self.restored else []
        self.restored.discard(model)
        if at < sent.after:
            return Outcome(model, 1, at, self.results(again), Need.ROWS)
        new = [each for each in sent.rows if each.rowid > at]
        if new:
            assert [each.rowid for each in new] == list(range(at + 1, new[-1].rowid + 1))
            self.memory[model] = new[-1].rowid
            self.unpublished[model] += [each.rowid for each in new]
        if self.random.random() < 0.3:
            self.checkpoint[model] = self.memory[model]
            self.carried[model] = list(self.unpublished[model])
        return Outcome(model, 1, self.memory[model], self.results([*again, *new]))

    def results(self, ran: list[InputRow]) -> tuple[ResultRow, ...]:
        return tuple(ResultRow(each.rowid, each.timestamp, each.value, 0.0) for each in ran)

    def answer(self, instruction: Instruction) -> None:
        if isinstance(instruction, FetchRows):
            last = min(instruction.after + instruction.limit, self.stored[instruction.model_id])
            self.do(self.controller.rows_fetched(instruction, rows(instruction.after + 1, last)))
        elif isinstance(instruction, FetchDefinition):
            self.do(self.controller.definition_fetched(instruction, {"p": 1}))
        elif isinstance(instruction, Publish):
            for result in instruction.results:
                known = self.published[result.model_id]
                for each in result.rows:
                    assert each.rowid <= (known[-1] if known else 0) + 1, "a gap"
                    if not known or each.rowid > known[-1]:
                        known.append(each.rowid)
            self.do(self.controller.published(instruction.publication))

    def settle(self) -> None:
        for _ in range(10_000):
            if self.alive and not self.turns and not self.pending:
                return
            self.work()
            if self.pending:
                self.answer(self.pending.popleft())
        raise AssertionError("never comes to rest")


def _asked_for(message: list[ModelInput] | ModelCommand) -> list[tuple[str, int]]:
    """(model, rowid) up to which a message's rows are to be run."""
    if isinstance(message, ModelCommand):
        return [(message.model_id, message.args["upTo"])]
    return [(each.model_id, each.last_rowid) for each in message]


class HistoriesTest(SynchronousTestCase):
    @given(seed=st.integers(0, 2**32), models=st.integers(1, 5), steps=st.integers(1, 120))
    def test_every_row_is_published_in_order_and_none_is_left_out_whatever_happens(
        self, seed: int, models: int, steps: int
    ) -> None:
        world = World(seed, models)
        for _ in range(steps):
            world.step()
            validate(world.controller)
        world.settle()
        validate(world.controller)
        for model in world.models:
            self.assertEqual(world.published[model], list(range(1, world.stored[model] + 1)))
        self.assertEqual(world.unacknowledged, {})
        self.assertEqual(world.controller.open_messages, 0)
        self.assertEqual(world.controller.cached_rows, 0)
        self.assertTrue(world.controller.at_rest)
