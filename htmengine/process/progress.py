# SPDX-License-Identifier: MIT
"""What a process has begun and not finished: the pure part of the watchdog for progress.

In: what begins and ends, and a clock.  Out: what has been at it for too long, as sentences with a name.  The buses tell
of their publications, `htmengine.telemetry.progress_watch` tells the operator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime


class Progress:
    """What is under way.

    >>> now = [0.0]
    >>> progress = Progress(lambda: now[0])
    >>> with progress.doing("publishing to queue 'samples'"):
    ...     now[0] = 90.0
    ...     progress.stalled(60.0)
    ["publishing to queue 'samples' since 1970-01-01 00:00:00 UTC"]
    >>> progress.stalled(60.0)
    []
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._under_way: dict[int, tuple[str, float]] = {}
        self._serial = 0

    @contextmanager
    def doing(self, what: str) -> Iterator[None]:
        """Something that should end within seconds."""
        self._serial += 1
        serial = self._serial
        self._under_way[serial] = (what, self._now())
        try:
            yield
        finally:
            del self._under_way[serial]

    def stalled(self, patience_s: float) -> list[str]:
        """What has not ended within so many seconds, each once, since when the first of its kind waits."""
        oldest: dict[str, float] = {}
        for what, since in self._under_way.values():
            if self._now() - since >= patience_s:
                oldest.setdefault(what, since)
        return [f"{what} since {datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S} UTC" for what, at in oldest.items()]
