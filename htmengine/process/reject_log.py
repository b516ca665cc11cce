# SPDX-License-Identifier: MIT
"""Rejected samples in the log: who sent one, and what, at most once a while for each reason."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable

from twisted.logger import Logger

from htmengine.process.seldom import Seldom

#: What is shown of a rejected line.
LOGGED_CHARACTERS = 100


class RejectLog:
    """What one service rejects.  ``now`` gives seconds."""

    log = Logger()

    def __init__(self, now: Callable[[], float]) -> None:
        self._seldom: defaultdict[str, Seldom] = defaultdict(lambda: Seldom(now))  #: by reason
        self.counts: Counter[str] = Counter()  #: by reason, since the start

    def tell(self, reason: str, sender: str, line: bytes | str, count: int = 1) -> None:
        """Count rejects, and log one of them if it is time."""
        self.counts[reason] += count
        seldom = self._seldom[reason]
        if seldom.due():
            self.log.warn(
                "line rejected ({reason}, {count} so far, {left_out} since the last told) from {sender}: {line!r}",
                reason=reason,
                count=self.counts[reason],
                left_out=seldom.left_out,
                sender=sender,
                line=line[:LOGGED_CHARACTERS],
            )
