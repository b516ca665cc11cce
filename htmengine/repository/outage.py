# SPDX-License-Identifier: MIT
"""Whether a database is away, and what the log says of it.

In: what its readers and its writers meet, apart: on a full disk reads succeed.  Out: the log, at most once a minute.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import Logger

from htmengine.process.seldom import Seldom


class Outage:
    """Of one database.  ``now`` gives seconds."""

    log = Logger()

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._seldom = Seldom(now)
        self._since: dict[object, float] = {}  #: by whom the database is away for
        self._told = False

    @property
    def lasts(self) -> bool:
        """Whether somebody waits for the database now."""
        return bool(self._since)

    def meets(self, who: object, error: object) -> None:
        """The database is away for ``who``."""
        now = self._now()
        self._since.setdefault(who, now)
        if self._seldom.due():
            self._told = True
            seconds = now - min(self._since.values())
            self.log.error("the database is away for {seconds:.0f} s: {error}", seconds=seconds, error=error)

    def ends(self, who: object) -> None:
        """The database has answered ``who``."""
        if self._since.pop(who, None) is None or self._since:
            return
        if self._told:
            self.log.info("the database is back")
            self._told = False
