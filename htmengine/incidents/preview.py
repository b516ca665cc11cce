# SPDX-License-Identifier: MIT
"""What a rule would have done with the stored past.

In: a rule, and the rows of some time that were high, or great in score, in the order of time.  Out: its incidents and
pages; how many alerts a threshold would have raised.  Pure.  Silence is left out: rows alone do not tell it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from htmengine.alerts.configuration import Rule
from htmengine.incidents.budget import Budget
from htmengine.incidents.candidates import Candidate, alarm_of, counted, height_for
from htmengine.incidents.grouping import RuleState, decide, review
from htmengine.incidents.hold_off import HoldOff, learning
from htmengine.incidents.records import AlarmState
from htmengine.incidents.replay import Replayed
from htmengine.messages import ScoredRow

#: The rule that a preview compares with: HTM Engine's threshold, and an hour's cool-down.
USUAL = Rule()


@dataclass(frozen=True, slots=True)
class PastRow:
    """A stored row of a metric."""

    uid: str
    metric: str
    row: ScoredRow


def budget_of(rule: Rule, metrics: int) -> Budget:
    """The budget of a rule that this many metrics match; one a metric grows with them."""
    return Budget(rule.pages_per_week or rule.pages_per_metric_week * max(metrics, 1))


def preview(rule: Rule, rows: Iterable[PastRow], learnt_since: Mapping[str, float], metrics: int) -> Replayed:
    """What a rule with a budget would have decided."""
    found, state = Replayed(), RuleState()
    states: dict[str, AlarmState] = {}
    hold_offs: dict[str, HoldOff] = {}
    for each in _candidates(rule, rows):
        before = states.get(each.uid) or AlarmState(rule.name, each.uid)
        states[each.uid], enough = counted(rule, before, each)
        first = learnt_since.get(each.uid)
        if not enough or first is None or learning(first, each.row.timestamp) is not None:
            continue
        state, closed = review(state, each.row.timestamp, ())
        decision = decide(rule.name, budget_of(rule, metrics), state, hold_offs, [alarm_of(each)])
        state = decision.state
        hold_offs |= decision.hold_offs
        found.judgements += decision.judgements
        for instruction in (*closed, *decision.instructions):
            found.take(instruction)
    return found


def _candidates(rule: Rule, rows: Iterable[PastRow]) -> Iterable[Candidate]:
    for each in rows:
        height = height_for(rule, each.row)
        if height is not None:
            yield Candidate(each.uid, each.metric, each.row, height)


def alerts_by_threshold(rows: Iterable[PastRow], rule: Rule = USUAL) -> int:
    """Alerts of single metrics that a threshold with its cool-down raises.

    >>> scores = {0: 1.0, 600: 1.0, 3600: 1.0, 7200: 0.5}
    >>> rows = [PastRow("u", "m", ScoredRow(at, at, 1.0, 0.5, score)) for at, score in scores.items()]
    >>> alerts_by_threshold(rows)
    2
    """
    fired: dict[str, int] = {}
    alerts = 0
    for each in rows:
        last = fired.get(each.uid)
        if each.row.anomaly >= rule.threshold and (last is None or each.row.timestamp >= last + rule.cooldown_s):
            fired[each.uid] = each.row.timestamp
            alerts += 1
    return alerts
