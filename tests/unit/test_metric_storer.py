# SPDX-License-Identifier: MIT
"""One transaction of the storer: rows, rowids, rejects, and what the models are told."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection
from twisted.trial.unittest import SynchronousTestCase

from htmengine.adapters.datasource import custom
from htmengine.adapters.datasource.custom import ModelSpec
from htmengine.full_texts import FULL_TEXTS
from htmengine.gaps import GapRules
from htmengine.labels import identity
from htmengine.messages import (
    DEFINE_MODEL,
    InputRow,
    ModelCommand,
    ModelInput,
    Reject,
    SampleBatch,
    decode_model_message,
)
from htmengine.repository import counts, fine_spans, old_rows, queries, rejects
from htmengine.repository.counts import MetricScore
from htmengine.repository.queries import Metric, MetricStatus, OutboxMessage
from htmengine.repository.row_spans import unlearnt_rows
from htmengine.runtime.metric_storer import ask_for_scores
from htmengine.runtime.storing import Stored, StorerOptions, store_batches
from htmengine.sharding import ShardQueues
from htmengine.wires.admission import OPEN_GATE, Admission, Gate, NewMetrics
from tests.support.database import new_database

OPTIONS = StorerOptions("samples", ShardQueues("shard.", 4), auto_monitor=False, pending_samples=5)
MONITORING = StorerOptions("samples", ShardQueues("shard.", 4), auto_monitor=True, pending_samples=5)
YOUNG = replace(MONITORING, pending_samples=20)


class StorerTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.database = new_database(self)

    def store(
        self,
        *batches: SampleBatch,
        options: StorerOptions = OPTIONS,
        gate: Gate = OPEN_GATE,
        now: float = 1_000_000.0,
    ) -> Stored:
        return self.database.run_sync(store_batches, batches, options, now, [], gate)

    def lines(self, *lines: str, options: StorerOptions = OPTIONS) -> Stored:
        return self.store(SampleBatch(list(lines)), options=options)

    def metric(self, name: str) -> Metric:
        return self.database.run_sync(queries.find_metrics, [name])[name]

    def rows(self, name: str) -> list[tuple[int, int, float]]:
        stored = self.database.run_sync(queries.get_rows, self.metric(name).uid, 0, 1000)
        return [(row.rowid, row.timestamp, row.value) for row in stored]

    def monitor(self, name: str) -> None:
        spec = ModelSpec.for_name(name, min=0, max=10)
        self.database.run_sync(custom.monitor_metric, spec, 5)


class RowsTest(StorerTestCase):
    def test_rowids_count_from_one_for_each_metric(self) -> None:
        done = self.lines("a 1.5 60", "b 2 60", "a 2.5 120")
        self.assertEqual(self.rows("a"), [(1, 60, 1.5), (2, 120, 2.5)])
        self.assertEqual(self.rows("b"), [(1, 60, 2.0)])
        self.assertEqual((done.received, done.stored), (3, 3))

    def test_rowids_go_on_in_the_next_transaction(self) -> None:
        self.lines("a 1 60")
        self.lines("a 2 120", "a 3 180")
        self.assertEqual([rowid for rowid, _, _ in self.rows("a")], [1, 2, 3])
        self.assertEqual((self.metric("a").last_rowid, self.metric("a").last_timestamp), (3, 180))

    def test_repeated_timestamps_are_rejected_within_and_between_batches(self) -> None:
        self.lines("a 1 60", "a 1 60", "a 1 59")
        done = self.lines("a 1 60", "a 2 59", "a 1 61", "a 1 1")
        self.assertEqual(self.rows("a"), [(1, 59, 1.0), (2, 60, 1.0), (3, 61, 1.0)])
        self.assertEqual((dict(done.rejected), done.late), ({"timestamp_duplicate": 2}, 1))
        counted = self.database.run_sync(counts.get_rejects, self.metric("a").uid)
        self.assertEqual(counted, {"timestamp_duplicate": 3})

    def test_a_bad_line_is_rejected_alone_and_counted_under_no_metric(self) -> None:
        self.lines("a 1 60", "nonsense", "a x 120", "a 2 180")
        self.assertEqual(len(self.rows("a")), 2)
        counted = self.database.run_sync(counts.get_rejects, "")
        self.assertEqual(counted, {"field_count": 1, "value_not_a_number": 1})

    def test_a_sample_from_the_future_is_rejected_and_silences_nobody(self) -> None:
        done = self.lines("f.a 1 999400", "f.a 9 4070908800", "f.a 2 1000600", "f.b 1 1000601")
        self.assertEqual(self.rows("f.a"), [(1, 999400, 1.0), (2, 1000600, 2.0)])
        self.assertEqual(dict(done.rejected), {"timestamp_future": 2})

    def test_the_listeners_rejects_are_counted_too(self) -> None:
        done = self.store(SampleBatch(["a 1 60"], "id", {"not_utf8": 3}))
        self.assertEqual((done.received, done.stored, dict(done.rejected)), (4, 1, {"not_utf8": 3}))
        self.assertEqual(self.database.run_sync(counts.get_rejects, ""), {"not_utf8": 3})

    def test_rejects_are_kept_with_their_senders(self) -> None:
        lines = ["collectd.load;host=web1 1 60", "collectd.load;host=web1 2,5 120", "collectd.load;host=web1 1 60"]
        self.store(SampleBatch(lines, senders=[("10.0.0.1", 2), ("10.0.0.2", 1)]))
        self.store(SampleBatch(["b\x1b[31m\0 1"], rejects=[Reject("not_utf8", "x", "10.0.0.3")]))
        kept = self.database.run_sync(rejects.list_of)
        self.assertEqual(
            [(each.reason, each.sender, each.line) for each in kept],
            [
                ("field_count", "queue samples", "b\\x1b[31m\\x00 1"),
                ("not_utf8", "10.0.0.3", "x"),
                ("timestamp_duplicate", "10.0.0.2", lines[2]),
                ("value_not_a_number", "10.0.0.1", lines[1]),
            ],
        )

    def test_the_last_rejects_of_each_reason_are_kept_and_no_more(self) -> None:
        for n in range(rejects.KEPT):
            self.lines("one", *(f"{n}-{number} x" for number in range(10)), f"{n}.last x 1")
        kept = self.database.run_sync(rejects.list_of)
        self.assertEqual(Counter(each.reason for each in kept), {"field_count": 20, "value_not_a_number": 20})
        self.assertEqual(kept[0].line, f"{rejects.KEPT - 1}.last x 1")

    def test_denied_metrics_and_those_that_are_not_allowed_are_rejected(self) -> None:
        gate = Gate(Admission(allow=["web.*"], deny=["*.debug"]), NewMetrics())
        done = self.store(SampleBatch(["web.cpu 1 60", "web.x.debug 1 60", "db.cpu 1 60", "web.cpu 2 120"]), gate=gate)
        self.assertEqual(self.rows("web.cpu"), [(1, 60, 1.0), (2, 120, 2.0)])
        self.assertEqual((done.received, dict(done.rejected)), (4, {"denied": 1, "not_allowed": 1}))
        self.assertEqual(self.database.run_sync(counts.get_rejects), {"denied": 1, "not_allowed": 1})

    def test_rules_drop_and_rename_and_a_long_name_is_judged_by_all_of_its_labels(self) -> None:
        long = f"cpu;env=test;host={'x' * 300}"
        kept = f"cpu;env=live;host={'x' * 300}"
        rules = [
            'drop {env="test"}',
            "rename servers.*.cpu to cpu.$1",
            "rename huge.* to " + "n" * 250 + ".$1",
            "drop_labels pid",
        ]
        batch = SampleBatch(
            [
                *("servers.web1.cpu 1 60", "cpu.web1 2 120", "a;pid=7 3 60", "a;pid=8 4 120", "huge.metric 1 60"),
                *(f"{identity(each)} 1 60" for each in (long, kept)),
            ],
            texts={identity(each): each for each in (long, kept)},
        )
        done = self.store(batch, gate=Gate(Admission(rules), NewMetrics()))
        self.assertEqual(self.rows("cpu.web1"), [(1, 60, 1.0), (2, 120, 2.0)])
        self.assertEqual(self.rows("a"), [(1, 60, 3.0), (2, 120, 4.0)])
        self.assertEqual(self.rows(identity(kept)), [(1, 60, 1.0)])
        self.assertEqual(dict(done.rejected), {"dropped_by_rule": 1, "name_too_long": 1})

    def test_rules_of_gaps_see_all_labels_of_a_long_name(self) -> None:
        self.patch(FULL_TEXTS, "_texts", {})
        text = f"cpu;a={'x' * 300};job=api"
        times = [*range(60, 721, 60), 840]
        lines = [f"{identity(text)} 1 {at}" for at in times]
        options = replace(OPTIONS, gaps=GapRules(['hold 3 {job="api"}']))
        self.store(SampleBatch(lines, texts={identity(text): text}), options=options)
        self.assertEqual([at for _, at, _ in self.rows(identity(text))], [*times[:-1], 780, 840])

    def test_a_flood_of_new_metrics_is_bounded_and_harms_no_known_one(self) -> None:
        gate = Gate(Admission(), NewMetrics(most_a_minute=3, most=5))
        for minute in range(5):
            flood = [f"pod{minute}{n:04d}.{'x' * 180};host=web1 1 {60 * minute + 60}" for n in range(500)]
            batch = SampleBatch([f"known 1 {60 * minute + 60}", *flood], senders=[("10.0.0.1", 1), ("10.0.0.2", 500)])
            done = self.store(batch, gate=gate, now=1_000_000.0 + 60 * minute)
        self.assertEqual(len(self.rows("known")), 5)
        self.assertEqual(self.database.run_sync(queries.count_metrics), 5)
        self.assertEqual(dict(done.rejected), {"new_metrics_in_all": 500})
        counted = self.database.run_sync(counts.get_rejects)
        self.assertEqual(counted, {"new_metrics_a_minute": 498, "new_metrics_in_all": 1998})
        self.assertEqual({each.sender for each in self.database.run_sync(rejects.list_of)}, {"10.0.0.2"})

    def test_a_redelivered_batch_changes_nothing(self) -> None:
        batch = SampleBatch(["a 1 60", "bad"], "batch-1", {"not_utf8": 1})
        self.store(batch)
        done = self.store(batch)
        self.assertEqual((done.received, done.stored, done.outbox), (0, 0, []))
        self.assertEqual(self.database.run_sync(counts.get_rejects), {"field_count": 1, "not_utf8": 1})

    def test_a_batch_that_comes_twice_in_one_transaction_is_stored_once(self) -> None:
        batch = SampleBatch(["a 1 60"], "batch-1")
        self.assertEqual(self.store(batch, batch).received, 1)


def _window(name: str, at: float) -> tuple[float, float] | None:
    return (120.0, 300.0) if name == "a" and 120.0 <= at < 300.0 else None


class MaintenanceTest(StorerTestCase):
    def spans(self) -> list[tuple[int, int, int]]:
        uid = self.metric("a").uid
        found = self.database.run_sync(fine_spans.of_metrics, [uid]).get(uid, ())
        return [(each.first, each.last, each.after) for each in found]

    def store_lines(self, *lines: str) -> Stored:
        return self.lines(*lines, options=replace(OPTIONS, unlearnt_windows=lambda conn: _window))

    def test_the_first_row_after_a_window_ends_it(self) -> None:
        self.store_lines("a 1 60", "b 1 120", "a 2 120", "a 3 180")
        self.assertEqual(self.spans(), [])
        self.store_lines("a 3 240")
        self.store_lines("a 4 360", "a 4 420", "b 1 420")
        self.assertEqual(self.spans(), [(2, 4, 4)])

    def test_the_model_does_not_learn_the_windows_rows(self) -> None:
        self.store_lines("a 1 60", "b 1 120", "a 2 120", "a 3 180")
        self.store_lines("a 4 240", "a 5 300", "a 6 360")
        unlearnt = self.database.run_sync(unlearnt_rows.among, self.metric("a").uid, 1, 100)
        self.assertEqual(unlearnt, {2, 3, 4})
        self.assertEqual(self.database.run_sync(unlearnt_rows.among, self.metric("a").uid, 3, 3), {3})
        self.assertEqual(self.database.run_sync(unlearnt_rows.among, self.metric("b").uid, 1, 100), set())

    def test_live_rows_tell_the_model_what_not_to_learn(self) -> None:
        self.monitor("a")
        [message] = self.store_lines("a 1 60", "a 2 120", "a 3 300").outbox
        [fed] = decode_model_message(message.body)
        self.assertEqual([row.learn for row in fed.rows], [True, False, True])

    def test_a_window_that_is_taken_away_ends_with_its_rows_so_far(self) -> None:
        self.store_lines("a 1 60", "a 2 120", "a 3 180")
        self.lines("a 4 240", "a 5 300")
        self.assertEqual(self.database.run_sync(unlearnt_rows.among, self.metric("a").uid, 1, 100), {2, 3})
        self.assertEqual(self.spans(), [(2, 3, 3)])

    def test_all_of_it_may_come_at_once(self) -> None:
        self.store_lines("a 1 60", "a 2 120", "a 3 300")
        self.assertEqual(self.spans(), [(2, 2, 2)])


class ModelsTest(StorerTestCase):
    def test_an_unmonitored_metric_feeds_no_model(self) -> None:
        self.assertEqual(self.lines("a 1 60").outbox, [])
        self.assertEqual(self.metric("a").status, MetricStatus.UNMONITORED)

    def test_rows_of_a_metric_with_a_model_go_to_its_shard(self) -> None:
        self.monitor("a")
        [message] = self.lines("a 1 60", "a 2 120").outbox
        uid = self.metric("a").uid
        self.assertEqual(message.queue, OPTIONS.shards.queue_of(uid))
        [fed] = decode_model_message(message.body)
        self.assertEqual(fed, ModelInput(uid, 1, 0, (InputRow(1, 60, 1.0), InputRow(2, 120, 2.0))))

    def test_the_outbox_keeps_messages_until_they_are_published(self) -> None:
        self.monitor("a")
        done = self.lines("a 1 60")
        self.assertEqual(self.database.run_sync(queries.pending_outbox), done.outbox)
        ids = [message.id for message in done.outbox]
        self.database.run_sync(store_batches, [], OPTIONS, 0.0, ids)
        self.assertEqual(self.database.run_sync(queries.pending_outbox), [])

    def test_models_that_lack_scores_are_asked_for_them_again(self) -> None:
        self.monitor("a")
        self.monitor("b")
        self.lines("a 1 60", "a 2 120", "b 1 60")
        a, b = self.metric("a").uid, self.metric("b").uid
        self.database.run_sync(counts.save_scores, [MetricScore(a, 1, 1, 1), MetricScore(b, 1, 1, 1)])
        for uid in (a, b):
            self.database.run_sync(queries.set_status, uid, MetricStatus.ACTIVE, None)
        [message] = self.asked_for()
        self.assertEqual(message.queue, OPTIONS.shards.queue_of(a))
        self.assertEqual(decode_model_message(message.body), [ModelInput(a, 1, 2, ())])

    def asked_for(self) -> list[OutboxMessage]:
        """What the storer asks for when it starts."""
        before = self.database.run_sync(queries.pending_outbox)
        self.database.run_sync(ask_for_scores, OPTIONS.shards)
        return self.database.run_sync(queries.pending_outbox)[len(before) :]

    def test_models_that_are_not_confirmed_are_defined_again(self) -> None:
        self.monitor("a")
        [message] = self.asked_for()
        command = decode_model_message(message.body)
        assert isinstance(command, ModelCommand)
        self.assertEqual((command.method, command.generation, command.args), (DEFINE_MODEL, 1, {"upTo": 0}))

    def test_a_new_metric_with_auto_monitor_waits_for_enough_samples(self) -> None:
        self.assertEqual(self.lines(*(f"a {n} {60 * n}" for n in range(1, 5)), options=MONITORING).outbox, [])
        self.assertEqual(self.metric("a").status, MetricStatus.PENDING_DATA)

    def test_the_range_is_that_of_the_first_samples_however_many_come_at_once(self) -> None:
        lines = [f"a {n} {60 * n}" for n in range(1, 6)] + ["a 1000 6000"]
        [message] = self.lines(*lines, options=MONITORING).outbox
        command = decode_model_message(message.body)
        assert isinstance(command, ModelCommand)
        self.assertEqual((command.method, command.generation, command.args["upTo"]), (DEFINE_MODEL, 1, 6))
        expected = ModelSpec.for_name("a").params_from_data([1.0, 2.0, 3.0, 4.0, 5.0])
        self.assertEqual(command.args["params"], expected.to_json())
        self.assertEqual(self.metric("a").status, MetricStatus.CREATE_PENDING)

    def test_a_constant_gets_no_model_until_it_moves(self) -> None:
        done = self.lines(*(f"web1.load.crit 30 {60 * n}" for n in range(1, 8)), options=MONITORING)
        self.assertEqual((done.outbox, self.metric("web1.load.crit").status), ([], MetricStatus.CONSTANT))
        self.assertEqual(self.lines("web1.load.crit 30 600", options=MONITORING).outbox, [])
        [message] = self.lines("web1.load.crit 30 660", "web1.load.crit 50 720", options=MONITORING).outbox
        command = decode_model_message(message.body)
        assert isinstance(command, ModelCommand)
        self.assertEqual((command.method, command.args["upTo"]), (DEFINE_MODEL, 10))
        as_from_the_start = ModelSpec.for_name("web1.load.crit").params_from_data([30.0] * 5)
        self.assertEqual(command.args["params"], as_from_the_start.to_json())
        self.assertEqual(self.metric("web1.load.crit").status, MetricStatus.CREATE_PENDING)

    def test_a_change_in_the_batch_that_completes_the_first_samples_starts_the_model(self) -> None:
        lines = [f"web1.load.crit 30 {60 * n}" for n in range(1, 6)]
        self.assertEqual(len(self.lines(*lines, "web1.load.crit 50 600", options=MONITORING).outbox), 1)

    def test_a_constant_whose_old_rows_were_removed_is_one_still(self) -> None:
        self.lines(*(f"web1.load.crit 30 {60 * n}" for n in range(1, 8)), options=MONITORING)
        removed, _ = self.database.run_sync(old_rows.remove, after="", before=1_000_000, keep=2, most=100)
        self.assertEqual((removed, [rowid for rowid, _, _ in self.rows("web1.load.crit")]), (5, [6, 7]))
        self.assertEqual(self.lines("web1.load.crit 30 600", options=MONITORING).outbox, [])
        self.assertEqual(len(self.lines("web1.load.crit 31 660", options=MONITORING).outbox), 1)

    def test_rows_after_the_definition_are_fed(self) -> None:
        self.lines(*(f"a {n} {60 * n}" for n in range(1, 6)), options=MONITORING)
        [message] = self.lines("a 6 600", options=MONITORING).outbox
        [fed] = decode_model_message(message.body)
        self.assertEqual((fed.after, fed.rows), (5, (InputRow(6, 600, 6.0),)))

    def command(self, done: Stored) -> ModelCommand:
        [message] = done.outbox
        command = decode_model_message(message.body)
        assert isinstance(command, ModelCommand)
        return command

    def minutes(self, first: int, last: int, name: str = "a", options: StorerOptions = YOUNG) -> Stored:
        return self.lines(*(f"{name} {n * n % 17} {60 * n}" for n in range(first, last + 1)), options=options)

    def params(self, *minutes: int) -> dict[str, Any]:
        return ModelSpec.for_name("a").params_from_data([float(n * n % 17) for n in minutes]).to_json()

    def test_a_new_metric_has_a_young_model_until_its_range_is_known(self) -> None:
        self.assertEqual(self.minutes(1, 11).outbox, [])
        young = self.command(self.minutes(12, 14))
        self.assertEqual((young.generation, young.args["params"]), (1, self.params(*range(1, 15))))
        [message] = self.minutes(15, 19).outbox
        [fed] = decode_model_message(message.body)
        self.assertEqual((fed.generation, fed.after), (1, 14))
        grown = self.command(self.minutes(20, 25))
        self.assertEqual((grown.generation, grown.args["upTo"]), (2, 25))
        self.assertEqual(grown.args["params"], self.params(*range(1, 21)))
        [message] = self.minutes(26, 26).outbox
        [fed] = decode_model_message(message.body)
        self.assertEqual((fed.generation, fed.after), (2, 25))

    def test_rows_of_seconds_have_a_model_after_two_minutes(self) -> None:
        options = replace(YOUNG, pending_samples=288)
        self.assertEqual(self.lines(*(f"a {n % 7} {n}" for n in range(1000, 1120)), options=options).outbox, [])
        self.assertEqual(self.metric("a").status, MetricStatus.PENDING_DATA)
        self.assertEqual(self.command(self.lines("a 5 1120", options=options)).generation, 1)

    def test_a_model_whose_range_was_given_is_not_made_again(self) -> None:
        self.monitor("a")
        self.minutes(1, 19)
        [message] = self.minutes(20, 20).outbox
        [fed] = decode_model_message(message.body)
        self.assertEqual((fed.generation, fed.after), (1, 19))

    def test_a_young_model_that_cannot_grow_harms_its_metric_alone(self) -> None:
        self.minutes(1, 12)
        self.minutes(1, 12, "b")
        grow = custom.define_grown

        def failing(conn: Connection, metric: Metric, pending_samples: int, last_rowid: int) -> bytes:
            if metric.name == "b":
                raise ZeroDivisionError
            return grow(conn, metric, pending_samples, last_rowid)

        self.patch(custom, "define_grown", failing)
        lines = [f"{name} {n} {60 * n}" for n in range(13, 21) for name in ("a", "b")]
        self.assertEqual(self.command(self.lines(*lines, options=YOUNG)).generation, 2)
        self.assertEqual((self.metric("a").status.name, self.metric("b").status.name), ("CREATE_PENDING", "ERROR"))

    def test_a_model_that_cannot_be_defined_harms_its_metric_alone(self) -> None:
        define = custom.define_from_data

        def failing(conn: Connection, metric: Metric, *args: Any) -> bytes | None:
            if metric.name == "rack7.fan.speed":
                raise ZeroDivisionError(metric.name)
            return define(conn, metric, *args)

        self.patch(custom, "define_from_data", failing)
        names = [f"rack{n}.fan.speed" for n in range(20)]
        done = self.lines(*(f"{name} {n} {60 * n}" for n in range(1, 6) for name in names), options=MONITORING)
        reason = "ZeroDivisionError: rack7.fan.speed"
        self.assertEqual((done.stored, len(done.outbox), done.failed), (100, 19, {names[7]: reason}))
        failed = self.metric(names[7])
        self.assertEqual((failed.status, failed.message, failed.last_rowid), (MetricStatus.ERROR, reason, 5))
        others = {self.metric(name).status for name in names if name != names[7]}
        self.assertEqual(others, {MetricStatus.CREATE_PENDING})
        self.database.run_sync(custom.monitor_metric, ModelSpec.for_name(names[7]), 5)
        self.assertEqual(
            (self.metric(names[7]).status, self.metric(names[7]).message), (MetricStatus.CREATE_PENDING, None)
        )

    def test_a_metric_in_error_is_stored_but_not_fed(self) -> None:
        self.monitor("a")
        self.database.run_sync(queries.set_status, self.metric("a").uid, MetricStatus.ERROR, "broken")
        self.assertEqual(self.lines("a 1 60").outbox, [])
        self.assertEqual(len(self.rows("a")), 1)
