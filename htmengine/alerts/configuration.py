# SPDX-License-Identifier: MIT
"""alerts.conf: the rules, and who is told.

In: a directory with ``alerts.conf`` (INI: sections ``[alerts]``, ``[alert:NAME]``, ``[receiver:NAME]`` and
``[maintenance:NAME]``), and environment variables ``HTMENGINE__ALERTS__<SECTION>__<OPTION>`` for the sections that
it has (``HTMENGINE__ALERTS__RECEIVER_OPS__SECRET``), which win.  Out: one `AlertConfig`; all that is wrong with it is
told at once, in one `ConfigError`.
"""

from __future__ import annotations

import configparser
import dataclasses
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from htmengine.alerts.apprise import is_known
from htmengine.alerts.calendars import NEVER, FileCalendar, Windows, cron_calendar, one_window
from htmengine.alerts.kinds import (
    ANY_CHANGE,
    CHANGE,
    LABELS,
    MOMENT,
    NAME,
    NAME_PATTERNS,
    NAMES,
    RANGE,
    SELECTORS,
    SEVERITIES,
    SILENCE,
    UTC,
    ZONE,
    Change,
)
from htmengine.alerts.receivers import RECEIVERS, Apprise, Email, Receiver, Webhook
from htmengine.alerts.templates import problem_of
from htmengine.config import (
    ALERTS_PREFIX,
    ANY_TEXT,
    FLAG,
    TEXT,
    Values,
    check_directory,
    one_of,
    option,
    parse_file,
    read_section,
    read_variables,
    real,
    whole,
)
from htmengine.errors import ConfigError, InvalidMaintenance, MissingExtra
from htmengine.process.extras import TLS, optional, speaks_tls
from htmengine.selectors import Metric

FILE = "alerts"
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


# --- sections -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class General:
    """[alerts] of alerts.conf."""

    queue_name: str = option("htmengine.alerts", TEXT, "the alert service's queue on the results exchange")
    give_up_s: float = option(86_400.0, real(1), "a message that no receiver takes is given up after this long")
    default_rule: bool = option(
        True, FLAG, "an embedded engine without rules and receivers makes incidents of all metrics"
    )
    keep_days: int = option(30, whole(1, 3650), "alerts and deliveries that are over are kept this long")
    name_labels: tuple[str, ...] = option(
        (), NAME_PATTERNS, "labels of plain names, by patterns: servers.{host}.{what}"
    )
    audit_days: int = option(365, whole(1, 3650), "what people changed is remembered this long")


@dataclass(frozen=True, slots=True)
class Rule:
    """[alert:NAME] of alerts.conf: what is told to whom.  Times are those of the rows, but for ``max_age_s``."""

    name: str = ""
    metrics: tuple[str, ...] = option(("*",), SELECTORS, "metrics by glob and label; * matches dots too, ! excludes")
    pages_per_week: float = option(0.0, real(0, 10_000), "budget: pages a week, for all its metrics together")
    pages_per_metric_week: float = option(0.0, real(0, 1000), "budget: pages a week for each metric")
    threshold: float = option(0.99999, real(0, 1), "without a budget: anomaly scores from this on count")
    direction: str = option("both", one_of("both", "up", "down"), "only what is above, or below, the usual counts")
    min_change: Change = option(  # noqa: RUF009  (a Change is frozen)
        ANY_CHANGE, CHANGE, "ignores values this close to the expected one; 10%: of that one"
    )
    valid_range: tuple[float, float] | None = option(None, RANGE, "a value outside it always counts")
    rows: int = option(1, whole(1, 1000), "fires when this many rows count within the window")
    for_s: float = option(0.0, real(0), "with a budget: fires when rows have counted for so long")
    silence: float | None = option(0.0, SILENCE, "with a budget: a metric that falls silent is an alarm, too")
    gaps: bool = option(False, FLAG, "with a budget: rows that become too few or late are an alarm, too")
    severity: tuple[tuple[str, float], ...] = option((), SEVERITIES, "with a budget: label severity, by height")
    window_s: float = option(3600.0, real(1), "the window; resolved when fewer rows count in it")
    cooldown_s: float = option(3600.0, real(0), "does not fire again this long after it has fired")
    max_age_s: float = option(86_400.0, real(0), "rows that are older when they are scored do not count; 0: all do")
    resolved: bool = option(True, FLAG, "tell the receivers too when it is over")
    receivers: tuple[str, ...] = option((), NAMES, "who is told: sections [receiver:NAME]")
    labels: tuple[tuple[str, str], ...] = option((), LABELS, "given to the receivers with every alert")
    name_labels: tuple[str, ...] = field(default=(), compare=False)  #: as in [alerts]

    @property
    def has_budget(self) -> bool:
        """Whether pages are bought from a budget: alarms are incidents then, not alerts of single metrics."""
        return self.pages_per_week > 0 or self.pages_per_metric_week > 0

    def labels_at(self, height: float) -> tuple[tuple[str, str], ...]:
        """Its labels, with the severity of an incident so high.

        >>> Rule(severity=(("low", 0.0), ("high", 6.0))).labels_at(6.5)
        (('severity', 'high'),)
        """
        reached = [name for name, least in self.severity if height >= least]
        return (*self.labels, ("severity", reached[-1])) if reached else self.labels


