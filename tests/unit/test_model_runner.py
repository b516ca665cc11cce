# SPDX-License-Identifier: MIT
"""The worker: exact over swaps and checkpoints, honest about what it lacks."""

from __future__ import annotations

import base64
import dataclasses
import io
import math
import tempfile
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from msgspec import structs
from twisted.trial.unittest import SynchronousTestCase

from htmengine.htm.model import Model
from htmengine.htm.params import ModelParams
from htmengine.messages import (
    CLONE_MODEL,
    DEFINE_MODEL,
    DELETE_MODEL,
    SNAPSHOT_MODEL,
    InputRow,
    ModelCommand,
    ResultRow,
)
from htmengine.messages.digest import START, after_rows, extended
from htmengine.model_swapper import frames
from htmengine.model_swapper.checkpoints import Checkpoint, CheckpointStore
from htmengine.model_swapper.model_cache import ModelCache, RunnerOptions
from htmengine.model_swapper.model_runner import ModelRunner, serve
from htmengine.model_swapper.turns import Claim, Need, Outcome, Slice, Verdict
from htmengine.sharding import shard_of

PARAMS = ModelParams.for_range(0.0, 100.0)


def row(rowid: int) -> InputRow:
    return InputRow(rowid, 300 * rowid, 50 + 40 * math.sin(rowid / 9) + rowid % 3)


def rows(first: int, last: int) -> tuple[InputRow, ...]:
    return tuple(row(rowid) for rowid in range(first, last + 1))


def expected(last: int) -> list[float]:
    model = Model(PARAMS)
    return [model.learn(each.timestamp, each.value) for each in rows(1, last)]


def define(model_id: str = "m", generation: int = 1) -> Slice:
    command = ModelCommand(DEFINE_MODEL, model_id, generation, "c", {"params": PARAMS.to_json()})
    return Slice(model_id, generation, command=command)


def raws(outcome: Outcome) -> list[float]:
    return [each.raw for each in outcome.rows]


class ProvenRunner(ModelRunner):
    """Its database confirms every checkpoint."""

    def run(self, sent: Slice) -> Outcome:
        outcome = super().run(sent)
        while outcome.need is Need.PROOF:
            outcome = super().run(dataclasses.replace(sent, verdict=verdict_on(outcome)))
        return outcome


def verdict_on(outcome: Outcome, *, fits: bool = True, scored: int = 0) -> Verdict:
    assert outcome.claim is not None
    return Verdict(outcome.claim, fits, scored, outcome.claim.digest)


class RunnerTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.root = Path(self.mktemp())
        self.runner = self.new_runner()

    def new_runner(self, **options: Any) -> ModelRunner:
        given = RunnerOptions(str(self.root), **options)
        return ProvenRunner(ModelCache(given, CheckpointStore(self.root, durable=False)))


