# SPDX-License-Identifier: MIT
"""Rules with a budget, from scored rows to messages: incidents, silence, silences, and everything once."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import bindparam, update

from htmengine.alerts import maintenance_queries
from htmengine.alerts.calendars import Calendar, Window
from htmengine.alerts.configuration import AlertConfig, General, Maintenance, Rule
from htmengine.alerts.incident_messages import IncidentMessage
from htmengine.alerts.kinds import Change
from htmengine.alerts.maintenance import maintenance_of
from htmengine.alerts.notifications import LABELS_CHARACTERS
from htmengine.alerts.receivers import Webhook
from htmengine.full_texts import FULL_TEXTS
from htmengine.incidents import feedback
from htmengine.incidents import queries as incidents
from htmengine.incidents.records import Did, Incident, Member, Phase
from htmengine.incidents.roots import part_of
from htmengine.incidents.steadiness import Steadiness
from htmengine.incidents.suspects import suspects
from htmengine.labels import identity
from htmengine.messages import MetricInfo, Reason, ScoredRow, Why, encode_inference
from htmengine.repository import counters, fine_spans, queries, results
from htmengine.repository.queries import Score
from htmengine.repository.schema import metric, metric_data
from htmengine.repository.times import to_datetime
from tests.unit.test_alert_service import EXCHANGE, ServiceCase

DAY = 86_400
START = 1_400_000_000
RULE = Rule("all", pages_per_week=5.0, receivers=("hook",))
HOOK = Webhook("hook", url="http://127.0.0.1/")


def config(rule: Rule = RULE) -> AlertConfig:
    return AlertConfig(rules=(rule,), receivers=(HOOK,))


def in_maintenance(start: float, end: float) -> AlertConfig:
    windows = Calendar(lambda since, until: iter([Window(start, end)]))
    return replace(config(), maintenance=(Maintenance("move", ("web.*", "host0.*"), windows=windows),))


class IncidentCase(ServiceCase):
    """Metrics whose first row is 20 days old; rows are heard now."""

    config = config()

    def new_metric(self, name: str) -> str:
        uid = super().new_metric(name)
        self.database.run_sync(_as_if_since, uid, START - 20 * DAY)
        return uid

    def rise(self, name: str, height: float = 5.5, rowid: int = 50, value: float = 9.0, direction: Any = "up") -> None:
        """A row of that height, as of now, is scored, stored and broadcast."""
        why = Why(height, direction, 2.0, 1.0, 3.0, [Reason("level 6", 5.0, "the mean is the highest in 9 weeks")])
        row = ScoredRow(rowid, int(self.clock.seconds()), value, 0.5, 0.999, None, why)
        uid = self.uids[name]
        self.database.run_sync(results.save_anomalies, [(uid, row)], 0.99)
        info = MetricInfo(uid, name, None, None, None, "custom", {})
        self.done(self.bus.broadcast(EXCHANGE, [encode_inference(info, [row])]))

    def incidents(self) -> list[Incident]:
        found: list[Incident] = self.database.run_sync(incidents.list_incidents)
        return found

    def messages(self) -> list[tuple[str, int]]:
        return [(each.status, each.members) for _, each in self.sender.sent if isinstance(each, IncidentMessage)]

    def verdicts(self) -> list[str]:
        found = self.database.run_sync(incidents.verdicts_between, "all", 0, 2 * START)
        return [each.verdict for each in found]


def _suspects(conn: Any, incident: Incident) -> list[Member]:
    return suspects(conn, incident, incidents.members_of(conn, incident.id))


def _as_if_since(conn: Any, uid: str, first: int) -> None:
    """The metric's rows are from then on, 60 seconds apart; the last is of now."""
    rows = queries.get_rows(conn, uid, 0, 1000)
    step = 20 * DAY // len(rows)
    times = [{"row": row.rowid, "at": to_datetime(first + step * (row.rowid - 1))} for row in rows]
    this_row = (metric_data.c.uid == uid) & (metric_data.c.rowid == bindparam("row"))
    conn.execute(update(metric_data).where(this_row).values(timestamp=bindparam("at")), times)
    queries.update_tails(conn, [(uid, len(rows), START)])


