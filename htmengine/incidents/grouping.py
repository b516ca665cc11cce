# SPDX-License-Identifier: MIT
"""Alarms of one rule become incidents, and incidents become pages: a pure state machine.

In: alarms, which are rows of at least `budget.FLOOR` in height and metrics that fell silent; and now and then the
time.  Out: the rule's new state, what was decided of each alarm, and instructions.  The caller stores states and
performs instructions in one transaction.  It passes a row once: it knows the last judged rowid of each metric.

::

                an alarm that no open incident covers
    (none) ──────────────────────────────────────────────► OPEN: paged, or held back
                                                             │  alarms within 15 minutes join
                                                             │  held back, and one is worth a page: paged
      OVER ◄─────────────────────────────────────────────────┘
            for an hour nothing joined, and the members are back

Only a page costs a token, and people read at most three messages about an incident: it is there, it matters more, it
is over.
"""

from __future__ import annotations

import enum
import uuid
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

from htmengine.incidents.budget import HIGHEST, Bucket, Budget
from htmengine.incidents.hold_off import DAY_S, HoldOff

#: An alarm at most so long after one that joined, or before the first, belongs to the incident.
JOIN_S = 900.0
#: After so long without an alarm of its members an incident is over.
QUIET_S = 3600.0
#: After so long it is over in any case: what still goes on is news again.
LONGEST_S = 7 * DAY_S
#: What makes an incident matter more than when people were told of it: height added, or members times.
MORE_HEIGHT, MORE_MEMBERS = 2.0, 5
#: Members that an incident knows by name; of further ones it knows the number.
NAMED_MEMBERS = 1000
#: The kind of alarm that no row raises: the metric has stopped.
SILENCE = "silence"
#: The same of one whose rows are too few or late.
GAPS = "gaps"
NOT_KNOWN: Mapping[str, float] = MappingProxyType({})

#: Names the incidents: the same rule, metric, row and kind of alarm always give the same id.
_INCIDENTS = uuid.UUID("0d9be1b6-2f0c-4bb5-8f3f-3c9b8e8b2a51")


class Outcome(enum.Enum):
    """What was decided of an alarm."""

    PAGED = "paged"
    JOINED = "joined"  #: an open incident
    HELD_OFF = "held off"  #: the metric has alarmed today, and it was not so much lower
    HELD_BACK = "held back: price"  #: the budget is better kept for something higher
    SPENT = "held back: budget"  #: the budget is spent
    QUIET = "held back: silenced"
    MAINTENANCE = "in maintenance"
    FINE = "held back: fine"  #: its like was called fine

    @property
    def reason(self) -> str:
        """Why nobody is paged, in a word or two."""
        return self.value.removeprefix("held back: ")


@dataclass(frozen=True, slots=True)
class Alarm:
    """A row that is high enough for a page, or a metric that fell silent after its row ``rowid``.

    ``timestamp``: epoch seconds; of a silence: when it was noticed.  ``text`` says why, ``direction`` is up or down.
    ``quiet``: why nobody is to be paged because of it; None: somebody may be.  ``since``: the time of the first of the
    unusual rows that led up to it; None: not known.
    """

    uid: str
    metric: str
    rowid: int
    timestamp: int
    height: float
    kind: str
    text: str
    direction: str | None = None
    quiet: Outcome | None = None
    since: int | None = None

    @property
    def moved_at(self) -> int:
        """When the metric moved, as far as that is known."""
        return self.timestamp if self.since is None else self.since

    @property
    def is_silence(self) -> bool:
        """Whether the metric has stopped, or its rows are too few or late; it has no hold-off."""
        return self.kind in {SILENCE, GAPS}


def silence_alarm(uid: str, metric: str, rowid: int, noticed_at: int, text: str) -> Alarm:
    """The alarm of a metric that fell silent: as high as the greatest price."""
    return Alarm(uid, metric, rowid, noticed_at, HIGHEST, SILENCE, text)


@dataclass(frozen=True, slots=True)
class OpenIncident:
    """What an incident is judged by.  Times are epoch seconds, of rows."""

    id: str
    timestamp: int  #: of the first alarm
    joined_at: int  #: the newest alarm that joined
    active_at: int  #: the newest row of a member that would alarm, had it not yet
    height: float  #: the greatest
    uids: tuple[str, ...]  #: of members
    members: int
    paged: bool = False
    told_height: float = 0.0  #: when people were told of it
    told_members: int = 0
    mattered: bool = False  #: people were told that it matters more

    def covers(self, timestamp: int) -> bool:
        """Whether an alarm of that time belongs to it."""
        return self.timestamp - JOIN_S <= timestamp <= self.joined_at + JOIN_S

    def moved_with(self, alarm: Alarm) -> bool:
        """Whether the metric of an alarm that is held off became unusual with it, so that it is a suspect."""
        began = alarm.since is not None and alarm.since >= self.timestamp - JOIN_S
        return began and self.covers(alarm.timestamp) and len(self.uids) < NAMED_MEMBERS


