# SPDX-License-Identifier: MIT
"""Long answers on their way to clients: in pieces, at each client's pace, within a bound on what all of them hold.

In: a whole answer.  Out: its bytes.  What does not fit beside the answers on their way is refused, and a client that
reads nothing for STALLED_S is let go, so that clients that do not read cost a bounded memory for a bounded time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from twisted.web.server import Request

from htmengine.process.twisted_types import Clock
from htmengine.web.http import Flow
from htmengine.web.refused import Refused

#: Bytes that are written at once; an answer that is no longer is not counted.
PIECE = 64 * 1024
#: Bytes of all answers on their way; one alone may be longer.
MOST_HELD = 64 * 1024 * 1024
#: A client that reads nothing for this long is let go.
STALLED_S = 30.0


class Outbox:
    """Counts what is on its way."""

    def __init__(self) -> None:
        self.held = 0  #: bytes

    @contextmanager
    def place(self, size: int) -> Iterator[None]:
        """Hold those bytes.  Raises `Refused` when there is no room beside the others."""
        if self.held and self.held + size > MOST_HELD:
            raise Refused(503, "too many long answers are on their way", headers={"Retry-After": "5"})
        self.held += size
        try:
            yield
        finally:
            self.held -= size


async def write_in_pieces(request: Request, body: bytes, clock: Clock) -> None:
    """Write all of a body.  The caller is cancelled when the client goes, or is let go."""
    view = memoryview(body)
    channel: Any = request.channel
    async with Flow(request) as flow:
        for start in range(0, len(body), PIECE):
            request.write(bytes(view[start : start + PIECE]))
            room = flow.room()
            if not room.called:
                end = clock.callLater(STALLED_S, channel.transport.abortConnection)
                try:
                    await room
                finally:
                    if end.active():
                        end.cancel()
