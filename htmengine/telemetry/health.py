# SPDX-License-Identifier: MIT
"""Whether a process is alive, and whether it can do its work now.

In: the probes of the process's parts.  Out: a `Report` for ``/healthz`` and ``/readyz``, each check by its name, and
how many troubles the operator should look at.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from sqlalchemy import Connection, text
from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferTimeout

from htmengine.bus.interface import Bus
from htmengine.errors import UnroutableMessage
from htmengine.process.probes import Probe
from htmengine.process.twisted_types import Clock, within
from htmengine.repository.engine import Database

T = TypeVar("T")

#: The check of the watchdog for progress.
PROGRESS = "progress"
#: A probe that has not ended then has failed.
PROBE_S = 3.0
#: Whoever asks whether a process is alive may not wait long: a database that is slower has told of no troubles.
TROUBLES_S = 0.5


@dataclass(frozen=True, slots=True)
class Report:
    """The checks by name; "" stands for one that passes, else the text says why not."""

    checks: dict[str, str]
    troubles: int | None = None  #: the engine goes on with them; None: not known

    @property
    def ok(self) -> bool:
        """Whether all pass."""
        return not any(self.checks.values())

    @property
    def status(self) -> str:
        """In one word; degraded: all works, and something stands still."""
        wrong = {name for name, why in self.checks.items() if why}
        return "failing" if wrong - {PROGRESS} else "degraded" if wrong else "ok"

    def to_json(self) -> dict[str, Any]:
        """For HTTP.

        >>> Report({"bus": "", "database": "no answer within 3 s"}).to_json()["status"]
        'failing'
        >>> Report({"bus": "", "progress": "storing samples since 10:02"}).to_json()["status"]
        'degraded'
        """
        return {
            "status": self.status,
            "checks": {name: {"ok": not why, "detail": why} for name, why in self.checks.items()},
            **({} if self.troubles is None else {"troubles": self.troubles}),
        }


@dataclass(frozen=True, slots=True)
class Health:
    """A process's checks.  When an ``alive`` one fails only a restart helps; a ``ready`` one may pass again."""

    clock: Clock
    alive: dict[str, Probe] = field(default_factory=dict)
    ready: dict[str, Probe] = field(default_factory=dict)
    count_troubles: Callable[[], Awaitable[int]] | None = None

    async def aliveness(self) -> Report:
        """Whether the process has not failed, and the engine's troubles."""
        report = await self._report(self.alive)
        return replace(report, troubles=await self._troubles())

    async def readiness(self) -> Report:
        """Whether it can work."""
        return await self._report({**self.alive, **self.ready})

    async def _troubles(self) -> int | None:
        if self.count_troubles is None:
            return None
        with contextlib.suppress(Exception):  # what is wrong with the database, `readiness` tells
            return await within(Deferred.fromCoroutine(_coroutine(self.count_troubles)), TROUBLES_S, self.clock)
        return None

    async def _report(self, probes: dict[str, Probe]) -> Report:
        # All begin before any is waited for: together they take as long as the slowest.
        running = {name: Deferred.fromCoroutine(self._why_not(probe)) for name, probe in probes.items()}
        return Report({name: await result for name, result in running.items()})

    async def _why_not(self, probe: Probe) -> str:
        try:
            await within(Deferred.fromCoroutine(_coroutine(probe)), PROBE_S, self.clock)
        except DeferTimeout:
            return f"no answer within {PROBE_S:g} s"
        except Exception as error:
            return str(error) or type(error).__name__
        return ""


async def _coroutine(ask: Callable[[], Awaitable[T]]) -> T:
    return await ask()


def bus_answers(bus: Bus, queue: str) -> Probe:
    """The bus can be asked about a queue, whether that exists or not."""

    async def probe() -> None:
        with contextlib.suppress(UnroutableMessage):
            await bus.depth(queue)

    return probe


def database_answers(database: Database) -> Probe:
    """The database does what it is asked."""

    def ask(conn: Connection) -> None:
        conn.execute(text("SELECT 1"))

    async def probe() -> None:
        await database.read(ask)

    return probe