class RowsTest(RunnerTestCase):
    def test_rows_get_the_models_raw_scores(self) -> None:
        self.runner.run(define())
        outcome = self.runner.run(Slice("m", 1, 0, rows(1, 50)))
        self.assertEqual((outcome.at, outcome.need, outcome.error), (50, None, None))
        self.assertEqual(raws(outcome), expected(50))

    def test_rows_that_were_run_are_skipped(self) -> None:
        self.runner.run(define())
        self.runner.run(Slice("m", 1, 0, rows(1, 30)))
        outcome = self.runner.run(Slice("m", 1, 10, rows(11, 40)))
        self.assertEqual([each.rowid for each in outcome.rows], list(range(31, 41)))
        self.assertEqual(raws(outcome), expected(40)[30:])

    def test_rows_that_are_not_to_be_learnt_are_scored_without_learning(self) -> None:
        sent = [structs.replace(each, learn=each.rowid <= 20 or each.rowid > 30) for each in rows(1, 40)]
        self.runner.run(define())
        self.runner.run(Slice("m", 1, 0, tuple(sent[:25])))
        self.runner.run(Slice("m", 1, 25, tuple(sent[25:])))
        model = Model(PARAMS)
        for each in sent:
            (model.learn if each.learn else model.score)(each.timestamp, each.value)
        snapshot = ModelCommand(SNAPSHOT_MODEL, "m", 1, "s", {"version": 1})
        self.assertEqual(self.runner.run(Slice("m", 1, command=snapshot)).model, model.save())

    def test_a_gap_is_told_and_nothing_is_run(self) -> None:
        self.runner.run(define())
        self.assertEqual(self.runner.run(Slice("m", 1, 5, rows(6, 9))), Outcome("m", 1, at=0, need=Need.ROWS))

    def test_a_model_that_is_nowhere_is_asked_for(self) -> None:
        self.assertEqual(self.runner.run(Slice("m", 1, 0, rows(1, 1))).need, Need.DEFINITION)
        outcome = self.runner.run(Slice("m", 1, 0, rows(1, 5), definition={"params": PARAMS.to_json()}))
        self.assertEqual(raws(outcome), expected(5))

    def test_a_newer_generation_starts_anew(self) -> None:
        self.runner.run(define())
        self.runner.run(Slice("m", 1, 0, rows(1, 30)))
        self.runner.run(define(generation=2))
        self.assertEqual(raws(self.runner.run(Slice("m", 2, 0, rows(1, 30)))), expected(30))

    def test_a_model_that_cannot_be_made_fails_alone_with_the_reason(self) -> None:
        outcome = self.runner.run(Slice("m", 1, 0, rows(1, 1), definition={"params": {"nonsense": 1}}))
        self.assertIn("nonsense", outcome.error)

    def test_a_model_that_cannot_be_written_while_another_runs_fails_alone_when_it_is_next_to_run(self) -> None:
        save = CheckpointStore.save

        def refuse(store: CheckpointStore, checkpoint: Checkpoint) -> None:
            if checkpoint.model_id == "bad":
                raise ZeroDivisionError("surprise")
            save(store, checkpoint)

        self.runner = self.new_runner(memory_bytes=1)
        self.runner.run(define("bad"))
        with mock.patch.object(CheckpointStore, "save", refuse):
            for number in range(10):  # one of them takes its place in memory
                self.assertIsNone(self.runner.run(define(f"good{number}")).error)
            self.assertEqual(self.runner.run(Slice("bad", 1, 0, rows(1, 1))).error, "ZeroDivisionError: surprise")
        self.assertEqual(raws(self.runner.run(Slice("good0", 1, 0, rows(1, 3)))), expected(3))
        self.assertIs(self.runner.run(Slice("bad", 1, 0, rows(1, 1))).need, Need.DEFINITION)

    def test_predictions_come_with_a_classifier(self) -> None:
        params = ModelParams.for_range(0.0, 100.0, classifier=True)
        outcome = self.runner.run(Slice("m", 1, 0, rows(1, 5), definition={"params": params.to_json()}))
        [[value, probability], *_] = outcome.rows[-1].predictions["1"]
        self.assertTrue(0 < probability <= 1)
        self.assertTrue(0 <= value <= 100)


