# SPDX-License-Identifier: MIT
"""Which rows a rule looks at, whatever their score: conditions on the value and its direction.

In: a rule and a scored row.  Out: whether the row counts if its score is great enough, or counts in any case.  Pure.
"""

from __future__ import annotations

from msgspec import UNSET

from htmengine.alerts.configuration import Rule
from htmengine.messages import ScoredRow, Why


def out_of_range(rule: Rule, row: ScoredRow) -> bool:
    """Whether the value is outside what the rule calls valid: such a row always counts.

    >>> rule = Rule(valid_range=(0.0, 100.0))
    >>> [out_of_range(rule, ScoredRow(1, 0, value, 0.0, 0.0)) for value in (0.0, 100.0, 101.0)]
    [False, False, True]
    """
    return rule.valid_range is not None and not rule.valid_range[0] <= row.value <= rule.valid_range[1]


def fits(rule: Rule, row: ScoredRow) -> bool:
    """Whether a row with a great score has the rule's direction and change.

    A change that is not known is not too small.
    """
    why = None if row.why is UNSET else row.why
    return (rule.direction == "both" or _direction(row, why) == rule.direction) and not _too_small(rule, row, why)


def _direction(row: ScoredRow, why: Why | None) -> str | None:
    """Where the values are, seen from the usual: as the evidence says, or else as the row's own value does.

    A value within its band, or beyond the band's other end, contradicts the evidence: it returns to the usual.
    """
    if why is None:
        return None
    if why.lower is None or why.upper is None:
        return why.direction or _side(row.value, why.expected, why.expected)
    side = _side(row.value, why.lower, why.upper)
    return side if why.direction in (None, side) else None


def _side(value: float, lower: float | None, upper: float | None) -> str | None:
    """On which side of a band a value is; None: within it, or there is no band."""
    if upper is not None and value > upper:
        return "up"
    return "down" if lower is not None and value < lower else None


def _too_small(rule: Rule, row: ScoredRow, why: Why | None) -> bool:
    if why is None or why.expected is None:
        return False
    return abs(row.value - why.expected) < rule.min_change.amount(why.expected)