@pytest.mark.long
class IncidentServiceTest(IncidentCase):
    def test_a_high_row_pages_with_its_reason_and_a_low_one_does_not(self) -> None:
        self.rise("web.a", height=3.9, rowid=49)
        self.assertEqual(self.sender.sent, [])
        self.rise("web.a")
        [(receiver, message)] = self.sender.sent
        assert isinstance(message, IncidentMessage)
        self.assertEqual((receiver, message.status, message.title), ("hook", "firing", "web.a"))
        self.assertEqual(message.link, f"http://127.0.0.1:8080/#/incidents/{message.id}")
        self.assertEqual(
            message.moved[0].sentence,
            "web.a: value 9, expected 2 (1 to 3); the mean is the highest in 9 weeks",
        )
        [incident] = self.incidents()
        self.assertEqual((incident.paged, incident.held_back, incident.tokens, incident.threshold), (True, None, 5, 4))
        self.assertEqual(self.budget_rules.pages["all"], 1)

    def test_alarms_near_in_time_are_one_incident(self) -> None:
        self.rise("web.a")
        self.clock.advance(300)
        self.rise("db.b")
        self.assertEqual(self.messages(), [("firing", 1)])
        [incident] = self.incidents()
        self.assertEqual((incident.members, incident.title), (2, "web.a and 1 more"))

    def test_messages_have_the_labels_that_the_first_metrics_share(self) -> None:
        general = General(name_labels=("{app}.{what}",))
        self.restart(replace(config(), general=general))
        self.rise("web.a")
        self.rise("db.b", height=9.0)
        self.clock.pump([60, 3600, 60])
        statuses = [(each.status, each.metric_labels) for _, each in self.sender.sent]
        labels = (("app", "web"), ("what", "a"))
        self.assertEqual(statuses, [("firing", labels), ("worse", labels), ("resolved", labels)])

    @pytest.mark.long
    def test_a_member_that_goes_on_keeps_its_incident_open(self) -> None:
        self.rise("web.a")
        for rowid in range(51, 54):
            self.clock.pump([60, 2340])
            self.rise("web.a", rowid=rowid)
        self.assertEqual([each.phase for each in self.incidents()], [Phase.OPEN])
        self.assertEqual(self.verdicts(), ["paged", "held off", "held off", "held off"])
        state = self.database.run_sync(incidents.rule_states)["all"]
        self.assertEqual([each["uids"] for each in state["open"]], [[]])

    def test_rows_that_come_twice_and_restarts_change_nothing(self) -> None:
        self.rise("web.a")
        before = self.incidents(), self.database.run_sync(incidents.rule_states)
        self.restart(self.config)
        self.rise("web.a")
        self.assertEqual((self.incidents(), self.database.run_sync(incidents.rule_states)), before)
        self.assertEqual(len(self.sender.sent), 1)

    def test_several_services_pay_once(self) -> None:
        other = self.made(self.config)
        other.startService()
        self.rise("web.a")
        self.rise("web.a")
        self.assertEqual(self.verdicts(), ["paged"])
        self.assertEqual(self.messages(), [("firing", 1)])
        self.successResultOf(other.stopService())

    def test_an_incident_is_over_an_hour_after_the_last_row(self) -> None:
        self.rise("web.a")
        self.clock.pump([60, 3480])
        self.assertEqual(self.messages(), [("firing", 1)])
        self.clock.pump([60] * 2)
        self.assertEqual(self.messages(), [("firing", 1), ("resolved", 1)])
        [incident] = self.incidents()
        self.assertEqual(incident.phase, Phase.OVER)

    def test_a_young_metric_is_learnt_and_pages_nobody(self) -> None:
        self.database.run_sync(_as_if_since, self.uids["web.a"], START - 13 * DAY)
        self.rise("web.a", height=8.0)
        self.assertEqual((self.incidents(), self.verdicts()), ([], ["learning"]))

    def test_what_leaves_the_valid_range_pages_from_the_first_row_on(self) -> None:
        self.database.run_sync(_as_if_since, self.uids["web.a"], START)
        rule = replace(self.config.rules[0], valid_range=(0.0, 100.0))
        self.restart(replace(self.config, rules=(rule,)))
        for value, verdicts in ((50.0, ["learning"]), (-1.0, ["learning", "paged"])):
            row = ScoredRow(50 + len(verdicts), START, value, 0.5, 0.3, None, Why(8.0, "up", None, None, None, []))
            info = MetricInfo(self.uids["web.a"], "web.a", None, None, None, "custom", {})
            self.done(self.bus.broadcast(EXCHANGE, [encode_inference(info, [row])]))
            self.assertEqual(self.verdicts(), verdicts)

    def test_a_backfill_pages_nobody(self) -> None:
        why = Why(8.0, "up", None, None, None, [])
        row = ScoredRow(60, START - 2 * DAY, 1.0, 0.5, 1.0, None, why)
        info = MetricInfo(self.uids["web.a"], "web.a", None, None, None, "custom", {})
        self.done(self.bus.broadcast(EXCHANGE, [encode_inference(info, [row])]))
        self.assertEqual((self.incidents(), self.verdicts()), ([], []))

    def test_a_silenced_metric_opens_an_incident_without_a_page(self) -> None:
        self.database.run_sync(incidents.add_silence, ["web.*"], START, START + 3600, "ada", "move", START)
        self.rise("web.a")
        [incident] = self.incidents()
        self.assertEqual((incident.paged, incident.held_back, self.messages()), (False, "silenced", []))
        self.clock.advance(3601)
        self.rise("db.b")
        self.assertEqual(self.messages(), [("firing", 1)])

    @pytest.mark.long
    def test_the_like_of_what_was_called_fine_pages_nobody_until_it_is_called_right(self) -> None:
        self.rise("web.a")
        [incident] = self.incidents()
        self.database.run_sync(feedback.mark, incident.id, Did.FINE, "ada", START)
        [span] = self.database.run_sync(fine_spans.of_metrics, [self.uids["web.a"]])[self.uids["web.a"]]
        self.assertEqual((span.first, span.after, span.direction, span.height), (50, 100, "up", 5.5))
        self.clock.pump([60, 3600, 60, 86_400])
        self.rise("web.a", height=7.0, rowid=101)
        self.assertEqual(self.verdicts(), ["paged", "held back: fine"])
        self.clock.advance(86_400)
        self.rise("web.a", height=7.0, rowid=102, direction="down")
        self.clock.advance(86_400)
        self.rise("web.a", height=7.6, rowid=103)
        self.assertEqual(self.verdicts()[2:], ["paged"] * 2)
        self.database.run_sync(feedback.mark, incident.id, Did.RIGHT, "ada", START)
        self.clock.advance(86_400)
        self.rise("web.a", rowid=104)
        self.assertEqual(self.verdicts()[4:], ["paged"])

    def test_who_became_unusual_first_is_the_first_suspect_though_it_alarmed_later(self) -> None:
        self.rise("web.a", height=2.3, rowid=49)  # below what alarms
        self.clock.advance(60)
        self.rise("db.b", height=6.0)
        self.rise("web.a", height=4.5, rowid=50)
        [incident] = self.incidents()
        members = self.database.run_sync(incidents.members_of, incident.id)
        self.assertEqual([(each.metric, each.since) for each in members], [("web.a", START), ("db.b", START + 60)])
        self.assertEqual(incident.title, "web.a and 1 more")

    def test_a_metric_that_was_never_as_usual_is_no_first_suspect(self) -> None:
        for rowid in range(30, 49):
            self.rise("web.a", height=2.8, rowid=rowid)
            self.clock.advance(60)
        self.rise("db.b", height=6.0)
        self.rise("web.a", height=4.5, rowid=49)
        [incident] = self.incidents()
        members = self.database.run_sync(incidents.members_of, incident.id)
        now = int(self.clock.seconds())
        self.assertEqual([(each.metric, each.since) for each in members], [("db.b", now), ("web.a", None)])

    def rise_below_an_alarm(self, name: str, rows: int) -> None:
        self.uids[name] = self.new_metric(name)
        for rowid in range(46, 46 + rows):
            self.rise(name, height=2.4 + rowid / 1000, rowid=rowid)
            self.clock.advance(60)

    def test_a_metric_of_the_host_that_moved_first_below_an_alarm_is_the_first_suspect(self) -> None:
        self.rise_below_an_alarm("web.root", rows=4)
        self.rise_below_an_alarm("web.short", rows=3)
        self.rise_below_an_alarm("app.other", rows=4)
        self.rise("web.a")
        [incident] = self.incidents()
        [(_, message)] = self.sender.sent
        self.assertEqual((incident.title, incident.members, message.members), ("web.a", 1, 1))
        self.assertEqual([each.name for each in message.moved], ["web.root", "web.a"])
        self.assertEqual(message.moved[0].text, "the mean is the highest in 9 weeks (no alarm)")
        [root, alarmed] = self.database.run_sync(_suspects, incident)
        self.assertEqual((root.metric, root.since, root.rowid, root.height), ("web.root", START, 49, 2.449))
        self.assertEqual(alarmed.metric, "web.a")

    def test_maintenance_is_by_the_rows_time_and_pages_nobody(self) -> None:
        self.restart(in_maintenance(START, START + 3600))
        self.rise("web.a")
        [incident] = self.incidents()
        self.assertEqual((incident.paged, incident.held_back, self.messages()), (False, "in maintenance", []))
        self.clock.advance(60)
        self.rise("db.b")  # which the window is not for
        self.assertEqual(self.messages(), [("firing", 2)])
        [(_, message)] = self.sender.sent
        self.assertEqual(message.title, "db.b and 1 more")
        self.assertEqual([each.name for each in message.moved], ["db.b", "web.a"])
        members = self.database.run_sync(incidents.members_of, incident.id)
        self.assertEqual([each.metric for each in members], ["db.b", "web.a"])
        self.assertEqual(message.moved[1].text, "the mean is the highest in 9 weeks (in maintenance)")

    def test_maintenance_that_was_made_while_it_runs_counts_at_once_until_it_is_removed(self) -> None:
        at = datetime.fromtimestamp(START, UTC).isoformat()
        made = maintenance_of("move", {"metrics": ["web.*"], "at": at})
        self.database.run_sync(maintenance_queries.put_maintenance, made, "ada", START)
        self.rise("web.a")
        self.assertEqual(self.verdicts(), ["in maintenance"])
        self.database.run_sync(maintenance_queries.delete_maintenance, "move", "ada", START)
        self.clock.advance(60)
        self.rise("web.a", height=6.0, rowid=51)
        self.assertEqual(self.messages(), [("firing", 1)])

    def test_what_was_missed_is_judged_from_the_database(self) -> None:
        self.successResultOf(self.service.stopService())
        self.done(self.bus.delete_queue("htmengine.alerts"))
        uid = self.uids["web.a"]
        why = Why(6.0, "up", 2.0, 1.0, 3.0, [])
        at = START - 20 * DAY // 100
        row = ScoredRow(100, at, 100.0, 0.5, 0.5, None, why)
        self.database.run_sync(results.save_anomalies, [(uid, row)], 0.99)
        self.database.run_sync(queries.save_scores, [Score(uid, 100, at, 100.0, 0.5, 0.5, 0.0, None)])
        self.service = self.start(self.config)
        self.done(self.service._catch_up())
        self.assertEqual(self.messages(), [("firing", 1)])

    def test_the_incidents_of_a_rule_that_is_gone_end(self) -> None:
        self.rise("web.a")
        self.restart(config(replace(RULE, name="other")))
        self.clock.advance(60)
        [incident] = self.incidents()
        self.assertEqual((incident.phase, incident.reason), (Phase.OVER, "the rule was removed"))
        self.assertEqual(self.messages(), [("firing", 1), ("resolved", 1)])


