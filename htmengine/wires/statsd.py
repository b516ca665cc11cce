# SPDX-License-Identifier: MIT
"""statsd: what clients count and time, added up until the next flush.

In: datagrams, or lines of a connection: ``name:value|type[|@rate][|#tag:value,...]``.  Out: what is
refused, and at each flush a `Received` with the names that statsd's own server gives:

    stats.counters.NAME.rate, .count                      c
    stats.gauges.NAME                                     g
    stats.timers.NAME.count, .mean, .lower, .upper, .upper_90     ms, h, d
    stats.sets.NAME.count                                 s

As there, a counter, timer or set that gets nothing gives 0, and a gauge its value again; what got nothing for
``forget_after_s`` gives nothing more, so that a sender that has died falls silent.
"""

from __future__ import annotations

import random
import re
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from htmengine import labels
from htmengine.errors import InvalidSample
from htmengine.labels import shown
from htmengine.wires.samples import Received, number

#: Values of a timer that are kept for its percentiles, chosen at random when there are more.
MAX_TIMER_VALUES = 1000
#: Different members of a set between two flushes.
MAX_SET_MEMBERS = 10_000

_SPACES = re.compile(r"\s+")
_NOT_IN_NAMES = re.compile(r"[^a-zA-Z_\-0-9.;=]")
_EVENTS = ("_e{", "_sc|")


@dataclass(frozen=True, slots=True)
class StatsdOptions:
    """How names begin, which percentiles timers have, and what bounds the aggregator."""

    prefix: str = "stats"
    percentiles: tuple[float, ...] = (90.0,)
    flush_interval_s: float = 10.0
    forget_after_s: float = 3600.0
    max_metrics: int = 100_000


class Measure(NamedTuple):
    """One value of a line.  ``name`` is a text of `labels`."""

    name: str
    type: str
    value: str
    rate: float  #: the share of all values that the client sends


#: Where a sample of a timer is added: the name's ending and its value.
Figures: TypeAlias = Iterator[tuple[str, float]]


def parse_line(line: str) -> list[Measure]:
    """The values of a line: several when they are packed, as in ``name:1:2:3|ms``.  Raises `InvalidSample`.

    >>> parse_line("page views:3|c|@0.5|#site:shop")
    [Measure(name='page_views;site=shop', type='c', value='3', rate=0.5)]
    """
    name, colon, rest = line.partition(":")
    values, *parts = rest.split("|")
    if not name or not colon or not values or not parts:
        raise InvalidSample("statsd_form", f"{shown(line)}; write name:value|type")
    kind = parts[0].strip()
    if kind not in _METRICS:
        raise InvalidSample("statsd_type", f"type {shown(kind)}; allowed are {', '.join(_METRICS)}")
    rate, tags = 1.0, ""
    for part in parts[1:]:
        if part.startswith("@"):
            rate = _rate(part[1:])
        elif part.startswith("#"):
            tags = part[1:]
    text = _name(name, tags)
    return [Measure(text, kind, value.strip(), rate) for value in values.split(":")]


def _rate(text: str) -> float:
    rate = number(text)
    if not 0 < rate <= 1:
        raise InvalidSample("statsd_rate", f"sampling rate {shown(text)}; above 0 and up to 1 is allowed")
    return rate


def _name(name: str, tags: str) -> str:
    """As statsd's server cleans names; tags of either form become labels, a tag without a value is "true"."""
    text = labels.normalize(_NOT_IN_NAMES.sub("", _SPACES.sub("_", name).replace("/", "-")))
    if not tags:
        return text
    name, found = labels.split(text)
    for tag in filter(None, tags.split(",")):
        key, _, value = tag.partition(":")
        found[key] = value or "true"
    return labels.compose(name, found)


# --- what is added up between two flushes ----------------------------------------------------------------


class _Counter:
    def __init__(self) -> None:
        self._total = 0.0

    def take(self, measure: Measure) -> None:
        self._total += _finite(measure) / measure.rate

    def flush(self, options: StatsdOptions) -> Figures:
        total, self._total = self._total, 0.0
        yield ".rate", total / options.flush_interval_s
        yield ".count", total


class _Gauge:
    def __init__(self) -> None:
        self._value = 0.0

    def take(self, measure: Measure) -> None:
        value = _finite(measure)
        self._value = self._value + value if measure.value[0] in "+-" else value

    def flush(self, options: StatsdOptions) -> Figures:
        yield "", self._value


class _Set:
    def __init__(self) -> None:
        self._members: set[int] = set()

    def take(self, measure: Measure) -> None:
        member = hash(measure.value)
        if len(self._members) >= MAX_SET_MEMBERS and member not in self._members:
            raise InvalidSample(
                "statsd_set", f"set {shown(measure.name)}: more than {MAX_SET_MEMBERS} members between two flushes"
            )
        self._members.add(member)

    def flush(self, options: StatsdOptions) -> Figures:
        count = len(self._members)
        self._members = set()
        yield ".count", float(count)


