# SPDX-License-Identifier: MIT
"""A fleet of metrics with labelled faults: read, and alarms on it counted.

In: a folder with ``<metric>.csv`` (columns timestamp and value; epoch seconds) and ``labels.json``: step, first, last
and warm_up_end; metrics with kind, faults and benign events; incidents with their root.  Out: how many pages, true,
false and benign, and which events were found.
"""

from __future__ import annotations

import csv
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from htmengine.errors import BadSeries
from htmengine.wires.counters import Last, Watch, advance, looks_like_counter, watch
from htmengine.wires.samples import Kind, Sample

WEEK_S = 604_800
#: An alarm so long after an event is still of it.
TAIL_S = 3600


class FleetSeries(NamedTuple):
    """A metric's rows as the engine gets them: n epoch seconds and values; a counter's are rates a second."""

    name: str
    timestamps: NDArray[np.int64]
    values: NDArray[np.float64]


class Alarmed(NamedTuple):
    """An alarm that people were told of."""

    metric: str
    timestamp: int


@dataclass(frozen=True, slots=True)
class Fleet:
    """The series of a fleet and its labels."""

    labels: dict[str, Any]
    series: list[FleetSeries]

    @property
    def step(self) -> int:
        """Seconds between rows."""
        return int(self.labels["step"])

    @property
    def learning_s(self) -> float:
        """Seconds at the beginning without faults, in which no alarm is expected."""
        return float(self.labels["warm_up_end"] - self.labels["first"])

    @property
    def weeks(self) -> float:
        """Metric-weeks after the warm-up."""
        return len(self.series) * float(self.labels["last"] + self.step - self.labels["warm_up_end"]) / WEEK_S


def load_fleet(folder: Path) -> Fleet:
    """A fleet from its folder.  Raises BadSeries."""
    try:
        labels = json.loads((folder / "labels.json").read_text())
        return Fleet(labels, [_load(folder / f"{name}.csv") for name in sorted(labels["metrics"])])
    except (OSError, KeyError, ValueError) as error:
        raise BadSeries(f"{folder}: not a fleet: {error!r}") from error


def _load(path: Path) -> FleetSeries:
    with path.open(newline="") as file:
        rows = [(int(row["timestamp"]), float(row["value"])) for row in csv.DictReader(file)]
    rows = _rates(rows) if _counts(rows) else rows
    return FleetSeries(path.stem, np.array([t for t, _ in rows], dtype=np.int64), np.array([v for _, v in rows]))


def _counts(rows: Sequence[tuple[int, float]]) -> bool:
    """Whether it is a counter, which its sender would call one."""
    seen: Watch | None = None
    for timestamp, value in rows:
        seen = watch(seen, value, timestamp)
        if (answer := looks_like_counter(seen, timestamp)) is not None:
            return answer
    return False


