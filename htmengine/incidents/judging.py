# SPDX-License-Identifier: MIT
"""Rows and silences judged for one rule, in one transaction: states, verdicts, incidents and the messages about them.

In: a rule with a budget, candidates, metrics that are silent or are back.  Out: what was decided, stored.  The rule's
row is locked first, so that several alert services pay once; rows and silences that come twice change nothing.
Called by the Alert Service.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
from sqlalchemy import Connection

from htmengine.alerts import queries as alert_queries
from htmengine.alerts.configuration import AlertOptions, Rule
from htmengine.alerts.incident_messages import SHOWN_MEMBERS, IncidentMessage, Message, MovedMetric, incident_page
from htmengine.alerts.maintenance_queries import in_force
from htmengine.alerts.notifications import Status, metric_page
from htmengine.incidents import queries
from htmengine.incidents.budget import Budget
from htmengine.incidents.candidates import Candidate, Quiet, alarm_of, counted, learns, with_row
from htmengine.incidents.feedback import is_like
from htmengine.incidents.fleet import Newest
from htmengine.incidents.grouping import (
    NAMED_MEMBERS,
    SILENCE,
    Alarm,
    Close,
    Decision,
    Instruction,
    Judgement,
    Matter,
    Open,
    OpenIncident,
    Outcome,
    Page,
    RuleState,
    Stay,
    decide,
    review,
    silence_alarm,
)
from htmengine.incidents.hold_off import HoldOff
from htmengine.incidents.preview import budget_of
from htmengine.incidents.records import AlarmState, Incident, Member, Phase, Verdict
from htmengine.incidents.roots import called, ranked
from htmengine.incidents.suspects import suspects
from htmengine.process import crash_points
from htmengine.repository import fine_spans
from htmengine.repository.fine_spans import FineSpan

HELD_BACK = frozenset({Outcome.HELD_BACK, Outcome.SPENT, Outcome.QUIET, Outcome.MAINTENANCE, Outcome.FINE})
#: The message that an incident matters more waits so long, so that it tells of all that moves with it.
WORSE_AFTER_S = 30.0
#: The verdict about a row of a metric that is still learnt.
LEARNING = "learning"


@dataclass(frozen=True, slots=True)
class Silent:
    """A metric that has stopped, or whose rows have gaps (``kind``), and why that is thought.

    ``quiet_before``: it was noticed when nobody was to be paged because of it.
    """

    newest: Newest
    text: str
    quiet_before: bool = False
    kind: str = SILENCE


@dataclass(frozen=True, slots=True)
class Judging:
    """What judging needs beside the rows.  ``metrics``: how many the rule matches; ``now``: epoch seconds."""

    rule: Rule
    metrics: int
    options: AlertOptions
    now: float

    @property
    def budget(self) -> Budget:
        """The rule's budget."""
        return budget_of(self.rule, self.metrics)


@dataclass(slots=True)
class _Work:
    """What a transaction has found so far.  ``members``: uids of the open incidents' metrics before it."""

    members: frozenset[str]
    alarms: list[Alarm] = field(default_factory=list)
    candidates: dict[tuple[str, int], Candidate] = field(default_factory=dict)
    states: dict[str, AlarmState] = field(default_factory=dict)
    learnt_since: dict[str, float] = field(default_factory=dict)
    fine: dict[str, tuple[FineSpan, ...]] = field(default_factory=dict)
    verdicts: list[Verdict] = field(default_factory=list)


def judge(conn: Connection, judging: Judging, found: Sequence[Candidate], silent: Sequence[Silent] = ()) -> Decision:
    """Judge rows and silences, and store what follows."""
    name = judging.rule.name
    state = _lock(conn, judging)
    uids = sorted({each.uid for each in found} | {each.newest.uid for each in silent})
    members = frozenset(uid for each in state.open for uid in each.uids)
    work = _Work(members, states=queries.alarm_states(conn, name, uids))
    work.learnt_since = queries.learnt_since(conn, sorted({each.uid for each in found}))
    work.fine = fine_spans.of_metrics(conn, uids)
    config = judging.options.config
    silences = queries.silences(conn, judging.now)
    maintenance = in_force(conn, config)
    quiet = Quiet(silences, maintenance, judging.now, config.general.name_labels)
    for each in found:
        _take_row(conn, judging, work, quiet, each)
    for stopped in silent:
        _take_silence(judging, work, quiet, stopped)
    hold_offs = {uid: HoldOff(each.timestamp, each.height or 0.0) for uid, each in work.states.items()}
    decision = decide(name, judging.budget, state, hold_offs, work.alarms)
    _store(conn, judging, work, decision)
    crash_points.reached("alerts.judging")
    return decision


