# SPDX-License-Identifier: MIT
"""From scores to alarms: hold-off and budgets.  Decisions only: no clock, no database.

In: a metric's rows in order, each a timestamp in epoch seconds and a score S.  Out: for each row whether it is quiet,
an alarm, or one that the budget holds back.  All state is plain data: ``state()`` gives what JSON can carry,
``restored(data)`` goes on with it.

A threshold alone keeps to a budget as long as the future is like the past; an ``Allowance`` bounds what is spent
when it is not.  In any four weeks there are at most 1.25 times the budget's alarms; one is always possible.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any, Self

DAY, WEEK = 86_400.0, 604_800.0
#: Rows after an alarm, or after an event's first row, that belong to it.
EVENT_ROWS = 40
#: A score so much higher alarms all the same, in decades.
MARGIN = 1.0
#: Heights that a threshold is chosen from; an event has at least the first.
HEIGHTS = tuple(round(1.5 + 0.05 * place, 2) for place in range(131))
#: First rows of a metric, without alarms; the events of their first half count nowhere.
WARM_UP_ROWS = 864
#: A metric's own past that counts, the fleet's, and the weeks of a metric that the fleet's rate is worth.
METRIC_WEEKS, FLEET_WEEKS, PRIOR_WEEKS = 8.0, 4.0, 2.0
#: The bound on alarms: so many times the budget in so many weeks.
OVERRUN, BOUND_WEEKS = 1.25, 4.0


class Decision(Enum):
    """What a row leads to."""

    QUIET = "quiet"
    ALARM = "alarm"
    HELD_BACK = "held back"  #: it would be an alarm, but the budget is spent


@dataclass(slots=True)
class HoldOff:
    """One alarm an event: for 40 rows after an alarm only a score a decade higher alarms again.

    >>> hold = HoldOff()
    >>> [hold.update(score, threshold=2.5) for score in (2.4, 2.6, 3.5, 3.7, 3.0)]
    [False, True, False, True, False]
    """

    rows: int = EVENT_ROWS
    since: int | None = None  #: rows since the last alarm
    height: float = 0.0  #: its score

    def update(self, score: float, threshold: float) -> bool:
        """Whether the next row begins an alarm."""
        if self.since is not None:
            self.since += 1
        held = self.since is not None and self.since <= self.rows and score <= self.height + MARGIN
        if score < threshold or held:
            return False
        self.since, self.height = 0, score
        return True


@dataclass(slots=True)
class Allowance:
    """What a budget may still spend: a token bucket, refilled ``budget`` a week, and a bound on any four weeks."""

    budget: float  #: alarms a week
    tokens: float = math.nan
    refilled: float | None = None  #: when
    spent: list[float] = field(default_factory=list)  #: times of the last four weeks' alarms

    def __post_init__(self) -> None:
        _check_budget(self.budget)
        if math.isnan(self.tokens):
            self.tokens = self.depth

    @property
    def depth(self) -> float:
        """Tokens that it holds at most: what may be spent at once."""
        return max(1.0, self.budget * BOUND_WEEKS * (OVERRUN - 1.0))

    @property
    def bound(self) -> int:
        """Alarms in any four weeks, at most."""
        return max(1, math.floor(self.budget * BOUND_WEEKS * OVERRUN + 1e-9))

    def take(self, now: float) -> bool:
        """Whether an alarm may be spent now; it is then."""
        if self.refilled is None or now > self.refilled:
            elapsed = 0.0 if self.refilled is None else now - self.refilled
            self.tokens = min(self.depth, self.tokens + elapsed / WEEK * self.budget)
            self.refilled = now
        at = max(now, self.refilled)
        self.spent = [time for time in self.spent if time > at - BOUND_WEEKS * WEEK]
        if self.tokens < 1.0 - 1e-9 or len(self.spent) >= self.bound:
            return False
        self.tokens -= 1.0
        self.spent.append(at)
        return True


@dataclass(slots=True)
class Events:
    """A metric's events: scores of 1.5 and more, declustered.  Each is (time, height)."""

    rows: int = 0
    since: int | None = None  #: rows since the newest event's first
    all: list[tuple[float, float]] = field(default_factory=list)
    begun: float | None = None  #: when the second half of the warm-up began

    def update(self, now: float, score: float) -> None:
        """Note the next row."""
        self.rows += 1
        if self.since is not None:
            self.since += 1
        if self.rows <= WARM_UP_ROWS // 2:
            return
        if self.begun is None:
            self.begun = now
        if score < HEIGHTS[0]:
            return
        if self.since is not None and self.since <= EVENT_ROWS:
            time, height = self.all[-1]
            self.all[-1] = time, max(height, score)
        else:
            self.since = 0
            self.all.append((now, score))

    @property
    def warm(self) -> bool:
        """Whether the metric is old enough for alarms."""
        return self.rows > WARM_UP_ROWS

    def forget(self, before: float) -> None:
        """Forget the events before this time, but never the newest: it may go on."""
        self.all = [event for event in self.all[:-1] if event[0] > before] + self.all[-1:]

    def heights(self, after: float) -> list[float]:
        """Heights of the events after this time."""
        return [height for time, height in self.all if time > after]

    def weeks(self, now: float, most: float) -> float:
        """Weeks that were observed, at most so many."""
        return 0.0 if self.begun is None else min(max(now - self.begun, 0.0) / WEEK, most)


