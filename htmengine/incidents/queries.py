# SPDX-License-Identifier: MIT
"""What incidents ask of the database; as `repository.queries`: synchronous, ``conn`` first, in the caller's
transaction.

Written by the Alert Service in the transaction that judges rows, with the rule's row locked; by people who
acknowledge, mark and silence.  Read by the page, the HTTP API and the command line.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from datetime import datetime
from typing import Any, TypeVar

import msgspec
from msgspec import UNSET
from sqlalchemy import ColumnElement, Connection, Select, Table, and_, delete, exists, func, insert, or_, select, update

from htmengine.errors import IncidentNotFound, InvalidOptions, SilenceNotFound
from htmengine.incidents.fleet import Newest
from htmengine.incidents.grouping import SILENCE, Outcome
from htmengine.incidents.preview import PastRow
from htmengine.incidents.records import (
    AlarmState,
    Did,
    Event,
    Incident,
    Marks,
    Member,
    Phase,
    Silence,
    Verdict,
)
from htmengine.incidents.roots import LASTING_ROWS, LEADING_HEIGHT, MOST_LEADING
from htmengine.messages import ScoredRow, Why
from htmengine.repository import audit
from htmengine.repository.counters import learn_texts
from htmengine.repository.queries import IN_AT_ONCE, Definition, Metric, MetricStatus, get_metrics, get_rows, in_parts
from htmengine.repository.schema import (
    alarm_state,
    alarm_verdict,
    anomaly,
    incident,
    incident_event,
    incident_member,
    metric,
    metric_data,
    metric_score,
    rule_state,
    silence,
)
from htmengine.repository.times import from_datetime, to_datetime
from htmengine.selectors import Selection

_Record = TypeVar("_Record", Incident, Member, Event, Verdict, Silence)

#: Rows that are read at once.
ROWS_AT_ONCE = 1000
#: What is looked at around an incident for metrics that moved beside it.
MOST_METRICS, MOST_AROUND = 1000, 10_000

_a = anomaly.c
_PAST_COLUMNS = (_a.uid, metric.c.name, _a.rowid, _a.timestamp, _a.metric_value, _a.anomaly_score, _a.why)

# --- rules ----------------------------------------------------------------------------------------------


def lock_rule(conn: Connection, rule: str, now: float) -> dict[str, Any]:
    """A rule's state, locked until the transaction ends: nobody else judges for it meanwhile; {} for a new rule."""
    c = rule_state.c
    query = select(c.state).where(c.rule == rule).with_for_update()
    state = conn.execute(query).scalar()
    if state is None:
        conn.execute(insert(rule_state), {"rule": rule, "state": "{}", "changed_at": now})
        return {}
    return dict(json.loads(state))


def save_rule(conn: Connection, rule: str, state: Mapping[str, Any], now: float) -> None:
    """Store what `lock_rule` gives the next time."""
    values = {"state": json.dumps(state), "changed_at": now}
    conn.execute(update(rule_state).where(rule_state.c.rule == rule).values(values))


def rule_states(conn: Connection) -> dict[str, dict[str, Any]]:
    """The states of all rules, by name."""
    return {row.rule: json.loads(row.state) for row in conn.execute(select(rule_state))}


def pages_since(conn: Connection, since: float) -> dict[str, tuple[int, int]]:
    """By rule: incidents since an epoch second (wall clock) that paged, and those that did not."""
    c = incident.c
    found: dict[str, tuple[int, int]] = {}
    query = select(c.rule, c.paged, func.count()).where(c.opened_at >= since).group_by(c.rule, c.paged)
    for rule, paged, count in conn.execute(query):
        pages, held = found.get(rule, (0, 0))
        found[rule] = (pages + count, held) if paged else (pages, held + count)
    return found


# --- a rule and a metric --------------------------------------------------------------------------------


def alarm_states(conn: Connection, rule: str, uids: Sequence[str]) -> dict[str, AlarmState]:
    """By uid, as far as there are any."""
    c = alarm_state.c
    return {
        row.uid: _alarm_state(row)
        for part in in_parts(uids)
        for row in conn.execute(select(alarm_state).where(c.rule == rule, c.uid.in_(part)))
    }


