# SPDX-License-Identifier: MIT
"""How an engine is doing, stage by stage: what waits in queues, rows a second, how far behind it is, what is wrong.

In: the queues' lengths from the bus, and the ledger's counters from the database, twice.  Out: a `Status`, for
``htmengine status``.  Nothing is asked of the services, so it works for both deployments, and when they are down.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from sqlalchemy import Connection

from htmengine.bus.interface import Bus
from htmengine.errors import UnroutableMessage
from htmengine.ledger import Ledger, read_ledger
from htmengine.repository import counts, troubles
from htmengine.repository.engine import Database
from htmengine.repository.troubles import Trouble


@dataclass(frozen=True, slots=True)
class Queues:
    """The queues before each stage, and the one by which schedulers count each other."""

    samples: str
    model_input: Sequence[str]
    results: str
    schedulers: str


@dataclass(frozen=True, slots=True)
class Lengths:
    """Messages that wait; None: there is no such queue yet.  On RabbitMQ without those that a service has taken."""

    samples: int | None
    model_input: int | None  #: of all shards
    results: int | None


@dataclass(frozen=True, slots=True)
class Status:
    """An engine at one moment; the rates are of the seconds before it."""

    lengths: Lengths
    schedulers: int | None  #: that share the shards; None: an embedded engine's, or there never was one
    metrics: Mapping[str, int]  #: by status
    received_per_s: float
    stored_per_s: float
    scored_per_s: float
    waiting: int  #: rows that a model has not scored yet
    lag_s: float | None  #: of the metric that is furthest behind, to the newest stored sample; None: not known
    newest_stored: int | None  #: epoch seconds
    newest_scored: int | None
    troubles: Sequence[Trouble] = ()

    def to_json(self) -> dict[str, Any]:
        """As ``htmengine status --json`` prints it."""
        return asdict(self)


async def read_status(
    bus: Bus, database: Database, queues: Queues, *, seconds: float, sleep: Callable[[float], Awaitable[None]]
) -> Status:
    """Look twice, ``seconds`` apart."""
    before = await database.read(read_ledger, None)
    await sleep(seconds)
    now, furthest, metrics, found = await database.read(_read)
    lengths = Lengths(
        await queue_length(bus, [queues.samples]),
        await queue_length(bus, queues.model_input),
        await queue_length(bus, [queues.results]),
    )
    schedulers = await _schedulers(bus, queues.schedulers)
    return replace(sum_up(before, now, seconds, lengths, metrics, schedulers, furthest), troubles=found)


async def queue_length(bus: Bus, names: Sequence[str]) -> int | None:
    """Of several queues together; None if one is missing."""
    try:
        return sum([await bus.depth(name) for name in names])
    except UnroutableMessage:
        return None


def sum_up(
    before: Ledger,
    now: Ledger,
    seconds: float,
    lengths: Lengths,
    metrics: Mapping[str, int],
    schedulers: int | None,
    furthest: int | None,
) -> Status:
    """The status from two looks at the ledger, and from `counts.furthest_behind`.

    >>> before = Ledger(None, received=100, stored=90, rejected={"timestamp_old": 10}, scored=50, waiting=40)
    >>> now = Ledger(None, received=160, stored=150, rejected={"timestamp_old": 10}, scored=70, waiting=80,
    ...              newest_stored=1000, newest_scored=700)
    >>> status = sum_up(before, now, 2.0, Lengths(0, 3, 0), {"ACTIVE": 5}, schedulers=1, furthest=700)
    >>> (status.received_per_s, status.stored_per_s, status.scored_per_s, status.waiting, status.lag_s)
    (30.0, 30.0, 10.0, 80, 300.0)
    """
    stored, scored = now.newest_stored, now.newest_scored
    return Status(
        lengths=lengths,
        schedulers=schedulers,
        metrics=metrics,
        received_per_s=(now.received - before.received) / seconds,
        stored_per_s=(now.stored - before.stored) / seconds,
        # a new model begins at 0, and its metric's rows are no longer counted as scored
        scored_per_s=max(now.scored - before.scored, 0) / seconds,
        waiting=now.waiting,
        lag_s=_lag_s(now, furthest, lengths.samples or 0),
        newest_stored=stored,
        newest_scored=scored,
    )


def _lag_s(now: Ledger, furthest: int | None, samples: int) -> float | None:
    """Never 0 while rows wait, or messages of samples that are not rows yet."""
    if now.newest_stored is None or now.newest_scored is None:
        return None
    if not now.waiting:
        return None if samples else 0.0
    return None if furthest is None else float(now.newest_stored - furthest)


def queue_samples(lengths: Lengths, now: int) -> list[str]:
    """The queues' lengths as Graphite lines, for the engine's own use.

    >>> queue_samples(Lengths(samples=4, model_input=0, results=None), 1700000000)
    ['htmengine.queues.samples.messages 4 1700000000', 'htmengine.queues.model_input.messages 0 1700000000']
    """
    return [f"htmengine.queues.{name}.messages {n} {now}" for name, n in asdict(lengths).items() if n is not None]


async def _schedulers(bus: Bus, group: str) -> int | None:
    try:
        return await bus.members(group)
    except UnroutableMessage:
        return None


def _read(conn: Connection) -> tuple[Ledger, int | None, dict[str, int], list[Trouble]]:
    return read_ledger(conn, None), counts.furthest_behind(conn), counts.metrics_by_status(conn), troubles.list_of(conn)
