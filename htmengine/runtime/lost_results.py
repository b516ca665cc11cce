# SPDX-License-Identifier: MIT
"""Results that never came: a model has gone on after rows that have no raw score.

In: where the Anomaly Service finds rows without one, though a model's results come in order.  Out: a new generation of
the model, which is made again from its first row.  The results may have gone with a queue that was purged, or with a
database that is older than the checkpoint of which the model went on.  A model cannot run a row twice.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from sqlalchemy import Connection

from htmengine.adapters.datasource import custom
from htmengine.bus.interface import Bus
from htmengine.repository import queries
from htmengine.repository.engine import Database
from htmengine.repository.queries import MetricStatus, OutboxMessage
from htmengine.sharding import ShardQueues

#: A model is made again so often because of the same rows.
TRIES = 3


@dataclass(frozen=True, slots=True)
class Gap:
    """Some of the rows after ``after``, up to ``last``, have no raw score, and none comes."""

    name: str
    generation: int
    after: int
    last: int

    def __str__(self) -> str:
        return f"results of {self.name} were lost: of rows {self.after + 1} to {self.last}, or of some of them"


class LostResults:
    """Has models made again; one that does not get past the same row puts its metric into ERROR."""

    def __init__(self, bus: Bus, database: Database, shards: ShardQueues) -> None:
        self._bus = bus
        self._database = database
        self._shards = shards
        self._tries: Counter[tuple[str, int]] = Counter()  #: by uid and the row after which results are lost

    async def make_again(self, uid: str, gap: Gap) -> None:
        """In a transaction of its own, with the message in the outbox."""
        self._tries[uid, gap.after] += 1
        if self._tries[uid, gap.after] > TRIES:
            await self._database.run(queries.set_status, uid, MetricStatus.ERROR, f"again and again, {gap}")
            return
        outbox = await self._database.run(_make_again, uid, gap.generation, self._shards.queue_of(uid))
        for message in outbox:
            await self._bus.declare_queue(message.queue)
            await self._bus.publish(message.queue, [message.body])
        await self._database.run(queries.delete_outbox, [message.id for message in outbox])


def _make_again(conn: Connection, uid: str, generation: int, queue: str) -> list[OutboxMessage]:
    body = custom.make_model_again(conn, uid, generation)
    return [] if body is None else queries.add_outbox(conn, [(queue, body)])
