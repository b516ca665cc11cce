# SPDX-License-Identifier: MIT
"""Gaps are filled as the rules say: the same rows live, in a rebuild, and without an engine."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Sequence
from dataclasses import replace
from unittest import TestCase

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, insert, select

from htmengine.adapters.datasource import custom
from htmengine.errors import InvalidRule
from htmengine.gaps import HOLD, LINEAR, MOST_ROWS, Filler, Filling, GapRules, Row, parse_filling
from htmengine.ledger import Ledger, read_ledger
from htmengine.messages import ModelInput, SampleBatch, decode_model_message
from htmengine.offline.scores import accept
from htmengine.offline.streaming import AnomalyScorer
from htmengine.repository import joining, old_rows, queries, schema
from htmengine.repository.joining import JoinRules
from htmengine.repository.row_spans import filled_rows
from htmengine.runtime.late_window import LateWindow
from htmengine.runtime.storing import Stored, StorerOptions, store_batches
from htmengine.sharding import ShardQueues
from htmengine.web import api
from tests.support.database import new_database

NOW = 10_000_000
STEADY: list[Row] = [(60 * place, float(place)) for place in range(20)]
LINES = GapRules(["linear 5 *"])
OPTIONS = StorerOptions(
    "samples",
    ShardQueues("shard.", 4),
    auto_monitor=True,
    pending_samples=10,
    late_window=LateWindow(0, 0),
    gaps=LINES,
)


def filled(rows: Sequence[Row], filling: Filling) -> list[Row]:
    filler = Filler(filling)
    return [each for row in rows for each in (*filler.before(row), row)]


class FillerTest(TestCase):
    def test_a_gap_is_filled_along_a_line_or_with_the_last_value(self) -> None:
        rows = [*STEADY, (1320, 23.0)]
        self.assertEqual(filled(rows, Filling(LINEAR, 2))[20:], [(1200, 20 + 1 / 3), (1260, 21 + 2 / 3), (1320, 23.0)])
        self.assertEqual(filled(rows, Filling(HOLD, 2))[20:], [(1200, 19.0), (1260, 19.0), (1320, 23.0)])

    def test_a_longer_gap_is_skipped_and_the_next_short_one_is_filled(self) -> None:
        rows = [*STEADY, (1380, 1.0), (1440, 1.0), (1560, 3.0)]
        self.assertEqual(filled(rows, Filling(LINEAR, 2))[20:], [(1380, 1.0), (1440, 1.0), (1500, 2.0), (1560, 3.0)])

    def test_a_metric_without_a_steady_step_has_no_gaps(self) -> None:
        rows = [(100 * place + (37 * place % 90), 1.0) for place in range(50)]
        self.assertEqual(filled(rows, Filling(HOLD, MOST_ROWS)), rows)

    def test_another_pace_is_filled_up_for_a_few_rows_only(self) -> None:
        rows = [*STEADY, *((1140 + 300 * place, 1.0) for place in range(1, 30))]
        filler = Filler(Filling(HOLD, 5))
        filled = [len(filler.before(row)) for row in rows][20:]
        self.assertEqual(filled, [4] * 3 + [0] * 26)

    def test_times_that_are_not_whole_steps_are_shared_out(self) -> None:
        rows = [*STEADY, (1140 + 185, 1.0)]
        self.assertEqual([timestamp for timestamp, _ in filled(rows, Filling(HOLD, 5))[20:]], [1201, 1263, 1325])

    def test_the_greatest_numbers_stay_finite(self) -> None:
        most = 1.7e308
        values = [Filling(LINEAR, 1).value(-most, most, part) for part in (0.0, 0.25, 0.5, 1.0)]
        self.assertTrue(all(map(math.isfinite, values)))
        self.assertEqual(values, sorted(values))
        self.assertEqual(Filling(LINEAR, 1).value(0.1, 0.1, 1 / 3), 0.1)


class RulesTest(TestCase):
    def test_the_first_rule_that_takes_a_metric_counts(self) -> None:
        rules = GapRules(['hold 3 {dc="a", host="x y"}', "skip *.batch", "linear 12 *"])
        names = ("cpu;dc=a;host=x y", "a.batch", "cpu;dc=b")
        self.assertEqual([*map(rules.filling_of, names)], [Filling(HOLD, 3), None, Filling(LINEAR, 12)])

    def test_a_rule_that_cannot_be_read_says_what_is_allowed(self) -> None:
        for text in (
            "hold",
            "hold 3",
            "linear *",
            "hold 0 *",
            f"hold {MOST_ROWS + 1} *",
            "skip",
            "cubic 3 *",
            "hold x *",
        ):
            with self.subTest(text), self.assertRaisesRegex(InvalidRule, "hold ROWS, linear ROWS"):
                GapRules([text])
        for text in ("", "hold", "skip 3", "linear 1 2"):
            with self.subTest(text), self.assertRaisesRegex(InvalidRule, "are allowed"):
                parse_filling(text)


def value_of(timestamp: int) -> float:
    return float(timestamp // 60 * 7 % 11)


class StoredTestCase(TestCase):
    def setUp(self) -> None:
        self.database = new_database(self)
        self.ids = itertools.count()

    def send(self, times: Sequence[int], name: str = "m", options: StorerOptions = OPTIONS) -> Stored:
        batch = SampleBatch([f"{name} {value_of(each)} {each}" for each in times], f"{next(self.ids)}")
        return self.database.run_sync(store_batches, [batch], options, NOW, [])

    def load(self, times: Sequence[int], name: str = "m") -> int:
        return self.database.run_sync(joining.stage, self.uid(name), [(each, value_of(each)) for each in times])

    def rebuild(self, name: str = "m", gaps: GapRules = LINES) -> None:
        def change(conn: Connection) -> None:
            metric = queries.find_metric(conn, name, lock=True)
            custom.rebuild_metric(conn, metric, 10, NOW, JoinRules(gaps=gaps))

        self.database.run_sync(change)

    def uid(self, name: str = "m") -> str:
        return self.database.run_sync(queries.find_metrics, [name])[name].uid

    def rows(self, name: str = "m") -> list[tuple[int, int, float]]:
        rows = self.database.run_sync(queries.get_rows, self.uid(name), 0, 5000)
        return [(row.rowid, row.timestamp, row.value) for row in rows]

    def filled(self, name: str = "m") -> list[int]:
        return sorted(self.database.run_sync(filled_rows.among, self.uid(name), 1, 5000))

    def ledger(self) -> Ledger:
        for name in (None, "m"):
            ledger = self.database.run_sync(read_ledger, name)
            self.assertTrue(ledger.adds_up, ledger)
        return ledger


def as_rows(times: Sequence[int]) -> list[tuple[int, int, float]]:
    """What an engine stores of samples that come in order, by the function that `htmengine score` uses."""
    rows = accept((each, value_of(each)) for each in times).filled(Filling(LINEAR, 5))
    return [(place, *row) for place, row in enumerate(zip(rows.timestamps, rows.values, strict=True), 1)]


class StoredTest(StoredTestCase):
    def test_the_row_after_a_gap_brings_the_rows_that_fill_it(self) -> None:
        self.send(range(0, 1200, 60))
        done = self.send([1320])
        self.assertEqual((done.stored, done.filled), (3, 2))
        times = [*range(0, 1200, 60), 1320]
        self.assertEqual(self.rows(), as_rows(times))
        self.assertEqual(self.filled(), [21, 22])
        fed = decode_model_message(done.outbox[0].body)
        assert isinstance(fed, list)
        self.assertEqual([row.rowid for each in fed if isinstance(each, ModelInput) for row in each.rows], [21, 22, 23])
        self.assertEqual(self.ledger().filled, 2)

    def test_a_plot_names_the_gaps_that_rows_fill(self) -> None:
        self.send([*range(0, 1200, 60), 1320, 1380, 1560])
        plot = self.database.run_sync(api._plot, "m", None, None, 100)
        self.assertEqual((plot["filled"], plot["rows"]), ([(1140, 1320), (1380, 1560)], 27))
        self.assertEqual(self.database.run_sync(api._plot, "m", 1400, 1500, 100)["filled"], [(1380, 1560)])
        self.assertEqual(self.database.run_sync(api._plot, "m", 0, 600, 100)["filled"], [])

    def test_metrics_without_a_rule_are_as_they_were(self) -> None:
        options = replace(OPTIONS, gaps=GapRules(["linear 5 web.*"]))
        self.send([*range(0, 1200, 60), 1320], options=options)
        self.assertEqual((len(self.rows()), self.filled()), (21, []))

    def test_a_late_sample_takes_the_place_of_a_row_that_fills_its_gap(self) -> None:
        times = [*range(0, 1200, 60), 1320, 1380]
        self.send(times)
        self.assertEqual(self.send([1260]).late, 1)
        self.rebuild()
        self.assertEqual(self.rows(), as_rows(sorted([*times, 1260])))
        self.assertEqual((self.filled(), self.ledger().late), ([21], 0))

    def test_a_rebuild_fills_as_the_rules_say_by_then(self) -> None:
        times = [*range(0, 1200, 60), 1320]
        self.send(times)
        self.rebuild(gaps=GapRules())
        self.assertEqual(([at for _, at, _ in self.rows()], self.filled()), (times, []))
        self.ledger()
        self.rebuild()
        self.assertEqual((self.rows(), self.filled()), (as_rows(times), [21, 22]))
        self.ledger()

    def test_rowids_that_others_keep_follow_their_rows_down_and_up(self) -> None:
        self.send([*range(0, 1200, 60), 1320, *range(1380, 2000, 60)])
        verdicts = [
            {"rule": "one", "uid": self.uid(), "rowid": rowid, "kind": "x", "timestamp": 1, "height": 9.0}
            | {"verdict": "page"}
            for rowid in (20, 21, 22, 23, 24)
        ]
        self.database.run_sync(lambda conn: conn.execute(insert(schema.alarm_verdict), verdicts))
        self.rebuild(gaps=GapRules())
        self.assertEqual(self.verdicts(), [20, 21, 22])
        self.rebuild()
        self.assertEqual(self.verdicts(), [20, 23, 24])

    def verdicts(self) -> list[int]:
        c = schema.alarm_verdict.c
        return self.database.run_sync(lambda conn: list(conn.execute(select(c.rowid).order_by(c.rowid)).scalars()))

    def test_what_is_said_of_old_rows_goes_with_them(self) -> None:
        self.send([*range(0, 1200, 60), *range(1320, 6000, 60)])
        self.database.run_sync(lambda conn: conn.execute(schema.metric_score.update().values(rowid=90)))
        self.database.run_sync(lambda conn: old_rows.remove(conn, after="", before=2000, keep=1, most=5000))
        self.assertEqual(self.filled(), [])


@pytest.mark.long
class OrderTest(StoredTestCase):
    @settings(max_examples=8, deadline=None)
    @given(st.integers(0, 2**32))
    def test_any_order_ends_in_the_filled_rows_of_the_sorted_series(self, seed: int) -> None:
        chance = random.Random(seed)
        name = f"m{next(self.ids)}"
        times = sorted(chance.sample([60 * place + chance.choice([0, 0, 1]) for place in range(100)], 85))
        left = [*times]
        for _ in range(chance.randrange(30)):
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
        self.rebuild(name)
        self.assertEqual(self.rows(name), as_rows(times))
        measured = set(times)
        self.assertEqual(self.filled(name), [rowid for rowid, at, _ in self.rows(name) if at not in measured])
        self.assertTrue(self.database.run_sync(read_ledger, None).adds_up)


class OfflineTest(TestCase):
    def test_a_scorer_runs_the_rows_that_fill_gaps(self) -> None:
        times = [*range(0, 18_000, 60), *range(18_300, 21_000, 60)]
        asked = AnomalyScorer(minimum=0, maximum=11, fill_gaps="linear 5")
        given = AnomalyScorer(minimum=0, maximum=11)
        scores = {each: asked.score_one({"timestamp": each, "value": value_of(each)}) for each in times}
        rows = [(at, value) for _, at, value in as_rows(times)]
        expected = {at: given.score_one({"timestamp": at, "value": value}) for at, value in rows}
        self.assertGreater(len(expected), len(scores))
        self.assertEqual(scores, {at: expected[at] for at in times})
        self.assertTrue(np.any([*scores.values()]))
