# SPDX-License-Identifier: MIT
"""Samples in another order than that of their times: those within the window are sorted, later ones are kept."""

from __future__ import annotations

import dataclasses
import itertools
import math
import random
from collections.abc import Iterable
from typing import NamedTuple
from unittest import TestCase

import pytest

from htmengine.cadence import FIRM, Cadence, cadence_of
from htmengine.ledger import read_ledger
from htmengine.messages import SampleBatch
from htmengine.repository import counts, late_samples, queries
from htmengine.runtime.late_window import MOST_WAITING, LateWindow, take
from htmengine.runtime.storing import Stored, StorerOptions, store_batches
from htmengine.sharding import ShardQueues
from tests.support.database import new_database

OPTIONS = StorerOptions("samples", ShardQueues("shard.", 4), auto_monitor=False, pending_samples=5)
NOW = 1_000_000.0


class CadenceTest(TestCase):
    def test_a_metric_that_changes_its_cadence_waits_for_a_few_rows_only(self) -> None:
        cadence = cadence_of(range(0, 6000, 60))
        jumps = []
        for _ in range(20):
            jumps.append(cadence.jumps(300))
            cadence = cadence.after(300)
        self.assertLess(sum(jumps), 4)
        self.assertEqual(cadence.interval, 300)

    def test_a_connection_that_is_ahead_from_the_start_waits_after_a_few_late_samples(self) -> None:
        for ahead in (1, 3):
            rows, late = _arrive(each for time in range(100, 200, 2) for each in (time + ahead, time))
            self.assertLess(len(late), 15)
            self.assertLess(max(late), 130)
            self.assertEqual(rows[-25:], list(range(rows[-25], rows[-25] + 25)))

    def test_samples_from_long_ago_do_not_change_a_cadence(self) -> None:
        cadence = cadence_of(range(0, 6000, 60))
        for old in range(5000):
            cadence = cadence.after_late(5940, old)
        self.assertEqual(cadence, Cadence(60, FIRM))

    def test_the_window_is_two_intervals_and_a_minute_at_most(self) -> None:
        window = LateWindow()
        waits = [window.wait_s(Cadence(interval, 12)) for interval in (1, 10, 300)]
        self.assertEqual((waits, window.wait_s(Cadence(10, 2))), ([2.0, 20.0, 60.0], 0.0))


class Arrived(NamedTuple):
    """A sample that waits for ever, if it has to."""

    timestamp: int
    due_at: float = math.inf


def _arrive(times: Iterable[int]) -> tuple[list[int], list[int]]:
    """The times of rows, and of samples that came late, when one sample comes after the other."""
    rows: list[int] = []
    late: list[int] = []
    cadence = Cadence()
    waiting: list[Arrived] = []
    for time in times:
        waiting = sorted([*waiting, Arrived(time)])
        count, cadence = take(rows[-1] if rows else None, cadence, waiting, NOW)
        for each in waiting[:count]:
            (late if rows and each.timestamp < rows[-1] else rows).append(each.timestamp)
        waiting = waiting[count:]
    return rows, late


