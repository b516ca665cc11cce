# SPDX-License-Identifier: MIT
"""When a rule fires for a metric, and when that is over: a pure state machine.

In: scored rows, and now and then what is known of a metric whose rule fires.  Out: the new state and the
instructions that follow from it.  Called by `htmengine.alerts.service`, which stores states and performs
instructions in one transaction, so that rows which come twice change nothing.

::

              rows that count in the window >= rule.rows, and the cool-down is over
    RESOLVED ───────────────────────────────────────────────────────────────────────► FIRING
             ◄───────────────────────────────────────────────────────────────────────
              fewer; or the metric is gone or without a model; or the rule is gone
"""

from __future__ import annotations

import enum
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from htmengine.alerts.calendars import Window
from htmengine.alerts.conditions import fits, out_of_range
from htmengine.alerts.configuration import Maintenance, Rule
from htmengine.alerts.rule_index import RuleIndex
from htmengine.full_texts import remembered
from htmengine.messages import ScoredRow
from htmengine.selectors import Selection

#: Names the alerts: the same rule, metric and row always give the same id.
_ALERTS = uuid.UUID("6f0c2f0e-5b1e-4d61-9f6e-0d2f6c1f7f55")


class Phase(enum.Enum):
    """Where a rule is with a metric; docs/states.md has the transitions."""

    RESOLVED = "RESOLVED"
    FIRING = "FIRING"


@dataclass(frozen=True, slots=True)
class AlertState:
    """A rule and a metric.  Rows up to ``rowid`` are taken into account already."""

    rule: str
    uid: str
    phase: Phase = Phase.RESOLVED
    rowid: int = 0
    hits: tuple[int, ...] = ()  #: timestamps of the newest rows that count, at most ``Rule.rows`` of them
    alert_id: str = ""  #: of the alert that fires, or fired last
    fired_at: int | None = None  #: timestamp of the row that made it fire

    @property
    def open(self) -> bool:
        """Whether rows that do not count may change it too."""
        return self.phase is Phase.FIRING or bool(self.hits)


@dataclass(frozen=True, slots=True)
class Fire:
    """Tell the receivers that a rule fires, because of a row."""

    alert_id: str
    row: ScoredRow


@dataclass(frozen=True, slots=True)
class Resolve:
    """Tell those who were told of the alert that it is over."""

    alert_id: str
    reason: str
    row: ScoredRow | None = None  #: the row that ended it, if one did


Instruction: TypeAlias = Fire | Resolve


@dataclass(frozen=True, slots=True)
class MetricFacts:
    """What is known of a metric whose rule fires."""

    modelled: bool  #: it has a model that scores its rows


@dataclass(frozen=True, slots=True)
class Scored:
    """Rows of one metric, in rowid order."""

    uid: str
    name: str
    rows: tuple[ScoredRow, ...]
    young: int = 0  #: of rows up to this one, which tell its range, only those count that leave one that a rule gives


@dataclass(frozen=True, slots=True)
class Change:
    """A new state to be stored, and the instructions that follow from it.  ``rule`` is None: there is no such rule."""

    rule: Rule | None
    metric: str
    state: AlertState
    instructions: tuple[Instruction, ...] = ()


def matches(rule: Rule | Maintenance, name: str) -> bool:
    """Whether a rule, or a section of maintenance, is for a metric.

    >>> [matches(Rule(metrics=("web.*", "!*.test")), name) for name in ("web.cpu.load", "web.test", "db.load")]
    [True, False, False]
    """
    return _known_matches(name, rule.metrics, rule.name_labels)


def _matches(name: str, metrics: tuple[str, ...], name_labels: tuple[str, ...]) -> bool:
    return Selection.of(metrics).takes(name, name_labels)


_known_matches = remembered(_matches, 100_000)


def in_maintenance(maintenance: Iterable[Maintenance], name: str, at: float) -> bool:
    """Whether a metric's row of epoch second ``at`` pages nobody."""
    return any(matches(each, name) and each.windows.window(at) for each in maintenance)


def unlearnt_window(maintenance: Iterable[Maintenance], name: str, at: float) -> Window | None:
    """The window that a metric's row of epoch second ``at`` is in, if it is one whose rows are not learnt."""
    found = (each.windows.window(at) for each in maintenance if not each.learning and matches(each, name))
    return next((window for window in found if window is not None), None)


def outside_maintenance(maintenance: Sequence[Maintenance], scored: Sequence[Scored]) -> Sequence[Scored]:
    """The rows that may page somebody."""
    if not maintenance:
        return scored
    return [
        replace(each, rows=tuple(r for r in each.rows if not in_maintenance(maintenance, each.name, r.timestamp)))
        for each in scored
    ]


def with_young(scored: Iterable[Scored], young: Mapping[str, int]) -> list[Scored]:
    """The same, with the last of the rows that tell a metric's range, by uid."""
    return [replace(each, young=young.get(each.uid, 0)) for each in scored]


