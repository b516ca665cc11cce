# SPDX-License-Identifier: MIT
"""Previews of rules that take longer than a request may: begun by one request, looked at and stopped by others.

In: functions that read the database and tell how far they are.  Out: their results, while somebody asks for them.
They are in memory: nothing is left of them after a restart.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from htmengine.process.course import Course
from htmengine.web.reader import Reader
from htmengine.web.refused import Refused

#: Previews that are known at a time; of more the oldest is stopped and forgotten.
MOST = 20


@dataclass(slots=True)
class Preview:
    """One of them.  ``result``: bytes of JSON, or what went wrong; None while it computes."""

    id: str
    course: Course = field(default_factory=Course)
    result: bytes | Failure | None = None

    def ended(self, result: bytes | Failure) -> None:
        """Called with its end."""
        self.result = result


class Previews:
    """Those that run, and those that are over."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._known: dict[str, Preview] = {}

    def begin(self, view: Callable[..., bytes], *args: Any) -> Preview:
        """Compute ``view(conn, *args, course)`` in a thread."""
        while len(self._known) >= MOST:
            self.stop(next(iter(self._known)))
        preview = Preview(uuid.uuid4().hex)
        self._known[preview.id] = preview
        work = self._reader.compute(view, *args, preview.course)
        Deferred.fromCoroutine(work).addBoth(preview.ended)
        return preview

    def find(self, preview_id: str) -> Preview:
        """Raises `Refused` for one that is not known."""
        try:
            return self._known[preview_id]
        except KeyError:
            raise Refused(404, f"no preview {preview_id!r}, or it was stopped or forgotten") from None

    def stop(self, preview_id: str) -> None:
        """Stop and forget it.  Raises `Refused` for one that is not known."""
        self.find(preview_id).course.stop()
        del self._known[preview_id]
