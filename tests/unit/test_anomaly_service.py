# SPDX-License-Identifier: MIT
"""Raw scores to anomaly scores: stored once, broadcast at least once, the state rebuilt exactly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any
from unittest.mock import Mock

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, bindparam, delete, update
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from htmengine.adapters.datasource import custom, models
from htmengine.adapters.datasource.custom import ModelSpec
from htmengine.adapters.datasource.evidence_columns import evidence_columns
from htmengine.adapters.datasource.why import replayed, why_at
from htmengine.bus.interface import Delivery
from htmengine.errors import RowNotFound
from htmengine.evidence import Detector
from htmengine.evidence.explaining import LEAST_HEIGHT
from htmengine.evidence.scale import anomaly_score
from htmengine.evidence.scoring import detector_for, likelihood_for
from htmengine.htm.params import ModelParams
from htmengine.messages import (
    DEFINE_MODEL,
    SNAPSHOT_MODEL,
    CommandResult,
    ModelError,
    ModelResult,
    ModelSnapshot,
    ResultRow,
    decode_broadcast,
    decode_model_message,
    encode_command_result,
    encode_model_error,
    encode_model_snapshot,
    encode_results,
)
from htmengine.messages.digest import START, extended
from htmengine.repository import counts, fine_spans, queries, results, snapshots, troubles
from htmengine.repository.engine import Database
from htmengine.repository.fine_spans import FineSpan, learnt_at, turns
from htmengine.repository.queries import Metric, MetricStatus
from htmengine.repository.reading import Span
from htmengine.repository.schema import metric_data
from htmengine.repository.times import to_datetime
from htmengine.runtime import anomaly_service, detector_states
from htmengine.runtime.anomaly_service import AnomalyOptions, AnomalyService
from htmengine.runtime.detector_states import STATE_EVERY_ROWS, DetectorStates, MetricState
from htmengine.runtime.lost_results import TRIES
from htmengine.sharding import ShardQueues
from tests.support.database import InlineDatabase, filled_database

ROWS = 700


class Listeners:
    """A bus with a results exchange that is heard, and queues."""

    def __init__(self) -> None:
        self.heard: list[tuple[dict[str, Any], dict[str, str]]] = []
        self.published: list[tuple[str, bytes]] = []
        self.is_bound = True

    def is_heard(self, exchange: str) -> bool:
        return self.is_bound

    async def declare_queue(self, queue: str) -> None:
        pass

    async def publish(self, queue: str, bodies: Sequence[bytes]) -> None:
        self.published += [(queue, body) for body in bodies]

    async def broadcast(self, exchange: str, bodies: Sequence[bytes], headers: Mapping[str, str] | None = None) -> None:
        self.heard += [(decode_broadcast(body), dict(headers or {})) for body in bodies]


def _set_values(conn: Connection, uid: str, values: Sequence[float]) -> None:
    c = metric_data.c
    this_row = (
        update(metric_data).where(c.uid == uid, c.rowid == bindparam("row")).values(metric_value=bindparam("now"))
    )
    conn.execute(this_row, [{"row": rowid, "now": value} for rowid, value in enumerate(values, 1)])


def _set_times(conn: Connection, uid: str, times: Mapping[int, int]) -> None:
    c = metric_data.c
    this_row = update(metric_data).where(c.uid == uid, c.rowid == bindparam("row")).values(timestamp=bindparam("now"))
    conn.execute(this_row, [{"row": rowid, "now": to_datetime(at)} for rowid, at in times.items()])


class AnomalyServiceTest(SynchronousTestCase):
    def setUp(self) -> None:
        self.bus = Listeners()
        self.failures: list[Failure] = []
        self.raws = [(n * 7 % 41) / 40 if n % 50 == 0 else 0.0 for n in range(1, ROWS + 1)]
        self.values = [float(n * 3 % 11) for n in range(1, ROWS + 1)]
        database, self.metric = filled_database(self, type(self).fill, self.fill)
        self.database = InlineDatabase(database)
        self.service = self.new_service()

    def fill(self, database: Database) -> Metric:
        metric, _ = database.run_sync(custom.monitor_metric, ModelSpec.for_name("m", min=0, max=10), 288)
        rows = [(metric.uid, n, 60 * n, value) for n, value in enumerate(self.values, 1)]
        database.run_sync(queries.insert_samples, rows)
        database.run_sync(queries.update_tails, [(metric.uid, ROWS, 60 * ROWS)])
        return metric

    def tearDown(self) -> None:
        self.assertEqual(self.failures, [])

    def new_service(self, *, sequence_only: bool = False) -> AnomalyService:
        """As after a restart."""
        options = AnomalyOptions(
            "results", "exchange", ShardQueues("shard.", 1), states_in_memory=10, sequence_only=sequence_only
        )
        return AnomalyService(bus=self.bus, database=self.database, options=options, on_failure=self.failures.append)

    def deliver(self, *bodies: bytes) -> None:
        deliveries = [Delivery(body, {}, None) for body in bodies]
        self.successResultOf(Deferred.fromCoroutine(self.service._handle(deliveries)))

    def results(self, first: int, last: int, generation: int = 1) -> bytes:
        rows = tuple(ResultRow(n, 60 * n, self.values[n - 1], self.raws[n - 1]) for n in range(first, last + 1))
        return encode_results([ModelResult(self.metric.uid, generation, rows)])

    def stored(self) -> list[float | None]:
        return [row.anomaly for row in self.database.run_sync(queries.get_rows, self.metric.uid, 0, ROWS)]

    def expected(self) -> list[float]:
        detector = detector_for(ModelParams.for_range(0, 10))
        return [anomaly_score(detector.update(*row)) for row in self.rows_after(0)]

    def rows_after(self, rowid: int) -> list[tuple[int, float, float]]:
        return [(60 * (n + 1), self.values[n], self.raws[n]) for n in range(rowid, ROWS)]

    def heard_rows(self) -> list[int]:
        return [row["rowid"] for message, _ in self.bus.heard for row in message["results"]]

    def test_scores_are_those_of_the_evidence_however_rows_are_cut_into_messages(self) -> None:
        for first in range(1, ROWS + 1, 70):
            self.deliver(self.results(first, first + 69))
        self.assertEqual(self.stored(), self.expected())
        self.assertEqual(self.heard_rows(), list(range(1, ROWS + 1)))

    def test_rows_of_a_young_model_keep_their_scores_and_are_no_news_again(self) -> None:
        self.make_young()
        self.deliver(self.results(1, 300))
        early = self.stored()
        self.database.run_sync(custom.define_grown, self.metric, 310, 350)
        self.assertTrue(self.database.run_sync(queries.lacks_scores, self.metric.uid, 0, 1))
        self.assertEqual(self.stored(), early)
        self.raws = [1.0 - raw for raw in self.raws]
        self.service = self.new_service()
        self.deliver(self.results(1, ROWS, generation=2))
        self.assertEqual((self.stored()[:300], self.stored()), (early[:300], self.expected()))
        rows = self.database.run_sync(queries.get_rows, self.metric.uid, 0, ROWS)
        self.assertEqual([row.raw for row in rows], self.raws)
        self.assertEqual(self.heard_rows(), [*range(1, 301), *range(1, ROWS + 1)])
        told, _ = self.database.run_sync(results.results_after, 0, 10 * ROWS)
        self.assertEqual([each.rowid for each in told], list(range(1, ROWS + 1)))

    def test_results_of_a_model_that_is_replaced_while_they_are_scored_are_left_out(self) -> None:
        advance = MetricState.advance

        def replacing(state: MetricState, row: ResultRow, *, sequence_only: bool) -> float:
            if state.generation == 1 and row.rowid == 5:
                self.database.run_sync(custom.define_grown, self.metric, 288, ROWS)
            return advance(state, row, sequence_only=sequence_only)

        self.patch(MetricState, "advance", replacing)
        self.deliver(self.results(1, 60))
        self.assertEqual((self.stored(), self.heard_rows()), ([None] * ROWS, []))
        self.deliver(self.results(1, ROWS, generation=2))
        self.assertEqual(self.stored(), self.expected())

    def make_young(self) -> None:
        definition = self.metric.definition
        assert definition is not None
        young = replace(definition, young=True)
        self.database.run_sync(queries.set_definition, self.metric.uid, young, MetricStatus.ACTIVE)
        self.metric = self.database.run_sync(queries.get_metric, self.metric.uid)

    @pytest.mark.long
    def test_results_that_cannot_be_processed_harm_their_metric_alone(self) -> None:
        metrics = [self.metric]
        for n in range(1, 20):
            metric, _ = self.database.run_sync(
                custom.monitor_metric, ModelSpec.for_name(f"rack{n}.fan.speed", min=0, max=10), 288
            )
            rows = [(metric.uid, rowid, 60 * rowid, self.values[rowid - 1]) for rowid in range(1, 61)]
            self.database.run_sync(queries.insert_samples, rows)
            self.database.run_sync(queries.update_tails, [(metric.uid, 60, 3600)])
            metrics.append(metric)
        culprit, advance = metrics[7].uid, MetricState.advance

        def failing(state: MetricState, row: ResultRow, *, sequence_only: bool) -> float:
            if state.metric.uid == culprit and row.rowid == 25:
                raise KeyError(row.rowid)
            return advance(state, row, sequence_only=sequence_only)

        self.patch(MetricState, "advance", failing)
        for first in range(1, 61, 20):
            numbers = range(first, first + 20)
            scored_rows = tuple(ResultRow(n, 60 * n, self.values[n - 1], self.raws[n - 1]) for n in numbers)
            self.deliver(*(encode_results([ModelResult(metric.uid, 1, scored_rows)]) for metric in metrics))
        for metric in metrics:
            stored = [row.anomaly for row in self.database.run_sync(queries.get_rows, metric.uid, 0, 60)]
            scored = 20 if metric.uid == culprit else 60
            self.assertEqual(stored, self.expected()[:scored] + [None] * (60 - scored))
        failed = self.database.run_sync(queries.get_metric, culprit)
        self.assertEqual((failed.status, failed.message), (MetricStatus.ERROR, "KeyError: 25"))

    def test_results_of_rows_that_the_database_has_no_more_are_set_aside(self) -> None:
        self.deliver(self.results(1, 200))
        self.values[204] += 1.0
        self.deliver(self.results(201, 230))
        self.values[204] -= 1.0
        self.assertEqual(self.stored(), [*self.expected()[:200], *[None] * (ROWS - 200)])
        self.assertEqual(self.service._quarantine.messages, 1)
        told = [each.message for each in self.database.run_sync(troubles.list_of)]
        self.assertTrue(any("row 205 of m was scored as" in text for text in told), told)
        self.deliver(self.results(201, ROWS))
        self.assertEqual(self.stored(), self.expected())

    def come_to(self, rowid: int) -> bytes:
        """What a model says that was loaded after results which the database does not have."""
        return encode_results([ModelResult(self.metric.uid, 1, (), at=rowid)])

    def generation(self) -> int:
        return self.database.run_sync(counts.get_scores)[self.metric.uid].generation

    @pytest.mark.long
    def test_a_model_whose_results_are_lost_is_made_again_and_all_rows_get_their_scores(self) -> None:
        for later in (self.results(251, 300), self.come_to(300), self.snapshot(300)):
            self.setUp()
            self.deliver(self.results(1, 200), later, self.results(301, 310))
            self.assertEqual(self.stored(), self.expected()[:200] + [None] * (ROWS - 200))
            self.assertEqual(self.generation(), 2)
            [(queue, body)] = self.bus.published
            command = decode_model_message(body)
            self.assertEqual((queue, command.method, command.args), ("shard.0", DEFINE_MODEL, {"upTo": ROWS}))
            [told] = [each.message for each in self.database.run_sync(troubles.list_of)]
            self.assertIn("results of m were lost: of rows 201 to", told)
            self.deliver(self.results(311, 320))  # of the model as it was
            self.deliver(self.results(1, ROWS, generation=2))
            self.assertEqual(self.stored(), self.expected())
            self.assertEqual(self.scored()[:2], (ROWS, ROWS))
            self.assertEqual(len(self.bus.published), 1)

    def test_a_model_that_has_come_to_a_row_that_is_scored_lacks_nothing(self) -> None:
        self.deliver(self.results(1, 200), self.come_to(200), self.results(201, 210))
        self.assertEqual((self.generation(), self.stored()[:210]), (1, self.expected()[:210]))

    def test_rows_that_were_removed_before_they_were_run_are_no_lost_results(self) -> None:
        self.deliver(self.results(1, 200))
        removed = delete(metric_data).where(metric_data.c.rowid.between(201, 250))
        self.database.run_sync(lambda conn: conn.execute(removed))
        self.deliver(self.results(251, 300))
        self.assertEqual((self.generation(), self.scored()[:2]), (1, (300, 250)))

    def test_a_model_whose_results_are_lost_again_and_again_is_in_error(self) -> None:
        self.deliver(self.results(1, 200))
        for generation in range(1, TRIES + 2):
            self.deliver(self.results(1, 200, generation), self.results(202, 210, generation))
        failed = self.database.run_sync(queries.get_metric, self.metric.uid)
        self.assertEqual(failed.status, MetricStatus.ERROR)
        self.assertIn("again and again, results of m were lost", failed.message)
        self.assertEqual(self.generation(), TRIES + 1)

    def test_the_digest_of_the_scored_rows_is_kept_with_them(self) -> None:
        expected = START
        for first, last in ((1, 200), (201, 230)):
            self.deliver(self.results(first, last))
            for n in range(first, last + 1):
                expected = extended(expected, n, 60 * n, self.values[n - 1])
            self.assertEqual(self.database.run_sync(counts.get_scores)[self.metric.uid].digest, expected)
            self.service = self.new_service()
            self.deliver(self.results(first, last))
        self.assertEqual(self.database.run_sync(counts.get_scores)[self.metric.uid].digest, expected)

    def test_the_interval_of_the_rows_and_since_when_it_is_that_are_kept(self) -> None:
        self.deliver(self.results(1, 60))
        self.assertEqual(self.cadence(), (60.0, None))
        times = {n: 3600 + 600 * (n - 60) for n in range(61, 101)}
        self.database.run_sync(_set_times, self.metric.uid, times)
        slow = tuple(ResultRow(n, at, self.values[n - 1], self.raws[n - 1]) for n, at in times.items())
        self.deliver(encode_results([ModelResult(self.metric.uid, 1, slow)]))
        self.assertEqual(self.cadence(), (600.0, 3600 + 12 * 600))

    def cadence(self) -> tuple[float | None, int | None]:
        score = self.database.run_sync(counts.get_scores)[self.metric.uid]
        return score.interval_s, score.interval_since

    def test_the_state_of_a_metric_that_is_deleted_meanwhile_is_let_go(self) -> None:
        self.deliver(self.results(1, 10))
        self.database.run_sync(queries.delete_metric, self.metric.uid)
        log = Mock()
        self.patch(DetectorStates, "log", log)
        self.successResultOf(Deferred.fromCoroutine(self.service._states.write_all()))
        log.error.assert_not_called()

    def test_results_of_a_metric_that_is_deleted_meanwhile_are_let_go(self) -> None:
        self.deliver(self.results(1, 200))
        self.database.run_sync(queries.delete_metric, self.metric.uid)
        self.deliver(self.results(201, 230))
        self.assertEqual(self.service._quarantine.messages, 0)

    def test_scores_are_the_same_over_restarts_at_any_point(self) -> None:
        for first in range(1, ROWS + 1, 140):
            self.deliver(self.results(first, first + 139))
            self.service = self.new_service()
        self.assertEqual(self.stored(), self.expected())

    def test_a_state_is_written_now_and_then_and_less_is_read_after(self) -> None:
        self.deliver(self.results(1, STATE_EVERY_ROWS))
        [state] = self.database.run_sync(queries.load_states, [self.metric.uid]).values()
        self.assertEqual((state.generation, state.rowid), (1, STATE_EVERY_ROWS))

    def call_fine(self, first: int, last: int, after: int, until: int | None = None) -> None:
        self.database.run_sync(fine_spans.put, [FineSpan(self.metric.uid, f"i{first}", first, last, after, until)])

    def expected_without_what_was_fine(self) -> list[float]:
        """Each row by a detector of its own, which runs the rows before it that count then."""
        spans = self.database.run_sync(fine_spans.of_metrics, [self.metric.uid])[self.metric.uid]
        found: list[float] = []
        for first, last in pairwise([0, *sorted(turns(spans)), ROWS]):
            learnt = learnt_at(spans, first + 1)
            detector = detector_for(ModelParams.for_range(0, 10))
            for rowid, row in enumerate(self.rows_after(0)[:first], 1):
                if learnt(rowid):
                    detector.update(*row)
            found += [anomaly_score(detector.update(*row)) for row in self.rows_after(0)[first:last]]
        return found

    @pytest.mark.long
    def test_what_was_called_fine_is_not_learnt_after_its_row_however_messages_and_crashes_fall(self) -> None:
        self.values[299:320] = [500.0] * 21
        self.mark_some_as_fine()
        expected = self.expected_without_what_was_fine()
        self.assertNotEqual(expected, self.expected())

        @settings(max_examples=8, deadline=None)
        @given(
            st.lists(st.integers(1, ROWS - 1), max_size=6, unique=True),
            st.lists(st.booleans(), min_size=8, max_size=8),
        )
        def run(cuts: list[int], crashes: list[bool]) -> None:
            self.setUp()
            self.values[299:320] = [500.0] * 21
            self.mark_some_as_fine()
            for (first, last), crash in zip(pairwise([0, *sorted(cuts), ROWS]), crashes, strict=False):
                self.deliver(self.results(first + 1, last))
                if crash:
                    self.service = self.new_service()
                    self.deliver(self.results(max(first - 20, 1), last))  # they were not acknowledged
            self.assertEqual(self.stored(), expected)

        run()

    def test_after_maintenance_no_row_is_read_again(self) -> None:
        self.values[:] = [value + 300 * (row % 50 > 40) for row, value in enumerate(self.values)]
        self.database.run_sync(_set_values, self.metric.uid, self.values)
        for first in range(42, ROWS - 20, 50):
            self.call_fine(first, first + 8, after=first + 8)
        expected = self.expected_without_what_was_fine()
        self.assertNotEqual(expected, self.expected())
        self.patch(detector_states, "detector_before", None)
        self.deliver(self.results(1, 345), self.results(346, ROWS))
        self.assertEqual(self.stored(), expected)

    def mark_some_as_fine(self) -> None:
        self.database.run_sync(_set_values, self.metric.uid, self.values)
        self.call_fine(300, 320, after=330)
        self.call_fine(10, 50, after=330, until=500)
        self.call_fine(400, 401, after=650)

    def test_a_mark_while_a_state_is_in_memory_counts_from_the_next_row_on(self) -> None:
        tail = [(self.metric.uid, 400, 60 * 400)]
        self.database.run_sync(queries.update_tails, tail)
        self.deliver(self.results(1, 390), self.results(391, 400))
        self.call_fine(300, 340, after=400)
        self.database.run_sync(queries.update_tails, [(self.metric.uid, ROWS, 60 * ROWS)])
        self.deliver(self.results(401, ROWS))
        self.assertEqual(self.stored(), self.expected_without_what_was_fine())

    @pytest.mark.long
    def test_a_row_is_explained_by_what_was_learnt_then(self) -> None:
        self.call_fine(300, 340, after=400)
        self.deliver(self.results(1, ROWS))
        height = {rowid: why["height"] for rowid, why in self.heard_whys().items()}
        for rowid in [row for row in height if row in (350, 400, 500)] or sorted(height)[-3:]:
            told = self.database.run_sync(replayed, self.loaded(), 60 * rowid)
            self.assertEqual(told.why.height, height[rowid])
        columns = self.database.run_sync(evidence_columns, self.loaded(), Span(380, 450))
        parts = [
            self.database.run_sync(evidence_columns, self.loaded(), Span(row, row)) for row in (399, 400, 401, 450)
        ]
        for row, part in zip((399, 400, 401, 450), parts, strict=True):
            self.assertEqual(part.expected.tolist()[0], columns.expected.tolist()[row - 380])

    def evidence_from(self) -> int | None:
        return self.database.run_sync(counts.get_scores)[self.metric.uid].evidence_from

    def as_an_earlier_release_left_it(self, rows: int) -> list[float]:
        """Scores that are the likelihood's, and a state that is the likelihood alone."""
        self.service = self.new_service(sequence_only=True)
        self.deliver(self.results(1, rows))
        likelihood = likelihood_for(ModelParams.for_range(0, 10))
        old = [likelihood.score(value, raw) for _, value, raw in self.rows_after(0)[:rows]]
        state = queries.AnomalyState(self.metric.uid, 1, rows, likelihood.save())
        self.database.run_sync(queries.save_states, [state])
        return old

    def test_without_evidence_scores_are_those_of_the_likelihood(self) -> None:
        old = self.as_an_earlier_release_left_it(300)
        self.assertEqual(self.stored()[:300], old)
        self.assertIsNone(self.evidence_from())

    def test_past_scores_stay_and_the_evidence_goes_on_from_the_stored_rows(self) -> None:
        old = self.as_an_earlier_release_left_it(300)
        self.service = self.new_service()
        self.deliver(self.results(301, ROWS))
        self.assertEqual(self.stored(), [*old, *self.expected()[300:]])
        self.assertEqual(self.evidence_from(), 301)
        self.service = self.new_service()
        self.deliver(self.results(600, ROWS))
        self.assertEqual(self.evidence_from(), 301)

    @pytest.mark.long
    def test_rows_with_great_scores_are_told_of_with_their_reasons_and_so_are_those_that_come_again(self) -> None:
        self.values[400:403] = [9000.0] * 3
        self.database.run_sync(
            lambda conn: conn.execute(
                update(metric_data)
                .where(metric_data.c.uid == self.metric.uid, metric_data.c.rowid.between(401, 403))
                .values(metric_value=9000.0)
            )
        )
        self.deliver(self.results(1, ROWS))
        whys = self.heard_whys()
        stored = self.database.run_sync(results.whys_of, self.metric.uid, 1, ROWS)
        self.assertEqual({rowid: msgspec.to_builtins(why) for rowid, why in stored.items()}, whys)
        great = min(whys)
        self.assertGreaterEqual(whys[great]["height"], LEAST_HEIGHT)
        self.assertEqual(whys[great]["direction"], "up")
        self.assertIn("highest in", whys[great]["evidence"][0]["text"])
        for rowid, why in stored.items():
            for told in (why_at, replayed):
                found = self.database.run_sync(told, self.loaded(), 60 * rowid)
                self.assertEqual((found.rowid, found.why), (rowid, why))
        usual = self.database.run_sync(why_at, self.loaded(), 60 * 395)
        self.assertLess(usual.why.height, LEAST_HEIGHT)
        self.bus.heard.clear()
        self.deliver(self.results(1, ROWS))
        self.assertEqual(self.heard_whys(), whys)

    def heard_whys(self) -> dict[int, dict[str, Any]]:
        rows = [row for message, _ in self.bus.heard for row in message["results"]]
        return {row["rowid"]: row["why"] for row in rows if "why" in row}

    def loaded(self) -> Metric:
        return self.database.run_sync(queries.get_metric, self.metric.uid)

    def test_of_a_row_that_is_not_there_nothing_is_told(self) -> None:
        self.deliver(self.results(1, 100))
        for timestamp in (61, 60 * 101, 60 * (ROWS + 1)):
            with self.assertRaises(RowNotFound):
                self.database.run_sync(why_at, self.loaded(), timestamp)

    def test_a_damaged_state_is_made_again_from_the_rows(self) -> None:
        self.deliver(self.results(1, 600))
        state = queries.AnomalyState(self.metric.uid, 1, 600, b"damaged")
        self.database.run_sync(queries.save_states, [state])
        self.service = self.new_service()
        self.deliver(self.results(601, ROWS))
        self.assertEqual(self.stored(), self.expected())

    def test_redelivered_results_are_broadcast_again_with_the_same_scores(self) -> None:
        self.deliver(self.results(1, 300))
        before = self.stored()
        self.deliver(self.results(251, 350))
        self.assertEqual(self.stored()[:300], before[:300])
        self.assertEqual(self.heard_rows(), [*range(1, 301), *range(251, 351)])
        self.assertEqual(self.stored()[:350], self.expected()[:350])

    def test_nothing_is_encoded_that_nobody_hears(self) -> None:
        self.bus.is_bound = False
        self.patch(anomaly_service, "encode_inference", None)
        self.deliver(self.results(1, 300))
        self.deliver(self.results(251, 350))
        self.assertEqual(self.stored()[:350], self.expected()[:350])
        self.assertEqual(self.bus.heard, [])

    def scored(self) -> tuple[int, int, float | None]:
        score = self.database.run_sync(counts.get_scores)[self.metric.uid]
        return score.rowid, score.scored, score.anomaly

    @pytest.mark.long
    def test_each_row_counts_as_scored_once_over_restarts_and_redeliveries(self) -> None:
        for first in range(1, ROWS + 1, 70):
            self.deliver(self.results(first, first + 69))
            if first % 3 == 0:
                self.service = self.new_service()
            self.deliver(self.results(max(first - 100, 1), first + 69))
        self.assertEqual(self.scored(), (ROWS, ROWS, self.expected()[-1]))

    def test_a_service_that_was_away_counts_what_another_one_scored_meanwhile(self) -> None:
        self.deliver(self.results(1, 100))
        first, self.service = self.service, self.new_service()
        self.deliver(self.results(101, 200))
        self.service = first
        self.deliver(self.results(151, 300))
        self.assertEqual(self.scored()[:2], (300, 300))
        self.assertEqual(self.stored()[:300], self.expected()[:300])

    def snapshot(self, rowid: int) -> bytes:
        self.asked, _ = self.database.run_sync(models.snapshot_model, self.metric, 0)
        return encode_model_snapshot(ModelSnapshot(self.metric.uid, 1, "c", self.asked.version, rowid, b"model"))

    def assert_snapshot_is_after(self, rowid: int) -> None:
        taken = self.database.run_sync(snapshots.find, self.metric, self.asked.version)
        self.assertEqual((taken.rowid, taken.scored), (rowid, rowid))
        state = self.database.run_sync(snapshots.state_of, self.metric.uid, taken.version)
        detector = Detector.restore(state.likelihood)
        later = [anomaly_score(detector.update(*row)) for row in self.rows_after(rowid)]
        self.assertEqual(later, self.expected()[rowid:])

    def test_a_snapshot_gets_the_likelihood_after_the_same_row_whatever_comes_with_it(self) -> None:
        self.deliver(self.results(1, 300), self.snapshot(300), self.results(301, 400))
        self.assert_snapshot_is_after(300)
        self.assertEqual(self.bus.heard[-1][0]["method"], SNAPSHOT_MODEL)

    def test_a_snapshot_that_the_worker_refuses_is_not_waited_for(self) -> None:
        self.snapshot(300)
        self.deliver(encode_command_result(CommandResult(SNAPSHOT_MODEL, self.metric.uid, 1, "c", 1, "no snapshots")))
        self.assertEqual(self.database.run_sync(snapshots.list_of, self.metric.uid), [])
        self.assertEqual(self.bus.heard[-1][0]["errorMessage"], "no snapshots")

    def test_a_snapshot_of_a_model_that_was_behind_gets_the_likelihood_from_the_rows(self) -> None:
        for first in range(1, ROWS + 1, 100):
            self.deliver(self.results(first, first + 99))
        self.deliver(self.snapshot(250))
        self.assert_snapshot_is_after(250)
        self.assertEqual(self.scored()[:2], (ROWS, ROWS))

    def test_a_model_that_starts_from_a_snapshot_has_its_likelihood(self) -> None:
        self.deliver(self.results(1, 300), self.snapshot(300))
        self.database.run_sync(lambda conn: models.revert_model(conn, self.metric, None, replay=True))
        self.service = self.new_service()
        self.deliver(self.results(301, 400, generation=2))
        self.assertEqual(self.stored()[:400], self.expected()[:400])
        self.assertEqual(self.scored()[:2], (400, 400))

    def test_results_of_an_older_model_are_let_go(self) -> None:
        self.database.run_sync(custom.monitor_metric, ModelSpec.for_name("m", min=0, max=10), 288)
        self.deliver(self.results(1, 10, generation=1))
        self.assertEqual(self.bus.heard, [])
        self.deliver(self.results(1, 10, generation=2))
        self.assertEqual(self.heard_rows(), list(range(1, 11)))

    def test_a_message_that_is_none_harms_no_other(self) -> None:
        self.deliver(b"nonsense", self.results(1, 10))
        self.assertEqual(self.heard_rows(), list(range(1, 11)))

    def test_a_model_that_is_made_makes_its_metric_active_and_applications_hear_of_it(self) -> None:
        self.deliver(encode_command_result(CommandResult(DEFINE_MODEL, self.metric.uid, 1, "c1")))
        self.assertEqual(self.database.run_sync(queries.get_metric, self.metric.uid).status, MetricStatus.ACTIVE)
        [(message, headers)] = self.bus.heard
        self.assertEqual(headers, {"dataType": "model-cmd-result"})
        self.assertEqual((message["method"], message["status"]), (DEFINE_MODEL, 0))
        self.assertEqual(message["modelInfo"]["metricName"], "m")

    def test_a_model_that_fails_puts_its_metric_into_error_whatever_came_with_it(self) -> None:
        error = encode_model_error(ModelError(self.metric.uid, 1, "bad value"))
        self.deliver(error, encode_command_result(CommandResult(DEFINE_MODEL, self.metric.uid, 1, "c1")))
        metric = self.database.run_sync(queries.get_metric, self.metric.uid)
        self.assertEqual((metric.status, metric.message), (MetricStatus.ERROR, "bad value"))
