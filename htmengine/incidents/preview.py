# SPDX-License-Identifier: MIT
"""What a rule would have done with the stored past.

In: a rule, and the rows of some time that were high, or great in score, in the order of time.  Out: its incidents and
pages; how many alerts a threshold would have raised.  Pure.  Of silence only the caller's looks tell.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from msgspec import UNSET

from htmengine.alerts.configuration import Rule
from htmengine.alerts.evaluation import AlertState, Fire, Phase, counts, evaluate
from htmengine.incidents.budget import Budget
from htmengine.incidents.candidates import Candidate, alarm_of, counted, height_for, learns
from htmengine.incidents.grouping import Alarm, Outcome, RuleState, decide, review
from htmengine.incidents.hold_off import HoldOff
from htmengine.incidents.records import AlarmState
from htmengine.incidents.replay import Replayed
from htmengine.incidents.roots import Leading
from htmengine.messages import ScoredRow

#: The rule that a preview compares with: HTM Engine's threshold, and an hour's cool-down.
USUAL = Rule()

NONE_YOUNG: Mapping[str, int] = {}


@dataclass(frozen=True, slots=True)
class PastRow:
    """A stored row of a metric.  ``since``: the time of the first of the unusual rows that led up to it, if known."""

    uid: str
    metric: str
    row: ScoredRow
    since: int | None = None


@dataclass(frozen=True, slots=True)
class Look:
    """What a look at all metrics has changed for a rule: alarms of those that fell silent, and who is silent now."""

    at: float
    alarms: tuple[Alarm, ...]
    silent: frozenset[str]


def budget_of(rule: Rule, metrics: int) -> Budget:
    """The budget of a rule that this many metrics match; one a metric grows with them."""
    return Budget(rule.pages_per_week or rule.pages_per_metric_week * max(metrics, 1))


def preview(
    rule: Rule,
    rows: Iterable[PastRow],
    learnt_since: Mapping[str, float],
    metrics: int,
    quiet: Callable[[Alarm], Outcome | None] = lambda alarm: None,
    looks: Sequence[Look] = (),
) -> Replayed:
    """What a rule with a budget would have decided.

    ``quiet``: why nobody is to be paged because of an alarm.  ``looks``: at which metrics fell silent or were back.
    """
    deciding = _Deciding(rule, budget_of(rule, metrics), learnt_since, quiet)
    left = deque(looks)
    for each, since in _candidates(rule, rows):
        while left and left[0].at < each.row.timestamp:
            deciding.take_look(left.popleft())
        deciding.take_row(each, since)
    for look in left:
        deciding.take_look(look)
    return deciding.found


@dataclass(slots=True)
class _Deciding:
    """A rule and what it has decided so far."""

    rule: Rule
    budget: Budget
    learnt_since: Mapping[str, float]
    quiet: Callable[[Alarm], Outcome | None]
    found: Replayed = field(default_factory=Replayed)
    state: RuleState = field(default_factory=RuleState)
    states: dict[str, AlarmState] = field(default_factory=dict)
    hold_offs: dict[str, HoldOff] = field(default_factory=dict)
    silent: frozenset[str] = frozenset()

    def take_row(self, each: Candidate, since: int | None) -> None:
        """Judge a row."""
        before = self.states.get(each.uid) or AlarmState(self.rule.name, each.uid)
        self.states[each.uid], enough = counted(self.rule, before, each)
        if enough and not learns(self.rule, each, self.learnt_since.get(each.uid)):
            self._decide(each.row.timestamp, [replace(alarm_of(each), since=since)])

    def take_look(self, look: Look) -> None:
        """Judge who has fallen silent; incidents of those that are back may end."""
        self.silent = look.silent
        self._decide(look.at, look.alarms)

    def _decide(self, now: float, alarms: Sequence[Alarm]) -> None:
        self.state, closed = review(self.state, now, self.silent)
        told = [replace(each, quiet=self.quiet(each)) for each in alarms]
        decision = decide(self.rule.name, self.budget, self.state, self.hold_offs, told)
        self.state = decision.state
        self.hold_offs |= decision.hold_offs
        self.found.judgements += decision.judgements
        for instruction in (*closed, *decision.instructions):
            self.found.take(instruction)


def led(rows: Iterable[PastRow]) -> Iterator[PastRow]:
    """Listed rows in the order of time, with what led up to them."""
    leading = Leading()
    for each in rows:
        height = 0.0 if each.row.why is UNSET else each.row.why.height
        yield replace(each, since=leading.since(each.uid, each.row.rowid, each.row.timestamp, height))


def _candidates(rule: Rule, rows: Iterable[PastRow]) -> Iterator[tuple[Candidate, int | None]]:
    for each in rows:
        height = height_for(rule, each.row)
        if height is not None:
            yield Candidate(each.uid, each.metric, each.row, height), each.since


def fires(rule: Rule, rows: Iterable[PastRow], young: Mapping[str, int] = NONE_YOUNG) -> Iterator[PastRow]:
    """The rows at which a rule with a threshold fires.  Rows that are not given count as usual ones.

    ``young``: by uid, as in `evaluation.Scored`.
    """
    rule = replace(rule, max_age_s=0.0)
    states: dict[str, AlertState] = {}
    for each in rows:
        last = young.get(each.uid, 0)
        if not counts(rule, each.row, last):
            continue
        state = states.get(each.uid) or AlertState(rule.name, each.uid)
        still = sum(hit > each.row.timestamp - rule.window_s for hit in state.hits)
        if still < rule.rows and each.row.rowid > state.rowid + 1:  # the rows between have ended it
            state = replace(state, phase=Phase.RESOLVED)
        states[each.uid], instructions = evaluate(rule, state, [each.row], 0.0, last)
        if any(isinstance(instruction, Fire) for instruction in instructions):
            yield each


def alerts_by_threshold(rows: Iterable[PastRow], young: Mapping[str, int] = NONE_YOUNG) -> int:
    """Alerts of single metrics that a threshold raises.

    >>> scores = {0: 1.0, 600: 1.0, 4200: 1.0, 7200: 0.5}
    >>> rows = [PastRow("u", "m", ScoredRow(at + 1, at, 1.0, 0.5, score)) for at, score in scores.items()]
    >>> alerts_by_threshold(rows)
    2
    """
    return sum(1 for _ in fires(USUAL, rows, young))
