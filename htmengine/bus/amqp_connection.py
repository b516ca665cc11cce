# SPDX-License-Identifier: MIT
"""pika's connection, with what its Twisted adapter keeps to itself: why it was closed, and that it is blocked.

The only module that uses private names of pika's (``_impl``); pyproject.toml bounds the versions that have them.
"""

from __future__ import annotations

from collections.abc import Callable

from pika.adapters.twisted_connection import TwistedProtocolConnection
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure


class AmqpConnection(TwistedProtocolConnection):
    """pika's protocol, which forgets why it was closed."""

    reason: BaseException | None = None

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.reason = (
            self.reason or self._impl._error or reason.value
        )  # what the broker said, a wrong password for example
        super().connectionLost(reason)

    def abort(self, reason: BaseException) -> None:
        """End the connection at once, whatever the broker does."""
        self.reason = reason
        self.transport.abortConnection()

    def on_blocked(self, tell: Callable[[bool], None]) -> None:
        """``tell(True)`` when the broker is short of memory or disk and takes no more, ``tell(False)`` after it."""
        self._impl.add_on_connection_blocked_callback(lambda *_: tell(True))
        self._impl.add_on_connection_unblocked_callback(lambda *_: tell(False))