def _rates(rows: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    last: Last | None = None
    rates = []
    for timestamp, value in rows:
        step = advance(last, Sample("", value, timestamp, Kind.COUNTER))
        last = step.last
        if step.rate is not None:
            rates.append((timestamp, step.rate))
    return rates


class Event(NamedTuple):
    """A fault or an incident: the metric that shows it (of an incident its root), and its first and last row's time."""

    kind: str
    metric: str
    first: int
    last: int

    @classmethod
    def of(cls, kind: str, metric: str, label: dict[str, Any]) -> Event:
        """A label's."""
        return cls(kind, metric, label["first"], label["last"])


@dataclass(frozen=True, slots=True)
class FleetScore:
    """How good alarms are.  ``hits``: by event, the times of its alarms."""

    weeks: float
    counts: Counter[str]  #: alarms that are early, true, benign or false
    events: dict[str, Event]
    hits: dict[str, list[int]]

    @property
    def pages(self) -> int:
        """Alarms after the warm-up."""
        return self.counts.total() - self.counts["early"]

    def found(self, kind: str | None = None) -> int:
        """Events that were found, of a kind or of all."""
        return sum(kind in (None, self.events[event].kind) for event in self.hits)

    def number(self, kind: str | None = None) -> int:
        """Events that there are."""
        return sum(kind in (None, event.kind) for event in self.events.values())

    @property
    def event_precision(self) -> float:
        """Events found, of these and the false alarms."""
        return len(self.hits) / max(len(self.hits) + self.counts["false"], 1)

    @property
    def delay_minutes(self) -> float | None:
        """From an event's first row to its first alarm, median."""
        delays = [min(times) - self.events[event].first for event, times in self.hits.items()]
        return median(delays) / 60 if delays else None

    def as_json(self) -> dict[str, Any]:
        """The figures as plain data; rates are of a metric-week."""
        rates = {name: self.counts[name] / self.weeks for name in ("true", "false", "benign")}
        return {
            "pages": self.pages / self.weeks,
            **rates,
            "early": self.counts["early"],
            "precision": self.counts["true"] / max(self.counts["true"] + self.counts["false"], 1),
            "event_precision": self.event_precision,
            "events": self.number(),
            "found": self.found(),
            "delay_minutes": self.delay_minutes,
            "by_fault": {
                kind: [self.found(kind), self.number(kind)]
                for kind in sorted({event.kind for event in self.events.values()})
            },
        }


def what(labels: dict[str, Any], alarm: Alarmed) -> tuple[str, str]:
    """What an alarm is: early, true with its event, benign or false."""
    metric = labels["metrics"][alarm.metric]
    if alarm.timestamp < labels["warm_up_end"]:
        return "early", ""
    if fault := _at(metric["faults"], alarm.timestamp):
        return "true", fault["incident"] or f"{alarm.metric}@{fault['first']}"
    return ("benign" if _at(metric["benign"], alarm.timestamp) else "false"), ""


def _at(events: Iterable[dict[str, Any]], timestamp: int) -> dict[str, Any] | None:
    return next((each for each in events if each["first"] <= timestamp <= each["last"] + TAIL_S), None)


def score_alarms(fleet: Fleet, alarms: Iterable[Alarmed]) -> FleetScore:
    """How good alarms are; an incident is one event, whatever its metrics."""
    labels = fleet.labels
    events = {each["id"]: Event.of("incident", each["root"], each) for each in labels["incidents"]}
    for name, metric in labels["metrics"].items():
        single = (fault for fault in metric["faults"] if not fault["incident"])
        events |= {f"{name}@{fault['first']}": Event.of(fault["kind"], name, fault) for fault in single}
    counts: Counter[str] = Counter()
    hits: dict[str, list[int]] = defaultdict(list)
    for alarm in alarms:
        is_what, event = what(labels, alarm)
        counts[is_what] += 1
        if event:
            hits[event].append(alarm.timestamp)
    return FleetScore(fleet.weeks, counts, events, dict(hits))


@dataclass(frozen=True, slots=True)
class GroupScore:
    """How good groups are: how many tell of each labelled incident, and whether they name its root."""

    groups: int
    incidents: int
    groups_an_incident: float
    roots_first_three: int


def score_groups(fleet: Fleet, groups: Sequence[Sequence[Alarmed]]) -> GroupScore:
    """``groups``: alarms of each group, the most suspected metric first."""
    told, roots, incidents = 0, 0, 0
    for incident in fleet.labels["incidents"]:
        ours = [[each.metric for each in group if what(fleet.labels, each)[1] == incident["id"]] for group in groups]
        largest = max(ours, key=len, default=[])
        if largest:
            incidents += 1
            told += sum(map(bool, ours))
            roots += incident["root"] in list(dict.fromkeys(largest))[:3]
    after = sum(any(each.timestamp >= fleet.labels["warm_up_end"] for each in group) for group in groups)
    return GroupScore(after, incidents, told / max(incidents, 1), roots)
