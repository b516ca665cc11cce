# SPDX-License-Identifier: MIT
"""All metrics together, looked at once a minute: who reports, and who has stopped.

In: each metric's newest row as the database has it, and of a metric that may have stopped the times of its rows.  Out:
who is silent.  Called by the Alert Service, one of these for all rules.  Pure, and kept in memory alone: after a
restart a metric is watched as soon as it is heard, or if it reported until the engine stopped.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from statistics import median

from htmengine.evidence.kinds import duration
from htmengine.incidents.silence import LEAST_S, Cadence, FleetClock
from htmengine.incidents.steadiness import Steadiness

#: A metric whose newest row is older when it is heard is filled with its past: that is no report.
LIVE_S = 3600.0
#: A metric that was silent for longer is no part of the fleet.
FORGOTTEN_S = 7 * 86_400.0
#: Rows without which a metric's cadence is not known.
LEAST_ROWS = 288
#: Rows that come late, and by so much later or sooner than a look before, come from a backlog.
SHIFT_S = 20.0


@dataclass(frozen=True, slots=True)
class Newest:
    """A metric's newest row."""

    uid: str
    name: str
    rowid: int
    timestamp: int


@dataclass(slots=True)
class Fleet:
    """What was seen of all metrics.  Memory: some 300 bytes a metric, 6 KB with ``watches_gaps``."""

    clock: FleetClock = field(default_factory=FleetClock)
    newest: dict[str, Newest] = field(default_factory=dict)
    _cadences: dict[str, Cadence] = field(default_factory=dict)
    _studied: set[str] = field(default_factory=set)  #: whose longest gap is known from their rows
    watches_gaps: bool = False
    _steadiness: dict[str, Steadiness] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)  #: rows that are too few or late, by uid, at the last look
    _age: float | None = None  #: seconds, of the rows that were heard last: their median

    def look(self, now: float, metrics: Sequence[Newest]) -> None:
        """Take the metrics' newest rows into account."""
        live = {each.uid: each for each in metrics if now - each.timestamp < FORGOTTEN_S}
        first_look, self.newest, before = not self.newest, live, self.newest
        self._forget(live)
        heard = [each for uid, each in live.items() if uid in before and each.timestamp > before[uid].timestamp]
        reporting = {each.uid for each in heard} | {uid for uid, each in live.items() if self._reports(now, each)}
        reported = 0 if self._catches_up(now, heard) else len(reporting)
        self.clock = self.clock.looked(now, reporting=reported, metrics=len(live))
        for each in heard:
            self._hear(now, each)
        if first_look:
            self._begin()
        else:
            self._welcome(now, [each for uid, each in live.items() if uid not in before])
        self.faults = dict(self._faults(now, {each.uid for each in heard})) if self.watches_gaps else {}

    def unstudied(self) -> Iterator[Newest]:
        """Metrics that may be silent, if their past has no longer gap: `study` it."""
        for uid, cadence in self._cadences.items():
            if uid not in self._studied and self._quiet_s(cadence) >= (cadence.limit or LEAST_S):
                yield self.newest[uid]

    def study(self, uid: str, timestamps: Sequence[int]) -> None:
        """Take the times of a metric's rows, in order, into account: its steps and gaps before it was watched."""
        self._studied.add(uid)
        gaps = [later - earlier for earlier, later in itertools.pairwise(timestamps) if later > earlier]
        cadence = self._cadences.get(uid)
        if gaps and cadence is not None:
            step = min(gaps) if not cadence.step else min(cadence.step, *gaps)
            self._cadences[uid] = replace(cadence, step=step, gap=max(cadence.gap, *gaps))

    def silent(self, given_s: float) -> list[Newest]:
        """Who is silent: by its own past, or, if ``given_s`` is not 0, for at least that many seconds."""
        return [
            self.newest[uid]
            for uid, cadence in self._cadences.items()
            if self.newest[uid].rowid >= LEAST_ROWS and self._is_silent(uid, cadence, given_s)
        ]

    def silence_in_words(self, uid: str) -> str:
        """Why a metric is said to be silent."""
        cadence = self._cadences.get(uid)
        if cadence is None:  # it was silent before the engine started
            return "no samples"
        quiet, gap = duration(self._quiet_s(cadence)), duration(cadence.gap)
        return f"no samples for {quiet}; its longest gap was {gap}" if cadence.gap else f"no samples for {quiet}"

    def _is_silent(self, uid: str, cadence: Cadence, given_s: float) -> bool:
        if given_s:
            return self._quiet_s(cadence) >= given_s
        return uid in self._studied and cadence.is_silent(self.clock.seconds)

    def _quiet_s(self, cadence: Cadence) -> float:
        return self.clock.seconds - cadence.last

    def _catches_up(self, now: float, heard: Sequence[Newest]) -> bool:
        """Whether a backlog comes in: a metric whose rows are still in it is not silent.

        Its rows are late, and sooner or later by the minute.  A fleet that is always as late has no backlog.
        """
        if not heard:
            return False
        before, self._age = self._age, median(now - each.timestamp for each in heard)
        return self._age >= LEAST_S and (before is None or abs(self._age - before) >= SHIFT_S)

    def _faults(self, now: float, heard: Collection[str]) -> Iterator[tuple[str, str]]:
        seconds = self.clock.seconds
        for uid, cadence in self._cadences.items():
            each, known = self.newest[uid], self._steadiness.get(uid)
            if known is None:
                self._steadiness[uid] = Steadiness(seconds, each.rowid)
            elif self._quiet_s(cadence) >= (cadence.limit or LEAST_S):
                known.pause(seconds, each.rowid)
            elif fault := known.looked(seconds, each.rowid, now - each.timestamp if uid in heard else None):
                yield uid, fault

    def _reports(self, now: float, each: Newest) -> bool:
        cadence = self._cadences.get(each.uid)
        return cadence is not None and cadence.reports(now - each.timestamp)

    def _hear(self, now: float, each: Newest) -> None:
        if now - each.timestamp >= LIVE_S:
            self._cadences.pop(each.uid, None)
        elif each.uid in self._cadences:
            self._cadences[each.uid] = self._cadences[each.uid].heard(self.clock.seconds)
        else:
            self._cadences[each.uid] = Cadence(self.clock.seconds)

    def _welcome(self, now: float, new: Sequence[Newest]) -> None:
        """Watch metrics that are new, and whose rows, perhaps a whole past at once, have come up to now."""
        for each in new:
            if now - each.timestamp < LEAST_S:
                self._cadences[each.uid] = Cadence(self.clock.seconds)

    def _begin(self) -> None:
        """Watch those that reported until the engine stopped, or until now."""
        last = max((each.timestamp for each in self.newest.values()), default=0)
        for uid, each in self.newest.items():
            if last - each.timestamp < LEAST_S:
                self._cadences[uid] = Cadence(self.clock.seconds - (last - each.timestamp))

    def _forget(self, live: Collection[str]) -> None:
        self._cadences = {uid: cadence for uid, cadence in self._cadences.items() if uid in live}
        self._studied &= set(live)
        self._steadiness = {uid: each for uid, each in self._steadiness.items() if uid in self._cadences}
