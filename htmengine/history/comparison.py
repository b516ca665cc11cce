# SPDX-License-Identifier: MIT
"""Incidents as they happened beside those of a backtest.

In: entries of both sides.  Out: pairs in the order of time, and what each side comes to: pages, and how many of those
that people marked were right.  Pure.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from htmengine.incidents.grouping import JOIN_S
from htmengine.incidents.records import Did, Marks


@dataclass(frozen=True, slots=True)
class Entry:
    """An incident, or an alert of a single metric.  Times are the rows', in epoch seconds.

    ``until``: when the last alarm joined.  ``uid``: the metric that moved first; ``uids``: all of them.  ``mark``: what
    somebody called it.
    """

    rule: str
    timestamp: int
    until: int
    paged: bool
    verdict: str  #: paged, or why not
    height: float | None  #: None: by a threshold
    title: str
    reason: str
    uid: str
    uids: frozenset[str]
    id: str = ""
    mark: Did | None = None


class Pair(NamedTuple):
    """The same on both sides; None: it is only on the other one."""

    happened: Entry | None
    replayed: Entry | None

    @property
    def either(self) -> Entry:
        """One of them: as it happened, if it did."""
        entry = self.happened or self.replayed
        assert entry is not None
        return entry

    @property
    def mark(self) -> Did | None:
        """What somebody called it when it happened."""
        return None if self.happened is None else self.happened.mark


@dataclass(frozen=True, slots=True)
class Side:
    """What one side comes to.  ``marks``: of those that paged."""

    incidents: int
    pages: int
    marks: Marks

    @classmethod
    def of(cls, entries: Iterable[tuple[Entry, Did | None]]) -> Side:
        """Of entries with their marks."""
        known = list(entries)
        marked = [mark for entry, mark in known if entry.paged]
        marks = Marks(right=marked.count(Did.RIGHT), fine=marked.count(Did.FINE))
        return cls(len(known), len(marked), marks)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Both sides.  ``lost``: pages that were marked right, for which the backtest pages nobody."""

    pairs: Sequence[Pair]
    happened: Side
    replayed: Side
    lost: int


def compare(happened: Sequence[Entry], replayed: Sequence[Entry]) -> Comparison:
    """Set both sides beside each other."""
    pairs = sorted(_pairs(happened, replayed), key=lambda pair: (pair.either.timestamp, pair.either.title))
    return Comparison(
        pairs,
        Side.of((pair.happened, pair.mark) for pair in pairs if pair.happened),
        Side.of((pair.replayed, pair.mark) for pair in pairs if pair.replayed),
        sum(pair.mark is Did.RIGHT and not (pair.replayed and pair.replayed.paged) for pair in pairs),
    )


def _pairs(happened: Sequence[Entry], replayed: Sequence[Entry]) -> Iterator[Pair]:
    """Each replayed entry beside the first that is like it and that no other has; then the rest."""
    common = {each.rule for each in happened} & {each.rule for each in replayed}
    by_uid, taken = _by_uid(happened), set[Entry]()
    for entry in sorted(replayed, key=_time_of):
        shared = {each for uid in entry.uids for each in by_uid.get(uid, ())} - taken
        found = min((each for each in shared if _alike(each, entry, common)), key=_time_of, default=None)
        if found is not None:
            taken.add(found)
        yield Pair(found, entry)
    yield from (Pair(each, None) for each in happened if each not in taken)


def _by_uid(entries: Iterable[Entry]) -> Mapping[str, Sequence[Entry]]:
    found: defaultdict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        for uid in entry.uids:
            found[uid].append(entry)
    return found


def _time_of(entry: Entry) -> tuple[int, str]:
    return entry.timestamp, entry.id


def _alike(one: Entry, other: Entry, common: set[str]) -> bool:
    """Whether two that share a metric are of the same time; rules that both sides know are to be the same."""
    near = one.timestamp <= other.until + JOIN_S and other.timestamp <= one.until + JOIN_S
    same_rule = one.rule == other.rule or not {one.rule, other.rule} & common
    return near and same_rule
