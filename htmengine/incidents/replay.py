# SPDX-License-Identifier: MIT
"""A rule's past decided once more: what its budget would have paged.

In: all rows of some metrics in the order of time, with their heights.  Out: what was decided of each alarm, and the
incidents with the alarms that joined them.  Pure: time is the rows', and the fleet is looked at every ``look_s``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from htmengine.incidents.budget import FLOOR, Budget
from htmengine.incidents.grouping import (
    Alarm,
    Close,
    Decision,
    Instruction,
    Judgement,
    Open,
    OpenIncident,
    Page,
    RuleState,
    Stay,
    decide,
    review,
    silence_alarm,
)
from htmengine.incidents.hold_off import LEARNING_S, HoldOff, learning
from htmengine.incidents.roots import LEADING_HEIGHT, Leading
from htmengine.incidents.silence import Cadence, FleetClock


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a metric.  ``place`` is the metric's among all."""

    place: int
    rowid: int
    timestamp: int
    height: float


@dataclass(slots=True)
class Story:
    """An incident from its beginning: its newest state, and the alarms that joined."""

    incident: OpenIncident
    alarms: list[Alarm] = field(default_factory=list)
    paged_at: int | None = None  #: timestamp of the alarm that paged
    paged_with: int = 0  #: alarms that had joined when it paged
    over: str | None = None  #: why


@dataclass(slots=True)
class Replayed:
    """What a rule decided, and its incidents by id, in the order in which they began."""

    judgements: list[Judgement] = field(default_factory=list)
    stories: dict[str, Story] = field(default_factory=dict)

    def take(self, instruction: Instruction) -> None:
        """Follow an instruction."""
        story = self.stories.setdefault(instruction.incident.id, Story(instruction.incident))
        story.incident = instruction.incident
        if isinstance(instruction, Close):
            story.over = instruction.reason
            return
        if isinstance(instruction, Page) or (isinstance(instruction, Open) and instruction.incident.paged):
            story.paged_at, story.paged_with = instruction.alarm.timestamp, len(story.alarms)
        if not isinstance(instruction, Stay):
            story.alarms.append(instruction.alarm)

    @property
    def pages(self) -> list[Story]:
        """The incidents that people were told of."""
        return [story for story in self.stories.values() if story.incident.paged]


@dataclass(slots=True)
class Replay:
    """A rule over some metrics, by their names.

    ``told``: kind, direction and text of a row's alarm.  ``learning_s``: seconds of each metric without alarms.
    """

    rule: str
    budget: Budget
    metrics: Sequence[str]
    look_s: float = 60.0
    learning_s: float = LEARNING_S
    told: Callable[[Row], tuple[str, str | None, str]] = lambda row: ("", None, "")
    found: Replayed = field(default_factory=Replayed)
    _state: RuleState = field(default_factory=RuleState)
    _hold_offs: dict[str, HoldOff] = field(default_factory=dict)
    _firsts: dict[int, int] = field(default_factory=dict)
    _newest: dict[int, Row] = field(default_factory=dict)
    _cadences: dict[int, Cadence] = field(default_factory=dict)
    _leading: Leading = field(default_factory=Leading)
    _silent: set[int] = field(default_factory=set)
    _clock: FleetClock = field(default_factory=FleetClock)
    _next: float | None = None  #: look

    def take(self, row: Row) -> None:
        """Judge the next row."""
        if self._next is None:
            self._next = row.timestamp + self.look_s
        while row.timestamp > self._next:
            self._look(self._next)
            self._next += self.look_s
        self._firsts.setdefault(row.place, row.timestamp)
        self._newest[row.place] = row
        self._silent.discard(row.place)
        since = (
            self._leading.since(row.place, row.rowid, row.timestamp, row.height)
            if row.height >= LEADING_HEIGHT
            else None
        )
        if row.height >= FLOOR and not self._learns(row.place, row.timestamp):
            self._decide(Alarm(*self._who(row), row.timestamp, row.height, *self._why(row), since=since))

    def finish(self) -> Replayed:
        """What was decided, once the last row was taken."""
        if self._next is not None:
            self._look(self._next)
        return self.found

    def _who(self, row: Row) -> tuple[str, str, int]:
        return str(row.place), self.metrics[row.place], row.rowid

    def _why(self, row: Row) -> tuple[str, str, str | None]:
        kind, direction, text = self.told(row)
        return kind, text, direction

    def _learns(self, place: int, now: float) -> bool:
        return learning(self._firsts[place], now, learning_s=self.learning_s) is not None

    def _decide(self, alarm: Alarm) -> None:
        decision: Decision = decide(self.rule, self.budget, self._state, self._hold_offs, [alarm])
        self._state = decision.state
        self._hold_offs.update(decision.hold_offs)
        self.found.judgements += decision.judgements
        for instruction in decision.instructions:
            self.found.take(instruction)

    def _look(self, now: float) -> None:
        """Whoever was heard of since the last look reports; then who is silent, and what is over."""
        cadences = self._cadences
        ages = {place: now - row.timestamp for place, row in self._newest.items()}
        heard = {place for place, age in ages.items() if age < self.look_s}
        reporting = sum(place in heard or self._reports(place, age) for place, age in ages.items())
        self._clock = self._clock.looked(now, reporting=reporting, metrics=len(ages))
        for place in heard:
            before = cadences.get(place)
            cadences[place] = before.heard(self._clock.seconds) if before else Cadence(self._clock.seconds)
        for place in sorted(set(self._falls_silent())):
            self._silent.add(place)
            if not self._learns(place, now):
                self._decide(self._silence(place, int(now)))
        self._state, closed = review(self._state, now, {str(place) for place in self._silent})
        for each in closed:
            self.found.take(each)

    def _reports(self, place: int, age: float) -> bool:
        return place in self._cadences and self._cadences[place].reports(age)

    def _falls_silent(self) -> Iterator[int]:
        for place, cadence in self._cadences.items():
            if place not in self._silent and cadence.is_silent(self._clock.seconds):
                yield place

    def _silence(self, place: int, now: int) -> Alarm:
        row = self._newest[place]
        minutes = (now - row.timestamp) / 60
        uid, metric, rowid = self._who(row)
        return silence_alarm(uid, metric, rowid, now, f"no rows for {minutes:.0f} minutes, longer than ever")