class OrderTest(TestCase):
    def setUp(self) -> None:
        self.database = new_database(self)
        self.ids = itertools.count()

    def store(self, *samples: int, options: StorerOptions = OPTIONS, now: float = NOW) -> Stored:
        """Samples of one metric by their minutes, in one batch; their values are the minutes."""
        batch = SampleBatch([f"m {minute} {60 * minute}" for minute in samples], f"batch {next(self.ids)}")
        stored = self.database.run_sync(store_batches, [batch], options, now, [])
        self.assertTrue(self.database.run_sync(read_ledger, None).adds_up)
        self.assertTrue(self.database.run_sync(read_ledger, "m").adds_up)
        return stored

    def release(self, now: float) -> list[str]:
        due = self.database.run_sync(late_samples.metrics_due, now, 10)
        self.database.run_sync(lambda conn: store_batches(conn, [], OPTIONS, now, [], due=due))
        return due

    def uid(self) -> str:
        return self.database.run_sync(queries.find_metrics, ["m"])["m"].uid

    def rows(self) -> list[float]:
        rows = self.database.run_sync(queries.get_rows, self.uid(), 0, 5000)
        self.assertEqual([row.rowid for row in rows], list(range(1, len(rows) + 1)))
        self.assertEqual([row.timestamp for row in rows], [60 * row.value for row in rows])
        return [row.value for row in rows]

    def test_a_sample_that_jumps_waits_for_those_in_between(self) -> None:
        self.store(*range(20))
        self.assertEqual(self.store(25).stored, 0)
        self.assertEqual(self.store(20, 21).stored, 2)
        self.assertEqual(self.store(23, 24, 22).stored, 4)
        self.assertEqual(self.rows(), list(range(26)))
        self.assertFalse(self.database.run_sync(late_samples.any_held))

    def test_a_sample_waits_no_longer_than_the_window(self) -> None:
        self.store(*range(20))
        self.store(25)
        self.store(26, now=NOW + 30)
        self.assertEqual((self.release(NOW + 59.9), self.rows()), ([], list(range(20))))
        self.assertEqual((self.release(NOW + 60), self.rows()), (["m"], [*range(20), 25, 26]))

    @pytest.mark.long
    def test_samples_in_order_and_those_of_metrics_without_a_cadence_never_wait(self) -> None:
        self.assertEqual(self.store(0, 1, 5, 6, 100).stored, 5)
        self.assertEqual(self.store(200).stored, 1)
        self.assertEqual(sum(self.store(minute).stored for minute in range(201, 240)), 39)

    def test_without_a_window_nothing_waits(self) -> None:
        options = dataclasses.replace(OPTIONS, late_window=LateWindow(most_s=0))
        self.store(*range(20), options=options)
        self.assertEqual(self.store(25, options=options).stored, 1)

    def test_a_backlog_with_gaps_is_not_held_up(self) -> None:
        self.store(*range(20))
        self.assertEqual(self.store(*range(30, 31 + MOST_WAITING)).stored, MOST_WAITING + 1)

    def test_a_redelivered_batch_does_not_wait_twice(self) -> None:
        self.store(*range(20))
        self.store(25)
        self.ids = itertools.count(1)
        self.store(25)
        self.assertEqual(self.database.run_sync(late_samples.count_held), 1)

    def test_what_comes_later_than_the_window_is_kept_once(self) -> None:
        self.store(*range(0, 40, 2), options=OPTIONS)
        self.assertEqual((self.store(5, 3, 5, 4).late, self.store(3).late), (2, 0))
        ledger = self.database.run_sync(read_ledger, "m")
        self.assertEqual((ledger.late, ledger.stored, ledger.rejected), (2, 20, {"timestamp_duplicate": 3}))

    def test_late_samples_are_bounded_and_the_others_counted(self) -> None:
        options = dataclasses.replace(OPTIONS, late_samples=3)
        self.store(*range(0, 40, 2), options=options)
        self.store(1, 3, 5, 7, 9, options=options)
        self.assertEqual(self.database.run_sync(counts.get_rejects, self.uid()), {"timestamp_old": 2})
        self.assertEqual(self.database.run_sync(late_samples.count_late), 3)

    @pytest.mark.long
    def test_two_connections_of_which_one_overtakes_lose_nothing(self) -> None:
        chance = random.Random(1)
        self.store(*range(10))
        first, second = list(range(10, 400)), list(range(400, 420))
        while first or second:
            source = first if first and (not second or chance.random() < 0.5) else second
            count = chance.randrange(1, 30)
            self.store(*source[:count])
            del source[:count]
        self.assertEqual(self.rows(), list(range(420)))

    def send(self, *lines: str, same_time: str, now: float = NOW) -> Stored:
        options = dataclasses.replace(OPTIONS, late_window=LateWindow(same_time=same_time))
        due = self.database.run_sync(late_samples.metrics_due, now, 10)
        batch = SampleBatch(list(lines), f"batch {next(self.ids)}")
        stored = self.database.run_sync(lambda conn: store_batches(conn, [batch], options, now, [], due=due))
        self.assertTrue(self.database.run_sync(read_ledger, "m").adds_up)
        return stored

    def values(self) -> list[float]:
        return [row.value for row in self.database.run_sync(queries.get_rows, self.uid(), 0, 100)]

    def test_of_samples_with_the_same_time_the_last_may_count(self) -> None:
        self.send("m 1 60", "m 2 60", same_time="last")
        done = self.send("m 3 60", "m 4 120", same_time="last")
        self.assertEqual((self.values(), dict(done.rejected)), ([3.0], {"timestamp_duplicate": 2}))
        self.send(same_time="last", now=NOW + 60)
        self.assertEqual(self.values(), [3.0, 4.0])

    def test_samples_with_the_same_time_may_be_summed(self) -> None:
        self.send("m 1 60", "m 2 60", same_time="sum")
        done = self.send("m 3 60", "m 4 120", same_time="sum")
        self.assertEqual((self.values(), dict(done.rejected)), ([6.0], {"timestamp_summed": 2}))
        self.send(same_time="sum", now=NOW + 60)
        self.assertEqual(dict(self.send("m 5 120", same_time="sum").rejected), {"timestamp_duplicate": 1})
        self.assertEqual(self.values(), [6.0, 4.0])
