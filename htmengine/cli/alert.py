# SPDX-License-Identifier: MIT
"""``htmengine alert``: try the receivers, and see what fired."""

from __future__ import annotations

import math
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

import click
from sqlalchemy import Connection
from tqdm import tqdm

from htmengine.alerts import queries as alert_queries
from htmengine.alerts.configuration import NO_ALERTS, AlertConfig, AlertOptions, Rule, load_rules
from htmengine.alerts.evaluation import matches
from htmengine.alerts.incident_messages import IncidentMessage, MovedMetric
from htmengine.alerts.notifications import Notification, RecentRow, metric_page, utc
from htmengine.alerts.queries import AlertRecord, DeliveryState, Undelivered
from htmengine.alerts.receivers import Receiver, described
from htmengine.alerts.rules import options_of, rule_of
from htmengine.alerts.sender import Sender
from htmengine.cli import alert_rules
from htmengine.cli.common import (
    Engine,
    engine_options,
    example,
    failing_cleanly,
    moment,
    printable,
    run_reactor,
    span,
    who_option,
)
from htmengine.errors import DeliveryFailed
from htmengine.incidents import feedback
from htmengine.incidents import queries as incident_queries
from htmengine.incidents.judging import Judging, tokens
from htmengine.incidents.records import Did, Marks
from htmengine.incidents.trial import MOST_ROWS, Tried, trial
from htmengine.process.course import Course
from htmengine.process.twisted_types import Reactor

WEEK_S = 604_800
#: A metric without samples for so long is called silent beside its alert.
SILENT_S = 3600
#: The shortest silence that the API takes, too.
LEAST_SILENCE_S = 60
NO_OPTIONS = AlertOptions(NO_ALERTS, "")
_UNSENT = {DeliveryState.WAITING: "tried again", DeliveryState.GIVEN_UP: "given up"}


@click.group()
def alert() -> None:
    """Alerts: the rules and receivers of alerts.conf, and the stored rules."""


for _command in (alert_rules.rules, alert_rules.apply, alert_rules.delete):
    alert.add_command(_command)


@alert.command(epilog=example("htmengine alert test load-on-web"))
@click.argument("rule", required=False)
@engine_options
@failing_cleanly
def test(engine: Engine, rule: str | None) -> None:
    """Send a test message to each receiver of RULE, or of all rules, and print the replies."""
    options = engine.deployment.alert_options
    wanted = _pairs(options.config, _rules(engine, rule))
    if not wanted:
        raise click.ClickException(
            "no rule has a receiver: alerts.conf names receivers in its sections [receiver NAME]"
        )

    async def start(reactor: Reactor) -> bool:
        sender = Sender(reactor)
        answers = [await _try(sender, each, receiver, options.public_url) for each, receiver in wanted]
        return all(answers)

    if not run_reactor(start):
        sys.exit(1)


def _rules(engine: Engine, name: str | None, given: Sequence[Rule] | None = None) -> list[Rule]:
    """The rule of that name, or all, of those that are given or else in force."""
    known = engine.rules() if given is None else given
    rules = [rule for rule in known if name in {None, rule.name}]
    if not rules:
        names = ", ".join(rule.name for rule in known) or "none"
        raise click.ClickException(f"no rule {name}; there are {names}" if name else "there are no rules")
    return rules


def _pairs(config: AlertConfig, rules: Sequence[Rule]) -> list[tuple[Rule, Receiver]]:
    return [(rule, receiver) for rule in rules for receiver in config.receivers_of(rule)]


async def _try(sender: Sender, rule: Rule, receiver: Receiver, public_url: str) -> bool:
    make = _test_incident if rule.has_budget else _test_notification
    notification = make(rule, time.time(), public_url)
    where = f"{rule.name} -> {described(receiver)}"
    try:
        answer = await sender.send(receiver, notification, f"{notification.id}.test.{receiver.name}")
    except DeliveryFailed as failure:
        click.echo(f"{where}: FAILED: {failure}")
        return False
    click.echo(f"{where}: {answer}")
    return True


#: A metric that does not exist.
_TEST_UID = uuid.UUID(int=0).hex


def _test_rows(now: float) -> tuple[RecentRow, ...]:
    usual = [RecentRow(int(now) + 60 * (at - 29), 10 + 3 * math.sin(at / 4), 0.5) for at in range(29)]
    return (*usual, RecentRow(int(now), 42.0, 1.0))


def _test_incident(rule: Rule, now: float, public_url: str) -> IncidentMessage:
    """An incident as the rule would make it, of a metric that does not exist."""
    link = metric_page(public_url, _TEST_UID)
    told = ("the mean is the highest in 9 weeks", "up", 42.0, 10.0, 7.0, 13.0, link)
    return IncidentMessage(
        id=str(uuid.uuid4()),
        status="test",
        rule=rule.name,
        title="htmengine.test",
        started=int(now),
        timestamp=int(now),
        members=1,
        height=7.0,
        threshold=4.0,
        moved=(MovedMetric("htmengine.test", _TEST_UID, int(now), 7.0, *told),),
        created=now,
        labels=rule.labels_at(7.0),
        link=link,
        recent=_test_rows(now),
    )


