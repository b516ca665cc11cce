# SPDX-License-Identifier: MIT
"""alerts.conf: what is read, and what is refused, by name and all at once."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from twisted.trial.unittest import SynchronousTestCase

from htmengine.alerts.configuration import AlertConfig, General, Rule, load_alerts
from htmengine.alerts.kinds import Change
from htmengine.alerts.receivers import Alertmanager, Email, Slack, Webhook, described
from htmengine.deployment import load_all
from htmengine.errors import ConfigError

COMPLETE = """\
[alerts]
give_up_s = 3600

[receiver:hook]
type = webhook
url = https://hooks.example.com/htm?token=abc
secret = s3cret

[receiver:am]
type = alertmanager
url = http://127.0.0.1:9093

[receiver:mail]
type = email
host = mail.example.com
port = 587
sender = htm@example.com
to = ops@example.com, dev@example.com
user = htm
password = pass word

[receiver:chat]
type = slack
url = https://hooks.slack.example.com/services/T0/B0/xyz

[alert:load]
metrics = web.*, !web.test.*
threshold = 0.999
rows = 3
window_s = 1800
cooldown_s = 7200
max_age_s = 0
resolved = no
receivers = hook, mail
labels = severity=page, team=web

[alert:everything]
receivers = am
    chat
"""


HOOK = "[receiver:hook]\ntype = webhook\nurl = http://127.0.0.1/\n"


class AlertsCase(SynchronousTestCase):
    def load(self, text: str, **environ: str) -> AlertConfig:
        folder = Path(self.mktemp())
        folder.mkdir()
        (folder / "alerts.conf").write_text(text)
        return load_alerts(folder, environ)

    def problems(self, text: str, **environ: str) -> list[str]:
        """Without the folder's name."""
        error = self.assertRaises(ConfigError, self.load, text, **environ)
        return [problem.partition("alerts.conf ")[2] or problem for problem in error.problems]


class ConfigurationTest(AlertsCase):
    def test_every_option_is_read(self) -> None:
        config = self.load(COMPLETE)
        self.assertEqual(config.general, General(give_up_s=3600.0))
        self.assertEqual(
            config.rules,
            (
                Rule(
                    "load",
                    metrics=("web.*", "!web.test.*"),
                    threshold=0.999,
                    rows=3,
                    window_s=1800.0,
                    cooldown_s=7200.0,
                    max_age_s=0.0,
                    resolved=False,
                    receivers=("hook", "mail"),
                    labels=(("severity", "page"), ("team", "web")),
                ),
                Rule("everything", receivers=("am", "chat")),
            ),
        )
        self.assertEqual(
            config.receivers,
            (
                Webhook("hook", url="https://hooks.example.com/htm?token=abc", secret="s3cret"),
                Alertmanager("am", url="http://127.0.0.1:9093"),
                Email(
                    "mail",
                    host="mail.example.com",
                    port=587,
                    sender="htm@example.com",
                    to=("ops@example.com", "dev@example.com"),
                    user="htm",
                    password="pass word",
                ),
                Slack("chat", url="https://hooks.slack.example.com/services/T0/B0/xyz"),
            ),
        )
        self.assertEqual([each.name for each in config.receivers_of(config.rules[1])], ["am", "chat"])

    def test_without_a_folder_or_a_file_there_are_no_alerts(self) -> None:
        self.assertEqual(load_alerts(None, {}), AlertConfig())
        folder = Path(self.mktemp())
        folder.mkdir()
        self.assertEqual(load_alerts(folder, {}), AlertConfig())

    def test_the_environment_wins_and_keeps_secrets_out_of_the_file(self) -> None:
        config = self.load(
            COMPLETE, HTMENGINE__ALERTS__RECEIVER_HOOK__SECRET="other", HTMENGINE__ALERTS__ALERT_LOAD__ROWS="5"
        )
        self.assertEqual((config.receivers[0].secret, config.rules[0].rows), ("other", 5))

    def test_a_variable_that_names_nothing_is_refused_with_the_nearest_name(self) -> None:
        [problem] = self.problems(COMPLETE, HTMENGINE__ALERTS__RECEIVER_HOOK__SECERT="x")
        self.assertEqual(
            problem,
            "environment variable HTMENGINE__ALERTS__RECEIVER_HOOK__SECERT names no option; "
            "perhaps HTMENGINE__ALERTS__RECEIVER_HOOK__SECRET",
        )

    def test_all_that_is_wrong_is_told_at_once_and_no_secret_with_it(self) -> None:
        problems = self.problems(
            "[receiver:hook]\ntype = webhook\nurl = ftp://user:hunter2@example.com\n"
            "[receiver:pigeon]\ntype = pigeon\n[receivers:x]\n"
            "[alert:load]\nthreshold = 2\nrow = 3\nreceivers = hook\nlabels = 1=2\n"
        )
        self.assertEqual(
            problems,
            [
                "[receiver:pigeon] type = 'pigeon': webhook, alertmanager, email, slack, pagerduty, opsgenie, teams,"
                " telegram, ntfy, apprise are allowed",
                "[receivers:x]: [alerts], [alert:NAME], [receiver:NAME] and [maintenance:NAME] are allowed, "
                "NAME of at most 60 letters, digits, - and _",
                "[receiver:hook] url: an http or https URL without user and password is allowed",
                "[alert:load] threshold = '2': a number from 0 to 1 is allowed",
                "[alert:load] row: no such option; perhaps rows",
                "[alert:load] labels = '1=2': name=value pairs, separated by commas is allowed",
            ],
        )

    def test_what_belongs_together_is_checked(self) -> None:
        self.assertEqual(
            self.problems(
                "[alert:a]\n[alert:b]\nreceivers = nobody\n[receiver:hook]\ntype = webhook\n"
                "[receiver:mail]\ntype = email\nhost = mail.example.com\nto = a@b.c\nuser = u\ntls = no\n"
            ),
            [
                "[alert:a] receivers: at least one is needed; there are hook, mail",
                "[alert:b] receivers: there is no [receiver:nobody]; there are hook, mail",
                "[receiver:hook] url: is needed",
                "[receiver:mail] sender: is needed",
                "[receiver:mail] tls = no: a password travels encrypted only; starttls or implicit",
            ],
        )

    def test_addresses_cannot_smuggle_headers_or_commands(self) -> None:
        for address in ("a@b.c\n Bcc: x@y.z", "a@b.c> SIZE=1", "nobody"):
            text = f"[receiver:mail]\ntype = email\nto = a@b.c\nsender = {address}\n"
            self.assertIn("[receiver:mail] sender", self.problems(text)[0])

    def test_a_receiver_is_described_without_its_secrets(self) -> None:
        shown = " ".join(described(receiver) for receiver in self.load(COMPLETE).receivers)
        for secret in ("s3cret", "abc", "pass word", "xyz"):
            self.assertNotIn(secret, shown)