class ConditionsTest(IncidentCase):
    names = ("web.a",)

    def judged(self, **options: Any) -> bool:
        """Whether a row of value 9 above an expected 2 is an alarm."""
        self.restart(config(replace(RULE, **options)))
        self.rise("web.a")
        return bool(self.incidents())

    def test_only_what_goes_down_may_count(self) -> None:
        self.assertFalse(self.judged(direction="down"))
        self.assertTrue(self.judged(direction="up"))

    def test_rows_may_have_to_count_for_a_time(self) -> None:
        self.restart(config(replace(RULE, rows=3, for_s=600.0)))
        for number in range(4):
            self.rise("web.a", rowid=50 + number)
            self.assertEqual(len(self.incidents()), int(number == 2), number)
            self.clock.advance(300)
            if number == 2:
                return

    def test_small_changes_are_ignored_by_amount_or_by_share(self) -> None:
        self.assertFalse(self.judged(min_change=Change(7.5)))
        self.assertFalse(self.judged(min_change=Change(4.0, relative=True)))
        self.assertTrue(self.judged(min_change=Change(3.4, relative=True)))

    def test_several_rows_may_have_to_count_within_the_window(self) -> None:
        self.restart(config(replace(RULE, rows=2, window_s=600.0)))
        self.rise("web.a")
        self.clock.advance(601)
        self.rise("web.a", rowid=51)
        self.assertEqual(self.incidents(), [])
        self.clock.advance(600)
        self.rise("web.a", rowid=52)
        self.assertEqual(len(self.incidents()), 1)

    def test_the_severity_is_by_the_height(self) -> None:
        self.assertTrue(self.judged(severity=(("low", 4.0), ("high", 5.0), ("huge", 9.0))))
        [(_, message)] = self.sender.sent
        self.assertEqual(message.labels, (("severity", "high"),))

    def test_a_value_outside_the_valid_range_is_always_an_alarm(self) -> None:
        self.restart(config(replace(RULE, valid_range=(0.0, 100.0), direction="down")))
        self.rise("web.a", height=3.1, value=101.0)
        [incident] = self.incidents()
        self.assertEqual((incident.paged, incident.height), (True, 10.0))


