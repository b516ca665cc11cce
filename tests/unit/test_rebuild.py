# SPDX-License-Identifier: MIT
"""Late and loaded samples become rows: whatever the order in which they came, the end is the sorted series."""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from unittest import TestCase, mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, insert, select

from htmengine.adapters.datasource import custom
from htmengine.adapters.datasource.custom import ModelSpec, Rebuild
from htmengine.cadence import FIRM, LEARNT, Cadence
from htmengine.htm.params import ModelParams
from htmengine.ledger import read_ledger
from htmengine.messages import ModelCommand, SampleBatch, decode_model_message
from htmengine.repository import fine_spans, joining, late_samples, old_rows, queries, schema
from htmengine.repository.fine_spans import FineSpan
from htmengine.repository.joining import NO_RULES, JoinRules
from htmengine.repository.queries import Metric, MetricStatus
from htmengine.repository.row_spans import RowSpan
from htmengine.runtime.sample_order import Learnt
from htmengine.runtime.storing import StorerOptions, store_batches
from htmengine.sharding import ShardQueues
from tests.support.database import new_database

PENDING = 10
OPTIONS = StorerOptions("samples", ShardQueues("shard.", 4), auto_monitor=True, pending_samples=PENDING)
NOW = 10_000_000


def _window(name: str, at: float) -> tuple[float, float] | None:
    return (6600.0, 7200.0) if 6600.0 <= at < 7200.0 else None


IN_WINDOW = JoinRules(_window)


def value_of(minute: int) -> float:
    return float(minute * 7 % 11)


class RebuildTestCase(TestCase):
    def setUp(self) -> None:
        self.database = new_database(self)
        self.ids = itertools.count()

    def send(self, minutes: Sequence[int], name: str = "m", now: float = NOW, options: StorerOptions = OPTIONS) -> None:
        batch = SampleBatch([f"{name} {value_of(each)} {60 * each}" for each in minutes], f"{next(self.ids)}")
        self.database.run_sync(store_batches, [batch], options, now, [])

    def load(self, minutes: Sequence[int], name: str = "m") -> int:
        uid = self.metric(name).uid
        return self.database.run_sync(joining.stage, uid, [(60 * each, value_of(each)) for each in sorted(minutes)])

    def release(self, name: str = "m") -> None:
        self.database.run_sync(lambda conn: store_batches(conn, [], OPTIONS, NOW + 60.0, [], due=[name]))

    def rebuild(self, name: str = "m", rules: JoinRules = NO_RULES) -> tuple[Rebuild, list[bytes]]:
        def change(conn: Connection) -> tuple[Rebuild, list[bytes]]:
            return custom.rebuild_metric(conn, queries.find_metric(conn, name, lock=True), PENDING, NOW, rules)

        return self.database.run_sync(change)

    def metric(self, name: str = "m") -> Metric:
        return self.database.run_sync(queries.find_metrics, [name])[name]

    def rows(self, name: str = "m") -> list[tuple[int, float, float]]:
        rows = self.database.run_sync(queries.get_rows, self.metric(name).uid, 0, 5000)
        return [(row.rowid, row.timestamp / 60, row.value) for row in rows]

    def assert_adds_up(self) -> None:
        for name in (None, "m"):
            ledger = self.database.run_sync(read_ledger, name)
            self.assertTrue(ledger.adds_up, ledger)


class CadenceTest(RebuildTestCase):
    def test_a_remembered_cadence_is_learnt_again_after_a_rebuild(self) -> None:
        self.send(range(100, 140, 2))
        self.send(range(101, 137, 2))
        remembered = {self.metric().uid: Learnt(Cadence(120, FIRM), 20, 60 * 138)}
        self.assertEqual(self.after_one_more(140, remembered), Learnt(Cadence(120, FIRM), 21, 60 * 140))
        self.rebuild()
        self.assertEqual(self.after_one_more(141, remembered).cadence.interval, 60)

    def test_rows_that_another_storer_has_stored_are_steps_of_the_cadence(self) -> None:
        self.send(range(100, 140, 2))
        remembered = {self.metric().uid: Learnt(Cadence(120, LEARNT), 20, 60 * 138)}
        self.send([140, 142])
        with mock.patch.object(late_samples, "newest_times", return_value={}) as asked:
            self.assertEqual(self.after_one_more(144, remembered), Learnt(Cadence(120, LEARNT + 3), 23, 60 * 144))
        self.assertEqual(asked.call_args.args[1], {})
        slower = {self.metric().uid: Learnt(Cadence(600, FIRM), 20, 60 * 138)}
        self.assertEqual(self.after_one_more(146, slower).cadence.interval, 120)

    def after_one_more(self, minute: int, remembered: Mapping[str, Learnt]) -> Learnt:
        """What is remembered after one more sample."""
        batch = SampleBatch([f"m 1 {60 * minute}"])
        stored = self.database.run_sync(store_batches, [batch], OPTIONS, NOW, [], cadences=remembered)
        return stored.cadences[self.metric().uid]