@dataclass(frozen=True, slots=True)
class Maintenance:
    """[maintenance:NAME] of alerts.conf: windows of time in which alarms of some metrics page nobody."""

    name: str = ""
    metrics: tuple[str, ...] = option(("*",), SELECTORS, "which metrics")
    cron: str = option("", ANY_TEXT, "when windows begin: minute, hour, day of the month, month, day of the week")
    at: datetime | None = option(  # noqa: RUF009  (a datetime is frozen)
        None, MOMENT, "instead of cron: when the only window begins"
    )
    for_s: float = option(3600.0, real(60, 30 * 86_400), "with cron or at: how long a window is")
    calendar: str = option("", ANY_TEXT, "instead of cron: an iCalendar file whose events are the windows")
    timezone: ZoneInfo = option(  # noqa: RUF009  (a ZoneInfo is frozen)
        UTC, ZONE, "of cron and at, and of the calendar's times without one"
    )
    learning: bool = option(True, FLAG, "no: the rows of a window are not learnt")
    windows: Windows = field(default=NEVER, compare=False)  #: made of the options above
    name_labels: tuple[str, ...] = field(default=(), compare=False)  #: as in [alerts]


@dataclass(frozen=True, slots=True)
class AlertConfig:
    """All of alerts.conf, in its order."""

    general: General = General()
    rules: tuple[Rule, ...] = ()
    receivers: tuple[Receiver, ...] = ()
    maintenance: tuple[Maintenance, ...] = ()

    def receivers_of(self, rule: Rule) -> list[Receiver]:
        """Whom a rule tells."""
        return [receiver for receiver in self.receivers if receiver.name in rule.receivers]

    def labels_of(self, metric: str) -> dict[str, str]:
        """A metric's labels: its own, and those of its name by ``name_labels``."""
        return Metric.of(metric, self.general.name_labels).labels

    def with_default_rule(self) -> AlertConfig:
        """With a rule for all metrics if there is nothing else: incidents to be looked at, of which nobody is told.

        >>> [rule.name for rule in NO_ALERTS.with_default_rule().rules]
        ['all']
        """
        if self.rules or self.receivers or not self.general.default_rule:
            return self
        return dataclasses.replace(self, rules=(DEFAULT_RULE,))


#: Sections with a name that are of one kind.
_NAMED: Mapping[str, type[Any]] = {"alert": Rule, "maintenance": Maintenance}

#: What an embedded engine has before somebody writes an alerts.conf.
DEFAULT_RULE = Rule("all", pages_per_week=5.0)
NO_ALERTS = AlertConfig()


@dataclass(frozen=True, slots=True)
class AlertOptions:
    """alerts.conf, and where the rest of the engine is."""

    config: AlertConfig
    results_exchange: str
    public_url: str = ""  #: of the dashboard; empty: alerts have no link


# --- reading --------------------------------------------------------------------------------------------


def load_alerts(directory: Path | None, environ: Mapping[str, str], *, calendars_needed: bool = True) -> AlertConfig:
    """The alerts of a configuration directory (None: none).  Raises `ConfigError`.

    A running engine goes on without a calendar's file, which others write; with ``calendars_needed`` that is an error.
    """
    problems: list[str] = []
    parser = configparser.ConfigParser(interpolation=None)
    path = Path(f"{FILE}.conf")
    if directory is not None:
        check_directory(directory)
        path = directory / path
        parser = parse_file(path, problems)
    values = _values(path, parser)
    kinds = _kinds(path, values, parser.sections(), problems)
    _read_environment(environ, kinds, values, problems)
    general, *named = [_read(section, kind, values, problems) for section, kind in kinds.items()]
    named = [
        dataclasses.replace(each, name_labels=general.name_labels) if isinstance(each, Rule | Maintenance) else each
        for each in named
    ]
    rules = tuple(each for each in named if isinstance(each, Rule))
    sections = [each for each in named if isinstance(each, Maintenance)]
    windows = tuple(_with_windows(each, path, problems, calendars_needed) for each in sections)
    receivers = tuple(_with_template(each, path.parent) for each in named if isinstance(each, Receiver))
    config = AlertConfig(general, rules, receivers, windows)
    if not problems:  # what is missing is told when nothing else could be the reason
        problems += [f"{path} {problem}" for problem in (*_without_receivers(config), *_contradictions(config))]
    if problems:
        raise ConfigError(problems)
    return config