class MaintenanceTest(AlertsCase):
    def test_windows_are_made_of_the_options(self) -> None:
        pytest.importorskip("cronsim")
        [section] = self.load(
            "[maintenance:night]\nmetrics = db.*\ncron = 0 2 * * *\ntimezone = Europe/Berlin\n"
        ).maintenance
        self.assertEqual((section.name, section.metrics), ("night", ("db.*",)))
        at_two_in_berlin = 1_772_326_800
        self.assertEqual(section.windows.window(at_two_in_berlin + 1), (at_two_in_berlin, at_two_in_berlin + 3600))

    def test_what_makes_no_windows_is_refused(self) -> None:
        pytest.importorskip("cronsim")
        pytest.importorskip("recurring_ical_events")
        for options, said in (
            ("", "one of cron, at and calendar is needed"),
            ("cron = 0 2 * * *\ncalendar = x.ics", "one of cron, at and calendar is needed"),
            ("cron = 0 2 * * *\nat = 2026-03-01 22:00", "one of cron, at and calendar is needed"),
            ("at = soon", "at = 'soon': a time such as 2026-03-01 22:00 is allowed"),
            ("cron = 0 25 * * *", "cron = '0 25 * * *': Bad hour"),
            ("calendar = x.ics", "calendar = 'x.ics': [Errno 2]"),
            ("cron = 0 2 * * *\ntimezone = Mars", "timezone = 'Mars': a time zone such as Europe/Berlin is allowed"),
            ("cron = 0 2 * * *\nfor_s = 1", "for_s = '1': a number from 60"),
        ):
            problem, *_ = self.problems(f"[maintenance:night]\n{options}")
            self.assertIn(f"[maintenance:night] {said}".replace("] one", "]: one"), problem)

    def test_a_running_engine_goes_on_without_a_calendars_file(self) -> None:
        pytest.importorskip("recurring_ical_events")
        folder = Path(self.mktemp())
        folder.mkdir()
        (folder / "alerts.conf").write_text("[maintenance:night]\ncalendar = x.ics\n")
        _, alerts = load_all(folder, {})
        [section] = alerts.maintenance
        self.assertIn("x.ics has no events yet", section.windows.renew() or "")
        self.assertRaises(ConfigError, load_all, folder, {}, calendars_needed=True)