@dataclass(frozen=True, slots=True)
class RuleState:
    """A rule with a budget: what is left of it, and the open incidents, the newest last.

    ``msgspec.to_builtins`` gives what JSON can carry, ``msgspec.convert`` goes on with it.
    """

    bucket: Bucket = field(default_factory=Bucket)
    open: tuple[OpenIncident, ...] = ()


class Judgement(NamedTuple):
    """An alarm and what was decided of it: with which price and tokens, and of which incident it is."""

    alarm: Alarm
    outcome: Outcome
    price: float
    tokens: float
    incident_id: str | None


@dataclass(frozen=True, slots=True)
class Open:
    """An incident begins; people are told if it is paged."""

    incident: OpenIncident
    alarm: Alarm


@dataclass(frozen=True, slots=True)
class Join:
    """A metric joins, or a member moves much farther."""

    incident: OpenIncident
    alarm: Alarm


@dataclass(frozen=True, slots=True)
class Stay:
    """A member is still unusual."""

    incident: OpenIncident
    alarm: Alarm


@dataclass(frozen=True, slots=True)
class Page:
    """An alarm joins that makes an incident, which was held back, worth a page: tell people of it now."""

    incident: OpenIncident
    alarm: Alarm


@dataclass(frozen=True, slots=True)
class Matter:
    """An alarm joins, and the incident matters more than people were told: tell them, this once."""

    incident: OpenIncident
    alarm: Alarm


@dataclass(frozen=True, slots=True)
class Close:
    """The incident is over; people who were told of it are told that, too."""

    incident: OpenIncident
    reason: str


Instruction: TypeAlias = Open | Join | Stay | Page | Matter | Close


class Decision(NamedTuple):
    """What alarms lead to.  ``hold_offs``: by uid, those that changed."""

    state: RuleState
    hold_offs: dict[str, HoldOff]
    judgements: list[Judgement]
    instructions: list[Instruction]


def decide(
    rule: str, budget: Budget, state: RuleState, hold_offs: Mapping[str, HoldOff], alarms: Iterable[Alarm]
) -> Decision:
    """Take alarms into account, about in the order of time.  ``hold_offs`` has those of their metrics that there are.

    >>> alarm = Alarm("uid", "db1.cpu", 7, 1000, 4.5, "level 6", "the mean of 30 minutes is the highest in 9 weeks")
    >>> decided = decide("all", Budget(5.0), RuleState(), {}, [alarm])
    >>> [type(each).__name__ for each in decided.instructions], decided.state.bucket.tokens
    (['Open'], 4.0)
    """
    decision = Decision(state, {}, [], [])
    for alarm in alarms:
        held = decision.hold_offs.get(alarm.uid) or hold_offs.get(alarm.uid) or HoldOff()
        bucket = budget.refilled(decision.state.bucket, alarm.timestamp)
        decision = decision._replace(state=replace(decision.state, bucket=bucket))
        if alarm.is_silence or held.allows(alarm.timestamp, alarm.height):
            decision = _take(rule, budget, decision, held, alarm)
        else:
            decision = _hold_off(budget, decision, alarm)
    return decision


def _take(rule: str, budget: Budget, decision: Decision, held: HoldOff, alarm: Alarm) -> Decision:
    """An alarm that counts."""
    state = decision.state
    price, tokens, spent = budget.price(state.bucket), budget.tokens(state.bucket), budget.spent(state.bucket)
    reason = _why_not(alarm, price, spent)
    before = next((each for each in reversed(state.open) if each.covers(alarm.timestamp)), None)
    pays = reason is None and not (before is not None and before.paged)
    instruction = _opened(rule, alarm, pays) if before is None else _joined(before, alarm, pays)
    incident = instruction.incident
    joins_a_page = before is not None and before.paged
    outcome = Outcome.PAGED if pays else Outcome.JOINED if joins_a_page else reason or Outcome.JOINED
    others = tuple(each for each in state.open if each is not before)
    state = RuleState(spent if pays and spent is not None else state.bucket, (*others, incident))
    if not alarm.is_silence:
        decision.hold_offs[alarm.uid] = held.after(alarm.timestamp, alarm.height, paged=incident.paged)
    decision.judgements.append(Judgement(alarm, outcome, price, tokens, incident.id))
    decision.instructions.append(instruction)
    return decision._replace(state=state)


