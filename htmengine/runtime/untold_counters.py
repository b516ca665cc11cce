# SPDX-License-Identifier: MIT
"""Counters that nobody has told: metrics whose rows only rise.

In: the rows of metrics with models.  Out: which of them look like counters, in sentences, which
`htmengine.telemetry.trouble_watch` tells the operator.  Nothing is changed: a total that is no counter, such as a time,
would be spoilt.  The rows are all there is to know, so a restart forgets nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import ceil
from shlex import quote
from statistics import median

from sqlalchemy import Connection

from htmengine.process.twisted_types import Clock
from htmengine.repository import counters, queries
from htmengine.repository.counters import Gauge
from htmengine.repository.engine import Database
from htmengine.wires.counters import DAY_S, WATCHED_ROWS, SaidCounters, Watch, looks_like_counter, selector_of, watch

#: How often it looks.
LOOK_S = 6 * 3600.0
#: A fall among so many of its newest rows shows most metrics to be none.
NEWEST_ROWS = 32
#: Rows, evenly spaced over a day and somewhat more, that the others are judged by.
DAY_ROWS = WATCHED_ROWS + 12
#: Metrics that are named.
NAMED = 10


class UntoldCounters:
    """Looks through one engine's metrics, but those of which the operator has ``said`` what they are."""

    def __init__(self, *, database: Database, said: SaidCounters, clock: Clock) -> None:
        self._database = database
        self._said = said
        self._clock = clock
        self._due = 0.0
        self._told: list[str] = []

    async def look(self) -> list[str]:
        """What is so now."""
        if self._clock.seconds() >= self._due:
            self._due = self._clock.seconds() + LOOK_S
            self._told = told(await self._find())
        return self._told

    async def _find(self) -> list[str]:
        found: list[str] = []
        after: str | None = ""
        while after is not None:
            more, after = await self._database.read(find, self._said, after=after)
            found += more
        return found


def told(names: Sequence[str]) -> list[str]:
    """A sentence for each metric, as far as they are named."""
    sentences = [_sentence(name, selector_of(name)) for name in sorted(names)[:NAMED]]
    more = len(names) - len(sentences)
    return [*sentences, f"{more} metrics more look like counters"] if more else sentences


def _sentence(name: str, selector: str) -> str:
    return (
        f"{name} looks like a counter, and its total is scored as it is: with counters = {selector} in section"
        f" [admission] of application.conf, and after `htmengine delete {quote(name)}`, its rate is; !{selector} says"
        " that it is none"
    )


def find(conn: Connection, said: SaidCounters, *, after: str) -> tuple[list[str], str | None]:
    """Names of metrics that look like counters and whose uids come after ``after``.

    Returns them, and the uid to go on after; None: these were the last.
    """
    page = counters.scored_gauges(conn, after=after)
    found = [each.name for each in page if said.says(each.text) is None and _only_rises(conn, each)]
    return found, page[-1].uid if len(page) == counters.METRICS_AT_ONCE else None


def _only_rises(conn: Connection, gauge: Gauge) -> bool:
    last = gauge.last_rowid
    newest = queries.samples_at(conn, gauge.uid, range(last - NEWEST_ROWS + 1, last + 1))
    seen = _seen(newest)
    if seen is None or seen.fell or len(newest) < NEWEST_ROWS:
        return False
    step = _step([timestamp for timestamp, _ in newest])
    day = queries.samples_at(conn, gauge.uid, range(last - step * (DAY_ROWS - 1), last + 1, step))
    seen = _seen(day)
    return seen is not None and looks_like_counter(seen, day[-1][0]) is True


def _seen(rows: Sequence[tuple[int, float]]) -> Watch | None:
    seen: Watch | None = None
    for timestamp, value in rows:
        seen = watch(seen, value, timestamp)
    return seen


def _step(times: Sequence[int]) -> int:
    """Every how many rows one is looked at, so that `DAY_ROWS` of them take a day.

    >>> _step([0, 60, 120]), _step([0, 300, 600]), _step([0, 3600])
    (5, 1, 1)
    """
    interval = median(later - earlier for earlier, later in pairwise(times))
    return ceil(1.02 * DAY_S / (interval * (DAY_ROWS - 1)))
