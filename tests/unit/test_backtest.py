# SPDX-License-Identifier: MIT
"""Backtests: the stored past once more, to the bit, and beside what happened."""

from __future__ import annotations

import functools
import html
import json
import re
import tempfile
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock
from xml.etree import ElementTree

import numpy as np
import pytest
from click.testing import CliRunner
from sqlalchemy import update
from twisted.trial.unittest import SynchronousTestCase

from htmengine.adapters.datasource import custom
from htmengine.adapters.datasource.custom import ModelSpec
from htmengine.alerts.calendars import DAY_S, Calendar, Window
from htmengine.alerts.configuration import NO_ALERTS, AlertOptions, Maintenance, Rule
from htmengine.cli.main import main
from htmengine.errors import InvalidModelSpec
from htmengine.evidence.scale import display_value
from htmengine.evidence.scoring import detector_for
from htmengine.history import stored
from htmengine.history.backtest import Backtest, Plan, backtest
from htmengine.history.comparison import Entry, Pair, compare
from htmengine.history.rescoring import Difference, Past, Rescored, Wanted, rescore
from htmengine.history.silences import Reports, look_times, looks_of, reports_of
from htmengine.htm.model import Model
from htmengine.htm.params import ModelParams
from htmengine.incidents import candidates, feedback
from htmengine.incidents import queries as incident_queries
from htmengine.incidents.candidates import Candidate
from htmengine.incidents.fleet import Newest
from htmengine.incidents.hold_off import Learning
from htmengine.incidents.judging import Judging, Silent, judge
from htmengine.incidents.preview import Look, PastRow
from htmengine.incidents.records import Did, Marks
from htmengine.incidents.trial import told, trial
from htmengine.offline.scores import score_rows
from htmengine.process.lifecycle import DataFolder
from htmengine.repository import counts, fine_spans, queries, results
from htmengine.repository.counts import MetricScore
from htmengine.repository.engine import Database
from htmengine.repository.fine_spans import FineSpan
from htmengine.repository.queries import MetricStatus, Score
from htmengine.repository.schema import metric_data
from htmengine.repository.snapshots import SavedModel
from htmengine.selectors import Selection
from tests.support.database import migrated, new_database

