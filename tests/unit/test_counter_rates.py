# SPDX-License-Identifier: MIT
"""Counters become rates where they are stored, and their states outlive a restart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from unittest import TestCase, mock

from htmengine.errors import InvalidMessage
from htmengine.labels import identity
from htmengine.ledger import read_ledger
from htmengine.messages import SampleBatch, decode_samples, encode_samples
from htmengine.repository import queries
from htmengine.repository.queries import MetricStatus
from htmengine.runtime import counter_rates
from htmengine.runtime.late_window import LateWindow
from htmengine.runtime.storing import StorerOptions, store_batches
from htmengine.sharding import ShardQueues
from htmengine.wires.admission import Admission, Gate, NewMetrics
from htmengine.wires.counters import SaidCounters
from tests.support.database import new_database

OPTIONS = StorerOptions("samples", ShardQueues("input.", 4), auto_monitor=False)
START = 1_400_000_000


class RatesTest(TestCase):
    def setUp(self) -> None:
        self.database = new_database(self)

    def store(self, *totals: float, kind: str = "c", first: int = 0, options: StorerOptions = OPTIONS) -> list[float]:
        """Send totals a minute apart; the rows that there are then."""
        lines = [f"rpc {total} {START + 60 * (first + number)}" for number, total in enumerate(totals)]
        return self.store_lines(lines, kind, options)

    def status(self) -> MetricStatus:
        return self.database.run_sync(queries.find_metric, "rpc").status

    def store_lines(
        self, lines: Sequence[str], kind: str, options: StorerOptions = OPTIONS, said: Sequence[str] = ()
    ) -> list[float]:
        """Without a kind they are a Graphite port's; ``said``: the selectors of counters."""
        batch = decode_samples(encode_samples(SampleBatch(list(lines), kinds=kind * len(lines))))
        gate = Gate(Admission(), NewMetrics(), SaidCounters(said))
        self.database.run_sync(store_batches, [batch], options, START + 86_400.0, [], gate)
        [uid] = self.database.run_sync(lambda conn: [each.uid for each in queries.list_metrics(conn)])
        return [row.value for row in self.database.run_sync(queries.get_rows, uid, 0, 100)]

    def test_a_total_becomes_what_was_added_a_second(self) -> None:
        self.assertEqual(self.store(0, 60, 180), [1.0, 2.0])

    def test_the_next_message_goes_on_from_the_last(self) -> None:
        self.store(0, 60)
        self.assertEqual(self.store(120, first=2), [1.0, 1.0])

    def test_a_sender_whose_times_cross_a_second_has_a_steady_rate(self) -> None:
        moments = [START + 10.07 * number for number in range(40)]
        lines = [f"rpc {5 * moment!r} {moment!r}" for moment in moments]
        for kind in "cd":
            self.database = new_database(self)
            rows = self.store_lines(lines if kind == "c" else [f"rpc 50.35 {moment!r}" for moment in moments], kind)
            self.assertEqual([round(rate, 3) for rate in rows], [5.0] * 39)

    def test_a_sample_that_waits_keeps_its_whole_time(self) -> None:
        waits = replace(OPTIONS, late_window=LateWindow(2.0, 60.0, "last"))
        rows = [self.store_lines([f"rpc {50 * n} {START + 10 * n}.5"], "c", waits) for n in range(1, 9)]
        self.assertEqual((len(rows[-1]), set(rows[-1])), (6, {5.0}))
        self.assertEqual(
            self.database.run_sync(lambda conn: conn.exec_driver_sql("SELECT moment FROM held_sample").scalar()),
            START + 80.5,
        )

    def test_a_counter_that_starts_again_has_no_rate_then(self) -> None:
        self.assertEqual(self.store(600, 660, 30, 90), [1.0, 1.0])

    def test_a_delta_needs_no_sample_before_but_for_its_time(self) -> None:
        self.assertEqual(self.store(60, 120, kind="d"), [2.0])

    def test_a_gauge_stays_what_it_is(self) -> None:
        self.assertEqual(self.store(5, 7, kind="g"), [5.0, 7.0])

    def test_what_nobody_says_is_a_counter_if_it_was_one(self) -> None:
        self.assertEqual(self.store(5, 7, kind="u"), [5.0, 7.0])

    def test_a_counter_stays_one_when_its_sender_does_not_say_so_again(self) -> None:
        self.store(0, 60)
        self.assertEqual(self.store(120, kind="u", first=2), [1.0, 1.0])

    def test_the_totals_of_a_counter_that_nobody_had_told_are_no_rows_any_more(self) -> None:
        self.store(600, 660, 720, kind="u")
        self.assertEqual(self.store(780, 840, first=3), [1.0])
        self.assertEqual(self.store(900, kind="u", first=5), [1.0, 1.0])
        ledger = self.database.run_sync(read_ledger, None)
        self.assertEqual((ledger.adds_up, ledger.rejected), (True, {"counter_untold": 3, "first_of_counter": 1}))

    def test_totals_that_have_not_moved_yet_are_removed_too(self) -> None:
        options = replace(OPTIONS, auto_monitor=True)
        self.store(*[600] * 12, kind="u", options=options)
        self.assertEqual(self.status(), MetricStatus.CONSTANT)
        self.assertEqual(self.store(600, 660, first=12, options=options), [1.0])
        self.assertEqual(self.status(), MetricStatus.PENDING_DATA)

    def test_a_metric_with_a_longer_past_keeps_it(self) -> None:
        self.store(600, 660, 720, kind="g")
        with mock.patch.object(counter_rates, "MOST_UNTOLD", 2):
            self.assertEqual(self.store(780, 840, first=3), [600.0, 660.0, 720.0, 1.0])

    def test_a_graphite_line_s_total_is_a_rate_if_the_operator_says_so(self) -> None:
        lines = [f"rpc {50 * n} {START + 10.5 * n}" for n in range(4)]
        for said, rows in (["rpc"], [50 / 10.5] * 3), (["web", "!rpc"], [0.0, 50.0, 100.0, 150.0]):
            self.database = new_database(self)
            self.assertEqual(self.store_lines(lines, "", said=said), rows)

    def test_the_operator_s_word_is_more_than_the_sender_s_but_a_delta_is_no_total(self) -> None:
        lines = [f"rpc {60 * n} {START + 60 * n}" for n in (1, 2, 3)]
        expected = {"c": [60.0, 120.0, 180.0], "u": [60.0, 120.0, 180.0], "d": [2.0, 3.0]}
        for kind, rows in expected.items():
            self.database = new_database(self)
            self.assertEqual(self.store_lines(lines, kind, said=["!rpc"]), rows)
        self.database = new_database(self)
        self.assertEqual(self.store_lines(lines, "d", said=["rpc"]), [2.0, 3.0])

    def test_a_metric_that_is_said_to_be_a_counter_begins_again_if_it_is_young(self) -> None:
        self.store_lines([f"rpc {n} {START + n}" for n in range(3)], "")
        self.assertEqual(self.store_lines([f"rpc {n} {START + n}" for n in range(3, 6)], "", said=["r*"]), [1.0, 1.0])

    def test_an_incident_of_a_counter_is_stored_as_that_of_its_rate(self) -> None:
        rates = [5.0 + n % 3 for n in range(20)] + [0.0] * 5 + [25.0] * 5
        totals = accumulate((60 * rate for rate in rates), initial=1e6)
        lines = [f"rpc {total} {START + 60 * n}" for n, total in enumerate(totals)]
        self.assertEqual(self.store_lines(lines, "", said=["rpc"]), rates)

    def test_a_message_whose_kinds_are_not_one_a_line_is_refused(self) -> None:
        body = encode_samples(SampleBatch(["a 1 60", "b 1 60"], kinds="c"))
        self.assertRaises(InvalidMessage, decode_samples, body)

    def test_the_whole_text_of_a_short_identity_is_kept(self) -> None:
        text = "http;" + ";".join(f"label{number:03d}=value" for number in range(40))
        batch = SampleBatch([f"{identity(text)} 1 {START}"], texts={identity(text): text})
        self.database.run_sync(store_batches, [batch], OPTIONS, START + 86_400.0, [])
        found = self.database.run_sync(lambda conn: conn.exec_driver_sql("SELECT text FROM metric_text").scalar())
        self.assertEqual(found, text)