def review_rule(
    conn: Connection, judging: Judging, back: Collection[str] = (), ended: str | None = None
) -> list[Instruction]:
    """End incidents that are over.  ``back``: uids of silent metrics that report again; ``ended``: why all are over."""
    name = judging.rule.name
    state = _lock(conn, judging)
    silent = queries.silent_states(conn, name)
    returned = [replace(each, silent_since=None) for uid, each in silent.items() if uid in back]
    queries.save_alarm_states(conn, returned)
    still = {uid for uid, each in silent.items() if each.silent_since is not None and uid not in back}
    newest = queries.newest_judged(conn, [uid for each in state.open for uid in each.uids])
    state, closed = review(state, judging.now, still, newest)
    if ended is not None:
        closed = [*closed, *(Close(each, ended) for each in state.open)]
        state = replace(state, open=())
    if closed:
        _save(conn, judging, state)
        _perform(conn, judging, {}, [], closed)
    return list(closed)


def _lock(conn: Connection, judging: Judging) -> RuleState:
    """The rule's state, locked; the members of its incidents are those that are stored."""
    state = _read_state(queries.lock_rule(conn, judging.rule.name, judging.now))
    members = {each.id: queries.member_uids(conn, each.id, NAMED_MEMBERS) for each in state.open}
    return replace(state, open=tuple(replace(each, uids=members[each.id]) for each in state.open))


def _save(conn: Connection, judging: Judging, state: RuleState) -> None:
    small = replace(state, open=tuple(replace(each, uids=()) for each in state.open))
    queries.save_rule(conn, judging.rule.name, msgspec.to_builtins(small), judging.now)


def _read_state(stored: dict[str, Any]) -> RuleState:
    return msgspec.convert(stored, RuleState) if stored else RuleState()


# --- alarms ---------------------------------------------------------------------------------------------


def _take_row(conn: Connection, judging: Judging, work: _Work, quiet: Quiet, each: Candidate) -> None:
    state = work.states.get(each.uid) or AlarmState(judging.rule.name, each.uid)
    if each.row.rowid <= state.rowid:
        return
    work.states[each.uid], enough = counted(judging.rule, state, each)
    if not enough:
        return
    alarm = alarm_of(each, quiet.reason(each.metric, each.row.timestamp))
    if alarm.quiet is None and is_like(work.fine.get(each.uid, ()), alarm):
        alarm = replace(alarm, quiet=Outcome.FINE)
    if learns(judging.rule, each, work.learnt_since.get(each.uid)):
        verdict = Verdict(*_about(judging, alarm), threshold=None, tokens=None, verdict=LEARNING, incident_id=None)
        work.verdicts.append(verdict)
        return
    work.candidates[alarm.uid, alarm.rowid] = each
    if each.uid not in work.members or HoldOff(state.timestamp, state.height or 0.0).allows(
        alarm.timestamp, alarm.height
    ):
        alarm = replace(alarm, since=queries.unusual_since(conn, alarm.uid, alarm.rowid))
    work.alarms.append(alarm)


def _take_silence(judging: Judging, work: _Work, quiet: Quiet, stopped: Silent) -> None:
    newest = stopped.newest
    state = work.states.get(newest.uid) or AlarmState(judging.rule.name, newest.uid)
    if state.silent_since is not None and not stopped.quiet_before:
        return
    reason = quiet.reason(newest.name, judging.now)
    if stopped.quiet_before and reason is not None:
        return
    if stopped.kind == SILENCE:
        work.states[newest.uid] = replace(state, silent_since=newest.timestamp)
    alarm = silence_alarm(newest.uid, newest.name, newest.rowid, int(judging.now), stopped.text)
    work.alarms.append(replace(alarm, kind=stopped.kind, quiet=reason))


def _about(judging: Judging, alarm: Alarm) -> tuple[str, str, int, str, int, float]:
    return judging.rule.name, alarm.uid, alarm.rowid, alarm.kind, alarm.timestamp, alarm.height


# --- what is stored -------------------------------------------------------------------------------------