PARAMS = ModelParams.for_range(0.0, 100.0)
START = 1_700_000_000
STEP = 3600
ROWS = 370
TIMES = [START + STEP * row for row in range(ROWS)]
#: Rows are judged from then on.
SINCE = TIMES[340]
#: Days of a daily course, then two hours that are far above it.
SPIKE = 345
VALUES = [30.0 + 20.0 * ((row % 24) // 6) + row % 5 for row in range(ROWS)]
VALUES[SPIKE : SPIKE + 2] = [400.0, 410.0]
SCORES = score_rows(Model(PARAMS), detector_for(PARAMS), TIMES, VALUES)
WANTED = Wanted(START)
ALL = Rule("all", pages_per_week=5.0)


def past(first: int = 0, **changes: Any) -> Past:
    """The stored rows from a place on, as an engine scored them."""
    raws, scores = zip(*SCORES, strict=True)
    whole = Past(
        "u",
        "m",
        PARAMS,
        np.arange(1 + first, ROWS + 1),
        np.array(TIMES[first:]),
        np.array(VALUES[first:]),
        np.array(raws[first:]),
        np.array(scores[first:]),
        learnt_since=float(START),
        evidence_from=1,
        scored_to=ROWS,
    )
    return replace(whole, **changes)


def difference(found: Rescored) -> Difference:
    assert found.difference is not None
    return found.difference


class RescoringTest(SynchronousTestCase):
    def test_the_same_parameters_give_the_same_scores_to_the_bit_and_the_unusual_rows_their_reasons(self) -> None:
        found = rescore(past(), WANTED)
        self.assertEqual((found.rows, found.compared, found.difference), (ROWS, ROWS, None))
        spike = next(each for each in found.unusual if each.row.rowid == SPIKE + 1)
        self.assertEqual((spike.row.raw, spike.row.anomaly), SCORES[SPIKE])
        self.assertIn("highest in", spike.row.why.evidence[0].text)
        self.assertEqual(rescore(past(), Wanted(TIMES[-1] + 1, 0.0)).unusual, [])

    def test_a_model_that_began_with_a_snapshot_begins_with_it_again(self) -> None:
        model, detector = Model(PARAMS), detector_for(PARAMS)
        score_rows(model, detector, TIMES[:100], VALUES[:100])
        after = past(100, after=100, start=SavedModel(model.save(), detector.save()))
        self.assertEqual(rescore(after, WANTED)[5:8], (ROWS - 100, 0, None))

    def test_scores_from_before_the_evidence_are_the_likelihood_s(self) -> None:
        old = score_rows(Model(PARAMS), detector_for(PARAMS), TIMES, VALUES, sequence_only=True)
        scores = np.array([score for _, score in (*old[:200], *SCORES[200:])])
        self.assertIsNone(rescore(past(scores=scores, evidence_from=201), WANTED).difference)
        self.assertIsNotNone(rescore(past(scores=scores), WANTED).difference)

    def test_rows_that_were_called_fine_are_not_learnt_from_then_on(self) -> None:
        fine = (FineSpan("u", "i", SPIKE + 1, SPIKE + 2, after=SPIKE + 5),)
        raws, detector = np.array([raw for raw, _ in SCORES]), detector_for(PARAMS)
        learnt = [row for row in range(SPIKE + 5) if row not in {SPIKE, SPIKE + 1}]
        detector.update_many(np.array(TIMES)[learnt], np.array(VALUES)[learnt], raws[learnt])
        later = score_rows_of(detector, raws, SPIKE + 5)
        scores = np.array([*(score for _, score in SCORES[: SPIKE + 5]), *later])
        self.assertNotEqual(scores.tolist(), [score for _, score in SCORES])
        self.assertIsNone(rescore(past(scores=scores, fine=fine), WANTED).difference)
        self.assertEqual(difference(rescore(past(fine=fine), WANTED)).rowid, SPIKE + 6)

    def test_rows_of_maintenance_may_be_scored_without_being_learnt(self) -> None:
        model, detector = Model(PARAMS), detector_for(PARAMS)
        rows = list(zip(TIMES, VALUES, strict=True))
        raws = np.array([(model.score if 100 <= row < 200 else model.learn)(*rows[row]) for row in range(ROWS)])
        scores = np.array(score_rows_of(detector, raws, 0))
        unlearnt = frozenset(range(101, 201))
        self.assertIsNone(rescore(past(raws=raws, scores=scores, unlearnt=unlearnt), WANTED).difference)
        self.assertIsNotNone(rescore(past(raws=raws, scores=scores), WANTED).difference)

    def test_the_first_row_that_differs_is_told_with_both_scores_and_a_likely_reason(self) -> None:
        scores = np.array([score for _, score in SCORES])
        scores[[300, 310]] += 1e-16, 1e-12  # the first may be no change at all
        scores[299] = 0.25
        found = difference(rescore(past(scores=scores), WANTED))
        self.assertEqual((found.rowid, found.timestamp), (300, TIMES[299]))
        self.assertEqual((found.stored_score, found.score), (0.25, SCORES[299][1]))
        self.assertEqual((found.stored_raw, found.raw), (SCORES[299][0], SCORES[299][0]))
        self.assertGreaterEqual(found.rows, 2)
        self.assertIn("another release", found.reason)
        fine = (FineSpan("u", "i", 5, 4, after=7), FineSpan("u", "i", 5, 6, after=290))
        reasons = {
            "rows before row 51 are no longer stored": past(50),
            "called earlier rows fine": past(scores=scores, fine=fine),
            "2 late samples wait": past(scores=scores, late=2),
        }
        for text, case in reasons.items():
            self.assertIn(text, difference(rescore(case, WANTED)).reason)

    def test_rows_that_the_current_model_has_not_scored_are_not_compared(self) -> None:
        raws, scores = (np.array(column) for column in zip(*SCORES, strict=True))
        scores[100], raws[101], scores[360] = np.nan, np.nan, 0.5
        found = rescore(past(raws=raws, scores=scores, scored_to=350), WANTED)
        self.assertEqual(found[5:8], (348, ROWS - 350, None))
        self.assertEqual(rescore(past(compares=False), WANTED)[5:8], (0, 0, None))

    def test_rows_that_no_such_model_takes_are_refused_with_the_metric_s_name(self) -> None:
        document = PARAMS.to_json()
        document["value"] = {"type": "scalar", "minval": 0.0, "maxval": 100.0, "n": 121}
        with self.assertRaisesRegex(InvalidModelSpec, "^m: "):
            rescore(past(params=ModelParams.from_json(document)), WANTED)


def score_rows_of(detector: Any, raws: Any, first: int) -> list[float]:
    """Scores of the rows from a place on."""
    found = detector.update_many(np.array(TIMES[first:]), np.array(VALUES[first:]), raws[first:])
    return [1.0 - 10.0 ** (-5 * score / 2.6) for score in found.scores.tolist()]


def entry(at: int, *uids: str, rule: str = "all", paged: bool = True, mark: Did | None = None) -> Entry:
    return Entry(
        rule, at, at, paged, "paged" if paged else "budget", 5.0, uids[0], "", uids[0], frozenset(uids), mark=mark
    )


class ComparisonTest(SynchronousTestCase):
    def test_what_shares_time_and_a_metric_stands_side_by_side(self) -> None:
        first, second = entry(1000, "a", "b"), entry(9000, "c")
        mine, other, alone = entry(1800, "b"), entry(9000, "d"), entry(1900, "a", paged=False)
        found = compare([second, first], [mine, other, alone])
        self.assertEqual(found.pairs, [Pair(first, mine), Pair(None, alone), Pair(second, None), Pair(None, other)])

    def test_rules_that_both_sides_know_are_not_mixed_and_others_are(self) -> None:
        happened = [entry(0, "a", rule="old"), entry(0, "a", rule="all")]
        replayed = [entry(0, "a", rule="all"), entry(0, "a", rule="new")]
        pairs = compare(happened, replayed).pairs
        self.assertEqual(
            {(pair.happened and pair.happened.rule, pair.replayed and pair.replayed.rule) for pair in pairs},
            {("all", "all"), ("old", "new")},
        )

    def test_precision_is_that_of_the_pages_that_people_marked(self) -> None:
        right, fine = entry(0, "a", mark=Did.RIGHT), entry(5000, "a", mark=Did.FINE)
        lost, unmarked = entry(9000, "a", mark=Did.RIGHT), entry(20_000, "a")
        found = compare([right, fine, lost, unmarked], [right, replace(fine, paged=False), unmarked])
        self.assertEqual((found.happened.pages, found.happened.marks), (4, Marks(right=2, fine=1)))
        self.assertEqual((found.replayed.pages, found.replayed.incidents), (2, 3))
        self.assertEqual((found.replayed.marks, found.lost), (Marks(right=1), 1))


class SilencesTest(SynchronousTestCase):
    """Four metrics with a row a minute for half a day, of which one stops for two hours."""

    LOOKS = look_times(START, START + 12 * 3600)
    STOPS, BACK = START + 6 * 3600, START + 8 * 3600

    def reports(self, uid: str) -> Reports:
        rows = [at for at in range(START, START + 12 * 3600, 60) if uid != "a" or not self.STOPS <= at < self.BACK]
        return reports_of(uid, f"web.{uid}", np.arange(1000, 1000 + len(rows)), np.array(rows), self.LOOKS)

    def looks(self, *rules: Rule) -> Mapping[str, Sequence[Look]]:
        metrics = [self.reports(uid) for uid in "abcd"]
        return looks_of(rules, metrics, self.LOOKS.tolist(), lambda uid, until: [START, START + 60, START + 120])

    def test_one_that_stops_while_others_go_on_is_silent_until_it_is_back(self) -> None:
        stopped, back = self.looks(ALL)["all"]
        self.assertEqual([(each.uid, each.kind, each.rowid) for each in stopped.alarms], [("a", "silence", 1359)])
        self.assertTrue(self.STOPS + 540 <= stopped.at <= self.STOPS + 720, stopped.at - self.STOPS)
        self.assertEqual((stopped.silent, back.silent, back.alarms), ({"a"}, frozenset(), ()))
        self.assertTrue(self.BACK <= back.at <= self.BACK + 60)

    def test_a_rule_has_its_own_time_and_its_own_metrics(self) -> None:
        patient = Rule("patient", pages_per_week=5.0, silence=3600.0)
        none, other = (
            Rule("none", pages_per_week=5.0, silence=None),
            Rule("other", metrics=("db.*",), pages_per_week=5.0),
        )
        looks = self.looks(patient, none, other, Rule("threshold"))
        self.assertEqual({name: len(each) for name, each in looks.items()}, {"patient": 2, "none": 0, "other": 0})
        self.assertGreaterEqual(looks["patient"][0].at, self.STOPS + 3540)

    def test_a_silence_is_an_incident_that_lasts_until_the_metric_is_back(self) -> None:
        [entry] = told(ALL, [], {}, 4, looks=self.looks(ALL)["all"])
        self.assertEqual((entry.title, entry.paged, entry.height), ("web.a", True, 7.0))
        self.assertIn("no samples for", entry.reason)


def fill(database: Database) -> str:
    """A metric with its rows and scores, of which a rule has made an incident that somebody called right; its uid."""
    made, _ = database.run_sync(custom.monitor_metric, ModelSpec.for_name("web.load", min=0, max=100), 288)
    database.run_sync(queries.create_metrics, [replace(made, uid="w" * 32, name="waiting")])
    rows = [(made.uid, number, at, value) for number, (at, value) in enumerate(zip(TIMES, VALUES, strict=True), 1)]
    database.run_sync(queries.insert_samples, rows)
    database.run_sync(queries.update_tails, [(made.uid, ROWS, TIMES[-1])])
    scores = [
        Score(*row, raw, anomaly, display_value(anomaly)) for row, (raw, anomaly) in zip(rows, SCORES, strict=True)
    ]
    database.run_sync(queries.save_scores, scores)
    generation = made.definition.generation if made.definition else 0
    database.run_sync(counts.save_scores, [MetricScore(made.uid, generation, ROWS, ROWS, evidence_from=1)])
    for each in unusual(made.uid):
        about = Judging(ALL, 1, AlertOptions(NO_ALERTS, ""), float(each.row.timestamp))
        candidate = Candidate(each.uid, each.metric, each.row, each.row.why.height)
        database.run_sync(judge, about, [candidate])
    return made.uid


@functools.cache
def filled() -> tuple[bytes, str]:
    """A database's file, and the metric's uid."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "db"
        path.write_bytes(migrated())
        database = Database(f"sqlite:///{path}")
        uid = fill(database)
        database.close()
        return path.read_bytes(), uid


def unusual(uid: str) -> Sequence[PastRow]:
    return rescore(past(uid=uid, name="web.load"), WANTED).unusual


@pytest.mark.long
class BacktestTest(SynchronousTestCase):
    def setUp(self) -> None:
        self.database, self.uid = self.filled_database("backtest", fill)

    def filled_database(self, _key: Hashable, _fill: Callable[[Database], str]) -> tuple[Database, str]:
        """One that is filled; the integration tests have the same tests on servers."""
        content, uid = filled()
        return new_database(self, content), uid

    def run_(self, rule: Rule = ALL, selection: str = "*", **options: Any) -> Backtest:
        plan = Plan(Selection.of((selection,)), SINCE, TIMES[-1], [rule], **options)
        return backtest(self.database, plan, 1, lambda _: None, lambda _: None)

    def test_the_same_rule_and_parameters_do_what_happened(self) -> None:
        found = self.run_()
        self.assertEqual((found.metrics, found.unmodelled, found.rows), (1, 1, ROWS))
        self.assertEqual((found.compared, found.differing, found.complete), (ROWS, 0, True))
        [pair] = [pair for pair in found.comparison.pairs if pair.either.paged]
        assert pair.happened
        assert pair.replayed
        about = [(each.timestamp, each.until, each.height, each.uids) for each in (pair.happened, pair.replayed)]
        self.assertEqual(about[0], about[1])
        self.assertEqual(pair.happened.timestamp, TIMES[SPIKE])

    def test_marks_give_both_sides_their_precision(self) -> None:
        [incident] = self.database.run_sync(incident_queries.list_incidents)
        self.database.run_sync(feedback.mark, incident.id, Did.FINE, "ada", float(TIMES[-1]), "")
        self.database.run_sync(feedback.mark, incident.id, Did.RIGHT, "ada", float(TIMES[-1]), "")
        found = self.run_().comparison
        self.assertEqual((found.happened.marks, found.replayed.marks), (Marks(right=1), Marks(right=1)))
        quiet = self.run_(Rule("all", metrics=("none",), pages_per_week=5.0)).comparison
        self.assertEqual((quiet.replayed.pages, quiet.lost), (0, 1))

    def test_other_parameters_are_not_compared(self) -> None:
        found = self.run_(changes={"temporal": {"max_inference": 10}})
        self.assertEqual((found.rows, found.compared, found.waiting, found.differing), (ROWS, 0, 0, 0))
        with self.assertRaisesRegex(InvalidModelSpec, "web.load: params.temporal.x: no such parameter"):
            self.run_(changes={"temporal": {"x": 10}})

    def test_a_metric_that_no_such_model_takes_is_told_and_harms_nothing(self) -> None:
        scalar = {"minval": 0.0, "maxval": 100.0, "n": 121, "w": 21, "type": "scalar"}
        found = self.run_(changes={"value": scalar})
        self.assertEqual((found.metrics, len(found.failed)), (0, 1))

    def test_silences_maintenance_and_what_was_called_fine_page_nobody(self) -> None:
        at = float(TIMES[SPIKE])
        window = Calendar(lambda since, until: iter([Window(at - DAY_S, at + DAY_S)]))
        maintained = self.run_(maintenance=[Maintenance(windows=window)]).comparison.replayed
        self.assertEqual((maintained.pages, maintained.incidents > 0), (0, True))
        self.database.run_sync(incident_queries.add_silence, ("web.*",), at - 60, at + DAY_S, "ada", "", at - 60)
        self.assertEqual(self.run_().comparison.replayed.pages, 0)

    def test_what_is_like_a_fine_one_pages_nobody(self) -> None:
        span = FineSpan(self.uid, "i", 5, 4, after=SPIKE - 1, direction="up", height=9.0)
        self.database.run_sync(fine_spans.put, [span])
        self.assertEqual(self.run_().comparison.replayed.pages, 0)

    def test_a_rule_with_a_threshold_stands_beside_the_incidents(self) -> None:
        found = self.run_(Rule("old", threshold=0.999))
        self.assertTrue(any(pair.happened and pair.replayed for pair in found.comparison.pairs))
        outside = Rule("range", pages_per_week=5.0, valid_range=(0.0, 300.0), direction="down")
        self.assertEqual(self.run_(outside).comparison.replayed.pages, 1)
        with mock.patch(f"{candidates.__name__}.learning", return_value=Learning(0.5, 0.0)):
            self.assertEqual(self.run_(outside).comparison.replayed.pages, 1)

    def test_a_threshold_does_not_look_at_rows_that_tell_the_range_and_a_range_that_is_given_does(self) -> None:
        definition = self.database.run_sync(queries.get_metric, self.uid).definition
        assert definition is not None
        listed = [(each.uid, each.row) for each in unusual(self.uid)]
        self.database.run_sync(results.save_anomalies, listed, 0.9)
        high, ranged = Rule("old", threshold=0.9), Rule("old", threshold=0.9, valid_range=(0.0, 300.0))
        for early, pages in ((0, (True, True)), (ROWS, (False, True))):
            model = replace(definition, early=early)
            self.database.run_sync(queries.set_definition, self.uid, model, MetricStatus.ACTIVE)
            replayed = tuple(self.run_(rule).comparison.replayed.pages > 0 for rule in (high, ranged))
            tried = [self.database.read_sync(trial, rule, SINCE, NO_ALERTS) for rule in (high, ranged)]
            self.assertEqual((replayed, tuple(each.pages > 0 for each in tried)), (pages, pages))
            self.assertEqual({each.usual > 0 for each in tried}, {early == 0})

    def test_rows_without_a_score_are_outside_no_range_as_rules_hear_of_scored_ones_only(self) -> None:
        asked = {self.uid: "web.load"}, (0.0, 300.0), SINCE, 10
        found = self.database.read_sync(incident_queries.rows_outside, *asked)
        self.assertEqual([each.row.value for each in found], [400.0, 410.0])
        self.database.run_sync(lambda conn: conn.execute(update(metric_data).values(anomaly_score=None)))
        self.assertEqual(self.database.read_sync(incident_queries.rows_outside, *asked), [])

    def test_of_too_many_unusual_rows_the_newest_are_judged_which_is_told(self) -> None:
        with mock.patch("htmengine.history.backtest.MOST_ROWS", 1):
            found = self.run_(Rule("old", threshold=0.9))
        self.assertFalse(found.complete)
        replayed = [pair.replayed for pair in found.comparison.pairs if pair.replayed]
        self.assertEqual(len(replayed), 1)

    def test_incidents_of_metrics_that_fell_silent_count_unless_there_are_too_many_looks(self) -> None:
        newest = Newest(self.uid, "web.load", 360, TIMES[359])
        about = Judging(ALL, 1, AlertOptions(NO_ALERTS, ""), float(TIMES[365]))
        self.database.run_sync(judge, about, [], [Silent(newest, "no samples")])
        with_them = self.run_()
        self.assertTrue(with_them.silences)
        with mock.patch("htmengine.history.backtest.MOST_LOOKS", 10):
            without = self.run_()
        self.assertEqual(with_them.comparison.happened.incidents, without.comparison.happened.incidents + 1)
        self.assertFalse(without.silences)

    def test_the_times_of_rows_are_those_up_to_a_time(self) -> None:
        with mock.patch("htmengine.history.stored.STUDIED_ROWS", 3):
            times = self.database.read_sync(stored.times_until, self.uid, TIMES[9] + 1)
        self.assertEqual(times, TIMES[7:10])

    def test_only_selected_metrics_count(self) -> None:
        found = self.run_(selection="db.*")
        self.assertEqual((found.metrics, found.comparison.pairs), (0, []))


class CommandTest(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).resolve()
        data = DataFolder(self.folder)
        data.make()
        (self.folder / "htmengine.db").write_bytes(filled()[0])
        self.database = Database(data.database_url)
        self.addCleanup(self.database.close)

    def command(self, *words: str, status: int = 0) -> str:
        words = ("backtest", "--since", str(SINCE), "--jobs", "1", "--data-dir", str(self.folder), *words)
        done = CliRunner().invoke(main, words)
        self.assertEqual(done.exit_code, status, f"{done.output}{done.exception!r}")
        return done.output

    def file(self, name: str, text: str) -> str:
        path = self.folder / name
        path.write_text(text)
        return str(path)

    def test_a_line_an_incident_and_the_totals(self) -> None:
        lines = self.command().splitlines()
        self.assertIn("paged     paged", lines[1])
        self.assertIn("web.load", lines[1])
        self.assertEqual(
            lines[-2], f"scores: {ROWS} rows of 1 metrics; {ROWS} of {ROWS} equal the stored ones to the bit"
        )
        self.assertEqual(lines[-1], "1 metrics without a model are left out")

    def test_a_selector_of_no_metric_is_an_error(self) -> None:
        self.assertIn("nobody.*: no metric with rows is selected", self.command("nobody.*", status=1))

    def test_as_json_with_other_rules_and_parameters(self) -> None:
        rules = self.file("rules.conf", "[alert:all]\nmetrics = db.*\npages_per_week = 1\n")
        params = self.file("params.json", '{"temporal": {"max_inference": 10}}')
        found = json.loads(self.command("--json", "--rules", rules, "--params", params))
        self.assertEqual((found["happened"]["pages"], found["replayed"]["pages"]), (1, 0))
        self.assertEqual((found["rows"], found["rows_compared"]), (ROWS, 0))
        self.assertEqual(found["incidents"][0]["happened"]["title"], "web.load")

    @pytest.mark.long
    def test_other_windows_of_maintenance(self) -> None:
        calendar = self.file("calendar.conf", "[maintenance:all]\ncron = 0 0 * * *\nfor_s = 86400\n")
        lines = self.command("--calendar", calendar).splitlines()
        self.assertIn("paged     no page", lines[1])

    def test_a_report_has_the_summary_and_a_picture_of_each_incident(self) -> None:
        page = self.folder / "report.html"
        lines = self.command("--html", str(page)).splitlines()
        text = page.read_text()
        self.assertIn(html.escape("\n".join(lines)), text)
        drawn = [ElementTree.fromstring(part + "</svg>") for part in re.findall("(?s)<svg.*?(?=</svg>)", text)]
        self.assertEqual(len(drawn), len(lines) - 5)
        lines_of = {line.get("class"): line.get("x1") for line in drawn[0].findall("line")}
        self.assertEqual(set(lines_of), {"happened", "alarm"})
        self.assertEqual(lines_of["happened"], lines_of["alarm"])
        self.assertNotIn("<script", text)

    def test_files_that_cannot_be_read_are_named(self) -> None:
        wrong = self.file("params.json", "{")
        self.assertIn("params.json is no JSON", self.command("--params", wrong, status=1))
        wrong = self.file("params.json", "[]")
        self.assertIn("an object of parameters is allowed", self.command("--params", wrong, status=1))
        wrong = self.file("calendar.conf", "[alert:a]\npages_per_week = 1\n")
        self.assertIn("only [maintenance:NAME] is allowed", self.command("--calendar", wrong, status=1))

    @pytest.mark.long
    def test_rows_that_wait_for_their_model_are_told(self) -> None:
        metric = self.database.run_sync(queries.find_metric, "web.load")
        start = MetricScore(metric.uid, metric.definition.generation if metric.definition else 0, 300, evidence_from=1)
        self.database.run_sync(counts.start_scores, start)
        self.assertIn("300 of 300 equal the stored ones to the bit; 70 wait for their model", self.command())

    def test_a_score_that_differs_is_told(self) -> None:
        uid = self.database.run_sync(queries.find_metric, "web.load").uid
        self.database.run_sync(
            queries.save_scores, [Score(uid, 300, TIMES[299], VALUES[299], SCORES[299][0], 0.25, 0.0)]
        )
        self.assertIn("the first is row 300", self.command())
