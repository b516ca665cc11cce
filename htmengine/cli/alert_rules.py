# SPDX-License-Identifier: MIT
"""``htmengine alert rules``, ``apply`` and ``delete``: the rules in force, and the stored ones made as a file says."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import click
from sqlalchemy import Connection

from htmengine.alerts import rule_queries
from htmengine.alerts.configuration import Rule, load_rules
from htmengine.alerts.notifications import utc
from htmengine.alerts.rules import KnownRule, known_rules, options_of
from htmengine.cli.common import Engine, engine_options, example, failing_cleanly, printable, who_option


@click.command(epilog=example("htmengine alert rules"))
@engine_options
@failing_cleanly
def rules(engine: Engine) -> None:
    """List the rules in force with their options: those of alerts.conf, then the stored ones."""
    with engine.database() as database:
        stored = database.read_sync(rule_queries.stored_rules)
    for each in known_rules(engine.deployment.alerts, stored):
        click.echo(printable(_line(each)))


def _line(each: KnownRule) -> str:
    stored = "" if each.changed_at is None else f" by {each.changed_by} at {utc(each.changed_at)}"
    return f"{each.rule.name}  {each.source}{stored}  {json.dumps(options_of(each.rule), ensure_ascii=False)}"


@click.command(epilog=example("htmengine alert apply rules.conf --dry-run"))
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--dry-run", is_flag=True, help="Change nothing; status 1 if something would change.")
@who_option
@engine_options
@failing_cleanly
def apply(engine: Engine, file: Path, dry_run: bool, who: str) -> None:
    """Make the stored rules those of FILE, which has sections [alert:NAME] as alerts.conf does.

    Stored rules that FILE does not have are removed.  The running engine goes on with them within seconds.
    """
    wanted = load_rules(file, engine.deployment.alerts)
    with engine.database() as database:
        changes = (database.read_sync if dry_run else database.run_sync)(_apply, wanted, who, dry_run)
    for name, change in changes.items():
        click.echo(f"{name}: {change}")
    changed = sum(change != "unchanged" for change in changes.values())
    click.echo(f"{changed} {'would change' if dry_run else 'changed'}")
    if dry_run and changed:
        sys.exit(1)


def _apply(conn: Connection, wanted: Sequence[Rule], who: str, dry_run: bool) -> dict[str, str]:
    before = {each.rule.name: each.rule for each in rule_queries.stored_rules(conn)}
    changes = dict(differences(before, wanted))
    if not dry_run:
        now = time.time()
        for rule in wanted:
            rule_queries.put_rule(conn, rule, who, now)
        for name in (name for name, change in changes.items() if change == "removed"):
            rule_queries.delete_rule(conn, name, who, now)
    return changes


def differences(before: Mapping[str, Rule], wanted: Sequence[Rule]) -> Iterator[tuple[str, str]]:
    """What becomes of each rule.

    >>> dict(differences({"a": Rule("a"), "b": Rule("b"), "c": Rule("c")}, [Rule("a"), Rule("b", rows=2), Rule("d")]))
    {'a': 'unchanged', 'b': 'changed', 'd': 'added', 'c': 'removed'}
    """
    for rule in wanted:
        same = rule == before.get(rule.name)
        yield rule.name, "unchanged" if same else "changed" if rule.name in before else "added"
    for name in before.keys() - {rule.name for rule in wanted}:
        yield name, "removed"


@click.command(epilog=example("htmengine alert delete web-load"))
@click.argument("rule")
@who_option
@engine_options
@failing_cleanly
def delete(engine: Engine, rule: str, who: str) -> None:
    """Remove the stored RULE.  Its open incidents end within a minute."""
    with engine.database() as database:
        database.run_sync(rule_queries.delete_rule, rule, who, time.time())
    click.echo(f"{printable(rule)} is removed")
