# SPDX-License-Identifier: MIT
"""Which metric of an incident moved first, and what the incident is called.

In: the members' names, with time and height of their first alarms.  Out: the members, the most suspected first; a
title from the parts that their names share.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Protocol, TypeVar


class Moved(Protocol):
    """A member of an incident: `htmengine.incidents.grouping.Alarm`, or a stored member."""

    @property
    def metric(self) -> str: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def height(self) -> float: ...


_Member = TypeVar("_Member", bound=Moved)


def parts(name: str) -> frozenset[str]:
    """What a name says: its parts between dots, and its tags.

    >>> sorted(parts("disk.free;host=db1"))
    ['disk', 'free', 'host=db1']
    """
    head, *tags = name.split(";")
    return frozenset((*head.split("."), *tags))


def ranked(members: Iterable[_Member]) -> list[_Member]:
    """The members, the most suspected first: by who moved first, who moves farthest, whose name is shared most."""
    members = list(members)
    counts = Counter(part for member in members for part in parts(member.metric))

    def suspicion(member: _Member) -> tuple[float, ...]:
        return member.timestamp, -member.height, -sum(counts[part] for part in parts(member.metric))

    return sorted(members, key=suspicion)


def title(names: Sequence[str]) -> str:
    """What a list of metrics is called, the most suspected first: what at least half of them share, or the first.

    >>> title(["db1.cpu", "db1.disk.used", "db1.up", "web1.cpu"])
    'db1.* and 1 more'
    >>> title(["up;host=db1", "cpu;host=db1"]), title(["db1.cpu"]), title(["a.x", "b.y", "c.z"])
    ('*;host=db1', 'db1.cpu', 'a.x and 2 more')
    """
    if len(names) == 1:
        return names[0]
    counts = Counter(shared for name in names for shared in _shareable(name))
    common = [shared for shared, count in counts.items() if 2 * count >= len(names) and count > 1]
    called = max(common, key=lambda shared: (counts[shared], len(shared)), default=names[0])
    rest = len(names) - max(counts[called], 1)
    return called + (f" and {rest} more" if rest else "")


def _shareable(name: str) -> list[str]:
    """``db1.*`` and ``db1.disk.*`` of ``db1.disk.used``; ``*;host=db1`` of a tag."""
    head, *tags = name.split(";")
    prefixes = accumulate(head.split(".")[:-1], lambda before, part: f"{before}.{part}")
    return [*(f"{prefix}.*" for prefix in prefixes), *(f"*;{tag}" for tag in tags)]