def _store(conn: Connection, judging: Judging, work: _Work, decision: Decision) -> None:
    _save(conn, judging, decision.state)
    queries.save_alarm_states(conn, [_held(each, decision.hold_offs) for each in work.states.values()])
    queries.add_verdicts(conn, [*work.verdicts, *(_verdict(judging, each) for each in decision.judgements)])
    _perform(conn, judging, work.candidates, decision.judgements, decision.instructions)


def _held(state: AlarmState, hold_offs: Mapping[str, HoldOff]) -> AlarmState:
    held = hold_offs.get(state.uid)
    return state if held is None or held.at is None else replace(state, timestamp=int(held.at), height=held.bar)


def _verdict(judging: Judging, each: Judgement) -> Verdict:
    return Verdict(*_about(judging, each.alarm), each.price, each.tokens, each.outcome.value, each.incident_id)


def _perform(
    conn: Connection,
    judging: Judging,
    rows: Mapping[tuple[str, int], Candidate],
    judgements: Sequence[Judgement],
    instructions: Iterable[Instruction],
) -> None:
    by_incident: dict[str, list[Instruction]] = {}
    for each in instructions:
        by_incident.setdefault(each.incident.id, []).append(each)
    opening = {each.incident_id: each for each in reversed(judgements) if each.incident_id is not None}
    known = queries.incidents_by_id(conn, list(by_incident))
    for incident_id, these in by_incident.items():
        record = known.get(incident_id) or _opened(judging, these[0].incident, opening[incident_id])
        _follow(conn, judging, rows, record, these)


def _opened(judging: Judging, incident: OpenIncident, by: Judgement) -> Incident:
    return Incident(
        id=incident.id,
        rule=judging.rule.name,
        title="",
        phase=Phase.OPEN,
        timestamp=incident.timestamp,
        last_timestamp=incident.active_at,
        opened_at=judging.now,
        last_at=judging.now,
        mattered_at=None,
        over_at=None,
        reason=None,
        paged=False,
        held_back=by.outcome.reason,
        height=incident.height,
        threshold=by.price,
        tokens=by.tokens,
        members=incident.members,
    )


def _follow(
    conn: Connection,
    judging: Judging,
    rows: Mapping[tuple[str, int], Candidate],
    record: Incident,
    instructions: Sequence[Instruction],
) -> None:
    """Bring one incident up to date, and tell people what they should know."""
    members = {each.uid: each for each in queries.members_of(conn, record.id)}
    changed: dict[str, Member] = {}
    for each in instructions:
        record = _advanced(judging, record, each)
        if not isinstance(each, Close):
            member = _member(record.id, members.get(each.alarm.uid), each.alarm, rows)
            changed[member.uid] = members[member.uid] = member
    known = ranked(members.values())
    record = replace(record, title=called(known))
    queries.save_incident(conn, record)
    queries.save_members(conn, changed.values())
    statuses = _statuses(instructions)
    for status in statuses:
        _tell(conn, judging, record, known, status)
    if record.mattered_at is not None and "worse" not in statuses and judging.now < record.mattered_at + WORSE_AFTER_S:
        _renew(conn, judging, record, known)


def _advanced(judging: Judging, record: Incident, instruction: Instruction) -> Incident:
    incident, now = instruction.incident, judging.now
    record = replace(
        record,
        timestamp=incident.timestamp,
        last_timestamp=incident.joined_at,
        paged=incident.paged,
        held_back=None if incident.paged else record.held_back,
        height=incident.height,
        members=incident.members,
    )
    if isinstance(instruction, Close):
        return replace(record, phase=Phase.OVER, over_at=now, reason=instruction.reason)
    if isinstance(instruction, Stay):
        return record
    return replace(record, last_at=now, mattered_at=now if isinstance(instruction, Matter) else record.mattered_at)


def _member(incident_id: str, before: Member | None, alarm: Alarm, rows: Mapping[tuple[str, int], Candidate]) -> Member:
    if before is not None:
        last = max(before.last_timestamp, alarm.timestamp)
        quiet = None if alarm.quiet is None else before.quiet
        return replace(before, last_timestamp=last, height=max(before.height, alarm.height), quiet=quiet)
    about = (alarm.uid, alarm.metric, alarm.rowid, alarm.timestamp, alarm.timestamp, alarm.height)
    quiet = None if alarm.quiet is None else alarm.quiet.reason
    member = Member(incident_id, *about, alarm.kind, alarm.direction, alarm.text, quiet=quiet, since=alarm.since)
    found = None if alarm.is_silence else rows.get((alarm.uid, alarm.rowid))
    return member if found is None else with_row(member, found.row)


