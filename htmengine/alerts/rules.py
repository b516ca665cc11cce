# SPDX-License-Identifier: MIT
"""Rules as plain data, as the API and the table alert_rule have them, and which rules are in force.

In: JSON with the options of ``[alert:NAME]``; alerts.conf; stored rules.  Out: a `Rule`, or `InvalidAlertRule` that
names the options; each rule with where it comes from.  A rule of alerts.conf hides a stored one of the same name, and
a stored one the rule that an embedded engine has by default.  Pure.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from htmengine.alerts.configuration import DEFAULT_RULE, AlertConfig, Rule, contradictions_of
from htmengine.alerts.kinds import NAME, Change
from htmengine.errors import InvalidAlertRule

Source: TypeAlias = Literal["alerts.conf", "stored", "default"]

_OPTIONS = {each.name: each for each in dataclasses.fields(Rule) if each.metadata}


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
    problems = [] if NAME.fullmatch(name) else [("name", "at most 60 letters, digits, - and _ are allowed")]
    read: dict[str, Any] = {}
    for option, value in options.items():
        try:
            read[option] = _OPTIONS[option].metadata["kind"].read(_as_text(value))
        except KeyError:
            problems.append((option, f"unknown; allowed are {', '.join(_OPTIONS)}"))
        except ValueError:
            problems.append((option, f"{_OPTIONS[option].metadata['kind'].allowed} is allowed"))
    if not problems:
        rule = Rule(name, **read, name_labels=config.general.name_labels if config else ())
        problems = [*contradictions_of(rule), *_unknown_receivers(rule, config)]
    if problems:
        raise InvalidAlertRule(name, problems)
    return rule


def options_of(rule: Rule) -> dict[str, Any]:
    """A rule's options as JSON has them, but those that are as by default.

    >>> options_of(Rule("load", metrics=("web.*",), pages_per_week=5.0, silence=None, min_change=Change(0.1, True)))
    {'metrics': ['web.*'], 'pages_per_week': 5.0, 'min_change': '10%', 'silence': False}
    """
    changed = [each for each in _OPTIONS.values() if getattr(rule, each.name) != each.default]
    return {each.name: _as_plain(each.name, getattr(rule, each.name)) for each in changed}


def _unknown_receivers(rule: Rule, config: AlertConfig | None) -> Iterable[tuple[str, str]]:
    if config is None:
        return
    there = [each.name for each in config.receivers]
    for name in rule.receivers:
        if name not in there:
            yield "receivers", f"there is no receiver {name}; alerts.conf has {', '.join(there) or 'none'}"


def _as_text(value: Any) -> str:
    """A value as it stands in alerts.conf."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{_single(name)}={_single(_as_text(each))}" for name, each in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_as_text, value))
    return value if isinstance(value, str) else repr(value)


def _single(text: str) -> str:
    if set(text) & set(",\n"):
        raise ValueError(text)
    return text


def _as_plain(option: str, value: Any) -> Any:
    if option == "valid_range":
        return "..".join("" if math.isinf(each) else repr(each) for each in value)
    if option == "silence":
        return False if value is None else value
    if option in {"labels", "severity"}:
        return dict(value)
    if isinstance(value, Change):
        return str(value)
    return list(value) if isinstance(value, tuple) else value