def silent_states(conn: Connection, rule: str) -> dict[str, AlarmState]:
    """By uid: those of metrics that are silent."""
    c = alarm_state.c
    query = select(alarm_state).where(c.rule == rule, c.silent_since.is_not(None))
    return {row.uid: _alarm_state(row) for row in conn.execute(query)}


def silent_since(conn: Connection, rule: str) -> dict[str, int]:
    """By uid: the last row before the silence of each metric that is silent for a rule."""
    c = alarm_state.c
    query = select(c.uid, c.silent_since).where(c.rule == rule, c.silent_since.is_not(None))
    return {row.uid: row.silent_since for row in conn.execute(query)}


def quiet_silences(conn: Connection, rule: str) -> list[str]:
    """Metrics, by uid, that are silent and page nobody because they were silenced or in maintenance when it began."""
    c, v = alarm_state.c, alarm_verdict.c
    same = and_(v.rule == c.rule, v.uid == c.uid, v.timestamp >= c.silent_since)
    quiet = and_(v.kind == SILENCE, v.verdict.in_([Outcome.QUIET.value, Outcome.MAINTENANCE.value]))
    query = select(c.uid).distinct().join(alarm_verdict, same).where(c.rule == rule, quiet).order_by(c.uid)
    return list(conn.execute(query).scalars())


def save_alarm_states(conn: Connection, states: Iterable[AlarmState]) -> None:
    """Store states, whether they are new or not."""
    for state in states:
        values = {**asdict(state), "hits": json.dumps(state.hits)}
        _put(conn, alarm_state, values, ("rule", "uid"))


def _alarm_state(row: Any) -> AlarmState:
    return AlarmState(
        row.rule, row.uid, row.rowid, row.timestamp, row.height, tuple(json.loads(row.hits)), row.silent_since
    )


def add_verdicts(conn: Connection, verdicts: Iterable[Verdict]) -> None:
    """Keep what was decided; what is known already stays."""
    for verdict in verdicts:
        _put(conn, alarm_verdict, asdict(verdict), ("rule", "uid", "rowid", "kind"))


def verdicts_about(conn: Connection, rule: str, uid: str, since: int, until: int) -> list[Verdict]:
    """What a rule decided about rows of a metric from one timestamp to another, in order."""
    c = alarm_verdict.c
    query = select(alarm_verdict).where(c.rule == rule, c.uid == uid, c.timestamp.between(since, until))
    return [_read(Verdict, row) for row in conn.execute(query.order_by(c.timestamp, c.rowid))]


def verdicts_between(conn: Connection, rule: str, since: int, until: int, most: int = 1000) -> list[Verdict]:
    """The same of all metrics."""
    c = alarm_verdict.c
    query = select(alarm_verdict).where(c.rule == rule, c.timestamp.between(since, until))
    return [_read(Verdict, row) for row in conn.execute(query.order_by(c.timestamp, c.uid).limit(most))]


def learnt_since(conn: Connection, uids: Sequence[str]) -> dict[str, float]:
    """By uid, epoch seconds: the time of the first row that a metric's model has learnt.

    Where the first rows are gone the time is reckoned from the others, by the metric's mean step.
    """
    return {
        each.uid: since
        for each in get_metrics(conn, uids)
        if each.definition is not None and (since := _learnt_since(conn, each, each.definition)) is not None
    }


def _learnt_since(conn: Connection, each: Metric, definition: Definition) -> float | None:
    after = definition.after if definition.snapshot is None else 0  # a snapshot has learnt what was before it
    rows = get_rows(conn, each.uid, after, 1)
    if not rows or each.last_timestamp is None:
        return None
    oldest = rows[0]
    step = (each.last_timestamp - oldest.timestamp) / max(each.last_rowid - oldest.rowid, 1)
    return oldest.timestamp - step * (oldest.rowid - after - 1)


