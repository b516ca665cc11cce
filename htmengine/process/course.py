# SPDX-License-Identifier: MIT
"""How far a long computation is, and whether it is to stop: told by the thread that computes, read by others.

In: how much of its input is done.  Out: a share from 0 to 1 that never falls; `WorkStopped` where it computes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from htmengine.errors import WorkStopped

T = TypeVar("T")

#: Things that are done between two looks.
LOOK_EVERY = 500


class Course:
    """A computation in parts.  ``tell``: called in the thread that computes with each new share.

    >>> told = []
    >>> course = Course(told.append)
    >>> for _ in course.along(range(1, 2001), 0.0, 0.5, lambda number: number / 2000): pass
    >>> told
    [0.125, 0.25, 0.375, 0.5]
    >>> course.stop()
    >>> list(course.along(range(1, 2001), 0.5, 1.0, lambda number: number / 2000))
    Traceback (most recent call last):
    htmengine.errors.WorkStopped: somebody stopped it
    """

    def __init__(self, tell: Callable[[float], object] = lambda share: None) -> None:
        self.share = 0.0
        self._tell = tell
        self._stopped = False

    def stop(self) -> None:
        """Let it end soon."""
        self._stopped = True

    def reaches(self, share: float) -> None:
        """So much is done.  Raises `WorkStopped`."""
        if self._stopped:
            raise WorkStopped
        if share > self.share:
            self.share = share
            self._tell(share)

    def along(self, things: Iterable[T], begin: float, end: float, place: Callable[[T], float]) -> Iterator[T]:
        """The things of a part that goes from one share to another; ``place``: how far within it one is, 0 to 1."""
        for number, each in enumerate(things, 1):
            if number % LOOK_EVERY == 0:
                self.reaches(begin + (end - begin) * min(max(place(each), 0.0), 1.0))
            yield each
        self.reaches(end)
