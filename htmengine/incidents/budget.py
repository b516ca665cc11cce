# SPDX-License-Identifier: MIT
"""A budget of pages as a price: the fewer tokens are left, the higher a page has to be.

In: pages a week, a bucket of tokens, a time.  Out: the bucket at that time, the least height of a page, the bucket
after a page.  Pure: no clock, no database.

The bucket holds a week's pages and is full at first.  So fewer than five weeks' pages fit into any four weeks,
whatever comes, and a quiet week is not filled with noise: the budget is a bound and no quota.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

WEEK_S = 604_800.0
#: The least height of a page while the bucket is full; a row of less is no alarm.
FLOOR = 4.0
#: What an empty bucket adds to it.
RISE = 3.0
#: The greatest price: an alarm of this height pages as long as there is a token.
HIGHEST = FLOOR + RISE

_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Bucket:
    """What is left of a budget at a time.  ``tokens`` None: it is full.  ``at``: epoch seconds; None: not used yet."""

    tokens: float | None = None
    at: float | None = None
    depth: float | None = None  #: of the budget that it was filled for; None: not known


@dataclass(frozen=True, slots=True)
class Budget:
    """Pages a week.  Raises ValueError unless that is a number above 0.

    >>> budget = Budget(2.0)
    >>> bucket = budget.refilled(Bucket(), 0.0)
    >>> once = budget.spent(bucket)
    >>> twice = budget.spent(once)
    >>> [budget.price(each) for each in (bucket, once, twice, budget.refilled(twice, 302_400.0))]
    [4.0, 4.75, 7.0, 4.75]
    >>> budget.spent(twice) is None
    True
    """

    pages_per_week: float

    def __post_init__(self) -> None:
        if not 0 < self.pages_per_week < math.inf:
            raise ValueError(f"pages_per_week: {self.pages_per_week!r} is not a number above 0")

    @property
    def depth(self) -> float:
        """Tokens that the bucket holds at most: what can be spent at once."""
        return max(1.0, self.pages_per_week)

    def tokens(self, bucket: Bucket) -> float:
        """What can be spent.

        A bucket that was filled for a smaller budget gets the difference: what was spent stays spent.  One that was
        filled for a greater budget is no deeper than this one's.

        >>> Budget(50.0).tokens(Bucket(4.0, 0.0, depth=5.0)), Budget(2.0).tokens(Bucket(4.0, 0.0, depth=5.0))
        (49.0, 2.0)
        """
        if bucket.tokens is None:
            return self.depth
        return min(bucket.tokens + max(0.0, self.depth - (bucket.depth or self.depth)), self.depth)

    def refilled(self, bucket: Bucket, now: float) -> Bucket:
        """The bucket at a time.  Times of several metrics come out of order: one that goes back refills nothing."""
        at = now if bucket.at is None else max(bucket.at, now)
        elapsed = 0.0 if bucket.at is None else at - bucket.at
        return Bucket(min(self.depth, self.tokens(bucket) + elapsed / WEEK_S * self.pages_per_week), at, self.depth)

    def price(self, bucket: Bucket) -> float:
        """The least height of a page: 4 while the bucket is full, 7 when it is empty."""
        return FLOOR + RISE * (1.0 - self.tokens(bucket) / self.depth) ** 2

    def spent(self, bucket: Bucket) -> Bucket | None:
        """The bucket after a page; None without a token."""
        left = self.tokens(bucket) - 1.0
        return Bucket(max(left, 0.0), bucket.at, self.depth) if left >= -_ROUNDING else None
