# SPDX-License-Identifier: MIT
"""Clients that are refused because too many are connected: counted, logged now and then, and a trouble if it goes on.

In: who was refused.  Out: the log, a number for a figure, and a stage of the process's `Progress`.
"""

from __future__ import annotations

from typing import ClassVar

from twisted.logger import Logger

from htmengine.process.progress import Progress
from htmengine.process.seldom import Seldom
from htmengine.process.twisted_types import Clock

#: It is over when nobody was refused for so long.
OVER_S = 600.0


class Refusals:
    """Of the ports under one bound; ``bound`` names it in the log.

    >>> from twisted.internet.task import Clock
    >>> clock = Clock()
    >>> progress = Progress(clock.seconds)
    >>> refusals = Refusals(clock, "the HTTP port serves 250 connections at a time")
    >>> refusals.watched_by(progress)
    >>> clock.advance(10)
    >>> progress.stalled(60.0)
    []
    >>> refusals.refuse("192.0.2.1")
    >>> clock.advance(60)
    >>> refusals.count, progress.stalled(60.0)
    (1, ['clients are refused: the HTTP port serves 250 connections at a time since 1970-01-01 00:00:10 UTC'])
    """

    log: ClassVar[Logger] = Logger()

    def __init__(self, clock: Clock, bound: str) -> None:
        self.count = 0
        self._clock = clock
        self._bound = bound
        self._last = float("-inf")
        self._seldom = Seldom(clock.seconds)

    def watched_by(self, progress: Progress) -> None:
        """While clients are refused for longer than a minute, it is told as something that stands still."""
        progress.stage(f"clients are refused: {self._bound}", self._goes_on)

    def refuse(self, address: object) -> None:
        """Take down one that is refused."""
        self.count += 1
        self._last = self._clock.seconds()
        if self._seldom.due():
            self.log.warn(
                "{address} and others are refused: {bound}",
                address=getattr(address, "host", address),
                bound=self._bound,
            )

    def _goes_on(self) -> bool:
        return self._clock.seconds() - self._last < OVER_S