@pytest.mark.long
class EarlyRowsTest(RebuildTestCase):
    """The rows that tell a metric's range are its first ones, however they came."""

    def early(self) -> int | None:
        uid = self.metric().uid
        return self.database.run_sync(queries.young_rows, [uid]).get(uid)

    def test_they_are_the_same_ones_of_a_past_at_once_of_a_model_that_grew_and_after_a_rebuild(self) -> None:
        at_once, few = range(100, 120), range(100, 107)
        ways: list[list[Sequence[int]]] = [[at_once], [[each] for each in at_once], [few]]
        for place, parts in enumerate(ways):
            with self.subTest(place), mock.patch.object(custom, "YOUNG_SAMPLES", 5):
                self.setUp()
                for part in parts:
                    self.send(part)
                self.assertEqual(self.early(), PENDING)
                self.load(range(80, 100))
                self.rebuild()
                self.assertEqual(self.early(), PENDING)

    def test_a_metric_whose_range_is_given_has_none(self) -> None:
        spec = ModelSpec.for_name("m", min=0, max=20)
        self.database.run_sync(custom.monitor_metric, spec, PENDING)
        self.send(range(100, 120))
        self.assertEqual(self.early(), None)


def as_rows(minutes: Sequence[int]) -> list[tuple[int, float, float]]:
    return [(place, minute, value_of(minute)) for place, minute in enumerate(sorted(minutes), 1)]


@pytest.mark.long
class OrderTest(RebuildTestCase):
    @settings(max_examples=5, deadline=None)
    @given(st.integers(0, 2**32))
    def test_any_order_of_live_late_and_loaded_samples_ends_in_the_sorted_series(self, seed: int) -> None:
        chance = random.Random(seed)
        name = f"m{seed}"
        minutes = sorted(chance.sample(range(200), 60))
        left = [*minutes]
        for _ in range(chance.randrange(len(left))):
            one, other = chance.randrange(len(left)), chance.randrange(len(left))
            left[one], left[other] = left[other], left[one]
        self.send(left[:1], name)
        while left:
            part, left = left[: (count := chance.randrange(1, 20))], left[count:]
            if chance.random() < 0.7:
                self.send(part, name)
            else:
                self.load(part, name)
            if chance.random() < 0.2:
                self.rebuild(name)
        self.release(name)
        self.rebuild(name)
        self.assertEqual(self.rows(name), as_rows(minutes))
        definition = self.metric(name).definition
        assert definition is not None
        first = [value_of(minute) for minute in minutes[:PENDING]]
        self.assertEqual(ModelParams.from_json(definition.params), ModelParams.for_sample(first))
        ledger = self.database.run_sync(read_ledger, name)
        self.assertEqual((ledger.adds_up, ledger.late, ledger.held), (True, 0, 0))


class RebuildTest(RebuildTestCase):
    def test_history_goes_before_live_rows_and_the_model_starts_again(self) -> None:
        self.send(range(100, 120))
        self.assertEqual(self.load(range(60)), 60)
        done, [message] = self.rebuild()
        self.assertEqual((done.joined, done.duplicates, done.status), (60, 0, MetricStatus.CREATE_PENDING))
        command = decode_model_message(message)
        assert isinstance(command, ModelCommand)
        self.assertEqual((command.generation, command.args["upTo"]), (2, 80))
        self.assertEqual(self.rows(), as_rows([*range(60), *range(100, 120)]))
        self.send([120])
        self.assertEqual(self.rows()[-1], (81, 120, value_of(120)))
        self.assert_adds_up()

    def test_what_is_there_already_is_no_row_and_loading_twice_changes_nothing(self) -> None:
        self.send(range(20))
        self.assertEqual((self.load(range(10, 30)), self.load(range(15, 25))), (10, 5))
        done, _ = self.rebuild()
        self.assertEqual((done.joined, done.duplicates), (10, 0))
        self.assertEqual(self.rows(), as_rows(range(30)))
        self.assert_adds_up()

    def test_rows_that_were_removed_stay_removed(self) -> None:
        self.send(range(0, 60, 2))
        self.database.run_sync(lambda conn: conn.execute(schema.metric_score.update().values(rowid=30)))
        self.database.run_sync(lambda conn: old_rows.remove(conn, after="", before=60 * 20, keep=1, most=5000))
        self.assertEqual(len(self.rows()), 20)
        self.load([31])
        self.rebuild()
        self.assertEqual([rowid for rowid, _, _ in self.rows()], list(range(11, 32)))
        self.assertEqual(self.metric().last_rowid, 31)
        self.assertEqual(self.rows()[0][1], 20)

    def test_rowids_that_others_keep_move_with_their_rows(self) -> None:
        self.send(range(10, 30))
        uid = self.metric().uid
        states = [
            {"rule": rule, "uid": uid, "rowid": rowid, "phase": "RESOLVED", "open": False, "hits": "[]"}
            | {"alert_id": "", "changed_at": 0.0}
            for rule, rowid in (("one", 3), ("two", 20))
        ]
        verdicts = [
            {"rule": "one", "uid": uid, "rowid": rowid, "kind": "x", "timestamp": 1, "height": 9.0, "verdict": "page"}
            for rowid in (4, 5, 6)
        ]
        self.database.run_sync(lambda conn: conn.execute(insert(schema.alert_state), states))
        self.database.run_sync(lambda conn: conn.execute(insert(schema.alarm_verdict), verdicts))
        self.load([5, 6, 7])
        self.rebuild()
        moved = self.database.run_sync(
            lambda conn: [
                list(conn.execute(select(table.c.rowid).order_by(table.c.rowid)).scalars())
                for table in (schema.alert_state, schema.alarm_verdict)
            ]
        )
        self.assertEqual(moved, [[6, 23], [7, 8, 9]])

    def test_a_metric_that_nobody_monitors_gets_rows_and_no_model(self) -> None:
        self.database.run_sync(custom.create_metric, ModelSpec.for_name("m"))
        self.load(range(40))
        done, messages = self.rebuild()
        self.assertEqual((done.joined, done.status, messages), (40, MetricStatus.UNMONITORED, []))
        self.assertEqual(self.rows(), as_rows(range(40)))
        self.assert_adds_up()


