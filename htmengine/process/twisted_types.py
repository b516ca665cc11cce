# SPDX-License-Identifier: MIT
"""What the services ask of a reactor, as types: the real one, or a `MemoryReactorClock` in tests.

Twisted describes its reactors by zope interfaces, which type checkers do not understand.  So the functions of
Twisted that take a reactor are called here, and `for_twisted` is for its classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, Protocol, TypeVar, cast

from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.error import CannotListenError
from twisted.internet.task import LoopingCall, deferLater
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from htmengine.errors import StartError

P = ParamSpec("P")
T = TypeVar("T")


class Timer(Protocol):
    """What `Clock.callLater` returns."""

    def cancel(self) -> None: ...
    def active(self) -> bool: ...


class Clock(Protocol):
    """Time."""

    def seconds(self) -> float: ...
    def callLater(self, delay: float, callable: Callable[..., Any], *args: Any) -> Any: ...


class Reactor(Clock, Protocol):
    """Time, sockets, processes, threads, and its own life."""

    @property
    def running(self) -> bool: ...
    def run(self, installSignalHandlers: bool = ...) -> None: ...
    def stop(self) -> Any: ...
    def runUntilCurrent(self) -> None: ...
    def getDelayedCalls(self) -> Sequence[Any]: ...
    def callWhenRunning(self, callable: Callable[..., Any], *args: Any, **kw: Any) -> Any: ...
    def addSystemEventTrigger(self, phase: str, eventType: str, callable: Callable[..., Any], *args: Any) -> Any: ...
    def removeSystemEventTrigger(self, triggerID: Any) -> None: ...
    def getThreadPool(self) -> ThreadPool: ...
    def listenTCP(self, port: int, factory: Any, backlog: int = ..., interface: str = ...) -> Any: ...
    def listenSSL(
        self, port: int, factory: Any, contextFactory: Any, backlog: int = ..., interface: str = ...
    ) -> Any: ...
    def listenUDP(self, port: int, protocol: Any, interface: str = ..., maxPacketSize: int = ...) -> Any: ...
    def connectTCP(self, host: str, port: int, factory: Any, timeout: float | None = ...) -> Any: ...
    def connectSSL(
        self, host: str, port: int, factory: Any, contextFactory: Any, timeout: float | None = ...
    ) -> Any: ...
    def spawnProcess(
        self, processProtocol: Any, executable: Any, args: Any, env: Any, *, childFDs: dict[int, Any]
    ) -> Any: ...


def installed_reactor() -> Reactor:
    """The process's reactor, which is chosen when it is first asked for."""
    from twisted.internet import reactor

    return cast("Reactor", reactor)


def for_twisted(reactor: Clock) -> Any:
    """The same reactor or clock, for what Twisted has declared to take one of its interfaces."""
    return reactor


def later(clock: Clock, seconds: float) -> Deferred[None]:
    """Fires after this time; can be cancelled."""
    return deferLater(for_twisted(clock), seconds)


def within(deferred: Deferred[T], seconds: float, clock: Clock) -> Deferred[T]:
    """The same Deferred, which is cancelled after this time.

    It then fails with Twisted's `TimeoutError`: what is cancelled may fail in ways of its own.
    """

    def too_late(_result: object, seconds: float) -> T:
        raise TimeoutError(seconds, "Deferred")

    return deferred.addTimeout(seconds, for_twisted(clock), too_late)


def every(clock: Clock, work: Callable[[], Any]) -> LoopingCall:
    """A timer, not yet started; while what ``work`` returns has not fired, it does not call again."""
    timer = LoopingCall(work)
    timer.clock = for_twisted(clock)
    return timer


def in_thread(
    reactor: Reactor, pool: ThreadPool, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs
) -> Deferred[T]:
    """The call's result, from one of the pool's threads."""
    return deferToThreadPool(for_twisted(reactor), pool, call, *args, **kwargs)


def listen(bind: Callable[[], T], address: str, remedy: str) -> T:
    """What ``bind`` returns, which listens on ``address``.  Raises `StartError` when that cannot be had."""
    try:
        return bind()
    except CannotListenError as error:
        raise StartError(f"cannot listen on {address}: {error.socketError}; {remedy}") from None
