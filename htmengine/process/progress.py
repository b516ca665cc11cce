# SPDX-License-Identifier: MIT
"""What a process has begun and not finished: the pure part of the watchdog for progress.

In: what begins and ends, which stages have work, and a clock.  Out: what has been at it for too long, as sentences with
a name.  A process has one `Progress`: its bus, its database and its services tell it of what they do, and
`htmengine.telemetry.progress_watch` tells the operator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TypeAlias

#: A sentence without its time, or what makes it when somebody asks.
What: TypeAlias = str | Callable[[], str]


class Stage:
    """Work of which something is finished now and then.  ``has_work`` is asked when somebody looks."""

    def __init__(self, what: str, has_work: Callable[[], bool], now: Callable[[], float]) -> None:
        self.what = what
        self._has_work = has_work
        self._now = now
        self._since = now()  #: when it last finished something, or had nothing to do

    def finished(self) -> None:
        """Something is done."""
        self._since = self._now()

    @property
    def since(self) -> float:
        """Since when it has had work and has finished none; now if it has none, or if the clock was set back."""
        if not self._has_work() or self._since > self._now():
            self.finished()
        return self._since


class Progress:
    """What is under way.

    >>> now = [0.0]
    >>> progress = Progress(lambda: now[0])
    >>> waiting = ["a row"]
    >>> stage = progress.stage("rows wait, none is stored", lambda: bool(waiting))
    >>> with progress.doing("publishing to queue 'samples'"):
    ...     now[0] = 90.0
    ...     progress.stalled(60.0)  # doctest: +NORMALIZE_WHITESPACE
    ["publishing to queue 'samples' since 1970-01-01 00:00:00 UTC",
     'rows wait, none is stored since 1970-01-01 00:00:00 UTC']
    >>> stage.finished()
    >>> progress.stalled(60.0)
    []
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._under_way: dict[int, tuple[What, float]] = {}
        self._stages: list[Stage] = []
        self._serial = 0

    @contextmanager
    def doing(self, what: What) -> Iterator[None]:
        """Something that should end within seconds."""
        self._serial += 1
        serial = self._serial
        self._under_way[serial] = (what, self._now())
        try:
            yield
        finally:
            del self._under_way[serial]

    def stage(self, what: str, has_work: Callable[[], bool]) -> Stage:
        """A stage that is watched from now on: while it has work it should finish some within seconds."""
        stage = Stage(what, has_work, self._now)
        self._stages.append(stage)
        return stage

    def stalled(self, patience_s: float) -> list[str]:
        """What has not ended within that many seconds, each once, since when the first of its kind waits."""
        now = self._now()
        oldest: dict[str, float] = {}
        for serial, (what, since) in self._under_way.items():
            self._under_way[serial] = what, min(since, now)  # the clock may have been set back
        for what, since in [*self._under_way.values(), *((stage.what, stage.since) for stage in self._stages)]:
            if now - since >= patience_s:
                oldest.setdefault(what if isinstance(what, str) else what(), since)
        return [f"{what} since {datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S} UTC" for what, at in oldest.items()]