class CheckpointsTest(RunnerTestCase):
    def test_the_least_recently_used_models_are_swapped_out_and_come_back_exact(self) -> None:
        self.runner = self.new_runner(memory_bytes=1)
        got: dict[str, list[float]] = {"a": [], "b": []}
        for name in got:
            self.runner.run(define(name))
        for first in range(1, 101, 20):
            for name in got:
                got[name] += raws(
                    self.runner.run(Slice(name, 1, first - 1, rows(first, first + 19), confirmed=first - 1))
                )
        self.assertEqual(got, {"a": expected(100), "b": expected(100)})
        self.assertGreater(self.runner.cache.swapped_out, 5)
        self.assertEqual(self.runner.cache.statistics()["models"], 1)

    def test_a_stop_writes_all_models(self) -> None:
        self.runner.run(define())
        self.runner.run(Slice("m", 1, 0, rows(1, 30)))
        self.runner.cache.save_all()
        outcome = self.new_runner().run(Slice("m", 1, 30, rows(31, 60), confirmed=30))
        self.assertEqual(raws(outcome), expected(60)[30:])

    def test_results_that_were_not_confirmed_come_again_with_the_checkpoint(self) -> None:
        self.runner.run(define())
        self.runner.run(Slice("m", 1, 0, rows(1, 30)))
        self.runner.run(Slice("m", 1, 30, rows(31, 40), confirmed=25))
        self.runner.cache.save_all()
        again = self.new_runner().run(Slice("m", 1, 40, rows(41, 45)))
        self.assertEqual([each.rowid for each in again.rows], list(range(26, 46)))
        self.assertEqual(raws(again), expected(45)[25:])

    def test_they_come_with_the_answer_to_a_command_that_is_redelivered_too(self) -> None:
        self.runner.run(define())
        self.runner.run(Slice("m", 1, 0, rows(1, 30)))
        self.runner.cache.save_all()
        runner = self.new_runner()
        outcome = runner.run(define())
        self.assertEqual((outcome.at, raws(outcome)), (30, expected(30)))
        self.assertEqual(raws(runner.run(Slice("m", 1, 30, rows(31, 40)))), expected(40)[30:])

    def test_they_come_again_when_the_shard_was_lost(self) -> None:
        self.runner.run(define())
        self.runner.run(Slice("m", 1, 0, rows(1, 30)))
        self.runner.cache.doubt(0, 1)
        again = self.runner.run(Slice("m", 1, 30, confirmed=25))
        self.assertEqual((again.at, raws(again)), (30, expected(30)[25:]))
        self.assertEqual(self.runner.run(Slice("m", 1, 30)).rows, ())

    def test_a_shard_that_is_given_away_leaves_memory_for_the_disk(self) -> None:
        self.assertNotEqual(shard_of("a", 2), shard_of("other", 2))
        for name in ("a", "other"):
            self.runner.run(define(name))
            self.runner.run(Slice(name, 1, 0, rows(1, 30)))
        self.runner.cache.release(shard_of("a", 2), 2)
        self.assertEqual(self.runner.cache.statistics()["models"], 1)
        outcome = self.new_runner().run(Slice("a", 1, 30, rows(31, 60), confirmed=30))
        self.assertEqual(raws(outcome), expected(60)[30:])

    def test_a_model_that_another_scheduler_went_on_with_is_taken_from_its_checkpoint(self) -> None:
        self.runner.run(define())
        self.runner.run(Slice("m", 1, 0, rows(1, 30)))
        self.runner.cache.save_all()
        other = self.new_runner()
        other.run(Slice("m", 1, 30, rows(31, 60), confirmed=30))
        other.cache.save_all()
        outcome = self.runner.run(Slice("m", 1, 60, rows(61, 90), confirmed=60))
        self.assertEqual((outcome.need, raws(outcome)), (None, expected(90)[60:]))

    def test_they_come_with_the_question_for_missing_rows_too(self) -> None:
        self.runner.run(define())
        self.runner.run(Slice("m", 1, 0, rows(1, 30)))
        self.runner.cache.save_all()
        outcome = self.new_runner().run(Slice("m", 1, 35, rows(36, 40)))
        self.assertEqual((outcome.need, outcome.at, len(outcome.rows)), (Need.ROWS, 30, 30))

    def test_a_model_is_written_after_so_many_rows(self) -> None:
        self.runner = self.new_runner(checkpoint_rows=20)
        self.runner.run(define())
        self.runner.run(Slice("m", 1, 0, rows(1, 19)))
        self.assertEqual(list(self.root.rglob("m.*")), [])
        self.runner.run(Slice("m", 1, 19, rows(20, 20)))
        self.assertEqual(len(list(self.root.rglob("m.*"))), 1)

    def test_a_damaged_checkpoint_leaves_the_one_before(self) -> None:
        self.runner = self.new_runner(checkpoint_rows=10)
        self.runner.run(define())
        for first in (1, 11):
            self.runner.run(Slice("m", 1, first - 1, rows(first, first + 9)))
        newest = max(self.root.rglob("m.*"), key=lambda path: path.stat().st_mtime_ns)
        newest.write_bytes(newest.read_bytes()[:-100])
        outcome = self.new_runner().run(Slice("m", 1, 20, rows(21, 25)))
        self.assertEqual((outcome.need, outcome.at), (Need.ROWS, 10))

    def test_a_disk_that_refuses_costs_no_score(self) -> None:
        self.root.write_text("a file where the folder should be")
        self.runner = self.new_runner(checkpoint_rows=10)
        self.runner.run(define())
        with self.assertLogs("htmengine.model_runner", "ERROR"):
            outcome = self.runner.run(Slice("m", 1, 0, rows(1, 30)))
        self.assertEqual(raws(outcome), expected(30))