def _why_not(alarm: Alarm, price: float, spent: Bucket | None) -> Outcome | None:
    """Why an alarm is no page of its own; None: it is."""
    if alarm.quiet is not None:
        return alarm.quiet
    if spent is None:
        return Outcome.SPENT
    return Outcome.HELD_BACK if alarm.height < price else None


def _opened(rule: str, alarm: Alarm, pays: bool) -> Open:
    name = f"{rule}/{alarm.uid}/{alarm.rowid}" + (f"/{alarm.kind}" if alarm.is_silence else "")
    now, height = alarm.timestamp, alarm.height
    incident = OpenIncident(str(uuid.uuid5(_INCIDENTS, name)), now, now, now, height, (alarm.uid,), 1)
    return Open(_told(incident) if pays else incident, alarm)


def _joined(before: OpenIncident, alarm: Alarm, pays: bool) -> Join | Page | Matter:
    incident = _grown(before, alarm)
    if pays:
        return Page(_told(incident), alarm)
    if _matters_more(incident) and alarm.quiet is None:
        return Matter(replace(incident, mattered=True), alarm)
    return Join(incident, alarm)


def _grown(before: OpenIncident, alarm: Alarm) -> OpenIncident:
    """The incident with an alarm more."""
    new = alarm.uid not in before.uids
    return replace(
        before,
        timestamp=min(before.timestamp, alarm.timestamp),
        joined_at=max(before.joined_at, alarm.timestamp),
        active_at=max(before.active_at, alarm.timestamp),
        height=max(before.height, alarm.height),
        uids=(*before.uids, alarm.uid) if new and len(before.uids) < NAMED_MEMBERS else before.uids,
        members=before.members + new,
    )


def _told(incident: OpenIncident) -> OpenIncident:
    return replace(incident, paged=True, told_height=incident.height, told_members=incident.members)


def _matters_more(incident: OpenIncident) -> bool:
    higher = incident.height >= incident.told_height + MORE_HEIGHT
    wider = incident.members >= MORE_MEMBERS * incident.told_members
    return incident.paged and not incident.mattered and (higher or wider)


def _hold_off(budget: Budget, decision: Decision, alarm: Alarm) -> Decision:
    """A row of a metric that has alarmed: its incident, if it is open, goes on; it joins one that it moved with."""
    state = decision.state
    price, tokens = budget.price(state.bucket), budget.tokens(state.bucket)
    own = next((each for each in reversed(state.open) if alarm.uid in each.uids), None)
    before = own or next((each for each in reversed(state.open) if each.moved_with(alarm)), None)
    decision.judgements.append(Judgement(alarm, Outcome.HELD_OFF, price, tokens, None if before is None else before.id))
    if before is None:
        return decision
    stays = replace(before, active_at=max(before.active_at, alarm.timestamp))
    instruction = Join(_grown(before, alarm), alarm) if own is None else Stay(stays, alarm)
    incident = instruction.incident
    decision.instructions.append(instruction)
    return decision._replace(
        state=replace(state, open=tuple(incident if each is before else each for each in state.open))
    )


def review(
    state: RuleState, now: float, silent: Collection[str], newest: Mapping[str, float] = NOT_KNOWN
) -> tuple[RuleState, list[Close]]:
    """End the incidents that are over.

    ``silent``: uids of metrics that are silent now; they are not back.  ``newest``: times of metrics' newest judged
    rows, by uid: what came late says nothing of the time after it.
    """
    reasons = [_why_over(each, now, _judged_until(each, newest, now), silent) for each in state.open]
    closed = [Close(each, why) for each, why in zip(state.open, reasons, strict=True) if why is not None]
    still = tuple(each for each, why in zip(state.open, reasons, strict=True) if why is None)
    return replace(state, open=still), closed


def _judged_until(incident: OpenIncident, newest: Mapping[str, float], now: float) -> float:
    return max((newest[uid] for uid in incident.uids if uid in newest), default=now)


def _why_over(incident: OpenIncident, now: float, judged_until: float, silent: Collection[str]) -> str | None:
    if now - incident.timestamp >= LONGEST_S:
        return "it has been open for a week"
    if min(now, judged_until) - incident.active_at < QUIET_S or any(uid in silent for uid in incident.uids):
        return None
    return "nothing has joined for an hour, and its metrics are as usual again"