def usual_rate(height: float) -> float:
    """Events a metric-week of at least this height where no fleet is known (fitted on half of a public benchmark)."""
    return math.pow(10.0, 0.855 - 0.71 * (height - 2.0))


def fleet_rates(heights: Iterable[float], metric_weeks: float) -> list[float]:
    """Events a metric-week of at least each of ``HEIGHTS``, from a fleet's events in so many weeks of metrics."""
    if not metric_weeks > 0:
        raise ValueError(f"metric_weeks: {metric_weeks!r} is not above 0")
    ordered = sorted(heights)
    return [(len(ordered) - bisect_left(ordered, height)) / metric_weeks for height in HEIGHTS]


def metric_threshold(budget: float, own: Sequence[float], weeks: float, fleet: Sequence[float] | None) -> float:
    """The lowest height whose rate is within the budget, in alarms a week; infinity if none is.

    ``own``: heights of the metric's events in so many weeks.  ``fleet``: as ``fleet_rates`` gives it, or None.  The
    rate is the metric's own, shrunk towards the fleet's, which is worth two weeks (Gamma-Poisson).

    >>> metric_threshold(1.0, own=[3.0, 2.5, 2.0], weeks=8.0, fleet=None) < 3.0
    True
    """
    ordered = sorted(own)
    for place, height in enumerate(HEIGHTS):
        prior = usual_rate(height) if fleet is None else fleet[place]
        reached = len(ordered) - bisect_left(ordered, height)
        if (reached + PRIOR_WEEKS * prior) / (weeks + PRIOR_WEEKS) <= budget:
            return height
    return math.inf


def fleet_threshold(budget: float, heights: Iterable[float], weeks: float) -> float:
    """The height of the fleet's event number ``budget * weeks``; infinity while that is below one.

    ``heights``: of all events of so many weeks.  With fewer events than the budget allows: the least height.
    """
    allowed = math.floor(budget * weeks + 1e-9)
    if allowed < 1:
        return math.inf
    highest = sorted(heights, reverse=True)
    return highest[allowed - 1] if len(highest) >= allowed else HEIGHTS[0]


class MetricBudget:
    """At most ``budget`` alarms a week from one metric, by the threshold that its own past says keeps to it.

    ``fleet``: ``fleet_rates`` of the metrics beside it; may be set at any time, and counts from the next day on.
    """

    def __init__(self, budget: float, *, fleet: Sequence[float] | None = None) -> None:
        self.fleet = fleet
        self.threshold = math.inf
        self.held_back = 0  #: alarms that the allowance held back
        self._allowance = Allowance(budget)
        self._hold_off = HoldOff()
        self._events = Events()
        self._renewed: float | None = None

    def update(self, timestamp: float, score: float) -> Decision:
        """What the next row leads to."""
        events = self._events
        if events.warm and (self._renewed is None or timestamp >= self._renewed + DAY):
            self._renew(timestamp)
        events.update(timestamp, score)
        if not events.warm or not self._hold_off.update(score, self.threshold):
            return Decision.QUIET
        if self._allowance.take(timestamp):
            return Decision.ALARM
        self.held_back += 1
        return Decision.HELD_BACK

    def _renew(self, now: float) -> None:
        self._renewed = now
        oldest = now - METRIC_WEEKS * WEEK
        self._events.forget(oldest)
        weeks = self._events.weeks(now, METRIC_WEEKS)
        self.threshold = metric_threshold(self._allowance.budget, self._events.heights(oldest), weeks, self.fleet)

    def state(self) -> dict[str, Any]:
        """All of it as plain data."""
        return {
            "fleet": None if self.fleet is None else list(self.fleet),
            "threshold": _plain(self.threshold),
            "held_back": self.held_back,
            "allowance": asdict(self._allowance),
            "hold_off": asdict(self._hold_off),
            "events": asdict(self._events),
            "renewed": self._renewed,
        }

    @classmethod
    def restored(cls, data: Mapping[str, Any]) -> Self:
        """The budget whose ``state`` this was."""
        budget = cls(data["allowance"]["budget"], fleet=data["fleet"])
        budget.threshold, budget.held_back = _number(data["threshold"]), data["held_back"]
        budget._allowance = Allowance(**data["allowance"])
        budget._hold_off = HoldOff(**data["hold_off"])
        budget._events = _events(data["events"])
        budget._renewed = data["renewed"]
        return budget


