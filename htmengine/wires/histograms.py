# SPDX-License-Identifier: MIT
"""Quantiles of histograms: of deltas at once, of totals by what was added since the point before.

In: bounds and counts of a histogram's buckets.  Out: the values below which the configured shares lie, found by a
straight line within a bucket.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

#: Histograms whose counts are remembered; the one that was not seen for longest is forgotten first.
MAX_HISTOGRAMS = 20_000


class Buckets(NamedTuple):
    """One point of a histogram: ``counts`` has one more than ``bounds``, which are the upper ones; times in seconds."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    timestamp: float
    started_at: float


def quantile(bounds: Sequence[float], counts: Sequence[int], share: float) -> float | None:
    """The value below which a share (0 to 1) of the observations lies; None without observations or bounds.

    The last bucket has no upper bound: what lies in it is said to be at the last bound.  The first bucket begins at 0,
    or at its upper bound if that is below 0.

    >>> quantile([1.0, 2.0, 4.0], [0, 10, 10, 0], 0.75)
    3.0
    """
    total = sum(counts)
    if not total or not bounds:
        return None
    wanted = share * total
    for number, below in enumerate(accumulate(counts)):
        if below >= wanted and counts[number]:
            if number == len(bounds):
                break
            upper = bounds[number]
            lower = bounds[number - 1] if number else min(0.0, upper)
            return lower + (upper - lower) * (wanted - (below - counts[number])) / counts[number]
    return bounds[-1]


class TotalsOfHistograms:
    """The points before of histograms that tell totals.

    A request that comes twice gets the same answer, since the point before the last is kept, too.
    """

    def __init__(self, most: int = MAX_HISTOGRAMS) -> None:
        self._most = most
        self._seen: OrderedDict[str, tuple[Buckets | None, Buckets]] = OrderedDict()

    def added(self, name: str, now: Buckets) -> tuple[int, ...] | None:
        """What each bucket got since the point before; None for a first point, after a reset and out of order."""
        before, last = self._seen.pop(name, (None, now))
        if now.timestamp > last.timestamp:
            before, last = last, now
        self._seen[name] = before, last
        if len(self._seen) > self._most:
            self._seen.popitem(last=False)
        if before is None or now.timestamp != last.timestamp:
            return None
        if before.bounds != now.bounds or before.started_at != now.started_at:
            return None
        added = tuple(new - old for new, old in zip(now.counts, before.counts, strict=True))
        return added if min(added) >= 0 else None
