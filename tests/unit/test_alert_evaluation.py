# SPDX-License-Identifier: MIT
"""When rules fire and when that is over: whole lists of instructions."""

from __future__ import annotations

from dataclasses import replace
from unittest import TestCase

from hypothesis import given
from hypothesis import strategies as st

from htmengine.alerts.calendars import Calendar, Window
from htmengine.alerts.configuration import Maintenance, Rule
from htmengine.alerts.evaluation import (
    AlertState,
    Change,
    Fire,
    Instruction,
    MetricFacts,
    Phase,
    Resolve,
    Scored,
    decide,
    evaluate,
    in_maintenance,
    keys_of_interest,
    matches,
    review,
    unlearnt_window,
    worth_storing,
)
from htmengine.alerts.rule_index import RuleIndex
from htmengine.messages import ScoredRow

RULE = Rule("load", metrics=("web.*",), threshold=0.999, rows=2, window_s=600, cooldown_s=3600, max_age_s=0)
FRESH = AlertState("load", "uid")
FEWER = "fewer than 2 anomalous rows in the last 600 s"


def row(rowid: int, anomaly: float, minute: int | None = None) -> ScoredRow:
    """A row a minute."""
    return ScoredRow(rowid, 60 * (rowid if minute is None else minute), 1.0, 0.5, anomaly)


def run(rule: Rule, state: AlertState, *rows: ScoredRow, now: float = 0.0) -> tuple[AlertState, list[Instruction]]:
    return evaluate(rule, state, rows, now)


class EvaluateTest(TestCase):
    def test_it_fires_with_the_nth_row_within_the_window(self) -> None:
        state, instructions = run(RULE, FRESH, row(1, 0.9999), row(2, 0.1))
        self.assertEqual((state.phase, state.hits, instructions), (Phase.RESOLVED, (60,), []))
        state, instructions = run(RULE, state, row(3, 0.999))
        self.assertEqual(state, AlertState("load", "uid", Phase.FIRING, 3, (60, 180), state.alert_id, 180))
        self.assertEqual(instructions, [Fire(state.alert_id, row(3, 0.999))])

    def test_scores_of_a_young_model_do_not_count_and_a_range_that_the_rule_gives_does(self) -> None:
        rows = (row(1, 1.0), row(2, 1.0))
        for rule, fires in ((RULE, 0), (replace(RULE, valid_range=(2.0, 5.0)), 1)):
            index = RuleIndex([rule])
            grown = decide(index, {}, [Scored("uid", "web.a", rows)], 0.0)
            young = decide(index, {}, [Scored("uid", "web.a", rows, young=2)], 0.0)
            self.assertEqual([len(each.instructions) for each in grown], [1])
            self.assertEqual(sum(len(each.instructions) for each in young), fires)

    def test_rows_too_far_apart_do_not_fire(self) -> None:
        state, instructions = run(RULE, FRESH, row(1, 1.0, minute=0), row(2, 1.0, minute=10))
        self.assertEqual((state.phase, state.hits, instructions), (Phase.RESOLVED, (600,), []))

    def test_it_stays_firing_without_a_word_while_rows_count(self) -> None:
        state, _ = run(RULE, FRESH, row(1, 1.0), row(2, 1.0))
        _, instructions = run(RULE, state, row(3, 1.0), row(4, 0.0), row(5, 1.0))
        self.assertEqual(instructions, [])

    def test_it_is_over_with_the_first_row_that_sees_too_few_in_the_window(self) -> None:
        state, _ = run(RULE, FRESH, row(1, 1.0), row(2, 1.0))
        state, instructions = run(RULE, state, row(10, 0.0), row(11, 0.0), row(12, 0.0))
        self.assertEqual(instructions, [Resolve(state.alert_id, FEWER, row(11, 0.0))])
        self.assertEqual((state.phase, state.hits), (Phase.RESOLVED, ()))

    def test_in_the_cool_down_it_does_not_fire_and_after_it_it_does_with_another_id(self) -> None:
        state, [fired] = run(RULE, FRESH, row(1, 1.0), row(2, 1.0))
        state, instructions = run(RULE, state, row(30, 0.0), row(31, 1.0), row(32, 1.0))
        self.assertEqual([type(each) for each in instructions], [Resolve])
        state, [again] = run(RULE, state, row(62, 1.0, minute=61), row(63, 1.0, minute=62))
        self.assertEqual(again.row, row(63, 1.0, minute=62))
        self.assertNotEqual(again.alert_id, fired.alert_id)

    def test_rows_that_come_twice_change_nothing(self) -> None:
        rows = [row(1, 1.0), row(2, 1.0)]
        state, _ = run(RULE, FRESH, *rows)
        self.assertEqual(run(RULE, state, *rows), (state, []))

    def test_the_same_row_always_makes_the_same_alert(self) -> None:
        first, second = (run(RULE, FRESH, row(1, 1.0), row(2, 1.0)) for _ in range(2))
        self.assertEqual(first, second)

    def test_old_rows_do_not_count(self) -> None:
        rule = replace(RULE, rows=1, max_age_s=3600)
        _, instructions = run(rule, FRESH, row(1, 1.0), now=60 + 3601.0)
        self.assertEqual(instructions, [])
        _, instructions = run(rule, FRESH, row(1, 1.0), now=60 + 3600.0)
        self.assertEqual([type(each) for each in instructions], [Fire])

    def test_states_that_only_know_more_rows_are_not_worth_storing(self) -> None:
        state, _ = run(RULE, FRESH, row(1, 1.0))
        later, _ = run(RULE, state, row(2, 0.0))
        self.assertFalse(worth_storing(state, later))
        self.assertTrue(worth_storing(FRESH, state))

    @given(st.lists(st.tuples(st.integers(1, 15), st.booleans()), max_size=60), st.integers(0, 60))
    def test_a_restart_from_what_was_stored_gives_the_same_alerts(
        self, steps: list[tuple[int, bool]], cut: int
    ) -> None:
        """States are stored only when that is worth it; rows since then come again."""
        minute, rows = 0, []
        for rowid, (gap, hit) in enumerate(steps, 1):
            minute += gap
            rows.append(row(rowid, 1.0 if hit else 0.0, minute))
        rule = replace(RULE, cooldown_s=1200)
        expected = evaluate(rule, FRESH, rows, 0.0)[1]
        stored, live, told = FRESH, FRESH, list[Instruction]()
        for each in rows[:cut]:
            live, instructions = evaluate(rule, live, [each], 0.0)
            told += instructions
            if worth_storing(stored, live):
                stored = live
        told += evaluate(rule, stored, rows, 0.0)[1]
        self.assertEqual(told, expected)


