# SPDX-License-Identifier: MIT
"""What the commands share: errors as one line and a status, the examples in ``--help``, the way to an engine."""

from __future__ import annotations

import contextlib
import functools
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import click
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from htmengine.bus.interface import QueueLimits, Subscription
from htmengine.deployment import Deployment
from htmengine.errors import HtmEngineError
from htmengine.operations import Operations
from htmengine.repository.engine import Database

P = ParamSpec("P")
T = TypeVar("T")

#: A follower that is gone leaves its queue behind for this long.
FOLLOWER_EXPIRES_S = 60.0
FOLLOWER_MESSAGES = 10_000


def example(command: str) -> str:
    """The epilogue of a command's ``--help``."""
    return f"\b\nExample:\n  {command}"


def failing_cleanly(command: Callable[P, T]) -> Callable[P, T]:
    """An error of ours, or of the operating system, is one line on standard error and status 1."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return command(*args, **kwargs)
        except (HtmEngineError, OSError) as error:
            raise click.ClickException(str(error)) from None

    return wrapped


def run_reactor(start: Callable[[Any], Coroutine[Deferred[Any], Any, T]]) -> T:
    """Run a coroutine in the reactor to its end; its result or its error."""
    from twisted.internet import reactor as installed  # the reactor is chosen when it is first imported

    reactor: Any = installed
    ended: list[T | Failure] = []
    stopping: list[bool] = []

    def begin() -> None:
        deferred = Deferred.fromCoroutine(start(reactor))
        deferred.addBoth(ended.append)
        deferred.addBoth(lambda _: stopping or reactor.callLater(0, reactor.stop))
        reactor.addSystemEventTrigger("before", "shutdown", stop, deferred)

    def stop(deferred: Deferred[Any]) -> Deferred[Any]:
        """Ctrl-C: the reactor stops when the coroutine has given back what it uses."""
        stopping.append(True)
        deferred.cancel()
        return deferred

    reactor.callWhenRunning(begin)
    reactor.run()
    if not ended or (isinstance(ended[0], Failure) and ended[0].check(CancelledError)):
        raise click.Abort
    if isinstance(ended[0], Failure):
        ended[0].raiseException()
    return ended[0]


def printable(text: str) -> str:
    """A text that others chose, such as a name from HTM Engine's database, as a terminal may show it: on one line.

    >>> printable("a\\x1b[31mb\\nc")
    'a?[31mb?c'
    """
    return "".join(sign if sign.isprintable() else "?" for sign in text)


@dataclass(frozen=True, slots=True)
class Engine:
    """The engine that a command works on, running or not: its configuration and folder."""

    deployment: Deployment

    @contextlib.contextmanager
    def database(self) -> Iterator[Database]:
        """Its database, for synchronous use."""
        database = self.deployment.database(None)
        try:
            yield database
        finally:
            database.close()

    @contextlib.asynccontextmanager
    async def operations(self, reactor: Any) -> AsyncIterator[Operations]:
        """What can be done with its metrics."""
        database = self.deployment.database(reactor)
        bus = self.deployment.bus(reactor)
        bus.startService()
        try:
            yield self.deployment.operations(bus, database)
        finally:
            await bus.stopService()
            database.close()

    @contextlib.asynccontextmanager
    async def results(self, reactor: Any) -> AsyncIterator[Subscription]:
        """What it broadcasts from now on."""
        bus = self.deployment.bus(reactor)
        bus.startService()
        queue = f"htmengine.follower.{uuid.uuid4().hex}"
        limits = QueueLimits(max_messages=FOLLOWER_MESSAGES, overflow="drop-head", expires_s=FOLLOWER_EXPIRES_S)
        exchange = self.deployment.config.metric_streamer.results_exchange_name
        try:
            await bus.declare_fanout(exchange)
            await bus.declare_queue(queue, limits=limits)
            await bus.bind(queue, exchange)
            yield await bus.subscribe(queue, prefetch=100)
            await bus.delete_queue(queue)
        finally:
            await bus.stopService()


def at_engine(engine: Engine, do: Callable[[Operations], Coroutine[Deferred[Any], Any, T]]) -> T:
    """Do one operation and wait for it."""

    async def start(reactor: Any) -> T:
        async with engine.operations(reactor) as operations:
            return await do(operations)

    return run_reactor(start)


def engine_options(command: Callable[..., T]) -> Callable[..., T]:
    """``--data-dir`` and ``--config`` become the argument ``engine``."""

    @click.option(
        "--data-dir", type=click.Path(path_type=Path), help="The engine's data folder; by default the user's."
    )
    @click.option(
        "--config",
        "config_dir",
        type=click.Path(path_type=Path),
        envvar="APPLICATION_CONFIG_PATH",
        help="The folder with application.conf and the others.",
    )
    @functools.wraps(command)
    def wrapped(*args: Any, data_dir: Path | None, config_dir: Path | None, **kwargs: Any) -> T:
        return command(*args, engine=Engine(Deployment.find(config_dir, data_dir)), **kwargs)

    return wrapped