class ProofTest(RunnerTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.runner.run(define())
        for first in (1, 21):
            self.runner.run(Slice("m", 1, first - 1, rows(first, first + 19), confirmed=first - 1))
            self.runner.cache.save_all()
        self.runner = ModelRunner(ModelCache(RunnerOptions(str(self.root)), CheckpointStore(self.root, durable=False)))

    def ask(self, verdict: Verdict | None = None, *, definition: dict[str, Any] | None = None) -> Outcome:
        return self.runner.run(Slice("m", 1, 40, verdict=verdict, definition=definition))

    def test_a_checkpoint_of_another_process_is_used_with_proof_alone(self) -> None:
        asked = self.ask()
        claim = Claim(40, after_rows(START, 0, [(each.rowid, each.timestamp, each.value) for each in rows(1, 40)]))
        self.assertEqual(asked, Outcome("m", 1, need=Need.PROOF, claim=claim))
        self.assertEqual(self.ask(Verdict(Claim(40, 7), True, 40)), asked)
        outcome = self.ask(verdict_on(asked, scored=38))
        self.assertEqual((outcome.at, [each.rowid for each in outcome.rows]), (40, [39, 40]))
        self.assertEqual(raws(self.runner.run(Slice("m", 1, 40, rows(41, 60)))), expected(60)[40:])

    def test_one_that_does_not_fit_is_put_aside_and_told_of_and_the_one_before_asked_for(self) -> None:
        with self.assertLogs("htmengine.model_runner", "ERROR"):
            asked = self.ask(verdict_on(self.ask(), fits=False))
        self.assertEqual(asked.claim and asked.claim.rowid, 20)
        self.assertEqual(len(list(self.root.rglob("m.*.refused"))), 1)
        [told] = self.runner.cache.troubles()
        self.assertIn("model m at row 40", told)
        self.assertEqual(self.runner.cache.statistics()["checkpoints_contradicted"], 1)
        outcome = self.ask(verdict_on(asked))
        self.assertEqual((outcome.at, outcome.need), (20, Need.ROWS))
        self.runner.run(Slice("m", 1, 20, rows(21, 30)))
        self.runner.cache.save_all()
        found = [each.rowid for each in CheckpointStore(self.root).load("m", 1)]
        self.assertEqual(found, [30, 20])

    def test_without_any_that_fits_the_model_is_made_again(self) -> None:
        with self.assertLogs("htmengine.model_runner", "ERROR"):
            last = self.ask(verdict_on(self.ask(verdict_on(self.ask(), fits=False)), fits=False))
        self.assertEqual(last.need, Need.DEFINITION)
        self.assertEqual(self.ask(definition={"params": PARAMS.to_json()}).need, Need.ROWS)
        self.assertEqual(raws(self.runner.run(Slice("m", 1, 0, rows(1, 40)))), expected(40))

    def test_those_of_a_generation_that_the_database_lost_are_put_aside(self) -> None:
        asked = self.ask()
        store = CheckpointStore(self.root, durable=False)
        store.save(Checkpoint("m", 7, 5, b"of a model that was defined later"))
        self.ask(verdict_on(asked))
        self.assertEqual(len(list(self.root.rglob("m.*.refused"))), 1)
        self.assertEqual([each.rowid for each in store.load("m", 1)], [40])

    def test_a_digest_that_was_not_known_is_taken_from_the_database(self) -> None:
        asked = self.ask()
        assert asked.claim is not None
        self.ask(Verdict(asked.claim, True, 40, 99))
        self.runner.run(Slice("m", 1, 40, rows(41, 41)))
        self.runner.cache.save_all()
        newest = next(iter(CheckpointStore(self.root).load("m", 1)))
        self.assertEqual(newest.digest, extended(99, 41, row(41).timestamp, row(41).value))


class CommandsTest(RunnerTestCase):
    def test_a_deleted_model_is_gone_from_memory_and_disk(self) -> None:
        self.runner.run(define())
        self.runner.run(Slice("m", 1, 0, rows(1, 30)))
        self.runner.cache.save_all()
        self.runner.run(Slice("m", 1, command=ModelCommand(DELETE_MODEL, "m", 1, "c")))
        self.assertEqual(list(self.root.rglob("m.*")), [])
        self.assertEqual(self.runner.run(Slice("m", 1, 30, rows(31, 31))).need, Need.DEFINITION)

    def test_a_model_that_starts_from_a_state_goes_on_from_it(self) -> None:
        self.runner.run(define())
        self.runner.run(Slice("m", 1, 0, rows(1, 60)))
        snapshot = ModelCommand(SNAPSHOT_MODEL, "m", 1, "c", {"version": 1, "upTo": 60})
        taken = self.runner.run(Slice("m", 1, command=snapshot))
        self.assertEqual(taken.at, 60)
        clone = Slice("n", 1, command=ModelCommand(CLONE_MODEL, "n", 1, "c", {"upTo": 0}))
        self.assertEqual(self.runner.run(clone), Outcome("n", 1, need=Need.DEFINITION))
        state = base64.b64encode(taken.model).decode()
        for start, model_id in ((0, "n"), (60, "r")):
            definition = {"params": PARAMS.to_json(), "model": state, "after": start}
            again = dataclasses.replace(clone, model_id=model_id, definition=definition)
            self.assertEqual(self.runner.run(again), Outcome(model_id, 1, at=start))
            later = tuple(structs.replace(row(60 + n), rowid=start + n) for n in range(1, 11))
            self.assertEqual(raws(self.runner.run(Slice(model_id, 1, start, later))), expected(70)[60:])

    def test_a_definition_of_any_shape_fails_alone_with_the_reason(self) -> None:
        shapes: list[dict[str, Any]] = [{"params": []}, {"params": {"encoder": [1]}}, {"params": None}, {"model": 7}]
        for definition in (*shapes, {"x": 1}):
            outcome = self.runner.run(Slice("m", 1, definition=definition))
            self.assertIsNotNone(outcome.error, definition)

    def test_a_state_that_cannot_be_used_fails_with_the_reason(self) -> None:
        definition = {"params": PARAMS.to_json(), "model": "bm9uc2Vuc2U=", "after": 0}
        self.assertIn("Corrupt", self.runner.run(Slice("n", 1, 0, rows(1, 1), definition=definition)).error)


class ServeTest(RunnerTestCase):
    def talk(self, *messages: bytes) -> list[tuple[dict[str, Any], frames.Columns]]:
        """What it answers until it is told to stop or its input ends; its page is then `self.page`."""
        out = io.BytesIO()
        with tempfile.TemporaryFile() as page:
            serve(self.runner, io.BytesIO(b"".join(messages)), out, page.fileno())
            self.page = page.read()
        out.seek(0)
        return [frames.unpack(body) for body in iter(partial(frames.read, out), None)]

    def test_a_turn_is_answered_whole(self) -> None:
        slices = [define("a"), define("b"), Slice("a", 1, 0, rows(1, 2))]
        [(head, columns)] = self.talk(frames.pack_turn(7, slices))
        outcomes = frames.outcomes_of(head, columns)
        self.assertEqual(head["turn"], 7)
        self.assertEqual([each.model_id for each in outcomes], ["a", "b", "a"])
        self.assertEqual([type(each) for each in outcomes[-1].rows], [ResultRow] * 2)
        self.assertEqual(raws(outcomes[-1]), expected(2))

    def test_the_page_has_the_place_of_the_slice_that_ran_last(self) -> None:
        self.talk(frames.pack_turn(7, [define("a"), define("b"), Slice("a", 1, 0, rows(1, 2))]))
        self.assertEqual(frames.PLACE.unpack(self.page), (7, 2))

    def test_a_stop_writes_the_models_and_a_scheduler_that_is_gone_does_not(self) -> None:
        turn = frames.pack_turn(1, (define(), Slice("m", 1, 0, rows(1, 2))))
        self.talk(turn)
        self.assertEqual(list(self.root.rglob("m.*")), [])
        self.talk(frames.pack({"stop": True}))
        self.assertEqual(len(list(self.root.rglob("m.*"))), 1)

    def test_a_frame_that_is_cut_short_is_the_end(self) -> None:
        turn = frames.pack_turn(1, (define(),))
        self.assertEqual(len(self.talk(turn, turn[:-1])), 1)