class FleetBudget:
    """At most ``budget`` alarms a week from a whole fleet: one threshold for all, a hold-off for each metric.

    It spends the alarms where the worst events are.  Rows of different metrics come in about the order of time.
    """

    def __init__(self, budget: float) -> None:
        self.threshold = math.inf
        self.held_back = 0  #: alarms that the allowance held back
        self._allowance = Allowance(budget)
        self._metrics: dict[str, tuple[Events, HoldOff]] = {}
        self._renewed: float | None = None

    def update(self, timestamp: float, metric: str, score: float) -> Decision:
        """What a metric's next row leads to."""
        if self._renewed is None or timestamp >= self._renewed + DAY:
            self._renew(timestamp)
        events, hold_off = self._metrics.setdefault(metric, (Events(), HoldOff()))
        events.update(timestamp, score)
        if not events.warm or not hold_off.update(score, self.threshold):
            return Decision.QUIET
        if self._allowance.take(timestamp):
            return Decision.ALARM
        self.held_back += 1
        return Decision.HELD_BACK

    def forget(self, metric: str) -> None:
        """The metric is gone, and its events with it."""
        self._metrics.pop(metric, None)

    def rates(self, now: float) -> list[float] | None:
        """``fleet_rates`` of the last four weeks, for the budgets of single metrics; None before there are any."""
        weeks = sum(events.weeks(now, FLEET_WEEKS) for events, _ in self._metrics.values())
        return fleet_rates(self._heights(now - FLEET_WEEKS * WEEK), weeks) if weeks > 0 else None

    def _renew(self, now: float) -> None:
        self._renewed = now
        oldest = now - FLEET_WEEKS * WEEK
        for events, _ in self._metrics.values():
            events.forget(oldest)
        weeks = max((events.weeks(now, FLEET_WEEKS) for events, _ in self._metrics.values()), default=0.0)
        self.threshold = fleet_threshold(self._allowance.budget, self._heights(oldest), weeks)

    def _heights(self, after: float) -> list[float]:
        return [height for events, _ in self._metrics.values() for height in events.heights(after)]

    def state(self) -> dict[str, Any]:
        """All of it as plain data."""
        return {
            "threshold": _plain(self.threshold),
            "held_back": self.held_back,
            "allowance": asdict(self._allowance),
            "metrics": {name: [asdict(part) for part in parts] for name, parts in self._metrics.items()},
            "renewed": self._renewed,
        }

    @classmethod
    def restored(cls, data: Mapping[str, Any]) -> Self:
        """The budget whose ``state`` this was."""
        budget = cls(data["allowance"]["budget"])
        budget.threshold, budget.held_back = _number(data["threshold"]), data["held_back"]
        budget._allowance = Allowance(**data["allowance"])
        budget._metrics = {
            name: (_events(events), HoldOff(**hold_off)) for name, (events, hold_off) in data["metrics"].items()
        }
        budget._renewed = data["renewed"]
        return budget


def _check_budget(budget: float) -> None:
    if not 0 < budget < math.inf:
        raise ValueError(f"budget: {budget!r} is not a number of alarms a week above 0")


def _events(data: Mapping[str, Any]) -> Events:
    return Events(**{**data, "all": [(time, height) for time, height in data["all"]]})


def _plain(threshold: float) -> float | None:
    return None if math.isinf(threshold) else threshold


def _number(threshold: float | None) -> float:
    return math.inf if threshold is None else threshold
