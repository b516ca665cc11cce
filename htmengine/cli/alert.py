# SPDX-License-Identifier: MIT
"""``htmengine alert``: try the receivers, and see what fired."""

from __future__ import annotations

import math
import sys
import time
import uuid

import click

from htmengine.alerts import queries as alert_queries
from htmengine.alerts.configuration import AlertConfig, Receiver, Rule, described
from htmengine.alerts.notifications import Notification, RecentRow, metric_page, utc
from htmengine.alerts.queries import AlertRecord
from htmengine.alerts.sender import Sender
from htmengine.cli.common import Engine, engine_options, example, failing_cleanly, printable, run_reactor
from htmengine.errors import DeliveryFailed
from htmengine.process.twisted_types import Reactor


@click.group()
def alert() -> None:
    """Alerts: the rules and receivers of alerts.conf."""


@alert.command(epilog=example("htmengine alert test load-on-web"))
@click.argument("rule", required=False)
@engine_options
@failing_cleanly
def test(engine: Engine, rule: str | None) -> None:
    """Send a test message to each receiver of RULE, or of all rules, and print the replies."""
    options = engine.deployment.alert_options
    wanted = _pairs(options.config, rule)

    async def start(reactor: Reactor) -> bool:
        sender = Sender(reactor)
        answers = [await _try(sender, each, receiver, options.public_url) for each, receiver in wanted]
        return all(answers)

    if not run_reactor(start):
        sys.exit(1)


def _pairs(config: AlertConfig, name: str | None) -> list[tuple[Rule, Receiver]]:
    rules = [rule for rule in config.rules if name in {None, rule.name}]
    if not rules:
        known = ", ".join(rule.name for rule in config.rules) or "none"
        raise click.ClickException(f"no rule {name or ''}; alerts.conf has {known}".replace("  ", " "))
    return [(rule, receiver) for rule in rules for receiver in config.receivers_of(rule)]


async def _try(sender: Sender, rule: Rule, receiver: Receiver, public_url: str) -> bool:
    notification = _test_notification(rule, time.time(), public_url)
    where = f"{rule.name} -> {described(receiver)}"
    try:
        answer = await sender.send(receiver, notification, f"{notification.alert_id}.test.{receiver.name}")
    except DeliveryFailed as failure:
        click.echo(f"{where}: FAILED: {failure}")
        return False
    click.echo(f"{where}: {answer}")
    return True


def _test_notification(rule: Rule, now: float, public_url: str) -> Notification:
    """An alert as the rule would make it, of a metric that does not exist."""
    uid = uuid.UUID(int=0).hex
    rows = [RecentRow(int(now) + 60 * (at - 29), 10 + 3 * math.sin(at / 4), 0.5) for at in range(29)]
    rows.append(RecentRow(int(now), 42.0, 1.0))
    return Notification(
        alert_id=str(uuid.uuid4()),
        status="test",
        rule=rule.name,
        metric="htmengine.test",
        uid=uid,
        threshold=rule.threshold,
        rowid=len(rows),
        timestamp=int(now),
        value=42.0,
        score=1.0,
        started=int(now),
        created=now,
        labels=rule.labels,
        link=metric_page(public_url, uid),
        recent=tuple(rows),
    )


@alert.command("list", epilog=example("htmengine alert list --limit 20"))
@engine_options
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, help="Alerts to show.")
@failing_cleanly
def list_(engine: Engine, limit: int) -> None:
    """List open alerts, then recent ones, each with the state of its messages."""
    with engine.database() as database:
        records = database.read_sync(alert_queries.list_alerts, limit)
    for record in records:
        click.echo(printable(_line(record)))
        for each in record.deliveries:
            said = f": {each.answer}" if each.answer else ""
            click.echo(f"    {each.status} to {each.receiver}: {each.state.value}, {each.attempts} attempts{said}")
    if not records:
        click.echo("no alerts")


def _line(record: AlertRecord) -> str:
    phase = "FIRING" if record.resolved_at is None else f"RESOLVED {utc(record.resolved_at)} ({record.reason})"
    return (
        f"{record.rule}  {record.metric}  {utc(record.timestamp)}  value {record.value:g}  "
        f"score {record.score:.6f}  {phase}"
    )