def _test_notification(rule: Rule, now: float, public_url: str) -> Notification:
    """An alert as the rule would make it, of a metric that does not exist."""
    rows = _test_rows(now)
    return Notification(
        alert_id=str(uuid.uuid4()),
        status="test",
        rule=rule.name,
        metric="htmengine.test",
        uid=_TEST_UID,
        threshold=rule.threshold,
        rowid=len(rows),
        timestamp=int(now),
        value=42.0,
        score=1.0,
        started=int(now),
        created=now,
        labels=rule.labels,
        link=metric_page(public_url, _TEST_UID),
        recent=rows,
    )


@alert.command("list", epilog=example("htmengine alert list --limit 20"))
@engine_options
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, help="Alerts to show.")
@failing_cleanly
def list_(engine: Engine, limit: int) -> None:
    """List the budgets and what they paid for, messages that no receiver accepted, and alerts of single metrics."""
    rules, now = engine.rules(), time.time()
    with engine.database() as database:
        records = database.read_sync(alert_queries.list_alerts, limit)
        unsent = database.read_sync(alert_queries.undelivered, now - WEEK_S, limit)
        budgets = [*database.read_sync(_budgets, [rule for rule in rules if rule.has_budget], now)]
    for line in budgets:
        click.echo(line)
    for message in unsent:
        click.echo(printable(_unsent(message)))
    for record in records:
        click.echo(printable(_line(record, now)))
        for each in record.deliveries:
            said = f": {each.answer}" if each.answer else ""
            click.echo(f"    {each.status} to {each.receiver}: {each.state.value}, {each.attempts} attempts{said}")
    if not records and not budgets and not unsent:
        click.echo("no alerts")


def _budgets(conn: Connection, rules: Sequence[Rule], now: float) -> list[str]:
    """Each rule's budget beside what it paid for in the last week."""
    if not rules:
        return []
    pages, marks = incident_queries.pages_since(conn, now - WEEK_S), incident_queries.marks_by_rule(conn)
    states, newest = incident_queries.rule_states(conn), incident_queries.newest_rows(conn)
    lines = []
    for rule in rules:
        metrics = sum(matches(rule, each.name) for each in newest)
        about = Judging(rule, metrics, NO_OPTIONS, now)
        paid, held = pages.get(rule.name, (0, 0))
        lines.append(
            f"{rule.name}  {paid} pages in the last week, budget {about.budget.pages_per_week:g}; "
            f"{held} incidents without a page; {tokens(states.get(rule.name, {}), about):.1f} pages left"
            + _marked(marks.get(rule.name, Marks()))
        )
    return lines


def _unsent(message: Undelivered) -> str:
    about = f"{message.subject} ({message.status}, {message.attempts} attempts)"
    return f"{message.receiver} has not accepted: {about}, {_UNSENT[message.state]}: {message.answer}"


def _marked(marks: Marks) -> str:
    if marks.precision is None:
        return ""
    return f"; {marks.right} marked right, {marks.fine} fine: {100 * marks.precision:.0f} % right"


def _line(record: AlertRecord, now: float) -> str:
    phase = (
        _firing(record, now) if record.resolved_at is None else f"RESOLVED {utc(record.resolved_at)} ({record.reason})"
    )
    return (
        f"{record.rule}  {record.metric}  {utc(record.timestamp)}  value {record.value:g}  "
        f"score {record.score:.6f}  {phase}"
    )


def _firing(record: AlertRecord, now: float) -> str:
    """An alert of a metric that has fallen silent stays open; since when it has."""
    silent = record.newest is not None and record.newest < now - SILENT_S
    return f"FIRING, no samples since {utc(record.newest or 0)}" if silent else "FIRING"


# --- what people do -------------------------------------------------------------------------------------


note_option = click.option("--note", default="", help="What is to be remembered about it.")


@alert.command(epilog=example("htmengine alert silence 'db1.*' --for 2h --why 'new disks'"))
@click.argument("metrics", nargs=-1, required=True)
@click.option("--for", "seconds", required=True, help="How long: 30m, 2h, 7d.")
@click.option("--at", help="When it begins, UTC: '2026-03-01 22:00'; now, unless told.")
@click.option("--why", default="", help="The reason, for the audit.")
@who_option
@engine_options
@failing_cleanly
def silence(engine: Engine, metrics: tuple[str, ...], seconds: str, at: str | None, why: str, who: str) -> None:
    """METRICS, by globs as in a rule, page nobody for a time.  Their incidents are listed without a page."""
    now = time.time()
    for_s = span("--for", seconds)
    if for_s < LEAST_SILENCE_S:
        raise click.UsageError(f"--for: {seconds!r} is too short; at least {LEAST_SILENCE_S}s are allowed")
    begin = now if at is None else moment("--at", at)
    with engine.database() as database:
        made = database.run_sync(incident_queries.add_silence, metrics, begin, begin + for_s, who, why, now)
    since = "" if at is None else f" from {utc(begin)}"
    click.echo(f"silence {made.id}: {printable(', '.join(metrics))}{since} until {utc(begin + for_s)}")


