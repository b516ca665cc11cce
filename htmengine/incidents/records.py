# SPDX-License-Identifier: MIT
"""What the tables of incidents hold, as plain data.

Fields that end in ``_at`` are epoch seconds by the wall clock; ``timestamp`` and ``last_timestamp`` are the rows'.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Phase(enum.Enum):
    """The column ``incident.phase``."""

    OPEN = "OPEN"
    OVER = "OVER"


class Did(enum.Enum):
    """What somebody did about an incident or a silence: the column ``incident_event.what``."""

    ACKNOWLEDGED = "acknowledged"
    RIGHT = "right"  #: the page was right
    FINE = "fine"  #: what happened was fine: nobody had to know
    SILENCED = "silenced"
    UNSILENCED = "unsilenced"


@dataclass(frozen=True, slots=True)
class Incident:
    """Alarms of one rule that are near in time."""

    id: str
    rule: str
    title: str
    phase: Phase
    timestamp: int
    last_timestamp: int
    opened_at: float
    last_at: float  #: when the last alarm joined
    mattered_at: float | None  #: when people were told that it matters more
    over_at: float | None
    reason: str | None  #: why it is over
    paged: bool
    held_back: str | None  #: why nobody was paged
    height: float  #: the greatest of its members
    threshold: float | None  #: of a page when it opened
    tokens: float | None  #: of the budget when it opened
    members: int
    acknowledged_at: float | None = None
    acknowledged_by: str | None = None


@dataclass(frozen=True, slots=True)
class Member:
    """A metric of an incident: its first alarm, and its greatest height.

    ``quiet``: why nobody is to be paged because of it, such as ``in maintenance``; None: somebody may be.  ``since``:
    the time of the first of the unusual rows that led up to its first alarm; None: not known.
    """

    incident_id: str
    uid: str
    metric: str
    rowid: int
    timestamp: int
    last_timestamp: int
    height: float
    kind: str
    direction: str | None
    text: str
    value: float | None = None
    expected: float | None = None
    lower: float | None = None
    upper: float | None = None
    quiet: str | None = None
    since: int | None = None

    @property
    def moved_at(self) -> int:
        """When the metric moved, as far as that is known."""
        return self.timestamp if self.since is None else self.since

    @property
    def reason(self) -> str:
        """The sentence of its first alarm, and why that pages nobody."""
        return self.text if self.quiet is None else f"{self.text} ({self.quiet})"


@dataclass(frozen=True, slots=True)
class Event:
    """What somebody did; the audit.  ``incident_id`` is None for silences."""

    incident_id: str | None
    rule: str | None
    at: float
    who: str
    what: Did
    note: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a rule decided about a row, or about the silence after it.  One that comes twice is kept once."""

    rule: str
    uid: str
    rowid: int
    kind: str
    timestamp: int
    height: float
    threshold: float | None
    tokens: float | None
    verdict: str
    incident_id: str | None


@dataclass(frozen=True, slots=True)
class Silence:
    """Metrics, by globs as in a rule, whose alarms page nobody from one time until another."""

    id: int
    metrics: tuple[str, ...]
    from_at: float
    until_at: float
    who: str
    why: str


@dataclass(frozen=True, slots=True)
class AlarmState:
    """A rule and a metric.  Rows up to ``rowid`` are judged."""

    rule: str
    uid: str
    rowid: int = 0
    timestamp: int | None = None  #: of the last alarm
    height: float | None = None  #: within a day of the last alarm only a greater height counts
    hits: tuple[int, ...] = ()  #: times of the newest rows that count, for rules that want several
    silent_since: int | None = None  #: time of the last row before a silence


@dataclass(frozen=True, slots=True)
class Marks:
    """How often people called a rule's incidents right or fine."""

    right: int = 0
    fine: int = 0

    @property
    def precision(self) -> float | None:
        """The share of right ones; None without marks.

        >>> Marks(right=3, fine=1).precision, Marks().precision
        (0.75, None)
        """
        marked = self.right + self.fine
        return self.right / marked if marked else None
