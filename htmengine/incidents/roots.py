# SPDX-License-Identifier: MIT
"""Which metric of an incident moved first, and what the incident is called.

In: the members' names, when they moved, and the height of their first alarms; unusual rows of other metrics.  Out: the
members, the most suspected first, with metrics that moved beside them without an alarm; a title from the parts that
their names share.  Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Protocol, TypeVar

from htmengine import labels
from htmengine.full_texts import FULL_TEXTS

#: A row of at least this height, just before an alarm, tells that its metric had moved already.
LEADING_HEIGHT = 2.25
#: Such rows, with the alarm's, are at most so many: more say that the metric was never as usual.
MOST_LEADING = 12
#: Without an alarm a metric moved if so many of its rows in a row have that height,
LASTING_ROWS = 4
#: from so many seconds before an incident's first alarm on, or after it.
AROUND_S = 900
#: Such metrics are suspects, so many at most: one of the first three suspects has alarmed.
MOST_BESIDE = 2
#: Tags that say whose a metric is, the best first.
PART_TAGS = (*labels.HOST_TAGS, "job")


class Moved(Protocol):
    """A member of an incident: `htmengine.incidents.grouping.Alarm`, or a stored member."""

    @property
    def metric(self) -> str: ...
    @property
    def moved_at(self) -> int: ...  #: epoch seconds
    @property
    def height(self) -> float: ...
    @property
    def quiet(self) -> object: ...  #: why nobody is to be paged because of it; None: somebody may be


class Unusual(Protocol):
    """A row of at least `LEADING_HEIGHT`."""

    @property
    def rowid(self) -> int: ...
    @property
    def timestamp(self) -> int: ...  #: epoch seconds


@dataclass(slots=True)
class Leading:
    """The unusual rows that lead up to each metric's newest row.  Memory: some 600 bytes a metric that is unusual.

    >>> leading = Leading()
    >>> [leading.since("u", rowid, 60 * rowid, height) for rowid, height in ((1, 2.0), (2, 2.5), (3, 4.5), (5, 4.5))]
    [60, 120, 120, 300]
    """

    _runs: dict[Hashable, tuple[int, list[int]]] = field(default_factory=dict)  #: last rowid, and times

    def since(self, metric: Hashable, rowid: int, timestamp: int, height: float) -> int | None:
        """The time of the first of them, with this row without a gap; None: they are more than `MOST_LEADING`."""
        last, before = self._runs.get(metric, (0, []))
        times = [*before[-MOST_LEADING:], timestamp] if last == rowid - 1 else [timestamp]
        if height >= LEADING_HEIGHT:
            self._runs[metric] = rowid, times
        else:
            self._runs.pop(metric, None)
        return times[0] if len(times) <= MOST_LEADING else None


_Member = TypeVar("_Member", bound=Moved)
_Row = TypeVar("_Row", bound=Unusual)


def parts(name: str) -> frozenset[str]:
    """What a name says: its parts between dots, and its tags.

    >>> sorted(parts("disk.free;host=db1"))
    ['disk', 'free', 'host=db1']
    """
    head, *tags = FULL_TEXTS.of(name).split(";")
    return frozenset((*head.split("."), *tags))


def ranked(members: Iterable[_Member]) -> list[_Member]:
    """The members, the most suspected first: by who moved first, who moves farthest, whose name is shared most.

    Those because of which nobody is to be paged are the last.
    """
    members = list(members)
    counts = Counter(part for member in members for part in parts(member.metric))

    def suspicion(member: _Member) -> tuple[float, ...]:
        return (
            member.quiet is not None,
            member.moved_at,
            -member.height,
            -sum(counts[part] for part in parts(member.metric)),
        )

    return sorted(members, key=suspicion)


def lasting(rows: Sequence[_Row], began_at: int) -> Sequence[_Row]:
    """The first `LASTING_ROWS` unusual rows of a metric, without a gap, that begin near an incident's first alarm.

    ``rows``: the unusual ones, in order, from the one before that time on.  Empty: it did not move then.
    """
    for place, row in enumerate(rows):
        begins = place == 0 or rows[place - 1].rowid < row.rowid - 1
        run = rows[place : place + LASTING_ROWS]
        lasts = len(run) == LASTING_ROWS and run[-1].rowid == row.rowid + LASTING_ROWS - 1
        if begins and lasts and abs(row.timestamp - began_at) <= AROUND_S:
            return run
    return ()


def beside(members: Iterable[Moved], others: Iterable[_Member]) -> list[_Member]:
    """Those of the others that moved first, of the same host or application as a member."""
    hosts = {part_of(member.metric) for member in members}
    near = (each for each in others if part_of(each.metric) in hosts)
    return sorted(near, key=lambda each: (each.moved_at, -each.height, each.metric))[:MOST_BESIDE]


def part_of(name: str) -> str:
    """What metrics of one host or application share: a tag that says so, or the name's first node.

    >>> part_of("web1.cpu.user"), part_of("cpu;host=web1;core=0"), part_of("load")
    ('web1', 'web1', 'load')
    """
    path, tags = labels.split(FULL_TEXTS.of(name))
    return next((tags[key] for key in PART_TAGS if key in tags), path.split(".")[0])


def called(members: Iterable[Moved]) -> str:
    """The title of an incident: of the members because of which people may be paged, if there are any."""
    suspects = ranked(members)
    loud = [each for each in suspects if each.quiet is None] or suspects
    return title([each.metric for each in loud], len(suspects) - len(loud))


def title(names: Sequence[str], more: int = 0) -> str:
    """What a list of metrics is called, the most suspected first: what at least half of them share, or the first.

    ``more``: how many others there are, which give it no name.

    >>> title(["db1.cpu", "db1.disk.used", "db1.up", "web1.cpu"])
    'db1.* and 1 more'
    >>> title(["up;host=db1", "cpu;host=db1"]), title(["db1.cpu"]), title(["a.x", "b.y", "c.z"])
    ('*;host=db1', 'db1.cpu', 'a.x and 2 more')
    """
    counts = Counter(shared for name in names for shared in _shareable(name))
    common = [shared for shared, count in counts.items() if 2 * count >= len(names) and count > 1]
    name = max(common, key=lambda shared: (counts[shared], len(shared)), default=names[0])
    rest = len(names) + more - max(counts[name], 1)
    return name + (f" and {rest} more" if rest else "")


def _shareable(name: str) -> list[str]:
    """``db1.*`` and ``db1.disk.*`` of ``db1.disk.used``; ``*;host=db1`` of a tag."""
    head, *tags = name.split(";")
    prefixes = accumulate(head.split(".")[:-1], lambda before, part: f"{before}.{part}")
    return [*(f"{prefix}.*" for prefix in prefixes), *(f"*;{tag}" for tag in tags)]
