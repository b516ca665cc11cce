# SPDX-License-Identifier: MIT
"""Which scored rows a rule with a budget may alarm about, and when enough of them have come.

In: rules, scored rows, and what is stored of a rule and a metric.  Out: candidates, and the alarms that they raise.
Pure; `htmengine.incidents.judging` stores what follows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from msgspec import UNSET

from htmengine.alerts.conditions import fits, out_of_range
from htmengine.alerts.configuration import Maintenance, Rule
from htmengine.alerts.evaluation import Scored, in_maintenance, matches
from htmengine.alerts.rule_index import RuleIndex
from htmengine.incidents.budget import FLOOR
from htmengine.incidents.grouping import Alarm, Outcome
from htmengine.incidents.hold_off import learning
from htmengine.incidents.records import AlarmState, Member, Silence
from htmengine.messages import ScoredRow

#: The height of a row whose value is outside the valid range: above all that evidence reaches.
OUT_OF_RANGE_HEIGHT = 10.0
OUT_OF_RANGE = "range"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A row that is high enough for a page, or outside the valid range."""

    uid: str
    metric: str
    row: ScoredRow
    height: float


def candidates(rules: RuleIndex, scored: Iterable[Scored], now: float) -> dict[str, list[Candidate]]:
    """By the rule's name, in the order of the rows' times.  Rows that are too old for a rule are none."""
    found: dict[str, list[Candidate]] = {}
    for each in scored:
        high = [row for row in each.rows if row.why is not UNSET and row.why.height >= FLOOR]
        for rule in rules.of(each.name):
            rows = high if rule.valid_range is None else each.rows
            here = [candidate for row in rows if (candidate := _candidate(rule, each, row, now)) is not None]
            if here:
                found.setdefault(rule.name, []).extend(here)
    return {name: sorted(these, key=_order) for name, these in found.items()}


def _order(each: Candidate) -> tuple[int, str, int]:
    return each.row.timestamp, each.uid, each.row.rowid


def _candidate(rule: Rule, scored: Scored, row: ScoredRow, now: float) -> Candidate | None:
    height = height_for(rule, row)
    old = rule.max_age_s and row.timestamp < now - rule.max_age_s
    return None if height is None or old else Candidate(scored.uid, scored.name, row, height)


def height_for(rule: Rule, row: ScoredRow) -> float | None:
    """A row's height as the rule sees it; None if it does not count."""
    if out_of_range(rule, row):
        return OUT_OF_RANGE_HEIGHT
    if row.why is UNSET or row.why.height < FLOOR or not fits(rule, row):
        return None
    return row.why.height


def learns(rule: Rule, each: Candidate, first: float | None) -> bool:
    """Whether a row pages nobody since its metric is still learnt; what leaves the valid range needs no learning.

    ``first``: the time of the first row that the metric has learnt; None: it has learnt none.
    """
    if out_of_range(rule, each.row):
        return False
    return first is None or learning(first, each.row.timestamp) is not None


def counted(rule: Rule, state: AlarmState, each: Candidate) -> tuple[AlarmState, bool]:
    """The state after a row that counts, and whether enough have come: ``rows`` of them, over ``for_s``.

    Rows that are farther apart than ``window_s`` do not count together.
    """
    if rule.rows == 1 and not rule.for_s:
        return replace(state, rowid=each.row.rowid), True
    now = each.row.timestamp
    before = state.hits if state.hits and now - state.hits[-1] <= rule.window_s else ()
    hits = (*before, now)
    if len(hits) > rule.rows + 1:  # the first says since when, the others how many
        hits = (hits[0], *hits[-rule.rows :])
    return replace(state, rowid=each.row.rowid, hits=hits), len(hits) >= rule.rows and now - hits[0] >= rule.for_s


def alarm_of(each: Candidate, quiet: Outcome | None = None) -> Alarm:
    """The alarm that a candidate raises."""
    kind, text, direction = _reason(each)
    return Alarm(each.uid, each.metric, each.row.rowid, each.row.timestamp, each.height, kind, text, direction, quiet)


def _reason(each: Candidate) -> tuple[str, str, str | None]:
    why = None if each.row.why is UNSET else each.row.why
    if each.height == OUT_OF_RANGE_HEIGHT or why is None:
        return OUT_OF_RANGE, "the value is outside the valid range", None if why is None else why.direction
    loudest = why.evidence[0] if why.evidence else None
    return (loudest.kind, loudest.text, why.direction) if loudest else ("", "", why.direction)


def with_row(member: Member, row: ScoredRow) -> Member:
    """A member with the value of its row, and what was expected then."""
    member, why = replace(member, value=row.value), row.why
    return member if why is UNSET else replace(member, expected=why.expected, lower=why.lower, upper=why.upper)


class Quiet:
    """The silences that are in force now, and the windows of maintenance."""

    def __init__(
        self, silences: Iterable[Silence], maintenance: Sequence[Maintenance], now: float, labels: tuple[str, ...] = ()
    ) -> None:
        active = (each for each in silences if each.from_at <= now < each.until_at)
        self._silenced = [Rule(metrics=each.metrics, name_labels=labels) for each in active]
        self._maintenance = maintenance

    def reason(self, metric: str, at: float) -> Outcome | None:
        """Why nobody is to be paged because of a metric's row of that time; None: somebody may be.

        >>> Quiet([Silence(1, ("db*",), 0.0, 60.0, "ada", "")], (), now=30.0).reason("db1.load", 25.0).value
        'held back: silenced'
        """
        if any(matches(rule, metric) for rule in self._silenced):
            return Outcome.QUIET
        return Outcome.MAINTENANCE if in_maintenance(self._maintenance, metric, at) else None