def load_rules(path: Path, config: AlertConfig) -> tuple[Rule, ...]:
    """The rules of a file that has nothing but sections [alert:NAME], for the receivers of alerts.conf, or for none.

    Raises `ConfigError`.
    """
    problems: list[str] = []
    rules: tuple[Rule, ...] = _sections_of(path, "alert", config, problems)
    if not problems:
        problems += [f"{path} {problem}" for problem in _contradictions(dataclasses.replace(config, rules=rules))]
        declared = {rule.name for rule in config.rules if rule != DEFAULT_RULE}
        both = [rule.name for rule in rules if rule.name in declared]
        problems += [f"{path} [alert:{name}]: alerts.conf has a rule of this name" for name in both]
    if problems:
        raise ConfigError(problems)
    return rules


def load_maintenance(path: Path, config: AlertConfig) -> tuple[Maintenance, ...]:
    """The windows of a file that has nothing but sections [maintenance:NAME]; its calendars are beside it.

    Raises `ConfigError`.
    """
    problems: list[str] = []
    read: tuple[Maintenance, ...] = _sections_of(path, "maintenance", config, problems)
    windows = tuple(_with_windows(each, path, problems, calendars_needed=True) for each in read)
    if problems:
        raise ConfigError(problems)
    return windows


def _sections_of(path: Path, word: str, config: AlertConfig, problems: list[str]) -> tuple[Any, ...]:
    """The sections of a file that has one kind alone.  Raises `ConfigError` if there is no file."""
    if not path.is_file():
        raise ConfigError([f"{path}: there is no such file"])
    parser = parse_file(path, problems)
    allowed = [each for each in parser.sections() if each.startswith(f"{word}:")]
    kinds = _kinds(path, {}, allowed, problems)
    problems += [
        f"{path} [{each}]: only [{word}:NAME] is allowed here; the rest stands in alerts.conf"
        for each in parser.sections()
        if each not in allowed
    ]
    values = _values(path, parser)
    read = [_read(section, kind, values, problems) for section, kind in kinds.items() if kind is _NAMED[word]]
    return tuple(dataclasses.replace(each, name_labels=config.general.name_labels) for each in read)


def _values(path: Path, parser: configparser.ConfigParser) -> Values:
    return {
        (FILE, section, name): (text, f"{path} [{section}] {name}")
        for section in parser.sections()
        for name, text in parser.items(section)
    }


def _read(title: str, kind: type[Any], values: Values, problems: list[str]) -> Any:
    """One section, with its name if it has one."""
    section = read_section(FILE, title, kind, values, problems)
    name = title.partition(":")[2]
    return dataclasses.replace(section, name=name) if name else section


def _with_template(receiver: Receiver, folder: Path) -> Receiver:
    """With the whole path of its template; a relative file is beside alerts.conf."""
    if isinstance(receiver, Webhook) and receiver.template:
        return dataclasses.replace(receiver, template=str(folder / receiver.template))
    return receiver


def _with_windows(section: Maintenance, path: Path, problems: list[str], calendars_needed: bool) -> Maintenance:
    """With its calendar; a relative file is beside alerts.conf."""
    try:
        return dataclasses.replace(section, windows=windows_of(section, path.parent, calendars_needed))
    except InvalidMaintenance as error:
        where = f"{path} [maintenance:{section.name}]"
        told = ((f" {option} = {getattr(section, option)!r}" if option else "", why) for option, why in error.problems)
        problems += [f"{where}{what}: {why}" for what, why in told]
        return section


def windows_of(section: Maintenance, folder: Path, calendars_needed: bool = True) -> Windows:
    """The windows of a section; a relative file is in ``folder``.  Raises `InvalidMaintenance`."""
    given = [name for name in ("cron", "at", "calendar") if getattr(section, name)]
    if len(given) != 1:
        raise InvalidMaintenance(section.name, [("", "one of cron, at and calendar is needed")])
    try:
        if section.at is not None:
            return one_window(section.at, section.for_s, section.timezone)
        if section.cron:
            return cron_calendar(section.cron, section.for_s, section.timezone)
        return FileCalendar(folder / section.calendar, section.timezone, needed=calendars_needed)
    except (ValueError, OSError, MissingExtra) as error:
        raise InvalidMaintenance(section.name, [(given[0], str(error))]) from None