def newest_rows(conn: Connection) -> list[Newest]:
    """Each metric's newest row, but of metrics that nobody monitors.  Their labels are learnt."""
    c = metric.c
    query = select(c.uid, c.name, c.last_rowid, c.last_timestamp).where(
        c.status != int(MetricStatus.UNMONITORED), c.last_timestamp.is_not(None)
    )
    found = [Newest(uid, name, rowid, from_datetime(last)) for uid, name, rowid, last in conn.execute(query)]
    learn_texts(conn, (each.name for each in found))
    return found


def names_of(conn: Connection, uids: Sequence[str]) -> dict[str, str]:
    """The names of metrics that there are, by uid."""
    return {each.uid: each.name for each in get_metrics(conn, uids)}


def row_times(conn: Connection, uid: str, most: int) -> list[int]:
    """The times of a metric's newest rows, in order."""
    c = metric_data.c
    times = conn.execute(select(c.timestamp).where(c.uid == uid).order_by(c.rowid.desc()).limit(most)).scalars()
    return [from_datetime(each) for each in reversed(times.all())]


def newest_since(conn: Connection, since: int, most: int) -> int:
    """The epoch second from which on at most ``most`` rows are listed: ``since``, or later."""
    c = anomaly.c
    query = select(c.timestamp).where(c.timestamp >= to_datetime(since)).order_by(c.timestamp.desc())
    first_too_many = conn.execute(query.offset(most).limit(1)).scalar()
    return since if first_too_many is None else from_datetime(first_too_many) + 1


def past_rows(conn: Connection, since: int) -> Iterator[PastRow]:
    """The listed rows of all metrics since an epoch second, in the order of time; a part of them is in memory."""
    c = anomaly.c
    query = select(*_PAST_COLUMNS).join(metric, metric.c.uid == c.uid).where(c.timestamp >= to_datetime(since))
    ordered = query.order_by(c.timestamp, c.uid, c.rowid).execution_options(yield_per=ROWS_AT_ONCE)
    return (_past_row(*row) for row in conn.execute(ordered))


def unusual_since(conn: Connection, uid: str, rowid: int) -> int | None:
    """The time of the first of the unusual rows that lead up to a row without a gap.

    None: the row is not listed, or they are more than `MOST_LEADING`.
    """
    c = anomaly.c
    leading = (c.uid == uid) & c.rowid.between(rowid - MOST_LEADING, rowid)
    newest_first = select(c.rowid, c.timestamp, c.why).where(leading).order_by(c.rowid.desc())
    times: list[int] = []
    for place, row in enumerate(conn.execute(newest_first)):
        if row.rowid != rowid - place or (place and _height(row.why) < LEADING_HEIGHT):
            break
        times.append(from_datetime(row.timestamp))
    return times[-1] if 0 < len(times) <= MOST_LEADING else None


def unusual_between(conn: Connection, since: int, until: int) -> list[PastRow]:
    """The unusual rows of metrics from one epoch second to another, and of each some before and after them.

    By metric, in order; those of the `MOST_METRICS` metrics that were unusual first, and at most `MOST_AROUND` rows.
    Their labels are learnt.
    """
    a = anomaly.c
    high = a.height >= LEADING_HEIGHT
    within = a.timestamp.between(to_datetime(since), to_datetime(until)) & high
    first, last = func.min(a.rowid).label("first"), func.max(a.rowid).label("last")
    earliest = select(a.uid, first, last).where(within).group_by(a.uid).order_by(func.min(a.timestamp), a.uid)
    near = earliest.limit(MOST_METRICS).subquery()
    wanted = a.rowid.between(near.c.first - 1, near.c.last + LASTING_ROWS) & high
    query = (
        select(*_PAST_COLUMNS)
        .join(near, near.c.uid == a.uid)
        .join(metric, metric.c.uid == a.uid)
        .where(wanted)
        .order_by(a.uid, a.rowid)
        .limit(MOST_AROUND)
    )
    found = [_past_row(*row) for row in conn.execute(query)]
    learn_texts(conn, (each.metric for each in found))
    return found


def _height(why: str | None) -> float:
    return 0.0 if why is None else msgspec.json.decode(why, type=Why).height