class TemplateTest(AlertsCase):
    """Files that make the bodies of webhooks."""

    def receiver_with(self, content: bytes, name: str = "body.j2") -> tuple[Webhook, Path]:
        folder = Path(self.mktemp())
        folder.mkdir()
        (folder / "body.j2").write_bytes(content)
        (folder / "alerts.conf").write_text(f"{HOOK}template = {name}\n")
        [receiver] = load_alerts(folder, {}).receivers
        assert isinstance(receiver, Webhook)
        return receiver, folder

    def test_a_relative_file_is_beside_alerts_conf(self) -> None:
        pytest.importorskip("jinja2")
        receiver, folder = self.receiver_with(b'{"text": {{ summary | tojson }}}')
        self.assertEqual(receiver.template, str(folder / "body.j2"))

    def test_one_that_is_gone_or_no_template_is_refused(self) -> None:
        pytest.importorskip("jinja2")
        for content, name, said in (
            (b"", "none.j2", "[Errno 2]"),
            (b"{\n{{ summary ", "body.j2", "line 2: unexpected end"),
            (b"\xfc", "body.j2", "can't decode"),
        ):
            error = self.assertRaises(ConfigError, self.receiver_with, content, name)
            [problem] = error.problems
            self.assertIn("[receiver:hook] template = ", problem)
            self.assertIn(said, problem)


class BudgetTest(AlertsCase):
    """Rules with a budget, and conditions."""

    def rule(self, options: str) -> Rule:
        [rule] = self.load(f"{HOOK}[alert:a]\nreceivers = hook\n{options}").rules
        return rule

    def test_a_budget_and_receivers_are_enough(self) -> None:
        rule = self.rule("pages_per_week = 5")
        self.assertEqual((rule.has_budget, rule.silence, rule.metrics), (True, 0.0, ("*",)))

    def test_conditions_are_read(self) -> None:
        rule = self.rule(
            "pages_per_metric_week = 0.5\ndirection = up\nmin_change = 10%\nvalid_range = ..100\n"
            "silence = 900\nseverity = high=6, low=4"
        )
        self.assertEqual((rule.direction, rule.min_change), ("up", Change(0.1, relative=True)))
        self.assertEqual((rule.valid_range, rule.silence), ((-math.inf, 100.0), 900.0))
        self.assertEqual(rule.severity, (("low", 4.0), ("high", 6.0)))

    def test_labels_select_metrics_too_and_their_commas_separate_nothing(self) -> None:
        rule = self.rule('metrics = cpu.*{job="api",dc=~"a|b"},\n !{host="test"}, web.*')
        self.assertEqual(rule.metrics, ('cpu.*{job="api",dc=~"a|b"}', '!{host="test"}', "web.*"))
        for wrong in ('{job="api"', "{job=api}", '{job=~"("}'):
            with self.assertRaises(ConfigError):
                self.rule(f"metrics = {wrong}")

    def test_patterns_give_labels_to_all_rules(self) -> None:
        config = self.load(f"[alerts]\nname_labels = servers.{{host}}.{{what}}\n{HOOK}[alert:a]\nreceivers = hook\n")
        self.assertEqual(config.rules[0].name_labels, ("servers.{host}.{what}",))
        self.assertEqual(config.labels_of("servers.a.cpu"), {"host": "a", "what": "cpu"})
        for wrong in ("a.{b", "{a}.{a}", "{1}", "a..b", "a*"):
            [problem] = self.problems(f"[alerts]\nname_labels = {wrong}\n")
            self.assertIn("patterns of names such as", problem)

    def test_what_contradicts_itself_is_refused(self) -> None:
        for options, said in (
            ("pages_per_week = 1\npages_per_metric_week = 1", "a rule has one budget"),
            ("for_s = 60", "for_s: only with pages_per_week"),
            ("pages_per_week = 1\nthreshold = 0.9", "threshold: only without a budget"),
            ("pages_per_week = 1\nvalid_range = 5..1", "valid_range = '5..1': LOW..HIGH"),
            ("pages_per_week = 1\nvalid_range = ..", "valid_range = '..': LOW..HIGH"),
            ("pages_per_week = 1\nvalid_range = 5", "valid_range = '5': LOW..HIGH"),
            ("pages_per_week = 1\nmin_change = -1", "min_change = '-1'"),
            ("pages_per_week = 1\nsilence = soon", "silence = 'soon': yes, no, or"),
            ("pages_per_week = 1\nseverity = a b", "severity = 'a b'"),
        ):
            [problem] = self.problems(f"{HOOK}[alert:a]\nreceivers = hook\n{options}")
            self.assertIn(said, problem)