@pytest.mark.long
class LongNamesTest(IncidentCase):
    """Metrics whose labels lie past the 255 bytes of their identities."""

    texts = tuple(f"cpu;a={'x' * 2000};instance=web-{number};job=api" for number in range(2))
    names = tuple(map(identity, texts))
    config = config(replace(RULE, metrics=('{job="api",instance=~"web.*"}',)))

    def setUp(self) -> None:
        self.patch(FULL_TEXTS, "_texts", {})
        super().setUp()

    def new_metric(self, name: str) -> str:
        uid = super().new_metric(name)
        self.database.run_sync(counters.add_texts, {uid: self.texts[self.names.index(name)]})
        return uid

    def test_rules_and_messages_have_all_labels(self) -> None:
        self.rise(self.names[0])
        [(_, message)] = self.sender.sent
        labels = dict(message.metric_labels)
        self.assertEqual((labels["job"], labels["instance"], len(labels["a"])), ("api", "web-0", 2000))
        self.assertEqual(message.public()["moved"][0]["metric_labels"], labels)
        [shown] = [value for name, value in message.facts if name == "Labels"]
        self.assertEqual((shown[:8], shown[-1], len(shown)), ('a="xxxxx', "…", LABELS_CHARACTERS + 1))
        self.clock.advance(60)
        self.assertEqual(self.budget_rules._judging(self.config.rules[0]).metrics, 2)

    def test_silences_and_stored_members_have_them(self) -> None:
        self.database.run_sync(incidents.add_silence, ['{instance="web-0"}'], START, START + 3600, "ada", "move", START)
        self.rise(self.names[0])
        self.rise(self.names[1])
        self.assertEqual(self.messages(), [("firing", 2)])
        self.restart(self.config)
        FULL_TEXTS._texts.clear()
        [incident] = self.incidents()
        members = self.database.run_sync(_suspects, incident)
        self.assertEqual([part_of(each.metric) for each in members], ["web-1", "web-0"])


