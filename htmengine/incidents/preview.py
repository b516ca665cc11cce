# SPDX-License-Identifier: MIT
"""What a rule would have done with the stored past.

In: a rule, and the rows of some time that were high, or great in score, in the order of time.  Out: its incidents and
pages; how many alerts a threshold would have raised.  Pure.  Silence is left out: rows alone do not tell it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from htmengine.alerts.configuration import Rule
from htmengine.alerts.evaluation import AlertState, Fire, Phase, counts, evaluate
from htmengine.incidents.budget import Budget
from htmengine.incidents.candidates import Candidate, alarm_of, counted, height_for
from htmengine.incidents.grouping import Alarm, Outcome, RuleState, decide, review
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


def preview(
    rule: Rule,
    rows: Iterable[PastRow],
    learnt_since: Mapping[str, float],
    metrics: int,
    quiet: Callable[[Alarm], Outcome | None] = lambda alarm: None,
) -> Replayed:
    """What a rule with a budget would have decided.  ``quiet``: why nobody is to be paged because of an alarm."""
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
        alarm = alarm_of(each)
        alarm = replace(alarm, quiet=quiet(alarm))
        decision = decide(rule.name, budget_of(rule, metrics), state, hold_offs, [alarm])
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


def fires(rule: Rule, rows: Iterable[PastRow]) -> Iterator[PastRow]:
    """The rows at which a rule with a threshold fires.  Rows that are not given count as usual ones."""
    rule = replace(rule, max_age_s=0.0)
    states: dict[str, AlertState] = {}
    for each in rows:
        if not counts(rule, each.row):
            continue
        state = states.get(each.uid) or AlertState(rule.name, each.uid)
        still = sum(hit > each.row.timestamp - rule.window_s for hit in state.hits)
        if still < rule.rows and each.row.rowid > state.rowid + 1:  # the rows between have ended it
            state = replace(state, phase=Phase.RESOLVED)
        states[each.uid], instructions = evaluate(rule, state, [each.row], now=0.0)
        if any(isinstance(instruction, Fire) for instruction in instructions):
            yield each


def alerts_by_threshold(rows: Iterable[PastRow], rule: Rule = USUAL) -> int:
    """Alerts of single metrics that a threshold raises.

    >>> scores = {0: 1.0, 600: 1.0, 4200: 1.0, 7200: 0.5}
    >>> rows = [PastRow("u", "m", ScoredRow(at + 1, at, 1.0, 0.5, score)) for at, score in scores.items()]
    >>> alerts_by_threshold(rows)
    2
    """
    return sum(1 for _ in fires(rule, rows))
