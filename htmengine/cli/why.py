# SPDX-License-Identifier: MIT
"""``htmengine why``: why a row has its score, and why a rule did or did not page because of it, in words."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

import click
import msgspec
from sqlalchemy import Connection

from htmengine.adapters.datasource.why import Told, why_at
from htmengine.alerts.configuration import Rule
from htmengine.cli.common import Engine, engine_options, example, failing_cleanly, moment, printable
from htmengine.csv_files import format_timestamp
from htmengine.incidents import queries as incident_queries
from htmengine.incidents.explaining import in_words, no_verdict
from htmengine.incidents.records import Verdict
from htmengine.messages import ScoredRow
from htmengine.repository import queries, reading
from htmengine.repository.counters import learn_texts

#: Without a metric: verdicts so near to the time are shown.
NEAR_S = 900
#: Lines about them.
MOST_LINES = 50


@click.command(epilog=example("htmengine why web1.cpu '2014-02-14 14:30:00'"))
@click.argument("where", nargs=-1, metavar="[NAME] TIME")
@click.option("--page", "rule", help="Tell why this rule of alerts.conf did, or did not, page; NAME may be left out.")
@engine_options
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@failing_cleanly
def why(where: tuple[str, ...], rule: str | None, engine: Engine, as_json: bool) -> None:
    """Show why a row has its score: the kinds of evidence, and what was expected.

    TIME is UTC, epoch seconds, or how long ago, such as 30m; the newest row at or before it counts.  What is not
    stored is found by replay of the metric's rows.  With --page and without NAME: what the rule decided within 15
    minutes of TIME.
    """
    if len(where) not in ((1, 2) if rule else (2,)):
        raise click.UsageError("NAME and TIME are needed; with --page RULE, NAME may be left out")
    name, at = (where[0] if len(where) == 2 else None), int(moment("TIME", where[-1]))
    with engine.database() as database:
        if rule is not None:
            found = [*database.run_sync(_page, _rule(engine, rule), name, at)]
        elif name is not None:
            told = database.run_sync(_why, name, at)
            found = (
                [json.dumps({**told._asdict(), "why": msgspec.to_builtins(told.why)})] if as_json else [*lines(told)]
            )
    for line in found:
        click.echo(printable(line))


def _rule(engine: Engine, name: str) -> Rule:
    rules = {each.name: each for each in engine.rules() if each.has_budget}
    if name not in rules:
        raise click.ClickException(f"no rule {name} with a budget; there are {', '.join(rules) or 'none'}")
    return rules[name]


def _why(conn: Connection, name: str, timestamp: int) -> Told:
    metric = queries.find_metric(conn, name)
    return why_at(conn, metric, _row_time(conn, metric.uid, timestamp))


def _row_time(conn: Connection, uid: str, at: int) -> int:
    """The time of the newest row that is not later; that time itself if there is none."""
    _, last = reading.timestamps_at(conn, uid, reading.span_of(conn, uid, None, at))
    return at if last is None else last


def _page(conn: Connection, rule: Rule, name: str | None, at: int) -> list[str]:
    """What a rule decided about a metric's row, or about any near that time."""
    if name is None:
        verdicts = incident_queries.verdicts_between(conn, rule.name, at - NEAR_S, at + NEAR_S)
        names = incident_queries.names_of(conn, sorted({each.uid for each in verdicts}))
        found = [*_together(verdicts, names)]
        return found or [f"{rule.name} decided nothing within 15 minutes of {format_timestamp(at)}"]
    metric = queries.find_metric(conn, name)
    learn_texts(conn, [metric.name])
    at = _row_time(conn, metric.uid, at)
    verdicts = incident_queries.verdicts_about(conn, rule.name, metric.uid, at, at)
    if verdicts:
        return [in_words(each) for each in verdicts]
    told = why_at(conn, metric, at)
    row = ScoredRow(told.rowid, told.timestamp, told.value, 0.0, told.anomaly_score, None, told.why)
    return [no_verdict(rule, metric.name, row, told.why.height)]


def _together(verdicts: Sequence[Verdict], names: Mapping[str, str]) -> Iterator[str]:
    """A line for each metric and kind of decision, with the first of it; a storm has many of the same."""
    alike: dict[tuple[str, str], list[Verdict]] = {}
    for each in verdicts:
        alike.setdefault((each.uid, each.verdict), []).append(each)
    for first, *others in islice(alike.values(), MOST_LINES):
        more = f" (and {len(others)} more until {format_timestamp(others[-1].timestamp)})" if others else ""
        yield f"{format_timestamp(first.timestamp)}  {names.get(first.uid, first.uid)}: {in_words(first)}{more}"
    if len(alike) > MOST_LINES:
        yield f"and {len(alike) - MOST_LINES} more; NAME before TIME tells of one metric"


def lines(told: Told) -> Iterator[str]:
    """The row, what was expected of it, and a line a kind."""
    why = told.why
    yield f"{format_timestamp(told.timestamp)}  value {told.value:g}, anomaly score {told.anomaly_score:.6g}"
    if why.expected is not None:
        yield f"expected {why.expected:g}, mostly {why.lower:g} to {why.upper:g}"
    for reason in why.evidence:
        yield f"  {reason.decades:4.1f}  {reason.text} ({reason.kind})"
    if not why.evidence:
        yield "no kind of evidence finds it unusual"