class ReviewTest(TestCase):
    def setUp(self) -> None:
        self.state, _ = run(RULE, FRESH, row(1, 1.0), row(2, 1.0))

    def over(self, rule: Rule | None, facts: MetricFacts | None) -> str | None:
        state, instructions = review(rule, self.state, facts)
        if not instructions:
            self.assertIs(state, self.state)
            return None
        self.assertEqual((state.phase, state.open, state.rowid), (Phase.RESOLVED, False, 2))
        [instruction] = instructions
        assert isinstance(instruction, Resolve)
        self.assertEqual((instruction.alert_id, instruction.row), (self.state.alert_id, None))
        return instruction.reason

    def test_what_still_runs_is_left_alone(self) -> None:
        self.assertIsNone(self.over(RULE, MetricFacts(True)))

    def test_alerts_end_that_no_row_will_end(self) -> None:
        self.assertEqual(self.over(RULE, MetricFacts(False)), "the metric has no model any more")
        self.assertEqual(self.over(RULE, None), "the metric was deleted")
        self.assertEqual(self.over(None, MetricFacts(True)), "the rule was removed")

    def test_what_does_not_fire_does_not_end(self) -> None:
        state = replace(self.state, phase=Phase.RESOLVED)
        self.assertEqual(review(None, state, None), (state, []))


