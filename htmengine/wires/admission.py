# SPDX-License-Identifier: MIT
"""Which metrics may come in, and under which name.

In: rules as text, and metrics' names.  Out: the name to be taken, or the reason why none is.  Rules are tried in order:

    keep SELECTOR              takes the metric; no later rule is tried
    drop SELECTOR              refuses it
    rename SELECTOR to NAME    gives it another name, keeps its labels, and goes on; $1 is what the first * stands for,
                               ${label} a label's value, $$ a dollar sign
    drop_labels GLOB           takes labels off it, and goes on

A metric that comes through is taken.  So ``keep web.*`` and ``drop *`` let in nothing but web.  Selectors are
those of `htmengine.selectors`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, NamedTuple, TypeAlias

from htmengine.errors import InvalidRule, InvalidSample
from htmengine.globs import is_glob
from htmengine.labels import compose, shown
from htmengine.selectors import Metric, Selector, linear_expression, parse_selector
from htmengine.wires.counters import SaidCounters

#: Metrics whose verdict is remembered; when there are more, all are judged again.
MAX_REMEMBERED = 100_000

_TEMPLATE = re.compile(r"\$(?:(\$)|(\d)|\{([^{}]+)\})|(\$)")


class Verdict(NamedTuple):
    """The name that a metric comes in under, or None and the reason."""

    name: str | None
    reason: str | None = None
    rule: int | None = None  #: the number of the rule that decided, from 1


@dataclass(frozen=True, slots=True)
class Keep:
    """Takes what its selector takes."""

    selector: Selector


@dataclass(frozen=True, slots=True)
class Drop:
    """Refuses what its selector takes."""

    selector: Selector


@dataclass(frozen=True, slots=True)
class Rename:
    """Gives another name to what its selector takes."""

    selector: Selector
    stars: Any  #: RE2's expression of the glob, with a group for each * and ?
    template: str

    def apply(self, metric: Metric) -> Metric:
        found = self.stars.fullmatch(metric.text if self.selector.whole else metric.name)
        groups = found.groups() if found else ()

        def part(place: re.Match[str]) -> str:
            dollar, number, label, _ = place.groups()
            if dollar:
                return "$"
            return metric.labels.get(label, "") if label else str(groups[int(number) - 1])

        return Metric.of(compose(_TEMPLATE.sub(part, self.template), metric.labels))


@dataclass(frozen=True, slots=True)
class DropLabels:
    """Takes labels off every metric."""

    glob: str

    def apply(self, metric: Metric) -> Metric:
        kept = {key: value for key, value in metric.labels.items() if not fnmatchcase(key, self.glob)}
        return metric if len(kept) == len(metric.labels) else Metric.of(compose(metric.name, kept))


Rule: TypeAlias = Keep | Drop | Rename | DropLabels


def parse_rule(text: str) -> Rule:
    """Raises `InvalidRule`.

    >>> parse_rule("drop_labels instance")
    DropLabels(glob='instance')
    """
    action, _, rest = text.strip().partition(" ")
    rest = rest.strip()
    if action in ("keep", "drop") and rest:
        selector = parse_selector(rest)
        return Keep(selector) if action == "keep" else Drop(selector)
    if action == "drop_labels" and rest and " " not in rest and is_glob(rest):
        return DropLabels(rest)
    if action == "rename" and " to " in rest:
        return _parse_rename(rest)
    raise InvalidRule(
        f"rule {shown(text)}; keep SELECTOR, drop SELECTOR, rename SELECTOR to NAME and drop_labels GLOB are allowed"
    )


def _parse_rename(rest: str) -> Rename:
    selected, _, template = rest.rpartition(" to ")
    template = template.strip()
    glob = selected.partition("{")[0].strip() or "*"
    stars = linear_expression("(?s)" + "".join(_star(character) for character in glob))
    for place in _TEMPLATE.finditer(template):
        if place[4] or (place[2] and not 1 <= int(place[2]) <= stars.groups):
            raise InvalidRule(
                f"name {shown(template)}; $1 to ${stars.groups}, ${{label}} and $$ are allowed with {shown(glob)}"
            )
    if not template or " " in template:
        raise InvalidRule(f"name {shown(template)}; write a name without spaces")
    return Rename(parse_selector(selected), stars, template)


def _star(character: str) -> str:
    if character in "[]":
        raise InvalidRule("a glob of a rename has * and ?, and no [ ]")
    return {"*": "(.*)", "?": "(.)"}.get(character, re.escape(character))


class Admission:
    """The rules of an engine.  ``deny`` and ``allow`` are globs: denied first, and only allowed ones if there are any.

    >>> rules = Admission(["rename servers.*.cpu to cpu.$1", "drop *.debug.*"])
    >>> rules.judge("servers.web1.cpu")
    Verdict(name='cpu.web1', reason=None, rule=None)
    >>> rules.judge("app.debug.x")
    Verdict(name=None, reason='dropped_by_rule', rule=2)
    """

    def __init__(self, rules: Iterable[str] = (), allow: Sequence[str] = (), deny: Sequence[str] = ()) -> None:
        self._rules = [parse_rule(text) for text in rules]
        self._allow = [parse_selector(glob) for glob in allow]
        self._deny = [parse_selector(glob) for glob in deny]
        self._judged: dict[str, Verdict] = {}

    def judge(self, text: str) -> Verdict:
        """What becomes of a metric."""
        verdict = self._judged.get(text)
        if verdict is None:
            if len(self._judged) >= MAX_REMEMBERED:
                self._judged.clear()
            verdict = self._judged[text] = self._judge(text)
        return verdict

    def _judge(self, text: str) -> Verdict:
        metric = Metric.of(text)
        if any(selector.takes(metric) for selector in self._deny):
            return Verdict(None, "denied")
        if self._allow and not any(selector.takes(metric) for selector in self._allow):
            return Verdict(None, "not_allowed")
        for number, rule in enumerate(self._rules, 1):
            if isinstance(rule, DropLabels) or rule.selector.takes(metric):
                if isinstance(rule, Keep):
                    return Verdict(metric.text, rule=number)
                if isinstance(rule, Drop):
                    return Verdict(None, "dropped_by_rule", number)
                try:
                    metric = rule.apply(metric)
                except InvalidSample as bad:
                    return Verdict(None, bad.reason, number)
        return Verdict(metric.text)

    @property
    def takes_all(self) -> bool:
        """Whether there is no rule at all."""
        return not (self._rules or self._allow or self._deny)


class NewMetrics:
    """How many metrics an engine may begin: a minute, and in all; 0 is no limit.

    >>> limits = NewMetrics(most_a_minute=1, most=0)
    >>> limits.admit(known=10, now=0.0), limits.admit(known=11, now=30.0), limits.admit(known=11, now=60.0)
    (None, 'new_metrics_a_minute', None)
    """

    def __init__(self, most_a_minute: int = 0, most: int = 0) -> None:
        self._most_a_minute = most_a_minute
        self._most = most
        self._minute = 0
        self._begun = 0

    @property
    def none(self) -> bool:
        """Whether there is no limit."""
        return not (self._most_a_minute or self._most)

    def admit(self, known: int, now: float) -> str | None:
        """The reason why no metric may begin beside the known ones, or None: then it is counted."""
        if self._most and known >= self._most:
            return "new_metrics_in_all"
        minute = int(now // 60)
        if minute != self._minute:
            self._minute, self._begun = minute, 0
        if self._most_a_minute and self._begun >= self._most_a_minute:
            return "new_metrics_a_minute"
        self._begun += 1
        return None


@dataclass(frozen=True, slots=True)
class Gate:
    """What one service lets in, and as what: metrics by their names, and a number of new ones."""

    rules: Admission
    new: NewMetrics
    counters: SaidCounters = field(default_factory=SaidCounters)


#: Lets in everything.
OPEN_GATE = Gate(Admission(), NewMetrics())