class _Timer:
    """Count, sum, lowest and highest are exact; percentiles are of the values kept."""

    _choice = random.Random(0)  #: one for all timers: it is large

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self._values = array("d")
        self._taken = 0
        self._count = 0.0  #: what the clients measured, those values included that they did not send
        self._sum = 0.0
        self._lower = float("inf")
        self._upper = float("-inf")

    def take(self, measure: Measure) -> None:
        value = _finite(measure)
        self._count += 1 / measure.rate
        self._taken += 1
        self._sum += value
        self._lower = min(self._lower, value)
        self._upper = max(self._upper, value)
        if len(self._values) < MAX_TIMER_VALUES:
            self._values.append(value)
        else:  # each of the values taken so far is kept with equal chance
            place = self._choice.randrange(self._taken)
            if place < MAX_TIMER_VALUES:
                self._values[place] = value

    def flush(self, options: StatsdOptions) -> Figures:
        yield ".count", self._count
        if self._taken:
            yield ".mean", self._sum / self._taken
            yield ".lower", self._lower
            yield ".upper", self._upper
            ordered = sorted(self._values)
            for percentile in options.percentiles:
                # The highest of the lowest ``percentile`` per cent, rounded as statsd's server rounds.
                below = int(percentile / 100 * len(ordered) + 0.5)
                yield f".upper_{f'{percentile:g}'.replace('.', '_')}", ordered[max(below, 1) - 1]
        self._clear()


_Metric: TypeAlias = _Counter | _Gauge | _Set | _Timer
#: By type: where the names begin, and what adds the values up.
_METRICS: dict[str, tuple[str, Callable[[], _Metric]]] = {
    "c": ("counters", _Counter),
    "g": ("gauges", _Gauge),
    "ms": ("timers", _Timer),
    "h": ("timers", _Timer),
    "d": ("timers", _Timer),
    "s": ("sets", _Set),
}


def _finite(measure: Measure) -> float:
    value = number(measure.value)
    if value - value != 0:  # the infinities and NaN
        raise InvalidSample("value_not_finite", f"{shown(measure.name)}: value {shown(measure.value)}")
    return value


@dataclass(slots=True)
class _Series:
    """One metric's own texts, and what is added up."""

    name: str
    tags: str
    metric: _Metric
    fed_at: float = 0.0


class Aggregator:
    """Adds up what comes between two flushes.

    >>> aggregator = Aggregator(StatsdOptions(flush_interval_s=10.0))
    >>> refused = aggregator.take(b"logins:3|c|#site:shop", now=1.0)
    >>> [sample[:3] for sample in aggregator.flush(now=10.0).samples]
    [('stats.counters.logins.rate;site=shop', 0.3, 10.0), ('stats.counters.logins.count;site=shop', 3.0, 10.0)]
    """

    def __init__(self, options: StatsdOptions) -> None:
        self._options = options
        self._series: dict[tuple[str, str], _Series] = {}
        self.taken = 0  #: values since the beginning

    def take(self, datagram: bytes, now: float) -> Received:
        """Add a datagram's lines; ``now`` is in epoch seconds.  Returns what is refused, line by line."""
        refused = Received()
        for line in datagram.split(b"\n"):
            if line and not line.isspace():
                self._take_line(line, now, refused)
        return refused

    def _take_line(self, line: bytes, now: float, refused: Received) -> None:
        try:
            text = line.decode()
            if text.startswith(_EVENTS):
                refused.left_out["event"] += 1
                return
            measures = parse_line(text)
        except UnicodeDecodeError:
            refused.reject("not_utf8", f"{line[:60]!r} is not UTF-8")
        except InvalidSample as bad:
            refused.refuse(bad)
        else:
            for measure in measures:
                self._add(measure, now, refused)

    def _add(self, measure: Measure, now: float, refused: Received) -> None:
        try:
            series = self._find(measure)
            series.metric.take(measure)
        except InvalidSample as bad:
            refused.refuse(bad)
        else:
            series.fed_at = now
            self.taken += 1

    def _find(self, measure: Measure) -> _Series:
        family, make = _METRICS[measure.type]
        series = self._series.get((family, measure.name))
        if series is None:
            if len(self._series) >= self._options.max_metrics:
                raise InvalidSample("statsd_metrics", f"more than {self._options.max_metrics} metrics of statsd")
            name, semicolon, tags = measure.name.partition(";")
            series = _Series(f"{self._options.prefix}.{family}.{name}", semicolon + tags, make())
            self._series[family, measure.name] = series
        return series

    def flush(self, now: float) -> Received:
        """What has come since the flush before; ``now`` is the samples' time."""
        received = Received()
        silent_since = now - self._options.forget_after_s
        for key, series in list(self._series.items()):
            if series.fed_at < silent_since:
                del self._series[key]
                continue
            for ending, value in series.metric.flush(self._options):
                received.add(f"{series.name}{ending}{series.tags}", value, now)
        return received
