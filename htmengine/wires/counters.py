# SPDX-License-Identifier: MIT
"""Counters become rates: what was added a second since the sample before.  And who says that a metric is one, and a
look-out for counters sent as gauges.

In: samples of one metric in the order of their times, and the state after the one before.  Out: the rate, or why there
is none, and the next state.  States are plain numbers that may be stored anywhere and read back.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from htmengine.selectors import Metric, Selection, Selector
from htmengine.wires.samples import Kind, Sample

DAY_S = 86_400
#: Rows that are looked at before one is said to look like a counter.
WATCHED_ROWS = 288
#: What falls to this part of its value, or less, has perhaps started again.
RESTARTED = 0.1
#: Metrics of which it is remembered what is said of them; when there are more, all are looked up again.
MAX_REMEMBERED = 100_000

#: What a selector in a list does not take as it is: ``!`` at its beginning excludes, # in its place makes a comment.
_SPECIAL = re.compile(r'[][*?{},"\\]|^[!#]')


class Last(NamedTuple):
    """The sample before; times are epoch seconds."""

    value: float
    timestamp: float
    started_at: float = 0.0


class Step(NamedTuple):
    """What one sample gives: a rate a second at its time, or the reason why it has none."""

    last: Last
    rate: float | None = None
    reason: str | None = None  #: first_of_counter, counter_reset, repeated, out_of_order


def advance(last: Last | None, sample: Sample) -> Step:
    """The rate of a counter or delta after the sample ``last``.

    >>> step = advance(Last(100.0, 60.0), Sample("n", 130.0, 120.0, Kind.COUNTER))
    >>> step.rate
    0.5
    """
    now = Last(sample.value, sample.timestamp, sample.started_at)
    if last is not None and sample.timestamp <= last.timestamp:
        return Step(last, reason="repeated" if sample.timestamp == last.timestamp else "out_of_order")
    if sample.kind is Kind.DELTA:
        return _of_delta(last, now)
    if last is None:
        return Step(now, reason="first_of_counter")
    if now.value < last.value or now.started_at != last.started_at:
        return Step(now, reason="counter_reset")
    return Step(now, (now.value - last.value) / (now.timestamp - last.timestamp))


def _of_delta(last: Last | None, now: Last) -> Step:
    """A delta says itself since when it counts, or it counts since the one before."""
    since = now.started_at if 0 < now.started_at < now.timestamp else last.timestamp if last is not None else None
    if since is None:
        return Step(now, reason="first_of_counter")
    return Step(now, now.value / (now.timestamp - since))


class SaidCounters:
    """Which metrics are counters by the operator's word, which is more than their senders'.

    Selectors take those that are, and with a ``!`` before them those that are none; they are of the whole text or of
    its identity.  Raises `InvalidRule`.

    >>> said = SaidCounters(["*.count", "!users.*"])
    >>> [said.says(text) for text in ("web.count", "users.count", "web.load")]
    [True, False, None]
    """

    def __init__(self, selectors: Iterable[str] = ()) -> None:
        selection = Selection.of(tuple(selectors))
        self._counters, self._others = selection.wanted, selection.excluded
        self._said: dict[str, bool | None] = {}

    @property
    def none(self) -> bool:
        """Whether nothing is said of any metric."""
        return not (self._counters or self._others)

    def says(self, text: str) -> bool | None:
        """Whether a metric is a counter; None: nothing is said of it."""
        if text not in self._said:
            if len(self._said) >= MAX_REMEMBERED:
                self._said.clear()
            self._said[text] = self._says(Metric.of(text))
        return self._said[text]

    def _says(self, metric: Metric) -> bool | None:
        if _any_takes(self._others, metric):
            return False
        return True if _any_takes(self._counters, metric) else None


def _any_takes(selectors: Iterable[Selector], metric: Metric) -> bool:
    return any(selector.takes(metric) for selector in selectors)


def selector_of(name: str) -> str:
    """A selector of `SaidCounters` that takes the metric of this name, or identity.

    >>> selector_of("net.rx;host=a,b*")
    'net.rx;host=a?b?'
    """
    return _SPECIAL.sub("?", name)


class Watch(NamedTuple):
    """What was seen of a metric that is said to be a gauge."""

    first_timestamp: float
    value: float
    rows: int = 1
    rises: int = 0
    fell: bool = False  #: otherwise than a counter that starts again


def watch(seen: Watch | None, value: float, timestamp: float) -> Watch:
    """The state after one more row, in the order of time."""
    if seen is None:
        return Watch(timestamp, value)
    fell = value < seen.value and not 0 <= value <= RESTARTED * seen.value
    return Watch(seen.first_timestamp, value, seen.rows + 1, seen.rises + (value > seen.value), seen.fell or fell)


def looks_like_counter(seen: Watch, timestamp: float) -> bool | None:
    """Whether it only rose, but for restarts, for a day, in over half of its rows; None while that cannot be said.

    A day has 288 rows at least: rows that are rarer than one in five minutes are watched for longer.

    >>> looks_like_counter(Watch(0.0, 5000.0, rows=289, rises=250), 86400.0)
    True
    """
    if seen.fell:
        return False
    if seen.rows < WATCHED_ROWS or timestamp - seen.first_timestamp < DAY_S:
        return None
    return 2 * seen.rises > seen.rows
