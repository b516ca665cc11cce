# SPDX-License-Identifier: MIT
"""Gaps of a series that are filled: with the last value, or along a line to the next one.

In: rows in the order of time.  Out: the rows that fill the gap before each.  They follow from that row and the few
before it alone: so they are the same live, in a rebuild, and without an engine, and another pace is no gap for long.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple, TypeAlias

from htmengine.cadence import FIRM, cadence_of
from htmengine.errors import InvalidRule
from htmengine.full_texts import remembered
from htmengine.labels import shown
from htmengine.selectors import Metric, Selector, parse_selector

SKIP, HOLD, LINEAR = "skip", "hold", "linear"
#: Rows that may fill one gap: the samples of one transaction may each come after one.
MOST_ROWS = 100
#: The newest measured rows from which the next gap is known.
ROWS_KNOWN = 2 * FIRM + 1
#: Metrics whose filling is remembered; when there are more, all are looked up again.
MAX_REMEMBERED = 100_000
_ALLOWED = f"hold ROWS, linear ROWS (1 to {MOST_ROWS}) and skip are allowed"

#: Timestamp (epoch seconds) and value.
Row: TypeAlias = tuple[int, float]


class Filling(NamedTuple):
    """How gaps are filled of which at most so many rows are missing."""

    method: str  #: HOLD or LINEAR
    most: int  #: rows

    def value(self, before: float, after: float, part: float) -> float:
        """The value where a part of the gap, from 0 to 1, has passed.

        >>> Filling(LINEAR, 9).value(1.0, 3.0, 0.25), Filling(HOLD, 9).value(1.0, 3.0, 0.25)
        (1.5, 1.0)
        """
        if self.method == HOLD:
            return before
        difference = after - before
        return before + difference * part if math.isfinite(difference) else before * (1 - part) + after * part


class Filler:
    """Fills the gaps of one series as its measured rows come; with no filling it fills none.

    ``newest``: measured rows before the first that is to come, the oldest first; the last `ROWS_KNOWN` count.

    >>> filler = Filler(Filling(LINEAR, most=2), [(60 * row, 1.0) for row in range(9)])
    >>> filler.before((660, 4.0)), filler.before((720, 4.0)), filler.before((960, 5.0))
    ([(540, 2.0), (600, 3.0)], [], [])
    """

    def __init__(self, filling: Filling | None, newest: Iterable[Row] = ()) -> None:
        self._filling = filling
        self._newest = deque(newest, maxlen=ROWS_KNOWN)

    def before(self, row: Row) -> list[Row]:
        """The rows that fill the gap before a row, which is known from now on."""
        rows = self._between(self._newest[-1], row) if self._filling is not None and self._newest else []
        self._newest.append(row)
        return rows

    def _between(self, last: Row, row: Row) -> list[Row]:
        assert self._filling is not None
        step = row[0] - last[0]
        steps = self._steps(step)
        if not 1 < steps <= self._filling.most + 1:
            return []
        return [
            (last[0] + step * number // steps, self._filling.value(last[1], row[1], number / steps))
            for number in range(1, steps)
        ]

    def _steps(self, step: int) -> int:
        """Intervals in so many seconds; 1: no row is missing, or nobody can tell."""
        cadence = cadence_of(timestamp for timestamp, _ in self._newest)
        return int(step / cadence.interval + 0.5) if cadence.jumps(step) else 1


class GapRules:
    """Which metrics' gaps are filled: the first rule that takes a metric counts; without one gaps are skipped.

    A rule is ``hold ROWS SELECTOR``, ``linear ROWS SELECTOR`` or ``skip SELECTOR``.

    >>> rules = GapRules(["skip *.batch", "linear 12 web.*"])
    >>> rules.filling_of("web.cpu"), rules.filling_of("web.batch"), rules.filling_of("db.cpu")
    (Filling(method='linear', most=12), None, None)
    """

    def __init__(self, rules: Iterable[str] = ()) -> None:
        """Raises `InvalidRule`."""
        self._rules = [_parse_rule(line) for line in rules]
        self._remembered = remembered(self._found, MAX_REMEMBERED)

    def filling_of(self, name: str) -> Filling | None:
        return self._remembered(name) if self._rules else None

    def _found(self, name: str) -> Filling | None:
        metric = Metric.of(name)
        return next((filling for selector, filling in self._rules if selector.takes(metric)), None)


#: All gaps are skipped.
NO_FILLING = GapRules()


def parse_filling(text: str) -> Filling | None:
    """``hold ROWS``, ``linear ROWS`` or ``skip``.  Raises `InvalidRule`.

    >>> parse_filling("hold 3"), parse_filling("skip")
    (Filling(method='hold', most=3), None)
    """
    method, *rows = text.split() or [text]
    if method == SKIP and not rows:
        return None
    if method not in (HOLD, LINEAR) or len(rows) != 1 or not rows[0].isdecimal() or not 1 <= int(rows[0]) <= MOST_ROWS:
        raise InvalidRule(f"filling {shown(text)}; {_ALLOWED}")
    return Filling(method, int(rows[0]))


def _parse_rule(line: str) -> tuple[Selector, Filling | None]:
    method, *rest = line.split(maxsplit=1 if line.startswith(SKIP) else 2)
    if not rest:
        raise InvalidRule(f"rule {shown(line)}; a selector of metrics after {_ALLOWED}")
    return parse_selector(rest[-1]), parse_filling(" ".join([method, *rest[:-1]]))