def rows_outside(
    conn: Connection, names: Mapping[str, str], valid: tuple[float, float], since: int, most: int
) -> list[PastRow]:
    """Scored rows since an epoch second with values outside a range, of metrics by uid with names; at most so many."""
    c = metric_data.c
    columns = (c.uid, c.rowid, c.timestamp, c.metric_value, c.anomaly_score)
    outside = or_(c.metric_value < valid[0], c.metric_value > valid[1]) & c.anomaly_score.is_not(None)
    found: list[PastRow] = []
    for part in in_parts(sorted(names)):
        query = select(*columns).where(c.uid.in_(part), c.timestamp >= to_datetime(since), outside)
        for uid, rowid, at, value, score in conn.execute(query.limit(most - len(found))):
            row = ScoredRow(rowid, from_datetime(at), value, 0.0, score or 0.0)
            found.append(PastRow(uid, names[uid], row))
    return found


def _past_row(uid: str, name: str, rowid: int, at: datetime, value: float, score: float, why: str | None) -> PastRow:
    told = UNSET if why is None else msgspec.json.decode(why, type=Why)
    return PastRow(uid, name, ScoredRow(rowid, from_datetime(at), value, 0.0, score, None, told))


# --- incidents ------------------------------------------------------------------------------------------


def save_incident(conn: Connection, changed: Incident) -> None:
    """Store an incident, whether it is new or not; who acknowledged it is not changed."""
    values = {**asdict(changed), "phase": changed.phase.value}
    del values["acknowledged_at"], values["acknowledged_by"]
    _put(conn, incident, values, ("id",))


def save_members(conn: Connection, members: Iterable[Member]) -> None:
    """Store members, whether they are new or not."""
    for member in members:
        values = asdict(member)
        values["metric_value"] = values.pop("value")
        _put(conn, incident_member, values, ("incident_id", "uid"))


def find_incident(conn: Connection, incident_id: str) -> Incident:
    """The incident of an id, or of the beginning of one that no other has.  Raises `IncidentNotFound`."""
    c = incident.c
    found = conn.execute(select(incident).where(c.id.startswith(incident_id, autoescape=True)).limit(2)).all()
    if not incident_id or len(found) != 1:
        raise IncidentNotFound(incident_id, ambiguous=len(found) > 1)
    return _incident(found[0])


def list_incidents(
    conn: Connection, *, open_only: bool = False, rule: str | None = None, uid: str | None = None, limit: int = 100
) -> list[Incident]:
    """Open incidents first, of these the paged ones, then the newest; of one rule, or with a metric, if given."""
    c = incident.c
    query = select(incident)
    if open_only:
        query = query.where(c.phase == Phase.OPEN.value)
    if rule is not None:
        query = query.where(c.rule == rule)
    if uid is not None:
        member = incident_member.c
        query = query.where(exists().where(member.incident_id == c.id, member.uid == uid))
    over = c.phase == Phase.OVER.value
    query = query.order_by(over, or_(over, c.paged).desc(), c.opened_at.desc(), c.id).limit(limit)
    return [_incident(row) for row in conn.execute(query)]


def incidents_between(conn: Connection, start: int, end: int, most: int) -> list[Incident]:
    """The newest that began in a range of time, oldest first; ends included."""
    c = incident.c
    query = select(incident).where(c.timestamp.between(start, end)).order_by(c.timestamp.desc(), c.id).limit(most)
    return [_incident(row) for row in conn.execute(query)][::-1]


def incidents_by_id(conn: Connection, ids: Sequence[str]) -> dict[str, Incident]:
    """Those that there are."""
    return {
        row.id: _incident(row)
        for part in in_parts(ids)
        for row in conn.execute(select(incident).where(incident.c.id.in_(part)))
    }


def members_of(conn: Connection, incident_id: str) -> list[Member]:
    """An incident's metrics, who moved first before all others; those that page nobody are the last.

    Their labels are learnt.
    """
    c = incident_member.c
    query = select(incident_member).where(c.incident_id == incident_id)
    moved_at = func.coalesce(c.since, c.timestamp)
    query = query.order_by(c.quiet.is_not(None), moved_at, c.height.desc(), c.metric)
    found = [_member(row) for row in conn.execute(query)]
    learn_texts(conn, (each.metric for each in found))
    return found


