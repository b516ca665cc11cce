# SPDX-License-Identifier: MIT
"""The table alert_rule: rules that were made through the API, the page or ``htmengine alert apply``.

As `repository.queries`: synchronous, ``conn`` first, in the caller's transaction.  Each change is audited.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from sqlalchemy import Connection

from htmengine.alerts.configuration import AlertConfig, Rule
from htmengine.alerts.rules import KnownRule, known_rules, options_of, rule_of
from htmengine.alerts.stored_options import StoredOptions
from htmengine.errors import AlertRuleNotFound, InvalidAlertRule
from htmengine.repository.schema import alert_rule

_STORED = StoredOptions(alert_rule, "a rule", InvalidAlertRule)


def stored_rules(conn: Connection, warn: Callable[[InvalidAlertRule], None] = lambda _: None) -> list[KnownRule]:
    """In the order of their names.  ``warn`` gets those that this version cannot read."""
    found = []
    for row in _STORED.rows(conn):
        try:
            rule = rule_of(row.name, json.loads(row.options))
        except InvalidAlertRule as error:
            warn(error)
        else:
            found.append(KnownRule(rule, "stored", row.changed_at, row.changed_by))
    return found


def rules_in_force(conn: Connection, config: AlertConfig) -> list[Rule]:
    """Those of alerts.conf and the stored ones."""
    return [each.rule for each in known_rules(config, stored_rules(conn))]


def rules_version(conn: Connection) -> tuple[int, float]:
    """Changes with each change of a rule."""
    return _STORED.version(conn)


def put_rule(conn: Connection, rule: Rule, who: str, now: float) -> bool:
    """Store a rule; whether there is anything new.  Raises `InvalidAlertRule` when there are too many."""
    return _STORED.put(conn, rule.name, json.dumps(options_of(rule)), who, now)


def delete_rule(conn: Connection, name: str, who: str, now: float) -> None:
    """Remove a stored rule; its open incidents end within a minute.  Raises `AlertRuleNotFound`."""
    if not _STORED.remove(conn, name, who, now):
        raise AlertRuleNotFound(name)