class FleetTest(IncidentCase):
    names = tuple(f"host{host}.m{number}" for host in range(4) for number in range(2))

    def report(self, *names: str) -> None:
        now = to_datetime(int(self.clock.seconds()))
        tails = update(metric).where(metric.c.name.in_(names)).values(last_rowid=600, last_timestamp=now)
        self.database.run_sync(lambda conn: conn.execute(tails))

    def minutes(self, count: int, *names: str) -> None:
        for _ in range(count):
            self.report(*names)
            self.clock.advance(60)

    def test_a_host_that_is_gone_is_one_incident_that_lasts_until_it_is_back(self) -> None:
        self.minutes(5, *self.names)
        self.patch_times()
        self.minutes(14, *self.names[2:])
        [(status, _)] = self.messages()
        self.assertEqual((status, self.incidents()[0].members), ("firing", 2))
        self.assertIn("host0.*", self.incidents()[0].title)
        self.clock.advance(3600)
        self.minutes(3, *self.names[2:])
        self.assertEqual([each.phase for each in self.incidents()], [Phase.OPEN])
        self.restart(self.config)
        self.minutes(5, *self.names[2:])
        self.assertEqual(len(self.incidents()), 1)
        self.minutes(3, *self.names)
        self.assertEqual([each.phase for each in self.incidents()], [Phase.OVER])
        self.assertEqual([status for status, _ in self.messages()], ["firing", "resolved"])

    def test_a_host_that_is_not_back_after_its_maintenance_pages_once(self) -> None:
        self.restart(in_maintenance(START, START + 1800))
        self.minutes(5, *self.names)
        self.patch_times()
        self.minutes(14, *self.names[2:])
        [incident] = self.incidents()
        self.assertEqual((incident.held_back, incident.members, self.messages()), ("in maintenance", 2, []))
        self.minutes(8, *self.names[2:])
        self.assertEqual((self.messages(), self.verdicts()), ([], ["in maintenance"] * 2))
        self.minutes(6, *self.names[2:])
        self.assertEqual((self.messages(), len(self.incidents())), ([("firing", 2)], 1))

    def test_a_collector_that_is_gone_is_no_silence(self) -> None:
        self.minutes(5, *self.names)
        self.patch_times()
        self.minutes(20)
        self.assertEqual(self.incidents(), [])

    def patch_times(self) -> None:
        """The metrics' stored rows are a minute apart."""
        self.patch(incidents, "row_times", lambda conn, uid, most: [START - 60 * n for n in range(100, 0, -1)])

    def test_a_metric_with_gaps_alarms_if_the_rule_says_so(self) -> None:
        self.patch(Steadiness, "looked", lambda self, *_: "5 samples in 30 minutes; 30 are usual")
        self.minutes(3, *self.names)
        self.assertEqual(self.incidents(), [])
        self.restart(config(replace(RULE, gaps=True)))
        self.minutes(5, *self.names)
        [incident] = self.incidents()
        self.assertEqual((incident.members, self.messages()[0][0]), (8, "firing"))

    def test_a_storm_is_one_incident_and_few_messages(self) -> None:
        for name in self.names[:6]:
            self.rise(name)
        self.clock.advance(20)
        self.assertEqual([status for status, _ in self.messages()], ["firing"])
        for name in self.names[6:]:
            self.rise(name)
        self.clock.pump([40, 3600, 60])
        self.assertEqual(self.messages()[1], ("worse", 8))
        [incident] = self.incidents()
        self.assertEqual(incident.members, 8)
        self.assertEqual([status for status, _ in self.messages()], ["firing", "worse", "resolved"])

    def test_a_spent_budget_holds_back_and_says_so(self) -> None:
        for name in self.names:
            self.rise(name, height=8.0)
            self.clock.pump([2700] * 2)
        pages = [(each.paged, each.held_back) for each in self.incidents()]
        self.assertEqual(sorted(pages, key=str), [(False, "budget")] * 3 + [(True, None)] * 5)
        self.assertEqual((self.budget_rules.pages["all"], self.budget_rules.held_back["all"]), (5, 3))
        self.assertLess(self.budget_rules.tokens["all"], 1.0)