def count_open(conn: Connection) -> int:
    """How many incidents are open."""
    query = select(func.count()).select_from(incident).where(incident.c.phase == Phase.OPEN.value)
    return int(conn.execute(query).scalar_one())


def count_open_metrics(conn: Connection) -> int:
    """How many metrics are part of open incidents."""
    query = select(func.count(incident_member.c.uid.distinct())).join(
        incident, incident.c.id == incident_member.c.incident_id
    )
    return int(conn.execute(query.where(incident.c.phase == Phase.OPEN.value)).scalar_one())


def uids_in_open_incidents(conn: Connection) -> set[str]:
    """The metrics that are part of open incidents."""
    query = select(incident_member.c.uid).join(incident, incident.c.id == incident_member.c.incident_id)
    return set(conn.execute(query.where(incident.c.phase == Phase.OPEN.value)).scalars())


def newest_judged(conn: Connection, uids: Sequence[str]) -> dict[str, float]:
    """When each metric's newest scored row was, by uid, epoch seconds."""
    c = metric_score.c
    return {
        uid: float(from_datetime(timestamp))
        for part in in_parts(sorted(set(uids)))
        for uid, timestamp in conn.execute(select(c.uid, c.timestamp).where(c.uid.in_(part), c.timestamp.is_not(None)))
    }


def similar(conn: Connection, to: Incident, uids: Iterable[str], most: int) -> list[tuple[Incident, int]]:
    """Earlier incidents that share metrics with one, and how many they share; the greatest share first."""
    c, m = incident.c, incident_member.c
    counts: Counter[str] = Counter()
    for part in in_parts(list(uids)):
        query = select(m.incident_id, func.count()).join(incident, c.id == m.incident_id)
        query = query.where(m.uid.in_(part), c.id != to.id, c.timestamp < to.timestamp).group_by(m.incident_id)
        for incident_id, shared in conn.execute(query):
            counts[incident_id] += shared
    found = incidents_by_id(conn, list(counts))
    ranked = sorted(
        found.values(), key=lambda each: (-counts[each.id] / max(each.members, to.members), -each.timestamp)
    )
    return [(each, counts[each.id]) for each in ranked[:most]]


def member_uids(conn: Connection, incident_id: str, most: int) -> tuple[str, ...]:
    """The metrics of an incident by uid, at most ``most``, those that moved first."""
    c = incident_member.c
    query = select(c.uid).where(c.incident_id == incident_id).order_by(c.timestamp, c.uid).limit(most)
    return tuple(conn.execute(query).scalars())


def _incident(row: Any) -> Incident:
    return _read(Incident, row, phase=Phase(row.phase))


def _member(row: Any) -> Member:
    return _read(Member, row, value=row.metric_value)


# --- what people did ------------------------------------------------------------------------------------


def acknowledge(conn: Connection, incident_id: str, who: str, now: float, note: str = "") -> Incident:
    """Somebody sees to it.  Raises `IncidentNotFound`."""
    found = find_incident(conn, incident_id)
    values = {"acknowledged_at": now, "acknowledged_by": who}
    conn.execute(update(incident).where(incident.c.id == found.id).values(values))
    add_event(conn, Event(found.id, found.rule, now, who, Did.ACKNOWLEDGED, note))
    return find_incident(conn, found.id)


def add_event(conn: Connection, event: Event) -> None:
    """Keep what somebody did, in the audit, too."""
    conn.execute(insert(incident_event), {**asdict(event), "what": event.what.value})
    about = f"incident {event.incident_id}" if event.incident_id else "silences"
    audit.record(conn, audit.Act(event.at, event.who, event.what.value, about, event.note))


def events_of(conn: Connection, incident_id: str | None = None, limit: int = 1000) -> list[Event]:
    """What people did about an incident, or about anything, in order."""
    c = incident_event.c
    query = select(incident_event)
    if incident_id is not None:
        query = query.where(c.incident_id == incident_id)
    newest = conn.execute(query.order_by(c.id.desc()).limit(limit)).all()
    return [_read(Event, row, what=Did(row.what)) for row in reversed(newest)]


