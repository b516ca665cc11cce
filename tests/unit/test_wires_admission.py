# SPDX-License-Identifier: MIT
"""Selectors and rules of admission."""

from __future__ import annotations

import contextlib
from unittest import TestCase

from hypothesis import given
from hypothesis import strategies as st

from htmengine.errors import InvalidRule
from htmengine.selectors import Metric, parse_selector
from htmengine.wires.admission import Admission, NewMetrics, Verdict, parse_rule


class SelectorTest(TestCase):
    def taken(self, selector: str, *texts: str) -> list[bool]:
        found = parse_selector(selector)
        return [found.takes(Metric.of(text)) for text in texts]

    def test_a_glob_is_of_the_name_and_its_star_of_dots_too(self) -> None:
        self.assertEqual(self.taken("web.*.cpu", "web.a.b.cpu;dc=x", "web.cpu", "xweb.a.cpu"), [True, False, False])

    def test_a_glob_with_a_semicolon_is_of_the_whole_text(self) -> None:
        self.assertEqual(self.taken("cpu;*dc=x*", "cpu;dc=x;host=a", "cpu;dc=y;host=a"), [True, False])

    def test_labels_are_compared_as_in_prometheus(self) -> None:
        texts = ("up;instance=web1;job=api", "up;instance=db1;job=api", "up;job=api", "up")
        cases = {
            '{job="api"}': [True, True, True, False],
            '{job!="api"}': [False, False, False, True],
            '{instance=~"web.*"}': [True, False, False, False],
            '{instance=~"eb"}': [False, False, False, False],
            '{instance!~"web.*|"}': [False, True, False, False],
            '{instance=""}': [False, False, True, True],
            '{ job = "api" , instance =~ "db[0-9]+", }': [False, True, False, False],
            'u*{job="api",instance="db1"}': [False, True, False, False],
            '{__name__=~"u."}': [True, True, True, True],
            "{}": [True, True, True, True],
        }
        self.assertEqual({selector: self.taken(selector, *texts) for selector in cases}, cases)

    def test_escaped_values_are_compared_as_the_sender_wrote_them(self) -> None:
        self.assertEqual(self.taken(r'{path="a \"b\"; c"}', 'm;path=a%20"b"%3B%20c'), [True])

    def test_a_label_s_name_may_have_dots(self) -> None:
        self.assertEqual(self.taken('{service.name="shop"}', "m;service.name=shop"), [True])

    def test_bad_selectors_are_refused_and_say_what_is_allowed(self) -> None:
        for text in (
            "",
            "a b",
            "{",
            "{job}",
            "{job=api}",
            '{job="a"',
            '{job="a" instance="b"}',
            '{job=~"("}',
            'a"b',
            "a.[b",
            "!a",
            'a.[{job="api"}',
        ):
            with self.assertRaises(InvalidRule):
                parse_selector(text)

    def test_an_expression_that_others_take_forever_for_is_matched_at_once(self) -> None:
        self.assertEqual(self.taken('{a=~"(x+x+)+y"}', "m;a=" + "x" * 3000), [False])

    @given(st.text(max_size=40) | st.text(st.sampled_from('ab{}="~!,*\\[ '), max_size=30))
    def test_any_text_is_a_selector_or_refused(self, text: str) -> None:
        with contextlib.suppress(InvalidRule):
            parse_selector(text).takes(Metric.of("m;a=b"))


class RulesTest(TestCase):
    def names(self, rules: list[str], *texts: str) -> list[str | None]:
        admission = Admission(rules)
        return [admission.judge(text).name for text in texts]

    def test_the_first_rule_that_keeps_or_drops_decides(self) -> None:
        self.assertEqual(
            self.names(
                ["keep web.important.*", "drop web.*", 'drop {env="test"}'],
                "web.important.x",
                "web.x",
                "db.x;env=test",
                "db.x",
            ),
            ["web.important.x", None, None, "db.x"],
        )

    def test_keeping_some_and_dropping_the_rest_lets_in_nothing_else(self) -> None:
        self.assertEqual(self.names(["keep web.*", "drop *"], "web.a", "db.a"), ["web.a", None])

    def test_a_renamed_metric_keeps_its_labels_and_meets_the_later_rules(self) -> None:
        rules = ["rename servers.*.cpu.* to cpu.$2.$1", "drop cpu.idle.*"]
        self.assertEqual(
            self.names(rules, "servers.web1.cpu.user;dc=a", "servers.web1.cpu.idle", "other"),
            ["cpu.user.web1;dc=a", None, "other"],
        )

    def test_labels_may_go_into_a_name(self) -> None:
        rules = ['rename {job="api"} to ${job}.${instance}.$1$$', "drop_labels instance"]
        self.assertEqual(self.names(rules, "up;instance=a b;job=api"), ["api.a%20b.up$;job=api"])

    def test_labels_that_change_at_each_start_can_be_taken_off(self) -> None:
        self.assertEqual(self.names(["drop_labels pod*"], "up;job=a;pod=x1;pod_hash=7", "up"), ["up;job=a", "up"])

    def test_a_name_that_becomes_empty_or_too_long_is_refused_with_its_reason(self) -> None:
        admission = Admission(["rename a.* to ${none}", "rename b.* to $1$1"])
        self.assertEqual(admission.judge("a.x"), Verdict(None, "name_empty", 1))
        self.assertEqual(admission.judge("b." + "x" * 4000), Verdict(None, "name_too_long", 2))

    def test_denied_globs_come_first_and_allowed_ones_are_all_that_may_come(self) -> None:
        admission = Admission(allow=["web.*", "db.*"], deny=["*.debug"])
        self.assertEqual(
            [admission.judge(text)[:2] for text in ("web.x", "db.debug", "mail.x")],
            [("web.x", None), (None, "denied"), (None, "not_allowed")],
        )

    def test_without_rules_all_come_in_as_they_are(self) -> None:
        self.assertEqual(Admission().judge("m;a=1"), Verdict("m;a=1"))

    def test_bad_rules_are_refused_and_say_what_is_allowed(self) -> None:
        for text in (
            "",
            "take *",
            "keep",
            "drop a b",
            "rename a.* b",
            "rename a.* to b.$2",
            "rename a.* to b.$",
            "rename [ab] to c",
            "rename a to b c",
            "drop_labels a b",
            "drop_labels [a",
            "keep a.[b",
            "drop !a",
        ):
            with self.assertRaises(InvalidRule):
                parse_rule(text)


class NewMetricsTest(TestCase):
    def test_a_minute_and_all_are_bounded(self) -> None:
        limits = NewMetrics(most_a_minute=2, most=5)
        found = [limits.admit(known, now) for known, now in ((1, 0), (2, 1), (3, 59), (3, 60), (4, 61), (5, 200))]
        self.assertEqual(found, [None, None, "new_metrics_a_minute", None, None, "new_metrics_in_all"])

    def test_0_is_no_limit(self) -> None:
        limits = NewMetrics()
        self.assertEqual([limits.admit(10**6, 0.0) for _ in range(1000)], [None] * 1000)
