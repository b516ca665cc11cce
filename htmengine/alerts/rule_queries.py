# SPDX-License-Identifier: MIT
"""The table alert_rule: rules that were made through the API, the page or ``htmengine alert apply``.

As `repository.queries`: synchronous, ``conn`` first, in the caller's transaction.  Each change is audited.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from sqlalchemy import Connection, delete, func, insert, select, update

from htmengine.alerts.configuration import AlertConfig, Rule
from htmengine.alerts.rules import KnownRule, known_rules, options_of, rule_of
from htmengine.errors import AlertRuleNotFound, InvalidAlertRule
from htmengine.repository.audit import Act, record
from htmengine.repository.schema import alert_rule

#: Rules that are stored at most.
MOST_RULES = 1000


def stored_rules(conn: Connection, warn: Callable[[InvalidAlertRule], None] = lambda _: None) -> list[KnownRule]:
    """In the order of their names.  ``warn`` gets those that this version cannot read."""
    found = []
    for row in conn.execute(select(alert_rule).order_by(alert_rule.c.name)):
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
    count, newest = conn.execute(select(func.count(), func.max(alert_rule.c.changed_at))).one()
    return int(count), float(newest or 0.0)


def put_rule(conn: Connection, rule: Rule, who: str, now: float) -> bool:
    """Store a rule; whether there is anything new.  Raises `InvalidAlertRule` when there are too many."""
    c = alert_rule.c
    options = json.dumps(options_of(rule))
    before = conn.execute(select(c.options).where(c.name == rule.name).with_for_update()).scalar()
    if before == options:
        return False
    count, newest = rules_version(conn)
    values = {"options": options, "changed_at": max(now, newest + 0.001), "changed_by": who}
    if before is not None:
        conn.execute(update(alert_rule).where(c.name == rule.name).values(values))
    elif count >= MOST_RULES:
        raise InvalidAlertRule(rule.name, [("name", f"there are {MOST_RULES} stored rules, which is the most")])
    else:
        conn.execute(insert(alert_rule), {"name": rule.name, **values})
    record(conn, Act(now, who, "changed a rule" if before else "added a rule", rule.name, options))
    return True


def delete_rule(conn: Connection, name: str, who: str, now: float) -> None:
    """Remove a stored rule; its open incidents end within a minute.  Raises `AlertRuleNotFound`."""
    if not conn.execute(delete(alert_rule).where(alert_rule.c.name == name)).rowcount:
        raise AlertRuleNotFound(name)
    record(conn, Act(now, who, "removed a rule", name))
