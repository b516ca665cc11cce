# SPDX-License-Identifier: MIT
"""The commands about rules with a budget: lists, silences, marks, previews, and why a rule did or did not page."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from click.testing import CliRunner
from sqlalchemy import Connection, update
from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from htmengine.adapters.datasource import custom
from htmengine.adapters.datasource.custom import ModelSpec
from htmengine.alerts import maintenance_queries
from htmengine.alerts import queries as alert_queries
from htmengine.alerts.configuration import NO_ALERTS, AlertOptions, Rule, load_alerts
from htmengine.alerts.incident_messages import IncidentMessage
from htmengine.alerts.maintenance import maintenance_of
from htmengine.alerts.queries import DeliveryState
from htmengine.alerts.sender import Sender
from htmengine.cli import alert
from htmengine.cli.main import main
from htmengine.errors import WorkStopped
from htmengine.incidents import queries as incident_queries
from htmengine.incidents.candidates import Candidate
from htmengine.incidents.judging import Judging, judge, review_rule
from htmengine.incidents.records import Verdict
from htmengine.incidents.trial import trial
from htmengine.messages import Reason, ScoredRow, Why
from htmengine.process.course import Course
from htmengine.process.lifecycle import DataFolder
from htmengine.repository import fine_spans, queries, results
from htmengine.repository.engine import Database
from htmengine.repository.fine_spans import FineSpan
from htmengine.repository.queries import Score
from htmengine.repository.schema import metric
from htmengine.repository.times import to_datetime
from tests.support.database import migrated

DAY = 86_400
NOW = 1_700_000_000
CONFIG = """\
[alert:all]
pages_per_week = 1
receivers = hook
[alert:old]
receivers = hook
[receiver:hook]
type = webhook
url = http://127.0.0.1/
"""


@pytest.mark.long
class IncidentCommandsTest(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).resolve()
        data = DataFolder(self.folder)
        data.make()
        (self.folder / "htmengine.db").write_bytes(migrated())
        (self.folder / "alerts.conf").write_text(CONFIG)
        self.database = Database(data.database_url)
        self.addCleanup(self.database.close)
        self.uids = {name: self.new_metric(name) for name in ("web.a", "db.b")}

    def command(self, *words: str, status: int = 0) -> str:
        options = ["--data-dir", str(self.folder), "--config", str(self.folder)]
        done = CliRunner().invoke(main, [*words, *options])
        self.assertEqual(done.exit_code, status, f"{done.output}{done.exception!r}")
        return done.output

    def new_metric(self, name: str) -> str:
        made, _ = self.database.run_sync(custom.monitor_metric, ModelSpec.for_name(name, min=0, max=10), 288)
        rows = [(made.uid, number, NOW + (number - 40) * DAY, float(number)) for number in range(1, 41)]
        self.database.run_sync(queries.insert_samples, rows)
        self.database.run_sync(_tail, made.uid)
        return made.uid

    def judge(self, name: str, rowid: int, height: float, at: int | None = None) -> None:
        """A row of that height is scored, stored and judged for the rule "all"."""
        uid, at = self.uids[name], NOW + (rowid - 40) * DAY if at is None else at
        why = Why(
            height, "up", 2.0, 1.0, 3.0, [Reason("level 6", min(height, 7.0), "the mean is the highest in 9 weeks")]
        )
        row = ScoredRow(rowid, at, float(rowid), 0.5, 0.999999, None, why)
        self.database.run_sync(queries.save_scores, [Score(uid, rowid, at, float(rowid), 0.5, 0.999999, 0.0)])
        self.database.run_sync(results.save_anomalies, [(uid, row)], 0.99)
        about = Judging(Rule("all", pages_per_week=1.0), 2, AlertOptions(NO_ALERTS, ""), float(at))
        self.database.run_sync(judge, about, [Candidate(uid, name, row, height)] if height >= 4 else [])

    def test_incidents_are_listed_and_shown_with_what_people_did(self) -> None:
        self.assertEqual(self.command("incidents"), "no incidents\n")
        self.judge("web.a", 30, 5.5)
        listed = self.command("incidents")
        self.assertIn("all  2023-11-04T22:13:20Z  web.a  1 metric  height 5.5  paged  OPEN", listed)
        start = listed[:8]
        self.assertIn("acknowledged by ada", self.command("alert", "acknowledge", start, "--who", "ada"))
        self.command("alert", "mark", start, "right", "--who", "bob", "--note", "disk")
        shown = self.command("incidents", start)
        self.assertIn("web.a: value 30, expected 2 (1 to 3); the mean is the highest in 9 weeks", shown)
        self.assertIn("acknowledged by ada\n", shown)
        self.assertIn("right by bob: disk", shown)
        self.assertIn("1 marked right, 0 fine: 100 % right", self.command("alert", "list"))
        self.assertIn("no incident begins with 'zz'", self.command("incidents", "zz", status=1))

    def test_maintenance_is_made_listed_with_its_windows_and_removed_and_all_of_it_is_audited(self) -> None:
        make = ("maintenance", "set", "move", "db*", "--for", "2h", "--timezone", "Europe/Berlin", "--no-learning")
        made = self.command(*make, "--at", "2050-03-01 22:00", "--who", "ada")
        self.assertEqual(made, "maintenance move: db*; next 2050-03-01T21:00:00Z until 2050-03-01T23:00:00Z\n")
        first, second = self.command("maintenance", "list").splitlines()
        self.assertIn("move  stored by ada at ", first)
        self.assertIn("metrics db*, at 2050-03-01 22:00:00, for_s 7200.0, timezone Europe/Berlin, learning no", first)
        self.assertEqual(second, "    2050-03-01T21:00:00Z until 2050-03-01T23:00:00Z")
        self.assertIn("one of cron, at and calendar", self.command(*make, status=1))
        self.assertIn("at: a time such as", self.command(*make, "--at", "soon", status=1))
        self.assertEqual(self.command("maintenance", "delete", "move"), "maintenance move is removed\n")
        self.assertEqual(self.command("maintenance", "list"), "no maintenance\n")
        self.assertIn("no stored maintenance 'move'", self.command("maintenance", "delete", "move", status=1))
        self.assertIn("removed maintenance", self.command("audit"))

    def test_silences_come_and_go(self) -> None:
        self.assertIn("silence 1: db*, web.a until", self.command("alert", "silence", "db*", "web.a", "--for", "2h"))
        self.assertIn("1  db*, web.a  from", self.command("alert", "silences"))
        self.assertEqual(self.command("alert", "unsilence", "1"), "silence 1 is over\n")
        self.assertEqual(self.command("alert", "silences"), "no silences\n")
        self.assertIn("no silence 1, or it is over", self.command("alert", "unsilence", "1", status=1))
        self.assertIn("90s, 30m, 6h, 7d", self.command("alert", "silence", "*", "--for", "soon", status=2))

    def test_a_silence_may_begin_later(self) -> None:
        silence = ("alert", "silence", "db*", "--for", "2h", "--at")
        told = "from 2099-03-01T22:00:00Z until 2099-03-02T00:00:00Z"
        self.assertIn(f"silence 1: db* {told}", self.command(*silence, "2099-03-01 22:00"))
        self.assertIn(f"1  db*  {told}", self.command("alert", "silences"))
        self.assertIn("is past; now or a later time", self.command(*silence, "2020-03-01 22:00", status=1))
        self.assertIn("at least 60s", self.command("alert", "silence", "*", "--for", "59s", status=2))

    def test_the_budget_stands_beside_what_it_paid_for(self) -> None:
        self.assertIn("all  0 pages in the last week, budget 1; 0 incidents without", self.command("alert", "list"))

    def test_the_dashboard_says_of_fine_what_the_command_says(self) -> None:
        sentence = "What is fine is not learnt as unusual, and its like pages nobody, from each metric's next row on"
        dialogs = files("htmengine.web").joinpath("static/js/incident_actions.js").read_text()
        self.assertIn(sentence, dialogs)
        self.assertIn(sentence, " ".join((alert.mark.help or "").split()))

    def test_messages_that_no_receiver_accepted_are_listed(self) -> None:
        self.judge("web.a", 40, 5.5)
        message = IncidentMessage("i", "firing", "all", "web.a", NOW, NOW, 1, 5.5, 4.0, (), created=NOW)
        for receiver in ("hook", "mail", "slack"):
            self.database.run_sync(alert_queries.add_deliveries, message, [receiver])
        self.database.run_sync(alert_queries.claim_delivery, "hook", NOW + 1, 5.0)
        self.database.run_sync(alert_queries.postpone_delivery, "i.firing.hook", NOW + 9, "503 Busy")
        self.database.run_sync(
            alert_queries.end_delivery, "i.firing.mail", DeliveryState.GIVEN_UP, time.time(), "no such user"
        )
        listed = self.command("alert", "list")
        self.assertIn("hook has not accepted: web.a (firing, 1 attempts), tried again: 503 Busy", listed)
        self.assertIn("mail has not accepted: web.a (firing, 0 attempts), given up: no such user", listed)
        self.assertNotIn("slack", listed)  # nobody has tried yet

    def test_a_preview_tells_pages_beside_those_of_a_threshold(self) -> None:
        for rowid in (20, 25, 26, 39):
            self.judge("web.a", rowid, 7.5)
        said = self.command("alert", "preview", "all", "--since", str(NOW - 60 * DAY)).splitlines()
        self.assertIn("paged                7.5  web.a  the mean is the highest in 9 weeks", said[0])
        self.assertIn("no page", said[1])
        self.assertEqual(said[-1], "2 pages instead of 3 by the threshold 0.99999")
        old = self.command("alert", "preview", "old", "--since", str(NOW - 60 * DAY))
        self.assertIn("paged               web.a  value 20, anomaly score", old)
        self.assertEqual(old.splitlines()[-1], "3 pages instead of 3 by the threshold 0.99999")
        self.assertIn("no rule x; there are all, old", self.command("alert", "preview", "x", status=1))

    def test_a_metric_that_is_held_off_joins_an_incident_in_a_preview_as_it_did_live(self) -> None:
        first = NOW - 18 * DAY
        self.judge("web.a", 22, 5.5, at=first)
        about = Judging(Rule("all", pages_per_week=1.0), 2, AlertOptions(NO_ALERTS, ""), first + 3600.0)
        self.database.run_sync(review_rule, about, ended="nothing has joined for an hour")
        self.judge("db.b", 22, 5.5, at=first + 7200)
        self.judge("web.a", 24, 4.5, at=first + 7260)
        live = self.database.read_sync(incident_queries.list_incidents)
        found = self.database.read_sync(trial, Rule("all", pages_per_week=1.0), NOW - 60 * DAY, NO_ALERTS)
        self.assertEqual(sorted(each.members for each in live), [1, 2])
        self.assertEqual([len(each.metrics) for each in found.found], [1, 2])

    def test_a_preview_tells_how_far_it_is_and_can_be_stopped(self) -> None:
        for rowid in (20, 25, 26, 39):
            self.judge("web.a", rowid, 7.5)
        told: list[float] = []
        with mock.patch("htmengine.process.course.LOOK_EVERY", 1):
            course = Course(told.append)
            tried = (Rule("all", pages_per_week=1.0), NOW - 60 * DAY, NO_ALERTS, course)
            self.database.read_sync(trial, *tried)
            self.assertEqual((told, told[-1]), (sorted(set(told)), 1.0))
            self.assertGreater(len([share for share in told if share < 0.9]), 4)
            course.stop()
            with self.assertRaises(WorkStopped):
                self.database.read_sync(trial, *tried)

    def test_why_a_storm_paged_is_told_in_a_line_for_each_metric_and_decision(self) -> None:
        def about(uid: str, rowid: int, verdict: str) -> Verdict:
            return Verdict("all", uid, rowid, "level 6", NOW + rowid, 5.5, 4.0, 3.0, verdict, None)

        storm = [about(self.uids["web.a"], rowid, "held off") for rowid in range(2, 60)]
        first = [about(self.uids["web.a"], 1, "paged"), about(self.uids["db.b"], 60, "joined")]
        self.database.run_sync(incident_queries.add_verdicts, [*first, *storm])
        lines = self.command("why", "--page", "all", str(NOW)).splitlines()
        self.assertEqual([line[21:34] for line in lines], ["web.a: paged:", "web.a: no pag", "db.b: joined "])
        self.assertTrue(lines[1].endswith(" (and 57 more until 2023-11-14 22:14:19)"), lines[1])
        with mock.patch("htmengine.cli.why.MOST_LINES", 2):
            last = self.command("why", "--page", "all", str(NOW)).splitlines()[-1]
        self.assertEqual(last, "and 1 more; NAME before TIME tells of one metric")

    def test_a_preview_knows_what_was_silenced_in_maintenance_and_called_fine(self) -> None:
        for rowid in (20, 25, 30, 39):
            self.judge("web.a", rowid, 7.5)
        at = {rowid: NOW + (rowid - 40) * DAY for rowid in (20, 25, 30)}
        self.database.run_sync(
            incident_queries.add_silence, ("web.*",), at[20] - 60.0, at[20] + 60.0, "ada", "", at[20] - 60.0
        )
        window = {"at": datetime.fromtimestamp(at[25], UTC).isoformat()}
        self.database.run_sync(maintenance_queries.put_maintenance, maintenance_of("move", window), "ada", NOW)
        span = FineSpan(self.uids["web.a"], "i", 5, 4, after=26, until=31, direction="up", height=7.0)
        self.database.run_sync(fine_spans.put, [span])
        preview = ("alert", "preview", "--since", str(NOW - 60 * DAY))
        lines = self.command(*preview, "all").splitlines()
        verdicts = [line[22:].split("  ")[0] for line in lines[:-1]]
        expected = ["no page (silenced)", "no page (in maintenance)", "no page (fine)", "paged"]
        self.assertEqual(verdicts, expected)
        self.assertEqual(lines[-1], "1 pages instead of 3 by the threshold 0.99999")
        old = self.command(*preview, "old").splitlines()
        self.assertEqual(len(old), 4)  # silences and marks are for rules with a budget

    def test_a_test_message_is_what_the_rule_would_send(self) -> None:
        """One with a budget tells of an incident; nobody listens at the receiver's address."""
        for rule, kind in (("all", "incident"), ("old", None)):
            bodies: list[dict[str, Any]] = []

            async def send(_sender: Any, _receiver: Any, message: Any, _id: str, into: Any = bodies) -> str:
                into.append(message.public())
                return "200 OK"

            with mock.patch("htmengine.alerts.sender.Sender.send", send):
                self.assertEqual(self.replies(rule), [True])
            self.assertEqual(
                [(each.get("type"), each["status"], each["rule"]) for each in bodies], [(kind, "test", rule)]
            )

    def replies(self, rule: str) -> list[bool]:
        config = load_alerts(self.folder, {})
        [wanted] = [each for each in config.rules if each.name == rule]
        work = [alert._try(Sender(MemoryReactorClock()), wanted, each, "") for each in config.receivers]
        return [self.successResultOf(Deferred.fromCoroutine(each)) for each in work]

    def test_a_preview_is_of_any_rule(self) -> None:
        for rowid in (20, 25, 26, 39):
            self.judge("web.a", rowid, 7.5)
        self.database.run_sync(queries.save_scores, [Score(self.uids["web.a"], 40, NOW, 40.0, 0.5, 0.5, 0.0)])
        rules = self.folder / "rules.conf"
        rules.write_text('[alert:new]\nmetrics = {__name__=~"db.*"}\npages_per_week = 1\nreceivers = hook\n')
        since = ("--since", str(NOW - 60 * DAY))
        new = ("alert", "preview", "new", "--file", str(rules), *since)
        self.assertEqual(self.command(*new), "0 pages instead of 0 by the threshold 0.99999\n")
        more = self.command(*new, "--set", "metrics=web.*", "--set", "pages_per_week=100")
        self.assertTrue(more.endswith("4 pages instead of 3 by the threshold 0.99999\n"), more)
        outside = self.command(*new, "--set", "metrics=web.*", "--set", "valid_range=..39", "--set", "direction=down")
        self.assertIn("paged               10.0  web.a  the value is outside the valid range", outside)
        self.assertTrue(outside.endswith("1 pages instead of 3 by the threshold 0.99999\n"), outside)
        self.assertIn("rows: a whole number from 1 to 1000", self.command(*new, "--set", "rows=0", status=1))
        self.assertIn("OPTION=VALUE", self.command(*new, "--set", "rows", status=2))
        self.assertIn("no rule x; there are new", self.command("alert", "preview", "x", "--file", str(rules), status=1))

    def test_the_stored_rules_become_those_of_a_file(self) -> None:
        rules = self.folder / "rules.conf"
        web = '[alert:web]\nmetrics = {job="web"}\npages_per_week = %d\nreceivers = hook\n'
        rules.write_text(web % 5 + "[alert:db]\nreceivers = hook\n")
        apply = ("alert", "apply", str(rules), "--who", "ada")
        self.assertEqual(self.command(*apply, "--dry-run", status=1), "web: added\ndb: added\n2 would change\n")
        self.assertEqual(self.command(*apply), "web: added\ndb: added\n2 changed\n")
        self.assertEqual(self.command(*apply), "web: unchanged\ndb: unchanged\n0 changed\n")
        self.assertEqual(self.command(*apply, "--dry-run"), "web: unchanged\ndb: unchanged\n0 would change\n")
        rules.write_text(web % 3)
        self.assertEqual(self.command(*apply), "web: changed\ndb: removed\n2 changed\n")
        listed = self.command("alert", "rules").splitlines()
        sources = [line.split()[:2] for line in listed]
        self.assertEqual(sources, [["all", "alerts.conf"], ["old", "alerts.conf"], ["web", "stored"]])
        self.assertIn('"pages_per_week": 3.0', listed[2])
        self.assertIn("web  0 pages in the last week, budget 3;", self.command("alert", "list"))
        self.assertEqual(self.command("alert", "delete", "web"), "web is removed\n")
        self.assertIn("no stored rule 'web'", self.command("alert", "delete", "web", status=1))
        acts = [line.split("  ")[2].partition(":")[0] for line in self.command("audit").splitlines()]
        self.assertEqual(acts, ["added a rule", "added a rule", "changed a rule", "removed a rule", "removed a rule"])

    def test_a_stored_rule_may_tell_nobody(self) -> None:
        rules = self.folder / "rules.conf"
        rules.write_text("[alert:quiet]\npages_per_week = 1\n")
        self.assertIn("0 pages", self.command("alert", "preview", "quiet", "--file", str(rules)))
        self.assertIn("quiet: added\n", self.command("alert", "apply", str(rules), "--who", "ada"))

    def test_a_file_of_rules_that_is_wrong_changes_nothing(self) -> None:
        rules = self.folder / "rules.conf"
        for text, problem in (
            ("[alert:all]\nreceivers = hook\n", "[alert:all]: alerts.conf has a rule of this name"),
            ("[alert:a]\nreceivers = x\n", "there is no [receiver:x]; there are hook"),
            ("[receiver:x]\ntype = webhook\n", "only [alert:NAME] is allowed here"),
            ("[alert:a]\nmetrics = {job}\nreceivers = hook\n", "metrics = '{job}': globs"),
        ):
            rules.write_text(text)
            self.assertIn(problem, self.command("alert", "apply", str(rules), status=1))
        self.assertIn("there is no such file", self.command("alert", "apply", "nowhere.conf", status=1))
        self.assertEqual(self.command("audit"), "")

    def test_why_a_rule_paged_and_why_it_did_not(self) -> None:
        at = {rowid: str(NOW + (rowid - 40) * DAY) for rowid in (10, 30, 31, 32, 33)}
        self.judge("web.a", 30, 5.5)
        self.judge("db.b", 31, 6.0)
        self.judge("web.a", 32, 3.2)
        self.judge("db.b", 10, 6.0)
        why = ("why", "--page", "all")
        self.assertIn("paged: height 5.50 reached the price 4.00; 1.0 pages", self.command(*why, "web.a", at[30]))
        self.assertIn("no page: the budget was spent; 0.1 pages were left", self.command(*why, "db.b", at[31]))
        self.assertIn("no alarm: height 3.20 is below 4", self.command(*why, "web.a", at[32]))
        self.assertIn("db.b: no page: the budget was spent", self.command(*why, at[31]))
        self.assertIn("all decided nothing within 15 minutes", self.command(*why, at[33]))
        self.assertIn("no rule old with a budget", self.command("why", "--page", "old", at[31], status=1))
        self.assertIn("NAME and TIME are needed", self.command("why", at[31], status=2))


def _tail(conn: Connection, uid: str) -> None:
    conn.execute(update(metric).where(metric.c.uid == uid).values(last_rowid=40, last_timestamp=to_datetime(NOW)))
