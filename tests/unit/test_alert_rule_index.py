# SPDX-License-Identifier: MIT
"""An index finds the rules that are for a metric, and looks at no others."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from htmengine.alerts.configuration import Rule
from htmengine.alerts.evaluation import matches
from htmengine.alerts.rule_index import RuleIndex
from htmengine.full_texts import FULL_TEXTS
from htmengine.labels import identity
from htmengine.selectors import Metric, Selection

SELECTORS = st.sampled_from(
    [
        *("*", "web.*", "web.a", "w?b.*", "[wd]b*", "web.*;dc=a", "web.a;*", "!web.*", "!*.test"),
        *('{dc="a"}', '{dc=~"a|b"}', '{dc!="a"}', '{dc=""}', 'web.*{dc="b"}', '*{__name__="web.a"}', '{host="web"}'),
        *('{__name__="db.test"}', '!{dc="a"}'),
    ]
)
NAMES = ("web.a", "web.a;dc=a", "web.test;dc=b", "db.test", "db.test;dc=a;host=web", "a%20b;dc=", "wb", "")


@pytest.mark.long
class RuleIndexTest(SynchronousTestCase):
    @settings(max_examples=50)
    @given(st.lists(st.tuples(st.lists(SELECTORS, max_size=3), st.booleans()), max_size=8))
    def test_it_finds_what_each_rule_says_in_their_order(self, given: list[tuple[list[str], bool]]) -> None:
        rules = [
            Rule(str(place), metrics=tuple(selectors), name_labels=("{host}.*",) if named else ())
            for place, (selectors, named) in enumerate(given)
        ]
        index = RuleIndex(rules)
        for name in NAMES:
            self.assertEqual(index.of(name), tuple(rule for rule in rules if matches(rule, name)), name)

    def test_labels_past_the_identity_count_once_they_are_learnt(self) -> None:
        self.patch(FULL_TEXTS, "_texts", {})
        text = f"cpu;a={'x' * 300};job=api"
        rules = [Rule("job", metrics=('{job="api"}',)), Rule("this", metrics=(identity(text),))]
        index = RuleIndex(rules)
        for found in (rules[1:], rules):
            self.assertEqual(list(index.of(identity(text))), found)
            self.assertEqual([rule for rule in rules if matches(rule, identity(text))], found)
            FULL_TEXTS.remember([text])

    def test_rules_of_other_names_and_labels_are_not_looked_at(self) -> None:
        rules = [Rule("mine", metrics=("web7.*",))]
        rules += [Rule(f"r{n}", metrics=(f"web{n}.*", f'{{host="web{n}"}}')) for n in range(100, 200)]
        looked_at: list[str] = []
        takes = Selection.takes_metric

        def noted(selection: Selection, metric: Metric) -> bool:
            looked_at.append(metric.text)
            return takes(selection, metric)

        self.patch(Selection, "takes_metric", noted)
        index = RuleIndex(rules)
        for _ in range(2):  # the second time it remembers
            self.assertEqual(index.of("web7.cpu;host=web8"), (rules[0],))
        self.assertEqual(looked_at, ["web7.cpu;host=web8"])
