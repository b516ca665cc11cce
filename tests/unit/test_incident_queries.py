# SPDX-License-Identifier: MIT
"""The tables of incidents: what is stored is read again, what comes twice is there once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from unittest import TestCase

from htmengine.errors import IncidentNotFound, InvalidOptions, InvalidRule, SilenceNotFound
from htmengine.incidents import feedback
from htmengine.incidents import queries as incidents
from htmengine.incidents.records import AlarmState, Did, Incident, Marks, Member, Phase, Verdict
from htmengine.repository.engine import Database
from tests.support.database import new_database

NOW = 1_400_000_000.0
OPEN = Incident(
    id="1a7f0000-0000-0000-0000-000000000001",
    rule="all",
    title="db1.* and 2 more ✓",
    phase=Phase.OPEN,
    timestamp=1_399_999_800,
    last_timestamp=1_399_999_800,
    opened_at=NOW,
    last_at=NOW,
    mattered_at=None,
    over_at=None,
    reason=None,
    paged=True,
    held_back=None,
    height=5.5,
    threshold=4.0,
    tokens=5.0,
    members=1,
)
OVER = replace(OPEN, id="2b7f", phase=Phase.OVER, over_at=NOW + 9000, reason="calm", paged=False, held_back="budget")
MEMBER = Member(
    OPEN.id, "u1", "db1.load", 7, 1_399_999_800, 1_399_999_800, 5.5, "level 36", "up", "the highest", 9.0, 2.0, 1.0, 3.0
)
VERDICT = Verdict("all", "u1", 7, "level 36", 1_399_999_800, 5.5, 4.0, 5.0, "page", OPEN.id)


class IncidentQueriesTest(TestCase):
    def setUp(self) -> None:
        self.database = self.new_database()

    def new_database(self) -> Database:
        """An empty one; the integration tests have the same tests on servers."""
        return new_database(self)

    def run_(self, fn: Any, *args: Any, **kwargs: Any) -> Any:
        return self.database.run_sync(fn, *args, **kwargs)

    def save(self, *all_: Incident) -> None:
        for each in all_:
            self.run_(incidents.save_incident, each)

    def test_a_rule_has_the_state_that_was_saved(self) -> None:
        self.assertEqual(self.run_(incidents.lock_rule, "all", NOW), {})
        self.run_(incidents.save_rule, "all", {"tokens": 0.1}, NOW)
        self.assertEqual(self.run_(incidents.lock_rule, "all", NOW), {"tokens": 0.1})
        self.assertEqual(self.run_(incidents.rule_states), {"all": {"tokens": 0.1}})

    def test_an_incident_with_its_members_is_read_as_it_was_stored(self) -> None:
        self.save(OPEN, OVER, replace(OPEN, members=2))
        self.run_(incidents.save_members, [MEMBER, replace(MEMBER, uid="u2", height=6.0), replace(MEMBER, height=5.6)])
        self.assertEqual(self.run_(incidents.find_incident, "1a7"), replace(OPEN, members=2))
        self.assertEqual([each.height for each in self.run_(incidents.members_of, OPEN.id)], [6.0, 5.6])
        self.assertEqual([each.id for each in self.run_(incidents.list_incidents)], [OPEN.id, "2b7f"])
        self.assertEqual([each.id for each in self.run_(incidents.list_incidents, open_only=True)], [OPEN.id])
        self.assertEqual([each.id for each in self.run_(incidents.list_incidents, uid="u2")], [OPEN.id])
        self.assertEqual(self.run_(incidents.list_incidents, rule="other"), [])
        self.assertEqual(list(self.run_(incidents.incidents_by_id, ["2b7f", "gone"])), ["2b7f"])
        self.assertEqual(self.run_(incidents.pages_since, NOW - 1), {"all": (1, 1)})

    def test_an_id_that_is_none_or_several_is_refused(self) -> None:
        self.save(OPEN, replace(OPEN, id="1a80"))
        for wrong in ("", "1a", "%", "9"):
            with self.assertRaises(IncidentNotFound):
                self.run_(incidents.find_incident, wrong)

    def test_who_acknowledged_stays_when_the_incident_grows(self) -> None:
        self.save(OPEN)
        self.run_(incidents.acknowledge, "1a7", "ada", NOW + 5, "on it")
        self.save(replace(OPEN, members=3))
        found = self.run_(incidents.find_incident, OPEN.id)
        self.assertEqual((found.members, found.acknowledged_by, found.acknowledged_at), (3, "ada", NOW + 5))
        [event] = self.run_(incidents.events_of, OPEN.id)
        self.assertEqual((event.who, event.what, event.note, event.rule), ("ada", Did.ACKNOWLEDGED, "on it", "all"))

    def test_the_last_mark_of_each_incident_counts(self) -> None:
        self.save(OPEN, OVER)
        for incident_id, what in ((OPEN.id, Did.FINE), (OPEN.id, Did.RIGHT), (OVER.id, Did.FINE)):
            self.run_(feedback.mark, incident_id, what, "ada", NOW)
        self.assertEqual(self.run_(incidents.marks_by_rule), {"all": Marks(right=1, fine=1)})

    def test_a_silence_is_there_until_it_ends_and_both_are_audited(self) -> None:
        with self.assertRaises(InvalidRule):
            self.run_(incidents.add_silence, ["{job}"], NOW, NOW + 3600, "ada", "", NOW)
        made = self.run_(incidents.add_silence, ["db*"], NOW, NOW + 3600, "ada", "move", NOW)
        self.assertEqual(self.run_(incidents.silences, NOW), [made])
        self.assertEqual(self.run_(incidents.silences, NOW + 3600), [])
        self.run_(incidents.end_silence, made.id, "bob", NOW + 60)
        self.assertEqual(self.run_(incidents.silences, NOW + 60), [])
        with self.assertRaises(SilenceNotFound):
            self.run_(incidents.end_silence, made.id, "bob", NOW + 61)
        self.assertEqual([each.what for each in self.run_(incidents.events_of)], [Did.SILENCED, Did.UNSILENCED])

    def test_a_silence_may_begin_later_but_not_before_now(self) -> None:
        with self.assertRaisesRegex(InvalidOptions, "from_at: 1399999999 is past"):
            self.run_(incidents.add_silence, ["db*"], NOW - 1, NOW + 3600, "ada", "", NOW)
        made = self.run_(incidents.add_silence, ["db*"], NOW + 60, NOW + 3600, "ada", "", NOW)
        self.assertEqual(self.run_(incidents.silences, NOW), [made])
        self.run_(incidents.end_silence, made.id, "bob", NOW + 30)
        self.assertEqual(self.run_(incidents.silences, NOW + 30), [])

    def test_states_and_verdicts_are_kept_once(self) -> None:
        state = AlarmState("all", "u1", 7, 1_399_999_800, 5.5, (1, 2), 1_399_999_800)
        self.run_(incidents.save_alarm_states, [state, AlarmState("all", "u2", 1)])
        self.run_(incidents.save_alarm_states, [replace(state, rowid=8)])
        self.assertEqual(self.run_(incidents.alarm_states, "all", ["u1"]), {"u1": replace(state, rowid=8)})
        self.assertEqual(list(self.run_(incidents.silent_states, "all")), ["u1"])
        self.run_(incidents.add_verdicts, [VERDICT, VERDICT])
        self.assertEqual(self.run_(incidents.verdicts_about, "all", "u1", 0, 2_000_000_000), [VERDICT])
        self.assertEqual(self.run_(incidents.verdicts_between, "all", 0, 2_000_000_000), [VERDICT])

    def test_similar_ones_are_earlier_and_share_metrics_those_that_share_most_first(self) -> None:
        day = 86_400
        both = replace(OVER, id="both", timestamp=OPEN.timestamp - 3 * day, members=2)
        one = replace(OVER, id="one", timestamp=OPEN.timestamp - day, members=1)
        later = replace(OVER, id="later", timestamp=OPEN.timestamp + day, members=2)
        other = replace(OVER, id="other", timestamp=OPEN.timestamp - day)
        self.save(replace(OPEN, members=2), both, one, later, other)
        of = {OPEN.id: "u1 u2", "both": "u1 u2", "one": "u2", "later": "u1 u2", "other": "u3"}
        members = [replace(MEMBER, incident_id=name, uid=uid) for name, uids in of.items() for uid in uids.split()]
        self.run_(incidents.save_members, members)
        found = self.run_(incidents.similar, replace(OPEN, members=2), {"u1", "u2"}, 5)
        self.assertEqual([(each.id, shared) for each, shared in found], [("both", 2), ("one", 1)])
        self.assertEqual(len(self.run_(incidents.similar, OPEN, {"u1", "u2"}, 1)), 1)

    def test_what_is_long_over_is_forgotten_and_what_people_did_is_not(self) -> None:
        self.save(OPEN, OVER)
        self.run_(incidents.save_members, [MEMBER, replace(MEMBER, incident_id=OVER.id)])
        self.run_(feedback.mark, OVER.id, Did.RIGHT, "ada", NOW)
        self.run_(incidents.add_verdicts, [VERDICT])
        self.run_(incidents.add_silence, ["*"], NOW, NOW + 1, "ada", "", NOW)
        self.run_(incidents.save_alarm_states, [AlarmState("all", "gone", 1)])
        self.run_(incidents.forget, NOW + 10_000)
        self.assertEqual([each.id for each in self.run_(incidents.list_incidents)], [OPEN.id])
        self.assertEqual(self.run_(incidents.members_of, OVER.id), [])
        self.assertEqual(self.run_(incidents.verdicts_between, "all", 0, 2_000_000_000), [])
        self.assertEqual(self.run_(incidents.alarm_states, "all", ["gone"]), {})
        self.assertEqual(len(self.run_(incidents.events_of)), 2)