@alert.command(epilog=example("htmengine alert silences"))
@engine_options
@failing_cleanly
def silences(engine: Engine) -> None:
    """List the silences that are in force, or will be."""
    with engine.database() as database:
        found = database.read_sync(incident_queries.silences, time.time())
    for each in found:
        why = f"  {each.why}" if each.why else ""
        about = f"{each.id}  {', '.join(each.metrics)}  from {utc(each.from_at)} until {utc(each.until_at)}  {each.who}"
        click.echo(printable(about + why))
    if not found:
        click.echo("no silences")


@alert.command(epilog=example("htmengine alert unsilence 3"))
@click.argument("number", type=click.IntRange(1, 2**31 - 1))
@who_option
@engine_options
@failing_cleanly
def unsilence(engine: Engine, number: int, who: str) -> None:
    """End the silence NUMBER now."""
    with engine.database() as database:
        database.run_sync(incident_queries.end_silence, number, who, time.time())
    click.echo(f"silence {number} is over")


@alert.command(epilog=example("htmengine alert acknowledge 1a7f --note 'on it'"))
@click.argument("incident")
@who_option
@note_option
@engine_options
@failing_cleanly
def acknowledge(engine: Engine, incident: str, who: str, note: str) -> None:
    """Note that somebody sees to INCIDENT, an id or its beginning."""
    with engine.database() as database:
        found = database.run_sync(incident_queries.acknowledge, incident, who, time.time(), note)
    click.echo(printable(f"{found.id}  {found.title}: acknowledged by {who}"))


@alert.command(epilog=example("htmengine alert mark 1a7f fine --note 'the weekly backup'"))
@click.argument("incident")
@click.argument("what", type=click.Choice([Did.RIGHT.value, Did.FINE.value]))
@who_option
@note_option
@engine_options
@failing_cleanly
def mark(engine: Engine, incident: str, what: str, who: str, note: str) -> None:
    """Call INCIDENT right, or fine: nobody had to know.  `alert list` shows each rule's share of right ones.

    What is fine is not learnt as unusual, and its like pages nobody, from each metric's next row on; right takes
    that back.
    """
    with engine.database() as database:
        found = database.run_sync(feedback.mark, incident, Did(what), who, time.time(), note)
    click.echo(printable(f"{found.id}  {found.title}: marked {what} by {who}"))


# --- what a rule would have done ------------------------------------------------------------------------


@alert.command(epilog=example("htmengine alert preview all --since 30d --set pages_per_week=2"))
@click.argument("rule")
@click.option("--since", default="30d", show_default=True, help="From when on: a time, or how long ago.")
@click.option("--file", type=click.Path(path_type=Path), help="RULE is in this file, as for alert apply.")
@click.option("--set", "options", multiple=True, metavar="OPTION=VALUE", help="Another value; may be repeated.")
@engine_options
@failing_cleanly
def preview(engine: Engine, rule: str, since: str, file: Path | None, options: tuple[str, ...]) -> None:
    """Show what RULE would have done with the stored rows, beside the alerts of the usual threshold.

    Silences, maintenance and marks count as they did then; metrics that fell silent are left out.
    """
    known = None if file is None else load_rules(file, engine.deployment.alerts)
    [wanted] = _rules(engine, rule, known)
    wanted = rule_of(wanted.name, {**options_of(wanted), **dict(map(_option, options))}, engine.deployment.alerts)
    alerts, start = engine.deployment.alerts, int(moment("--since", since))
    with engine.database() as database, tqdm(total=100, unit="%", disable=not sys.stderr.isatty()) as shown:
        course = Course(lambda share: shown.update(int(100 * share) - shown.n))
        found = database.read_sync(trial, wanted, start, alerts, course)
    for each in found.found:
        click.echo(printable(_tried(each)))
    click.echo(found.summary)
    if not found.complete:
        click.echo(f"only the newest {MOST_ROWS} rows were looked at")


def _option(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise click.UsageError(f"--set: {text!r}; OPTION=VALUE is allowed, with the options of [alert:NAME]")
    return name.strip(), value.strip()


def _tried(each: Tried) -> str:
    height = "" if each.height is None else f"{each.height:4.1f}  "
    verdict = "paged" if each.paged else f"no page ({each.verdict})"
    return f"{utc(each.timestamp)}  {verdict:<18}  {height}{each.title}  {each.reason}"