@pytest.mark.long
class MaintenanceTest(RebuildTestCase):
    """A window of maintenance from minute 110 to minute 120, whose rows are not learnt."""

    def send_in_window(self, minutes: Sequence[int], name: str = "m") -> None:
        self.send(minutes, name, options=replace(OPTIONS, unlearnt_windows=lambda conn: _window))

    def spans(self, name: str = "m") -> tuple[list[RowSpan], list[FineSpan]]:
        def read(conn: Connection) -> tuple[list[RowSpan], list[FineSpan]]:
            uid = queries.find_metric(conn, name).uid
            c = schema.unlearnt_span.c
            found = conn.execute(select(c.first, c.last).where(c.uid == uid).order_by(c.first))
            fine = fine_spans.of_metrics(conn, [uid]).get(uid, ())
            return [RowSpan(*row) for row in found], [replace(each, uid="") for each in fine]

        return self.database.run_sync(read)

    @settings(max_examples=5, deadline=None)
    @given(st.sets(st.integers(100, 129)), st.sets(st.integers(100, 129)))
    def test_late_samples_are_not_learnt_as_if_they_had_come_in_time(self, late: set[int], later: set[int]) -> None:
        one, other = f"one{next(self.ids)}", f"other{next(self.ids)}"
        self.send_in_window(range(100, 130), one)
        self.send_in_window(sorted({99, 130, *range(100, 130)} - late - later), other)
        self.send_in_window([99, 130], one)
        self.rebuild(one, IN_WINDOW)
        for part in (late, later):
            self.load([*part, 99], other)
            self.rebuild(other, IN_WINDOW)
        self.assertEqual(self.rows(other), self.rows(one))
        self.assertEqual(self.spans(other), self.spans(one))
        self.assertEqual(self.spans(one)[0], [RowSpan(12, 21)])

    def test_a_sample_in_the_middle_is_not_learnt_whatever_has_become_of_the_window(self) -> None:
        self.send_in_window([100, 110, 112, 120])
        self.load([109, 111, 113])
        self.rebuild()
        self.assertEqual(self.spans(), ([RowSpan(3, 5)], [FineSpan("", "maintenance", 3, 5, after=5)]))

    def test_spans_go_with_their_rows(self) -> None:
        self.send_in_window([*range(100, 111, 2), *range(120, 140)])
        self.database.run_sync(lambda conn: conn.execute(schema.metric_score.update().values(rowid=26)))
        before = self.spans()
        self.assertEqual(len(before[0]), 1)
        self.remove_before(110)
        self.assertEqual(self.spans(), before)
        self.remove_before(121)
        self.assertEqual(self.spans(), ([], []))

    def test_what_quiets_its_like_stays_when_its_rows_go(self) -> None:
        self.send(range(100, 130))
        self.database.run_sync(lambda conn: conn.execute(schema.metric_score.update().values(rowid=30)))
        uid = self.metric().uid
        quieting = FineSpan(uid, "a", 2, 3, after=4, direction="up", height=3.0)
        ended = FineSpan(uid, "b", 2, 3, after=4, until=6, direction="up", height=3.0)
        self.database.run_sync(fine_spans.put, [quieting, ended])
        self.remove_before(110)
        self.assertEqual(self.spans()[1], [replace(quieting, uid="")])

    def remove_before(self, minute: int) -> None:
        self.database.run_sync(lambda conn: old_rows.remove(conn, after="", before=60 * minute, keep=1, most=5000))
