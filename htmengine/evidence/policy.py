# SPDX-License-Identifier: MIT
"""Which rows of one metric begin an alarm at a fixed threshold.  Decisions only: no clock, no database.

In: a metric's scores S in order.  Out: for each row whether an alarm begins.  Called by ``htmengine nab``; what people
are paged for is decided in ``htmengine.incidents``.
"""

from __future__ import annotations

from dataclasses import dataclass

#: Rows after an alarm that belong to it.
EVENT_ROWS = 40
#: A score so much higher alarms all the same, in decades.
MARGIN = 1.0


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