# --- what people are told -------------------------------------------------------------------------------


def _statuses(instructions: Sequence[Instruction]) -> list[Status]:
    """One message for each thing that people should know; news within one transaction are one message."""
    found: list[Status] = []
    if any(isinstance(each, Page) or (isinstance(each, Open) and each.incident.paged) for each in instructions):
        found.append("firing")
    elif any(isinstance(each, Matter) for each in instructions):
        found.append("worse")
    if any(isinstance(each, Close) for each in instructions):
        found.append("resolved")
    return found


def _tell(conn: Connection, judging: Judging, record: Incident, members: Sequence[Member], status: Status) -> None:
    told = {} if status == "firing" else alert_queries.told_of(conn, record.id)
    receivers: Collection[str] = judging.rule.receivers if status == "firing" else told
    if status == "resolved" and not judging.rule.resolved:
        return
    known = [each.name for each in judging.options.config.receivers if each.name in receivers]
    if known:
        message = _labelled(_message(conn, judging, record, members, status), told)
        alert_queries.add_deliveries(conn, message, known, after_s=WORSE_AFTER_S if status == "worse" else 0.0)


def _renew(conn: Connection, judging: Judging, record: Incident, members: Sequence[Member]) -> None:
    """The message that it matters more tells what is known when it goes out."""
    told = alert_queries.told_of(conn, record.id)
    alert_queries.renew_waiting(conn, _labelled(_message(conn, judging, record, members, "worse"), told))


def _labelled(message: IncidentMessage, told: Mapping[str, Message]) -> IncidentMessage:
    """With the labels that it began with: Alertmanager knows an alert by them."""
    first = next(iter(told.values()), None)
    return message if first is None else replace(message, metric_labels=first.metric_labels)


def _shared(labels: Iterable[Mapping[str, str]]) -> tuple[tuple[str, str], ...]:
    """Labels that all metrics have with the same values.

    >>> _shared([{"host": "a", "job": "api"}, {"host": "b", "job": "api"}])
    (('job', 'api'),)
    """
    return tuple(sorted(set.intersection(*(set(each.items()) for each in labels))))


def _message(
    conn: Connection, judging: Judging, record: Incident, members: Sequence[Member], status: Status
) -> IncidentMessage:
    url = judging.options.public_url
    suspected, labels_of = suspects(conn, record, members), judging.options.config.labels_of
    first = suspected[0]
    return IncidentMessage(
        id=record.id,
        status=status,
        rule=record.rule,
        title=record.title,
        started=record.timestamp,
        timestamp=record.last_timestamp,
        members=record.members,
        height=record.height,
        threshold=record.threshold,
        moved=tuple(_moved(each, url, labels_of(each.metric)) for each in suspected[:SHOWN_MEMBERS]),
        reason=record.reason or "",
        created=judging.now,
        labels=judging.rule.labels_at(record.height),
        metric_labels=_shared(labels_of(each.metric) for each in members),
        link=incident_page(url, record.id),
        recent=alert_queries.recent_rows(conn, first.uid, first.rowid),
    )


def _moved(each: Member, url: str, labels: Mapping[str, str]) -> MovedMetric:
    link = metric_page(url, each.uid)
    told = (each.reason, each.direction, each.value, each.expected, each.lower, each.upper)
    return MovedMetric(each.metric, each.uid, each.timestamp, each.height, *told, link, tuple(sorted(labels.items())))


def paged(instructions: Iterable[Instruction]) -> int:
    """Pages among them."""
    return sum(isinstance(each, Page) or (isinstance(each, Open) and each.incident.paged) for each in instructions)


def held_back(judgements: Iterable[Judgement]) -> int:
    """Alarms that a price, a spent budget, a silence, maintenance or a mark held back."""
    return sum(each.outcome in HELD_BACK for each in judgements)


def tokens(stored: dict[str, Any], judging: Judging) -> float:
    """What may be spent now.  ``stored``: the rule's state."""
    budget = judging.budget
    return budget.tokens(budget.refilled(_read_state(stored).bucket, judging.now))