def keys_of_interest(rules: RuleIndex, scored: Iterable[Scored]) -> list[tuple[str, str]]:
    """The (rule, uid) pairs whose stored states `decide` needs, beside those that are open."""
    return [(rule.name, each.uid) for each in scored for rule in rules.of(each.name) if _has_hit(rule, each)]


def decide(
    rules: RuleIndex, states: Mapping[tuple[str, str], AlertState], scored: Iterable[Scored], now: float
) -> list[Change]:
    """What new rows lead to.  ``states`` has those of `keys_of_interest` and all that are open."""
    found = dict(states)
    changes: dict[tuple[str, str], Change] = {}
    for each in scored:
        for rule in rules.of(each.name):
            key = rule.name, each.uid
            if key not in found and not _has_hit(rule, each):
                continue
            old = found.get(key) or AlertState(*key)
            found[key], instructions = evaluate(rule, old, each.rows, now, each.young)
            if worth_storing(old, found[key]):
                earlier = changes[key].instructions if key in changes else ()
                changes[key] = Change(rule, each.name, found[key], (*earlier, *instructions))
    return list(changes.values())


def _has_hit(rule: Rule, scored: Scored) -> bool:
    return any(counts(rule, row, scored.young) for row in scored.rows)


def counts(rule: Rule, row: ScoredRow, young: int = 0) -> bool:
    """Whether a row is one that the rule waits for; ``young``: as in `Scored`."""
    high = row.rowid > young and row.anomaly >= rule.threshold
    return out_of_range(rule, row) or (high and fits(rule, row))


def evaluate(
    rule: Rule, state: AlertState, rows: Sequence[ScoredRow], now: float, young: int = 0
) -> tuple[AlertState, list[Instruction]]:
    """Take rows of one metric into account, in rowid order.  ``now`` tells only how old they are.

    >>> rule = Rule("load", rows=2, window_s=600)
    >>> rows = [ScoredRow(7, 1000, 5.0, 1.0, 0.999999), ScoredRow(8, 1300, 5.5, 1.0, 0.999999)]
    >>> state, instructions = evaluate(rule, AlertState("load", "uid"), rows, now=1300.0)
    >>> state.phase, [type(each).__name__ for each in instructions]
    (<Phase.FIRING: 'FIRING'>, ['Fire'])
    """
    instructions: list[Instruction] = []
    for row in rows:
        if row.rowid > state.rowid:
            state, following = _advance(rule, state, row, now, young)
            instructions += following
    return state, instructions


def _advance(
    rule: Rule, state: AlertState, row: ScoredRow, now: float, young: int
) -> tuple[AlertState, list[Instruction]]:
    hits = tuple(timestamp for timestamp in state.hits if timestamp > row.timestamp - rule.window_s)
    recent = not rule.max_age_s or row.timestamp >= now - rule.max_age_s
    if recent and counts(rule, row, young):
        hits = (*hits, row.timestamp)[-rule.rows :]
    state = replace(state, rowid=row.rowid, hits=hits)
    met = len(hits) >= rule.rows
    if state.phase is Phase.FIRING and not met:
        reason = f"fewer than {rule.rows} anomalous rows in the last {rule.window_s:g} s"
        return replace(state, phase=Phase.RESOLVED), [Resolve(state.alert_id, reason, row)]
    if state.phase is Phase.RESOLVED and met and _cool(rule, state, row):
        alert_id = str(uuid.uuid5(_ALERTS, f"{rule.name}/{state.uid}/{row.rowid}"))
        state = replace(state, phase=Phase.FIRING, alert_id=alert_id, fired_at=row.timestamp)
        return state, [Fire(alert_id, row)]
    return state, []


def _cool(rule: Rule, state: AlertState, row: ScoredRow) -> bool:
    return state.fired_at is None or row.timestamp >= state.fired_at + rule.cooldown_s


def worth_storing(old: AlertState, new: AlertState) -> bool:
    """Whether a state says more than the stored one: rows that changed nothing may be evaluated again."""
    return replace(new, rowid=old.rowid) != old


def review(rule: Rule | None, state: AlertState, facts: MetricFacts | None) -> tuple[AlertState, list[Instruction]]:
    """End an alert that no row will end.  ``rule`` or ``facts`` is None: there is no such rule or metric any more.

    An alert of a metric that has fallen silent stays: nobody knows that it is over.
    """
    reason = _why_over(rule, facts)
    if state.phase is not Phase.FIRING or reason is None:
        return state, []
    return replace(state, phase=Phase.RESOLVED, hits=()), [Resolve(state.alert_id, reason)]


def _why_over(rule: Rule | None, facts: MetricFacts | None) -> str | None:
    if rule is None:
        return "the rule was removed"
    if facts is None:
        return "the metric was deleted"
    if not facts.modelled:
        return "the metric has no model any more"
    return None
