# SPDX-License-Identifier: MIT
"""Conditions of rules on single rows: direction, change, valid range; for thresholds and for budgets."""

from __future__ import annotations

from typing import Literal
from unittest import TestCase

from htmengine.alerts.conditions import fits, out_of_range
from htmengine.alerts.configuration import Rule
from htmengine.alerts.evaluation import Scored, keys_of_interest
from htmengine.alerts.kinds import Change
from htmengine.alerts.rule_index import RuleIndex
from htmengine.incidents.candidates import OUT_OF_RANGE_HEIGHT, candidates, height_for
from htmengine.messages import ScoredRow, Why


def row(
    value: float, expected: float | None = 10.0, direction: Literal["up", "down"] | None = None, height: float = 5.0
) -> ScoredRow:
    return ScoredRow(7, 1000, value, 0.5, 1.0, None, Why(height, direction, expected, expected, expected, []))


UNEXPLAINED = ScoredRow(7, 1000, 12.0, 0.5, 1.0)


class ConditionsTest(TestCase):
    def test_a_direction_is_the_evidences_or_else_the_values_own(self) -> None:
        up = Rule(direction="up")
        rows = [
            row(9.0, None, direction="up"),
            row(12.0),
            row(12.0, direction="down"),
            row(9.0),
            row(12.0, None),
            UNEXPLAINED,
        ]
        self.assertEqual([fits(up, each) for each in rows], [True, True, False, False, False, False])
        self.assertTrue(all(fits(Rule(), each) for each in rows))

    def test_a_value_that_returns_to_its_band_has_no_direction(self) -> None:
        def fallen(value: float, direction: Literal["up", "down"] | None) -> ScoredRow:
            return ScoredRow(7, 1000, value, 0.5, 1.0, None, Why(5.0, direction, 10.0, 8.0, 12.0, []))

        values = (7.9, 8.0, 9.0, 12.0, 12.1)
        for said in ("down", None):
            found = [fits(Rule(direction="down"), fallen(value, said)) for value in values]
            self.assertEqual(found, [True, False, False, False, False])
        found = [fits(Rule(direction="up"), fallen(value, "up")) for value in values]
        self.assertEqual(found, [False, False, False, False, True])
        self.assertTrue(all(fits(Rule(), fallen(value, "down")) for value in values))

    def test_a_small_change_is_ignored_and_one_that_is_not_known_is_not(self) -> None:
        for change in (Change(2.0), Change(0.2, relative=True)):
            rule = Rule(min_change=change)
            rows = [row(11.9), row(12.0), row(8.0), row(11.9, None), UNEXPLAINED]
            self.assertEqual([fits(rule, each) for each in rows], [False, True, True, True, True])

    def test_a_range_may_be_open_at_one_end(self) -> None:
        rule = Rule(valid_range=(float("-inf"), 100.0))
        self.assertEqual([out_of_range(rule, row(value)) for value in (-1e9, 100.0, 101.0)], [False, False, True])

    def test_conditions_hold_for_thresholds_too(self) -> None:
        scored = [Scored("u1", "web.a", (row(12.0),))]
        self.assertEqual(keys_of_interest(RuleIndex([Rule("r", direction="down")]), scored), [])
        self.assertEqual(keys_of_interest(RuleIndex([Rule("r", direction="up")]), scored), [("r", "u1")])
        self.assertEqual(
            keys_of_interest(RuleIndex([Rule("r", direction="down", valid_range=(0, 11))]), scored), [("r", "u1")]
        )


class CandidatesTest(TestCase):
    def test_a_row_counts_from_a_height_of_4_on_or_outside_its_range(self) -> None:
        rule = Rule(valid_range=(0.0, 100.0))
        rows = [row(12.0, height=3.9), row(12.0, height=4.0), row(101.0, height=0.0), UNEXPLAINED]
        self.assertEqual([height_for(rule, each) for each in rows], [None, 4.0, OUT_OF_RANGE_HEIGHT, None])

    def test_candidates_are_young_and_of_metrics_that_the_rule_is_for(self) -> None:
        rules = [Rule("web", metrics=("web.*",), max_age_s=60.0), Rule("all")]
        scored = [Scored("u1", "web.a", (row(12.0),)), Scored("u2", "db.b", (row(12.0),))]
        found = candidates(RuleIndex(rules), scored, now=1050.0)
        self.assertEqual(
            {name: [each.uid for each in these] for name, these in found.items()}, {"web": ["u1"], "all": ["u1", "u2"]}
        )
        self.assertEqual(list(candidates(RuleIndex(rules), scored, now=1061.0)), ["all"])
