# SPDX-License-Identifier: MIT
"""Alarms become incidents: when they open, who joins, what is paid and told, when it is over; who moved first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from unittest import TestCase

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from htmengine.incidents.budget import Bucket, Budget
from htmengine.incidents.grouping import (
    NAMED_MEMBERS,
    Alarm,
    Close,
    Decision,
    Join,
    Matter,
    Open,
    Outcome,
    RuleState,
    decide,
    review,
    silence_alarm,
)
from htmengine.incidents.hold_off import HoldOff
from htmengine.incidents.roots import called, ranked, title

HOUR, DAY = 3600, 86_400


def alarm(metric: str, timestamp: int, height: float = 5.0, **more: Any) -> Alarm:
    return Alarm(f"uid-{metric}", metric, timestamp // 300, timestamp, height, "level 1", "the highest", **more)


class Rule:
    """A rule that remembers."""

    def __init__(self, pages_per_week: float = 10.0) -> None:
        self.budget, self.state, self.holds = Budget(pages_per_week), RuleState(), dict[str, HoldOff]()

    def takes(self, *alarms: Alarm) -> Decision:
        decision = decide("all", self.budget, self.state, self.holds, alarms)
        self.state = decision.state
        self.holds.update(decision.hold_offs)
        return decision

    def told(self, *alarms: Alarm) -> list[str]:
        return [type(each).__name__ for each in self.takes(*alarms).instructions]

    def outcomes(self, *alarms: Alarm) -> list[Outcome]:
        return [each.outcome for each in self.takes(*alarms).judgements]

    def closed(self, now: float, silent: Sequence[str] = ()) -> list[str]:
        self.state, closed = review(self.state, now, silent)
        return [each.reason for each in closed]


class JoiningTest(TestCase):
    def test_alarms_within_a_quarter_of_an_hour_of_the_last_join(self) -> None:
        rule = Rule()
        times = (0, 900, 1800, 2701)
        self.assertEqual(rule.told(*(alarm(f"m{time}", time) for time in times)), ["Open", "Join", "Join", "Open"])
        self.assertEqual(len(rule.state.open), 2)

    def test_one_of_an_earlier_time_joins_too(self) -> None:
        rule = Rule()
        self.assertEqual(rule.told(alarm("a", 5000), alarm("b", 4100), alarm("c", 3000)), ["Open", "Join", "Open"])
        self.assertEqual((rule.state.open[0].timestamp, rule.state.open[0].joined_at), (4100, 5000))

    def test_a_member_that_is_still_unusual_keeps_it_open_and_joins_once(self) -> None:
        rule = Rule()
        self.assertEqual(rule.told(alarm("a", 0), alarm("a", 300), alarm("a", 3000)), ["Open", "Stay", "Stay"])
        self.assertEqual((rule.state.open[0].members, rule.state.open[0].active_at), (1, 3000))
        self.assertEqual(rule.told(alarm("b", 3000)), ["Open"])

    def test_a_metric_that_has_alarmed_today_joins_what_it_moves_with_and_pays_nothing(self) -> None:
        rule = Rule()
        rule.takes(alarm("a", 0))
        rule.closed(7200)
        later = [alarm("a", 40_000, 4.5, since=40_000), alarm("b", 40_300), alarm("a", 40_600, 4.5, since=40_000)]
        self.assertEqual(rule.told(*later), ["Open", "Join"])
        [incident] = rule.state.open
        self.assertEqual((incident.uids, incident.members), (("uid-b", "uid-a"), 2))
        self.assertEqual(rule.outcomes(alarm("a", 40_900, 4.5, since=40_000)), [Outcome.HELD_OFF])
        self.assertEqual(rule.told(alarm("a", 41_200, 4.5, since=40_000)), ["Stay"])

    def test_one_that_was_unusual_before_or_always_does_not(self) -> None:
        rule = Rule()
        rule.takes(alarm("a", 0), alarm("c", 0))
        rule.closed(7200)
        still = [alarm("a", 40_300, 4.5, since=39_000), alarm("c", 40_300, 4.5, since=None)]
        self.assertEqual(rule.told(alarm("b", 40_000), *still), ["Open"])

    def test_the_same_input_gives_the_same_ids_and_other_rules_others(self) -> None:
        first = decide("a", Budget(1.0), RuleState(), {}, [alarm("m", 0)])
        self.assertEqual(first, decide("a", Budget(1.0), RuleState(), {}, [alarm("m", 0)]))
        others = [decide("b", Budget(1.0), RuleState(), {}, [each]) for each in (alarm("m", 0), alarm("m", 300))]
        others.append(decide("a", Budget(1.0), RuleState(), {}, [silence_alarm("uid-m", "m", 0, 0, "")]))
        self.assertEqual(len({each.state.open[0].id for each in (first, *others)}), 4)

    @pytest.mark.long
    @settings(deadline=None, max_examples=40)
    @given(
        st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3 * DAY), st.floats(4.0, 9.0)), max_size=40),
        st.integers(0, 40),
    )
    def test_one_by_one_or_together_is_the_same(self, rows: list[tuple[str, int, float]], cut: int) -> None:
        alarms = [alarm(*row) for row in sorted(rows, key=lambda row: row[1])]
        together, parted = Rule(), Rule()
        whole = together.takes(*alarms)
        first, second = parted.takes(*alarms[:cut]), parted.takes(*alarms[cut:])
        self.assertEqual((together.state, together.holds), (parted.state, parted.holds))
        self.assertEqual(whole.instructions, first.instructions + second.instructions)


class PayingTest(TestCase):
    def test_only_a_new_incident_pays(self) -> None:
        rule = Rule()
        rule.takes(alarm("a", 0), alarm("b", 0), alarm("c", 0))
        self.assertEqual(rule.state.bucket.tokens, 9.0)
        self.assertEqual(rule.outcomes(alarm("d", 2 * HOUR, 4.0)), [Outcome.HELD_BACK])
        self.assertEqual(rule.outcomes(alarm("e", 4 * HOUR, 4.1)), [Outcome.PAGED])

    def test_without_a_token_it_is_held_back_and_listed(self) -> None:
        rule = Rule(1.0)
        self.assertEqual(
            rule.outcomes(alarm("a", 0), alarm("b", HOUR, 6.9), alarm("c", 2 * HOUR, 9.0)),
            [Outcome.PAGED, Outcome.SPENT, Outcome.SPENT],
        )
        self.assertEqual([each.paged for each in rule.state.open], [True, False, False])

    def test_one_held_back_is_paged_when_an_alarm_is_worth_it(self) -> None:
        rule = Rule(2.0)
        rule.takes(alarm("a", 0))
        self.assertEqual(rule.told(alarm("b", HOUR, 4.5)), ["Open"])
        self.assertEqual(rule.told(alarm("b", HOUR + 300, 4.6), alarm("b", HOUR + 600, 5.0)), ["Join", "Page"])
        self.assertEqual(rule.told(alarm("b", HOUR + 900, 6.9), alarm("b", HOUR + 1200, 7.1)), ["Stay", "Matter"])
        self.assertLess(rule.state.bucket.tokens, 0.1)

    def test_silence_pays_whatever_the_price_and_has_no_hold_off(self) -> None:
        rule = Rule(2.0)
        rule.takes(alarm("a", 0), alarm("b", 0))
        gone = silence_alarm("uid-a", "a", 0, 2 * HOUR, "no rows for 15 minutes")
        self.assertEqual(rule.outcomes(gone), [Outcome.PAGED])
        self.assertEqual(rule.outcomes(replace(gone, timestamp=5 * HOUR, rowid=9)), [Outcome.SPENT])

    def test_a_silenced_alarm_opens_without_a_page_and_makes_nothing_matter(self) -> None:
        rule = Rule()
        self.assertEqual(rule.outcomes(alarm("a", 0, 9.0, quiet=Outcome.QUIET)), [Outcome.QUIET])
        self.assertEqual((rule.state.open[0].paged, rule.state.bucket.tokens), (False, 10.0))
        self.assertEqual(rule.told(alarm("b", 0)), ["Page"])
        self.assertEqual(rule.told(alarm("c", 0, 9.9, quiet=Outcome.QUIET)), ["Join"])


class TellingTest(TestCase):
    def test_a_storm_is_one_incident_and_three_messages(self) -> None:
        rule = Rule()
        told = rule.takes(*(alarm(f"web{n}.cpu", n * 10, 5.0 + n / 10) for n in range(51))).instructions
        self.assertEqual([type(each) for each in told if not isinstance(each, Join)], [Open, Matter])
        self.assertEqual(rule.state.open[0].members, 51)
        self.assertEqual(len(rule.closed(510 + 2 * HOUR)), 1)

    def test_it_matters_more_when_it_is_much_higher(self) -> None:
        rule = Rule()
        self.assertEqual(
            rule.told(alarm("a", 0, 4.2), alarm("b", 0, 6.1), alarm("c", 0, 6.2)), ["Open", "Join", "Matter"]
        )
        self.assertEqual(rule.told(alarm("d", 0, 9.9)), ["Join"])

    def test_a_great_storm_names_a_thousand(self) -> None:
        rule = Rule()
        rule.takes(*(alarm(f"m{n}", 0) for n in range(NAMED_MEMBERS + 5)))
        self.assertEqual((rule.state.open[0].members, len(rule.state.open[0].uids)), (1005, 1000))


class OverTest(TestCase):
    def test_an_hour_after_the_last_alarm(self) -> None:
        rule = Rule()
        rule.takes(alarm("a", 0), alarm("a", 600))
        self.assertEqual(rule.closed(600 + HOUR - 1), [])
        self.assertEqual(len(rule.closed(600 + HOUR)), 1)
        self.assertEqual(rule.state.open, ())

    def test_a_member_that_is_silent_is_not_back(self) -> None:
        rule = Rule()
        rule.takes(alarm("a", 0))
        self.assertEqual(rule.closed(DAY, ["uid-a"]), [])
        self.assertEqual(len(rule.closed(DAY, ["uid-b"])), 1)

    def test_after_a_week_in_any_case(self) -> None:
        rule = Rule()
        rule.takes(alarm("a", 0))
        self.assertEqual(rule.closed(7 * DAY, ["uid-a"]), ["it has been open for a week"])

    def test_rows_that_came_late_say_nothing_of_the_time_after_them(self) -> None:
        state = decide("all", Budget(1.0), RuleState(), {}, [alarm("a", 0)]).state
        self.assertEqual(review(state, 3 * HOUR, (), {"uid-a": 600.0})[1], [])
        self.assertEqual(len(review(state, 3 * HOUR, (), {"uid-a": 2.0 * HOUR})[1]), 1)

    def test_an_alarm_that_joins_one_that_paged_nobody_has_its_own_reason(self) -> None:
        budget = Budget(1.0)
        first = decide("all", budget, RuleState(), {}, [alarm("a", 0), alarm("b", 4 * HOUR), alarm("c", 4 * HOUR + 60)])
        self.assertEqual([each.outcome for each in first.judgements], [Outcome.PAGED, Outcome.SPENT, Outcome.SPENT])

    def test_its_instruction_names_it(self) -> None:
        state = decide("all", Budget(1.0), RuleState(), {}, [alarm("a", 0)]).state
        self.assertEqual(
            review(state, 2 * HOUR, ()),
            (
                RuleState(Bucket(0.0, 0, 1.0), ()),
                [Close(state.open[0], "nothing has joined for an hour, and its metrics are as usual again")],
            ),
        )

    def test_held_off_rows_of_a_closed_incident_change_nothing(self) -> None:
        rule = Rule()
        rule.takes(alarm("a", 0))
        rule.closed(2 * HOUR)
        self.assertEqual(
            (rule.told(alarm("a", 3 * HOUR)), rule.outcomes(alarm("a", 3 * HOUR))), ([], [Outcome.HELD_OFF])
        )


class RootTest(TestCase):
    def test_who_moved_first_then_farthest_then_whose_name_is_shared(self) -> None:
        members = [
            alarm("web1.cpu", 300, 9.0),
            alarm("web1.up", 0, 5.0),
            alarm("db1.cpu", 0, 6.0),
            alarm("x.y", 0, 5.0),
        ]
        self.assertEqual([each.metric for each in ranked(members)], ["db1.cpu", "web1.up", "x.y", "web1.cpu"])

    def test_what_pages_nobody_is_suspected_last_and_gives_no_title(self) -> None:
        moved = [alarm(f"web1.m{number}", 0, 9.0, quiet=Outcome.MAINTENANCE) for number in range(2)]
        self.assertEqual(called(moved), "web1.*")
        moved.append(alarm("db1.cpu", 300))
        self.assertEqual([each.metric for each in ranked(moved)], ["db1.cpu", "web1.m0", "web1.m1"])
        self.assertEqual(called(moved), "db1.cpu and 2 more")

    def test_titles(self) -> None:
        self.assertEqual(title(["db1.mysql.queries", "db1.mysql.time", "db1.cpu"]), "db1.*")
        self.assertEqual(title(["db1.mysql.queries", "db1.mysql.time"]), "db1.mysql.*")
        self.assertEqual(title(["a.x", "b.y"]), "a.x and 1 more")