class DecideTest(TestCase):
    def test_each_rule_and_metric_has_a_state_of_its_own(self) -> None:
        any_row = replace(RULE, name="any", metrics=("*",), rows=1)
        scored = [Scored("u1", "web.a", (row(1, 1.0),)), Scored("u2", "db.b", (row(1, 1.0),))]
        changes = decide(RuleIndex([RULE, any_row]), {}, scored, 0.0)
        self.assertEqual(
            [(change.state.rule, change.metric, len(change.instructions)) for change in changes],
            [("load", "web.a", 0), ("any", "web.a", 1), ("any", "db.b", 1)],
        )

    def test_several_messages_of_one_metric_are_one_change(self) -> None:
        scored = [Scored("u1", "web.a", (row(1, 1.0), row(2, 1.0))), Scored("u1", "web.a", (row(20, 0.0),))]
        [change] = decide(RuleIndex([RULE]), {}, scored, 0.0)
        self.assertEqual([type(each) for each in change.instructions], [Fire, Resolve])
        self.assertEqual(change.state.rowid, 20)

    def test_quiet_rows_matter_to_open_states_alone(self) -> None:
        quiet = [Scored("uid", "web.a", (row(30, 0.0),)), Scored("u2", "web.b", (row(30, 0.0),))]
        self.assertEqual(decide(RuleIndex([RULE]), {}, quiet, 0.0), [])
        firing, _ = run(RULE, FRESH, row(1, 1.0), row(2, 1.0))
        [change] = decide(RuleIndex([RULE]), {("load", "uid"): firing}, quiet, 0.0)
        resolved = replace(firing, phase=Phase.RESOLVED, hits=(), rowid=30)
        self.assertEqual(change, Change(RULE, "web.a", resolved, (Resolve(firing.alert_id, FEWER, row(30, 0.0)),)))

    def test_states_are_wanted_for_rows_that_count(self) -> None:
        scored = [Scored("u1", "web.a", (row(1, 1.0),)), Scored("u2", "web.b", (row(1, 0.0),))]
        self.assertEqual(keys_of_interest(RuleIndex([RULE]), scored), [("load", "u1")])

    def test_globs_are_those_of_a_shell_and_exclusions_win(self) -> None:
        rule = Rule(metrics=("web.*.load", "db[12]", "!*.test.*"))
        names = ["web.a.load", "web.a.b.load", "web.test.load", "db1", "db3", "web.load"]
        self.assertEqual([matches(rule, name) for name in names], [True, True, False, True, False, False])
        self.assertTrue(matches(Rule(metrics=("!a",)), "b"))

    def test_plain_names_have_labels_by_patterns(self) -> None:
        patterns = ("servers.*.{host}.{what}", "apps.{app}")
        rule = Rule(metrics=('{host=~"web.*",what="cpu.user"}', '{app="shop"}'), name_labels=patterns)
        names = ["servers.eu.web1.cpu.user", "servers.eu.db1.cpu.user", "servers.web1.cpu.user", "apps.shop", "x"]
        self.assertEqual([matches(rule, name) for name in names], [True, False, False, True, False])
        self.assertTrue(matches(rule, "servers.eu.db1.cpu.user;host=web9"))  # its own labels win

    def test_labels_select_as_in_prometheus(self) -> None:
        rule = Rule(metrics=('cpu*{job="api",host=~"web.*"}', '!{dc="test"}'))
        names = ["cpu.user;host=web1;job=api", "cpu;dc=test;host=web1;job=api", "cpu;host=db1;job=api", "cpu"]
        self.assertEqual([matches(rule, name) for name in names], [True, False, False, False])


class MaintenanceTest(TestCase):
    def test_a_window_is_for_the_metrics_of_its_section(self) -> None:
        window = Window(120.0, 300.0)
        night = Maintenance(
            "night",
            metrics=('{host="web1"}',),
            learning=False,
            windows=Calendar(lambda since, until: iter([window])),
            name_labels=("servers.{host}.{what}",),
        )
        rows = [("servers.web1.cpu", 120.0), ("servers.web1.cpu", 300.0), ("servers.web2.cpu", 120.0)]
        self.assertEqual([in_maintenance([night], *each) for each in rows], [True, False, False])
        self.assertEqual([unlearnt_window([night], *each) for each in rows], [window, None, None])
        self.assertIsNone(unlearnt_window([replace(night, learning=True)], *rows[0]))
