# SPDX-License-Identifier: MIT
"""Metrics that fell silent in the past, as the Alert Service notices it: the fleet looked at once a minute.

In: each metric's newest row at each look.  Out: looks that change something, by rule.  Pure, but for the times of a
metric's rows, which are asked for once it may have stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from htmengine.alerts.configuration import Rule
from htmengine.alerts.evaluation import matches
from htmengine.incidents.fleet import Fleet, Newest
from htmengine.incidents.grouping import GAPS, Alarm, silence_alarm
from htmengine.incidents.preview import Look

#: The Alert Service looks so often.
LOOK_S = 60
#: Looks at single metrics, at most: they take some 25 s.
MOST_LOOKS = 5_000_000

Wholes = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Reports:
    """A metric's newest row at each look: rowid, 0 before the first one, and time."""

    uid: str
    name: str
    rowids: Sequence[int]
    times: Sequence[int]


def look_times(since: int, until: int) -> Wholes:
    """When the fleet is looked at, in epoch seconds."""
    return np.arange(since, until + LOOK_S, LOOK_S, dtype=np.int64)


def reports_of(uid: str, name: str, rowids: Wholes, timestamps: Wholes, looks: Wholes) -> Reports:
    """What the looks see of a metric's rows, which are in the order of time.

    >>> rows = np.array([1, 2]), np.array([90, 150])
    >>> seen = reports_of("u", "m", *rows, look_times(60, 180))
    >>> seen.rowids, seen.times
    ([0, 1, 2], [0, 90, 150])
    """
    places = timestamps.searchsorted(looks, side="right")
    return Reports(uid, name, np.append(0, rowids)[places].tolist(), np.append(0, timestamps)[places].tolist())


@dataclass(slots=True)
class _Watched:
    """A rule, who is silent for it, by the time of the last row before, and its looks."""

    rule: Rule
    silent: dict[str, int] = field(default_factory=dict)
    looks: list[Look] = field(default_factory=list)

    def look(self, at: int, fleet: Fleet) -> None:
        """Note who has fallen silent or is back, and whose rows have gaps."""
        newest = fleet.newest
        back = [uid for uid, last in self.silent.items() if uid not in newest or newest[uid].timestamp > last]
        for uid in back:
            del self.silent[uid]
        alarms = [*self._stopped(at, fleet), *self._gaps(at, fleet)]
        if alarms or back:
            self.looks.append(Look(float(at), tuple(alarms), frozenset(self.silent)))

    def _stopped(self, at: int, fleet: Fleet) -> Iterator[Alarm]:
        if self.rule.silence is None:
            return
        for each in fleet.silent(self.rule.silence):
            if each.uid not in self.silent and matches(self.rule, each.name):
                self.silent[each.uid] = each.timestamp
                yield _alarm(each, at, fleet.silence_in_words(each.uid))

    def _gaps(self, at: int, fleet: Fleet) -> Iterator[Alarm]:
        for uid, text in fleet.faults.items() if self.rule.gaps else ():
            if matches(self.rule, fleet.newest[uid].name):
                yield replace(_alarm(fleet.newest[uid], at, text), kind=GAPS)


def _alarm(newest: Newest, at: int, text: str) -> Alarm:
    return silence_alarm(newest.uid, newest.name, newest.rowid, at, text)


def looks_of(
    rules: Iterable[Rule],
    metrics: Collection[Reports],
    at: Sequence[int],
    times_until: Callable[[str, int], Sequence[int]],
) -> Mapping[str, Sequence[Look]]:
    """The looks that change something, by the name of each rule with a budget.

    ``at``: the looks' times.  ``times_until``: the times of a metric's rows up to one, in order.
    """
    watched = [_Watched(rule) for rule in rules if rule.has_budget]
    fleet = Fleet(watches_gaps=any(each.rule.gaps for each in watched))
    for place, now in enumerate(at):
        seen = ((each.uid, each.name, each.rowids[place], each.times[place]) for each in metrics)
        fleet.look(now, [Newest(*each) for each in seen if each[2]])
        for each in [*fleet.unstudied()]:
            fleet.study(each.uid, times_until(each.uid, now))
        for each_rule in watched:
            each_rule.look(now, fleet)
    return {each.rule.name: each.looks for each in watched}
