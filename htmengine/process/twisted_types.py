# SPDX-License-Identifier: MIT
"""What the services ask of a reactor, as a type: the real one, or a `MemoryReactorClock` in tests.

Twisted describes its reactors by zope interfaces, which type checkers do not understand.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol


class Timer(Protocol):
    """What `Clock.callLater` returns."""

    def cancel(self) -> None: ...
    def active(self) -> bool: ...


class Clock(Protocol):
    """Time."""

    def seconds(self) -> float: ...
    def callLater(self, delay: float, callable: Callable[..., Any], *args: Any) -> Any: ...


class Reactor(Clock, Protocol):
    """Time, sockets, processes and threads."""

    def listenTCP(self, port: int, factory: Any, backlog: int = ..., interface: str = ...) -> Any: ...
    def listenUDP(self, port: int, protocol: Any, interface: str = ..., maxPacketSize: int = ...) -> Any: ...
    def spawnProcess(
        self, processProtocol: Any, executable: Any, args: Any, env: Any, *, childFDs: dict[int, Any]
    ) -> Any: ...
    def callFromThread(self, callable: Callable[..., Any], *args: Any) -> Any: ...
