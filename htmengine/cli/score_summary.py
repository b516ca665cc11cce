# SPDX-License-Identifier: MIT
"""What ``htmengine score`` says at the end: alarms, what a rule would page and why, and what was left out.

In: series and their rows, as they come.  Out: lines.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from msgspec import UNSET
from numpy.typing import NDArray

from htmengine.alerts.configuration import DEFAULT_RULE
from htmengine.cli.common import printable
from htmengine.cli.score_output import ScoredRow
from htmengine.cli.series import left_out
from htmengine.csv_files import Notes, format_timestamp
from htmengine.incidents.budget import FLOOR
from htmengine.incidents.hold_off import DAY_S, LEARNING_S
from htmengine.incidents.preview import PastRow, preview
from htmengine.incidents.replay import Story
from htmengine.incidents.roots import ranked, title
from htmengine.messages import ScoredRow as Row

#: Rows with at least this score count as alarms.
ALARM = 0.99999
#: Incidents, and highest rows, that are shown.
SHOWN = 5
WEEK_S = 7 * 86_400

Series: TypeAlias = tuple[NDArray[np.int64], NDArray[np.float64]]


@dataclass(slots=True)
class Summary:
    """What all rows together are like."""

    rows: int = 0
    alarms: int = 0
    weeks: float = 0.0  #: of all series together
    notes: Notes = field(default_factory=Notes)
    rejected: Counter[str] = field(default_factory=Counter)
    firsts: dict[str, int] = field(default_factory=dict)  #: the first row's time, by series
    last: int = 0  #: the newest row's time
    high: list[PastRow] = field(default_factory=list)  #: those that a rule may page for
    series: dict[str, Series] | None = None  #: all rows, by name, if they are to be drawn
    highest: dict[tuple[str, int], ScoredRow] = field(default_factory=dict)  #: by series and day

    def begin(self, name: str, timestamps: list[int], values: list[float]) -> None:
        """Count a series."""
        if self.series is not None:
            self.series[name] = np.array(timestamps, dtype=np.int64), np.array(values, dtype=np.float64)
        self.firsts[name] = timestamps[0]
        self.last = max(self.last, timestamps[-1])
        self.weeks += (timestamps[-1] - timestamps[0]) / WEEK_S

    def add(self, row: ScoredRow) -> None:
        """Count a row."""
        self.rows += 1
        self.alarms += row.score >= ALARM
        if row.why is not UNSET and row.why.height >= FLOOR:
            told = Row(self.rows, row.timestamp, row.value, row.raw, row.score, None, row.why)
            self.high.append(PastRow(row.metric, row.metric, told))
        self._compare(row)

    def _compare(self, row: ScoredRow) -> None:
        """Keep the highest row of each of the highest days."""
        key = row.metric, row.timestamp // int(DAY_S)
        before = self.highest.get(key)
        if before is None or row.score > before.score:
            self.highest[key] = row
        if len(self.highest) > SHOWN:
            del self.highest[min(self.highest, key=lambda each: self.highest[each].score)]

    def lines(self) -> Iterator[str]:
        """In words.

        >>> summary = Summary()
        >>> summary.begin("cpu", [0, 14 * 86_400], [1.0, 1.0])
        >>> summary.add(ScoredRow("cpu", 60, 97.5, 1.0, 0.999995, UNSET))
        >>> print(*summary.lines(), sep="\\n")
        series: 1, rows: 1, alarms (scores of 0.99999 or more): 1, 0.5 a week
        a rule with 5 pages a week would send none: the first 14 days of a metric are learnt
        days with the highest scores:
          0.999995  1970-01-01 00:01:00  97.5  cpu
        """
        rate = f", {self.alarms / self.weeks:.1f} a week" if self.weeks else ""
        series = len(self.firsts)
        yield f"series: {series}, rows: {self.rows}, alarms (scores of {ALARM} or more): {self.alarms}{rate}"
        if series:
            yield from self._incidents()
            yield "days with the highest scores:"
            yield from map(row_line, self.days())
        yield from left_out(self.rejected, self.notes)

    def _incidents(self) -> Iterator[str]:
        """What the default rule would do, the highest incidents first."""
        rule = f"a rule with {DEFAULT_RULE.pages_per_week:g} pages a week"
        if self._learns:
            yield f"{rule} would send none: the first {LEARNING_S / DAY_S:.0f} days of a metric are learnt"
            return
        stories = self.incidents()
        pages = sum(story.incident.paged for story in stories)
        weeks = (self.last - min(self.firsts.values())) / WEEK_S
        yield f"{rule} would send {pages} in {weeks:.1f} weeks, and list {len(stories) - pages} more incidents"
        yield from map(incident_line, stories[:SHOWN])

    @property
    def _learns(self) -> bool:
        """Whether no metric is old enough to alarm."""
        return self.last - min(self.firsts.values()) <= LEARNING_S

    def incidents(self) -> list[Story]:
        """What the default rule would make of all rows: those that page first, then the highest."""
        rows = sorted(self.high, key=lambda each: (each.row.timestamp, each.uid))
        found = preview(DEFAULT_RULE, rows, self.firsts, len(self.firsts))
        return sorted(found.stories.values(), key=_order)

    def days(self) -> list[ScoredRow]:
        """The highest row of each of the highest days."""
        return sorted(self.highest.values(), key=lambda row: -row.score)


def row_line(row: ScoredRow) -> str:
    """In a line."""
    why = "" if row.why is UNSET or not row.why.evidence else f"  {row.why.evidence[0].text}"
    return f"  {row.score:.6f}  {format_timestamp(row.timestamp)}  {row.value:g}  {printable(row.metric)}{why}"


def _order(story: Story) -> tuple[bool, float]:
    return not story.incident.paged, -story.incident.height


def incident_line(story: Story) -> str:
    """In a line."""
    incident, names = story.incident, [each.metric for each in ranked(story.alarms)]
    paged = "page" if incident.paged else "-"
    about = f"{incident.height:.1f}  {printable(title([*dict.fromkeys(names)]))}  {story.alarms[0].text}"
    return f"  {format_timestamp(incident.timestamp)}  {paged:<4}  {about}"
