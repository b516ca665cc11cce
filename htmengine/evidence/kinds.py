# SPDX-License-Identifier: MIT
"""The kinds of evidence by name, and what each says in a sentence.

In: a kind, its side and decades for one row.  Out: "the mean of 3 hours is the highest in 9 weeks".  Decades are turned
into time by the metric's step; a sentence never claims more time than the evidence has seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal, TypeAlias

from htmengine.evidence import _evidence

Direction: TypeAlias = Literal["up", "down"]


class Side(IntEnum):
    """The side on which a kind finds a row unusual: the numbers of ``core/finding.hpp``."""

    NONE = 0
    UP = 1
    DOWN = 2
    MISSING_PEAK = 3
    MISSING_TROUGH = 4

    @property
    def direction(self) -> Direction | None:
        """``up`` or ``down``: where the values are, seen from what is usual; None if the kind has no direction.

        >>> Side.MISSING_PEAK.direction, Side.NONE.direction
        ('down', None)
        """
        return _DIRECTIONS.get(self)


_DIRECTIONS: dict[Side, Direction] = {
    Side.UP: "up",
    Side.DOWN: "down",
    Side.MISSING_PEAK: "down",
    Side.MISSING_TROUGH: "up",
}


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of evidence.

    ``name`` is used in options, tables and messages.  ``lane``: where pictures show it.  ``rows`` is its window, in
    rows.  ``sentences`` has one template a side; ``{window}`` is the window's time and ``{period}`` the time that the
    evidence speaks of.
    """

    name: str
    lane: str
    rows: int
    sentences: dict[Side, str]


def _level(rows: int) -> Kind:
    subject = "the value" if rows == 1 else "the mean of {window}"
    return Kind(
        f"level {rows}",
        "level",
        rows,
        {Side.UP: subject + " is the highest in {period}", Side.DOWN: subject + " is the lowest in {period}"},
    )


_ABOVE = "the value is farther above "
_BELOW = "the value is farther below "
_AWAY = {
    Side.MISSING_PEAK: "the peak that comes at this time of day stays away as it never did in {period}",
    Side.MISSING_TROUGH: "the trough that comes at this time of day stays away as it never did in {period}",
}

#: In the order of a row's evidence.  The first ``FUSED`` make the score, the last is in the score of a metric's first
#: rows, if it has siblings; the others may page alone.
KINDS = (
    *map(_level, (1, 6, 36, 144)),
    Kind(
        "spread 12",
        "spread",
        12,
        {
            Side.UP: "the values of {window} vary more than ever in {period}",
            Side.DOWN: "the values of {window} vary less than ever in {period}",
        },
    ),
    Kind(
        "shape 3",
        "shape",
        24,
        {Side.NONE: "the course of {window} resembles what came before it less than ever in {period}"},
    ),
    Kind(
        "season bounds",
        "time of day",
        1,
        {
            Side.UP: _ABOVE + "all that this time of day showed before than ever in {period}",
            Side.DOWN: _BELOW + "all that this time of day showed before than ever in {period}",
            **_AWAY,
        },
    ),
    Kind(
        "season deviation",
        "time of day",
        1,
        {
            Side.UP: _ABOVE + "the mean of this hour of the day than ever in {period}",
            Side.DOWN: _BELOW + "the mean of this hour of the day than ever in {period}",
        },
    ),
    Kind(
        "season level",
        "time of day",
        6,
        {
            Side.UP: "{window} were farther above what is usual for the time of day than ever in {period}",
            Side.DOWN: "{window} were farther below what is usual for the time of day than ever in {period}",
        },
    ),
    Kind("sequence", "sequence", 10, {Side.NONE: "the model expected the last values less than ever in {period}"}),
    Kind("run", "unchanged", 1, {Side.NONE: "the value has not changed for longer than ever in {period}"}),
    Kind("away", "time of day", 1, _AWAY),
    Kind(
        "jump",
        "jump",
        6,
        {
            Side.UP: "the mean of {window} rose against the {window} before more than ever in {period}",
            Side.DOWN: "the mean of {window} fell against the {window} before more than ever in {period}",
        },
    ),
    Kind(
        "siblings",
        "time of day",
        6,
        {
            Side.UP: "{window} were above what the same metrics of other hosts show at this time of day",
            Side.DOWN: "{window} were below what the same metrics of other hosts show at this time of day",
        },
    ),
)
FUSED = _evidence.FUSED
NAMES = tuple(kind.name for kind in KINDS)
#: In the order of their first kinds.
LANES = tuple(dict.fromkeys(kind.lane for kind in KINDS))

_UNITS = ((7 * 86_400, "week"), (86_400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))


def duration(seconds: float) -> str:
    """A time in its largest unit of which it has at least two, rounded down: never more than it is.

    >>> duration(300), duration(10_800), duration(86_400), duration(9.9 * 7 * 86_400), duration(1.0)
    ('5 minutes', '3 hours', '24 hours', '9 weeks', '1 second')
    """
    for size, unit in _UNITS:
        count = int(seconds / size + 1e-9)
        if count >= 2:
            return f"{count} {unit}s"
    return "1 second"


def period_s(decades: float, step_s: float, rows_seen: int) -> float:
    """Seconds that evidence of that many decades speaks of: 10^decades rows, at most those that were seen.

    ``rows_seen``: of the metric; peaks older than 16,128 rows are forgotten.

    >>> period_s(3.0, 300.0, 20_000), period_s(7.0, 300.0, 1000), period_s(7.0, 300.0, 100_000) / 604_800
    (300000.0, 300000.0, 8.0)
    """
    return float(min(10.0**decades, rows_seen, _evidence.MEMORY_ROWS)) * step_s


def sentence(kind: Kind, side: Side, decades: float, step_s: float, rows_seen: int) -> str | None:
    """What the evidence says; None if it says nothing: no decades, or no side of this kind.

    >>> sentence(KINDS[2], Side.UP, 4.26, 300.0, 20_000)
    'the mean of 3 hours is the highest in 8 weeks'
    >>> sentence(KINDS[0], Side.DOWN, 7.0, 60.0, 600)
    'the value is the lowest in 10 hours'
    """
    template = kind.sentences.get(side)
    if template is None or decades <= 0.0:
        return None
    return template.format(window=duration(kind.rows * step_s), period=duration(period_s(decades, step_s, rows_seen)))


def reasons(
    evidence: Sequence[float], sides: Sequence[Side], step_s: float, rows_seen: int, *, least: float = 1.5
) -> list[tuple[Kind, float, str]]:
    """The kinds that speak of a row with at least ``least`` decades, the strongest first, each with its sentence."""
    spoken = [
        (kind, decades, text)
        for kind, side, decades in zip(KINDS, sides, evidence, strict=True)
        if decades >= least and (text := sentence(kind, side, decades, step_s, rows_seen)) is not None
    ]
    return sorted(spoken, key=lambda reason: -reason[1])