def _kinds(path: Path, values: Values, sections: Iterable[str], problems: list[str]) -> dict[str, type[Any]]:
    """What each section is; a receiver's option ``type`` is taken out of ``values``."""
    kinds: dict[str, type[Any]] = {"alerts": General}
    for section in sections:
        word, colon, name = section.partition(":")
        if section == "alerts":
            continue
        if word not in {*_NAMED, "receiver"} or not colon or not NAME.fullmatch(name):
            problems.append(
                f"{path} [{section}]: [alerts], [alert:NAME], [receiver:NAME] and [maintenance:NAME] are allowed, "
                "NAME of at most 60 letters, digits, - and _"
            )
        elif word in _NAMED:
            kinds[section] = _NAMED[word]
        else:
            text, where = values.pop((FILE, section, "type"), ("", f"{path} [{section}] type"))
            if text in RECEIVERS:
                kinds[section] = RECEIVERS[text]
            else:
                problems.append(f"{where} = {text!r}: {', '.join(RECEIVERS)} are allowed")
    return kinds


def _read_environment(
    environ: Mapping[str, str], kinds: Mapping[str, type[Any]], values: Values, problems: list[str]
) -> None:
    names = {
        f"ALERTS__{re.sub('[:-]', '_', section)}__{each.name}".upper(): (FILE, section, each.name)
        for section, kind in kinds.items()
        for each in dataclasses.fields(kind)
        if each.metadata
    }
    ours = {name: text for name, text in environ.items() if name.startswith(ALERTS_PREFIX)}
    read_variables(ours, names, values, problems)


def _without_receivers(config: AlertConfig) -> Iterable[str]:
    """Rules that tell nobody: only stored ones may."""
    known = _listed(receiver.name for receiver in config.receivers)
    for rule in config.rules:
        if not rule.receivers:
            yield f"[alert:{rule.name}] receivers: at least one is needed; there are {known}"


def _contradictions(config: AlertConfig) -> Iterable[str]:
    """What no option alone can tell."""
    known = {receiver.name for receiver in config.receivers}
    for rule in config.rules:
        yield from (f"[alert:{rule.name}] {name}: {problem}" for name, problem in contradictions_of(rule))
        for name in rule.receivers:
            if name not in known:
                yield f"[alert:{rule.name}] receivers: there is no [receiver:{name}]; there are {_listed(known)}"
    for receiver in config.receivers:
        for name in receiver.needed:
            if not getattr(receiver, name):
                yield f"[receiver:{receiver.name}] {name}: is needed"
        if isinstance(receiver, Email) and receiver.user and receiver.tls == "no" and receiver.host not in _LOOPBACK:
            yield f"[receiver:{receiver.name}] tls = no: a password travels encrypted only; starttls or implicit"
        if isinstance(receiver, Webhook) and receiver.template:
            yield from _bad_template(receiver)
        if isinstance(receiver, Apprise):
            yield from _unknown_service(receiver)
        elif receiver.tls != "no" if isinstance(receiver, Email) else speaks_tls(receiver.url):
            try:
                optional(TLS, "tls")
            except MissingExtra as missing:
                yield f"[receiver:{receiver.name}] speaks TLS: {missing}"


def _bad_template(receiver: Webhook) -> Iterable[str]:
    """Now, and not with the first page that somebody needs."""
    try:
        problem = problem_of(receiver.template)
    except MissingExtra as missing:
        problem = str(missing)
    if problem:
        yield f"[receiver:{receiver.name}] template = {receiver.template!r}: {problem}"


def _unknown_service(receiver: Apprise) -> Iterable[str]:
    """Without the URL, which is a secret."""
    try:
        known = is_known(receiver.url)
    except MissingExtra as missing:
        yield f"[receiver:{receiver.name}] type = apprise: {missing}"
    else:
        if receiver.url and not known:
            yield f"[receiver:{receiver.name}] url: a URL of a service that Apprise knows is allowed"


#: Options that mean something with a budget alone, and without one alone.
_BUDGET_ONLY = ("for_s", "silence", "gaps", "severity")
_THRESHOLD_ONLY = ("threshold", "cooldown_s")


def contradictions_of(rule: Rule) -> Iterable[tuple[str, str]]:
    """What no option of a rule alone can tell: (option, what is wrong with it)."""
    if rule.pages_per_week and rule.pages_per_metric_week:
        yield "pages_per_week and pages_per_metric_week", "a rule has one budget; leave one out"
    for each in dataclasses.fields(Rule):
        if getattr(rule, each.name) == each.default:
            continue
        if each.name in _BUDGET_ONLY and not rule.has_budget:
            yield each.name, "only with pages_per_week or pages_per_metric_week"
        if each.name in _THRESHOLD_ONLY and rule.has_budget:
            yield each.name, "only without a budget, which sets the threshold"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
