# SPDX-License-Identifier: MIT
"""Rules as plain data, as the API and the table alert_rule have them, and which rules are in force.

In: JSON with the options of ``[alert:NAME]``; alerts.conf; stored rules.  Out: a `Rule`, or `InvalidAlertRule` that
names the options; each rule with where it comes from.  A rule of alerts.conf hides a stored one of the same name, and
a stored one the rule that an embedded engine has by default.  Pure.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from htmengine.alerts import plain_options
from htmengine.alerts.configuration import DEFAULT_RULE, AlertConfig, Rule, contradictions_of
from htmengine.alerts.kinds import NAME, NAME_ALLOWED
from htmengine.errors import InvalidAlertRule

Source: TypeAlias = Literal["alerts.conf", "stored", "default"]

_OPTIONS = plain_options.fields_of(Rule)


@dataclass(frozen=True, slots=True)
class KnownRule:
    """A rule in force, where it comes from, and who stored it when."""

    rule: Rule
    source: Source
    changed_at: float | None = None
    changed_by: str | None = None


def known_rules(config: AlertConfig, stored: Sequence[KnownRule]) -> list[KnownRule]:
    """The rules in force: those of alerts.conf, then the stored ones.

    >>> [each.source for each in known_rules(AlertConfig(rules=(Rule("a"),)), [KnownRule(Rule("a"), "stored")])]
    ['alerts.conf']
    """
    names = {each.rule.name for each in stored}
    declared = [each for each in config.rules if each != DEFAULT_RULE or each.name not in names]
    hidden = {each.name for each in declared}
    return [
        *(KnownRule(each, "default" if each == DEFAULT_RULE else "alerts.conf") for each in declared),
        *(_with_name_labels(each, config) for each in stored if each.rule.name not in hidden),
    ]


def _with_name_labels(each: KnownRule, config: AlertConfig) -> KnownRule:
    rule = dataclasses.replace(each.rule, name_labels=config.general.name_labels)
    return dataclasses.replace(each, rule=rule)


def rule_of(name: str, options: Mapping[str, Any], config: AlertConfig | None = None) -> Rule:
    """A rule of plain options; with a configuration its receivers have to be there.  Raises `InvalidAlertRule`.

    >>> rule_of("load", {"metrics": ["web.*"], "pages_per_week": 5, "silence": False}).metrics
    ('web.*',)
    """
    read, problems = plain_options.read(_OPTIONS, options)
    if not NAME.fullmatch(name):
        problems.append(("name", NAME_ALLOWED))
    if not problems:
        rule = Rule(name, **read, name_labels=config.general.name_labels if config else ())
        problems = [*contradictions_of(rule), *_unknown_receivers(rule, config)]
    if problems:
        raise InvalidAlertRule(name, problems)
    return rule


def options_of(rule: Rule) -> dict[str, Any]:
    """A rule's options as JSON has them, but those that are as by default.

    >>> from htmengine.alerts.kinds import Change
    >>> options_of(Rule("load", metrics=("web.*",), pages_per_week=5.0, silence=None, min_change=Change(0.1, True)))
    {'metrics': ['web.*'], 'pages_per_week': 5.0, 'min_change': '10%', 'silence': False}
    """
    return plain_options.changed(_OPTIONS, rule)


def _unknown_receivers(rule: Rule, config: AlertConfig | None) -> Iterable[tuple[str, str]]:
    if config is None:
        return
    there = [each.name for each in config.receivers]
    for name in rule.receivers:
        if name not in there:
            yield "receivers", f"there is no receiver {name}; alerts.conf has {', '.join(there) or 'none'}"
