# SPDX-License-Identifier: MIT
"""Rules as plain data, and the stored ones: kept once, audited, and in force without a restart."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from htmengine.alerts import rule_queries
from htmengine.alerts.configuration import DEFAULT_RULE, NO_ALERTS, AlertConfig, Rule
from htmengine.alerts.kinds import Change
from htmengine.alerts.receivers import Webhook
from htmengine.alerts.rules import KnownRule, known_rules, options_of, rule_of
from htmengine.errors import AlertRuleNotFound, InvalidAlertRule, UnroutableMessage
from htmengine.repository import audit, schema, troubles
from tests.unit.test_alert_service import START, ServiceCase

HOOK = Webhook("hook", url="http://127.0.0.1/")
CONFIG = AlertConfig(receivers=(HOOK,))
OPTIONS: dict[str, Any] = {
    "metrics": ['cpu.*{job="api",dc=~"a|b"}', "!*.test"],
    "pages_per_week": 2.5,
    "direction": "up",
    "min_change": "10%",
    "valid_range": "0.0..",
    "rows": 3,
    "for_s": 600.0,
    "silence": 900.0,
    "severity": {"low": 4.0, "high": 6.0},
    "resolved": False,
    "receivers": ["hook"],
    "labels": {"team": "web", "severity": "page"},
}


class RuleOfTest(SynchronousTestCase):
    def problems(self, options: dict[str, Any], config: AlertConfig | None = None) -> list[str]:
        return [name for name, _ in self.assertRaises(InvalidAlertRule, rule_of, "a", options, config).problems]

    def test_options_come_back_as_they_were_given(self) -> None:
        rule = rule_of("a", OPTIONS, CONFIG)
        self.assertEqual(options_of(rule), OPTIONS)
        self.assertEqual((rule.min_change, rule.silence), (Change(0.1, relative=True), 900.0))
        self.assertEqual(options_of(Rule("a")), {})

    @given(st.fixed_dictionaries({}, optional={name: st.just(value) for name, value in OPTIONS.items()}))
    @settings(max_examples=25)
    def test_any_of_them_may_be_left_out(self, some: dict[str, Any]) -> None:
        options = {"pages_per_week": 1.0, **some}
        self.assertEqual(options_of(rule_of("a", options)), options)

    def test_each_option_that_is_wrong_is_named(self) -> None:
        wrong = {"pages_per_week": -1, "metrics": ["{job}"], "min_change": "x", "colour": 1, "labels": {"a": "b,c=d"}}
        self.assertEqual(self.problems(wrong), list(wrong))
        self.assertEqual(self.problems({"pages_per_week": 1, "threshold": 0.5}), ["threshold"])
        self.assertEqual(self.problems({"receivers": ["hook", "x"]}, CONFIG), ["receivers"])
        with self.assertRaises(InvalidAlertRule):
            rule_of("a b", {})

    def test_a_rule_of_alerts_conf_wins_and_a_stored_one_is_before_the_default(self) -> None:
        stored = [KnownRule(Rule("all", pages_per_week=1.0), "stored"), KnownRule(Rule("b"), "stored")]
        declared = AlertConfig(rules=(Rule("b", rows=2),))
        self.assertEqual(
            [(each.rule.name, each.source) for each in known_rules(declared, stored)],
            [("b", "alerts.conf"), ("all", "stored")],
        )
        default = NO_ALERTS.with_default_rule()
        self.assertEqual([each.source for each in known_rules(default, [])], ["default"])
        self.assertEqual([each.source for each in known_rules(default, stored)], ["stored", "stored"])
        self.assertEqual(default.rules, (DEFAULT_RULE,))


class StoredRulesTest(ServiceCase):
    """A service whose alerts.conf has a receiver and no rule."""

    config = CONFIG

    def put(self, rule: Rule, now: float = START) -> bool:
        found: bool = self.database.run_sync(rule_queries.put_rule, rule, "ada", now)
        return found

    def test_each_change_is_audited_and_none_is_none(self) -> None:
        rule = rule_of("a", OPTIONS)
        self.assertEqual([self.put(rule), self.put(rule), self.put(Rule("a"))], [True, False, True])
        self.database.run_sync(rule_queries.delete_rule, "a", "bob", START + 1)
        with self.assertRaises(AlertRuleNotFound):
            self.database.run_sync(rule_queries.delete_rule, "a", "bob", START + 1)
        acts = self.database.run_sync(audit.newest, 10)
        self.assertEqual(
            [(each.who, each.what, each.about) for each in acts],
            [("bob", "removed a rule", "a"), ("ada", "changed a rule", "a"), ("ada", "added a rule", "a")],
        )
        self.assertEqual(self.database.run_sync(audit.newest, 1, acts[0].id), acts[1:2])
        self.database.run_sync(audit.forget, START + 0.5)
        self.assertEqual(self.database.run_sync(audit.newest, 10), acts[:1])

    def test_the_service_goes_on_with_what_is_stored_now(self) -> None:
        rule = Rule("load", metrics=("web.*",), threshold=0.999, receivers=("hook",))
        self.hear("web.a", (1, 1.0))
        self.put(rule)
        self.clock.advance(5)
        self.hear("web.a", (70, 1.0))
        self.assertEqual([(name, each.rule, each.rowid) for name, each in self.sender.sent], [("hook", "load", 70)])
        self.database.run_sync(rule_queries.delete_rule, "load", "ada", START)
        self.clock.pump([5, 60])
        self.assertEqual(self.sender.sent[1][1].reason, "the rule was removed")
        self.hear("web.a", (90, 1.0))
        self.assertEqual(len(self.sender.sent), 2)

    def test_a_service_without_rules_begins_with_the_first_one(self) -> None:
        self.restart(NO_ALERTS)
        self.restart(NO_ALERTS)
        self.assertTrue(self.service.idle)
        self.failureResultOf(Deferred.fromCoroutine(self.bus.depth("htmengine.alerts")), UnroutableMessage)
        self.put(Rule("load", threshold=0.999))
        self.clock.advance(5)
        self.hear("web.a", (70, 1.0))
        self.assertEqual(self.service.fired, 1)

    def test_a_rule_that_cannot_be_read_harms_itself_alone(self) -> None:
        self.put(Rule("load", threshold=0.999))
        odd = {"name": "odd", "options": '{"colour": 1}', "changed_at": START + 1.0, "changed_by": "ada"}
        self.database.run_sync(lambda conn: conn.execute(schema.alert_rule.insert(), odd))
        self.clock.advance(5)
        self.hear("web.a", (70, 1.0))
        self.assertEqual(self.service.fired, 1)
        [trouble] = self.database.run_sync(troubles.list_of)
        self.assertIn("rule 'odd': colour: unknown", trouble.message)
