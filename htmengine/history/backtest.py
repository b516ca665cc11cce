# SPDX-License-Identifier: MIT
"""A backtest: stored rows scored and judged with other parameters, rules or calendars, beside what happened.

In: a database, a `Plan`.  Out: a `Backtest`.  Nothing is written.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from sqlalchemy import Connection

from htmengine.alerts.configuration import Maintenance, Rule
from htmengine.alerts.evaluation import matches
from htmengine.errors import InvalidModelSpec
from htmengine.history import stored
from htmengine.history.comparison import Comparison, Entry, compare
from htmengine.history.processes import in_processes
from htmengine.history.rescoring import Difference, Past, Rescored, Wanted, rescore
from htmengine.history.silences import LOOK_S, MOST_LOOKS, Reports, look_times, looks_of
from htmengine.incidents import queries
from htmengine.incidents.past_quiet import past_quiet
from htmengine.incidents.preview import Look, PastRow
from htmengine.incidents.trial import MOST_ROWS, Tried, in_order, told
from htmengine.repository.engine import Database
from htmengine.repository.queries import Metric, young_rows
from htmengine.selectors import Selection


@dataclass(frozen=True, slots=True)
class Plan:
    """What is tried.  ``changes``: parameters of models that are other than the stored ones, as JSON has them."""

    selection: Selection
    since: int
    until: int
    rules: Sequence[Rule]
    changes: Mapping[str, Any] = field(default_factory=dict)
    maintenance: Sequence[Maintenance] = ()
    name_labels: tuple[str, ...] = ()
    sequence_only: bool = False  #: [anomaly_likelihood] evidence = sequence

    @property
    def wanted(self) -> Wanted:
        """The rows that its rules may count."""
        thresholds = [rule.threshold for rule in self.rules if not rule.has_budget]
        return Wanted(self.since, min(thresholds, default=math.inf), self.sequence_only)


@dataclass(frozen=True, slots=True)
class Backtest:
    """What came of it.  ``compared``: rows whose stored scores are of the same parameters."""

    comparison: Comparison
    metrics: int
    unmodelled: int  #: metrics that have no model
    failed: Sequence[str]  #: metrics whose rows no model of these parameters takes, and why
    rows: int
    compared: int
    waiting: int  #: rows that the current models have not scored yet
    differences: Sequence[Difference]  #: a metric's first each
    complete: bool  #: whether all unusual rows were judged; else the newest
    silences: bool  #: whether metrics that fell silent count; else they are too many for so long a time

    @property
    def differing(self) -> int:
        """Rows that have another score than the stored one."""
        return sum(each.rows for each in self.differences)


@dataclass(slots=True)
class _Found:
    """What the metrics have come to so far."""

    unusual: list[PastRow] = field(default_factory=list)
    complete: bool = True
    learnt_since: dict[str, float] = field(default_factory=dict)
    reports: list[Reports] = field(default_factory=list)
    metrics: int = 0
    rows: int = 0
    compared: int = 0
    waiting: int = 0
    differences: list[Difference] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def add(self, each: Rescored | InvalidModelSpec) -> None:
        if isinstance(each, InvalidModelSpec):
            self.failed.append(str(each))
            return
        self.unusual += each.unusual
        if len(self.unusual) > 2 * MOST_ROWS:
            self.unusual = self.newest()
        if each.learnt_since is not None:
            self.learnt_since[each.uid] = each.learnt_since
        self.reports += [each.reports] if each.reports is not None else []
        self.metrics += 1
        self.rows += each.rows
        self.compared += each.compared
        self.waiting += each.waiting
        self.differences += [each.difference] if each.difference is not None else []

    def newest(self) -> list[PastRow]:
        """The newest of the unusual rows, in the order of time."""
        self.complete &= len(self.unusual) <= MOST_ROWS
        return in_order(self.unusual)[-MOST_ROWS:]


def backtest(
    database: Database, plan: Plan, jobs: int, begins: Callable[[int], object], advances: Callable[[int], object]
) -> Backtest:
    """Run a plan.  ``begins`` is told how many metrics there are, ``advances`` how many more are scored.

    Raises `InvalidModelSpec` for changes that a metric's model cannot have.
    """
    metrics, unmodelled = database.read_sync(stored.metrics_with_models, plan.selection)
    begins(len(metrics))
    found, wanted = _Found(), _looking(plan, metrics)
    for each in in_processes(partial(_rescored, wanted=wanted), _pasts(database, plan, metrics), jobs):
        found.add(each)
        advances(1)
    uids = {each.uid: each.name for each in metrics}
    silences = wanted.looks_until is not None
    replayed = [*_judged(database, plan, found, uids, _looks(database, plan, found, wanted))]
    happened = database.read_sync(stored.entries_between, plan.since, plan.until, uids, silences=silences)
    return Backtest(
        compare(happened, replayed),
        found.metrics,
        unmodelled,
        found.failed,
        found.rows,
        found.compared,
        found.waiting,
        sorted(found.differences, key=lambda each: each.metric),
        found.complete,
        silences,
    )


def _pasts(database: Database, plan: Plan, metrics: Iterable[Metric]) -> Iterator[Past]:
    for each in metrics:
        past = database.read_sync(stored.past_of, each.uid, plan.changes)
        if past is not None:
            yield past


def _rescored(past: Past, wanted: Wanted) -> Rescored | InvalidModelSpec:
    """One that fails harms no other."""
    try:
        return rescore(past, wanted)
    except InvalidModelSpec as error:
        return error


def _looking(plan: Plan, metrics: Sequence[Metric]) -> Wanted:
    """With the time of the last look at who reports, unless there are too many of them."""
    until = min(plan.until, max((each.last_timestamp or 0 for each in metrics), default=0))
    looks = max(until - plan.since, 0) // LOOK_S * len(metrics)
    return replace(plan.wanted, looks_until=until if looks <= MOST_LOOKS else None)


def _looks(database: Database, plan: Plan, found: _Found, wanted: Wanted) -> Mapping[str, Sequence[Look]]:
    """When metrics fell silent, or were back, by rule."""
    if wanted.looks_until is None:
        return {}

    def times_until(uid: str, until: int) -> Sequence[int]:
        return database.read_sync(stored.times_until, uid, until)

    return looks_of(plan.rules, found.reports, look_times(plan.since, wanted.looks_until).tolist(), times_until)


def _judged(
    database: Database,
    plan: Plan,
    found: _Found,
    uids: Mapping[str, str],
    looks: Mapping[str, Sequence[Look]],
) -> Iterator[Entry]:
    """What the rules would have told."""
    quiet = database.read_sync(past_quiet, plan.since, sorted(uids), plan.maintenance, plan.name_labels)
    names, rows = database.read_sync(_monitored), found.newest()
    young = database.read_sync(young_rows, sorted(uids))
    for rule in plan.rules:
        of_rule = [each for each in rows if matches(rule, each.metric)]
        if rule.valid_range is not None:
            matched = {uid: name for uid, name in uids.items() if matches(rule, name)}
            outside = database.read_sync(queries.rows_outside, matched, rule.valid_range, plan.since, MOST_ROWS)
            of_rule = in_order([*of_rule, *outside])
        metrics = sum(matches(rule, name) for name in names)
        for each in told(rule, of_rule, found.learnt_since, metrics, quiet, looks.get(rule.name, ()), young):
            yield _entry(rule, each)


def _monitored(conn: Connection) -> list[str]:
    return [each.name for each in queries.newest_rows(conn)]


def _entry(rule: Rule, each: Tried) -> Entry:
    about = (each.timestamp, each.until, each.paged, each.verdict, each.height, each.title, each.reason)
    return Entry(rule.name, *about, each.metrics[0].uid, frozenset(moved.uid for moved in each.metrics))