def marks(conn: Connection) -> dict[str, Did]:
    """The last mark of each incident that has one, by its id."""
    c = incident_event.c
    query = select(c.incident_id, c.what).where(c.id.in_(_last_marks()))
    return {incident_id: Did(what) for incident_id, what in conn.execute(query)}


def _last_marks() -> Select[tuple[int]]:
    """Numbers of events."""
    c = incident_event.c
    wanted = [Did.RIGHT.value, Did.FINE.value]
    return select(func.max(c.id)).where(c.what.in_(wanted)).group_by(c.incident_id)


def marks_by_rule(conn: Connection) -> dict[str, Marks]:
    """By rule, each incident by its last mark."""
    c = incident_event.c
    query = select(c.rule, c.what, func.count()).where(c.id.in_(_last_marks())).group_by(c.rule, c.what)
    counts: dict[str, dict[str, int]] = {}
    for rule, what, count in conn.execute(query):
        counts.setdefault(rule, {})[what] = count
    return {rule: Marks(**each) for rule, each in counts.items()}


def add_silence(
    conn: Connection, metrics: Sequence[str], from_at: float, until_at: float, who: str, why: str, now: float
) -> Silence:
    """Metrics page nobody for a time, from now or later on.  Raises `InvalidRule` and `InvalidOptions`."""
    Selection.of(tuple(metrics))
    if from_at < now:
        raise InvalidOptions("silence", [("from_at", f"{from_at:.0f} is past; now or a later time is allowed")])
    values = {"from_at": from_at, "until_at": until_at, "who": who, "why": why}
    key = conn.execute(insert(silence), {"metrics": json.dumps(metrics), **values}).inserted_primary_key
    assert key is not None
    note = f"silence {key[0]}: {', '.join(metrics)}" + (f" ({why})" if why else "")
    add_event(conn, Event(None, None, now, who, Did.SILENCED, note))
    return Silence(int(key[0]), tuple(metrics), from_at, until_at, who, why)


def end_silence(conn: Connection, number: int, who: str, now: float) -> None:
    """A silence ends now.  Raises `SilenceNotFound`."""
    c = silence.c
    active = and_(c.id == number, c.until_at > now)
    if not conn.execute(update(silence).where(active).values(until_at=now)).rowcount:
        raise SilenceNotFound(number)
    add_event(conn, Event(None, None, now, who, Did.UNSILENCED, f"silence {number}"))


def silences(conn: Connection, now: float) -> list[Silence]:
    """Silences that are not over, those that begin later included."""
    c = silence.c
    query = select(silence).where(c.until_at > now).order_by(c.id)
    return [_read(Silence, row, metrics=tuple(json.loads(row.metrics))) for row in conn.execute(query)]


# --- what is long over ----------------------------------------------------------------------------------


def forget(conn: Connection, before: float) -> None:
    """Remove incidents, verdicts and silences that ended before, and what is known of metrics that are gone."""
    c = incident.c
    old = conn.execute(select(c.id).where(c.over_at < before).limit(IN_AT_ONCE)).scalars().all()
    conn.execute(delete(incident_member).where(incident_member.c.incident_id.in_(old)))
    conn.execute(delete(incident).where(c.id.in_(old)))
    conn.execute(delete(alarm_verdict).where(alarm_verdict.c.timestamp < int(before)))
    conn.execute(delete(silence).where(silence.c.until_at < before))
    conn.execute(delete(alarm_state).where(~exists().where(metric.c.uid == alarm_state.c.uid)))


def _put(conn: Connection, table: Table, values: Mapping[str, Any], keys: Sequence[str]) -> None:
    """A row with these values, new or changed."""
    here: ColumnElement[bool] = and_(*(table.c[key] == values[key] for key in keys))
    if conn.execute(select(table.c[keys[0]]).where(here)).first() is None:
        conn.execute(insert(table), values)
    else:
        conn.execute(update(table).where(here).values({k: v for k, v in values.items() if k not in keys}))


def _read(kind: type[_Record], row: Any, **read: Any) -> _Record:
    """A record of the columns of the same names; ``read`` has those that are not."""
    return kind(
        **{each.name: read[each.name] if each.name in read else getattr(row, each.name) for each in fields(kind)}
    )
