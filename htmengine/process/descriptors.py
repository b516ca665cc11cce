# SPDX-License-Identifier: MIT
"""File descriptors that are used up stop no service: new clients wait until others leave.

In: the factory of a listening port.  Out: its connections, as long as descriptors are left for the database, the
workers and the checkpoints.  Used by all that listen.
"""

from __future__ import annotations

import os
import resource
from typing import Any

from twisted.internet.protocol import Factory, Protocol
from twisted.logger import Logger

from htmengine.process.seldom import Seldom
from htmengine.process.twisted_types import Clock, Timer

#: Descriptors that clients never get: these, or a third of all when they are few.
RESERVED = 64
#: How often a port that has paused looks whether some are free again.
LOOK_S = 1.0
#: How often it is told that a port has paused.
TELL_S = 3600.0


def most_for_clients() -> int:
    """The lowest descriptor that no client may have."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return limit - min(RESERVED, limit // 3) if limit != resource.RLIM_INFINITY else 1 << 62


class PausingFactory(Factory):
    """Makes another factory's connections; its ``port`` accepts no more while descriptors are short.

    Clients wait in the port's backlog meanwhile: none is accepted and closed, as the port accepts one in each turn.
    """

    noisy = False
    log = Logger()

    def __init__(self, factory: Any, clock: Clock, *, what: str) -> None:
        self._port: Any = None
        self._factory = factory
        self._clock = clock
        self._what = what
        self._most = most_for_clients()
        self._seldom = Seldom(clock.seconds, TELL_S)
        self._told = False
        self._look: Timer | None = None

    @property
    def port(self) -> Any:
        """The port that accepts."""
        return self._port

    @port.setter
    def port(self, port: Any) -> None:
        port.numberAccepts = 1
        self._port = port

    def logPrefix(self) -> str:  # noqa: N802 - Twisted's name
        """What the log calls the port."""
        return self._what

    def doStart(self) -> None:  # noqa: N802
        self._factory.doStart()

    def doStop(self) -> None:  # noqa: N802
        if self._look is not None:
            self._look.cancel()
            self._look = None
        self._factory.doStop()

    def buildProtocol(self, addr: Any) -> Protocol | None:
        self.port.numberAccepts = 0  # another number than was accepted: Twisted takes one in the next turn, too
        if not self._are_left():
            self._pause()
        protocol: Protocol | None = self._factory.buildProtocol(addr)
        return protocol

    def _are_left(self) -> bool:
        """Whether the next descriptor is one for clients: the lowest that is free is always the next."""
        try:
            descriptor = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        os.close(descriptor)
        return descriptor < self._most

    def _pause(self) -> None:
        self.port.stopReading()
        self._look = self._clock.callLater(LOOK_S, self._resume)
        self._told = self._seldom.due()
        if self._told:
            self.log.warn(
                "{what} accepts no connections for now: file descriptors are used up, but for {kept} that the engine"
                " keeps; raise the limit (ulimit -n, LimitNOFILE)",
                what=self._what,
                kept=resource.getrlimit(resource.RLIMIT_NOFILE)[0] - self._most,
            )

    def _resume(self) -> None:
        if not self._are_left():
            self._look = self._clock.callLater(LOOK_S, self._resume)
            return
        self._look = None
        self.port.startReading()
        if self._told:
            self.log.info("{what} accepts connections again", what=self._what)
