# SPDX-License-Identifier: MIT
"""What users do with metrics, whole: the change in the database and the message to the model.

In: requests from the client library, the command line and the HTTP API.  Out: rows of the table metric, messages
in the model input queues and the samples queue.  A message for a model is written to the outbox in the transaction
that it belongs to, so that a crash before it is published delays it only.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from sqlalchemy import Connection

from htmengine.adapters.datasource import custom, models
from htmengine.adapters.datasource.custom import ModelSpec, Rebuild, Repair
from htmengine.bus.interface import SAMPLES_LIMITS, Bus
from htmengine.evidence.model_file import ModelFile
from htmengine.gaps import NO_FILLING, GapRules
from htmengine.ledger import Ledger, read_ledger
from htmengine.messages import MAX_FUTURE_S, Reject, SampleBatch, encode_samples, in_messages
from htmengine.repository import joining, queries, snapshots
from htmengine.repository.audit import Act, record
from htmengine.repository.engine import Database
from htmengine.repository.joining import JoinRules
from htmengine.repository.queries import Metric, OutboxMessage
from htmengine.repository.row_spans import WindowAt
from htmengine.repository.snapshots import Snapshot
from htmengine.sharding import ShardQueues

#: What a change is about: it has a ``uid``, whose shard's queue its messages go to.
Changed = TypeVar("Changed", Metric, Snapshot, Repair, Rebuild)


@dataclass(frozen=True, slots=True)
class Operations:
    """The operations on metrics, on one database and bus."""

    database: Database
    bus: Bus
    shards: ShardQueues
    samples_queue: str
    pending_samples: int = 288
    max_future_s: float = MAX_FUTURE_S
    unlearnt_windows: Callable[[Connection], WindowAt | None] = lambda conn: None
    gaps: GapRules = NO_FILLING
    who: str = "a client of the library"  #: for the audit

    def by(self, who: str) -> Operations:
        """The same, done by somebody."""
        return replace(self, who=who)

    async def create(self, spec: ModelSpec) -> Metric:
        """A new metric without a model.  Raises `MetricExists`."""

        def change(conn: Connection) -> Metric:
            metric = custom.create_metric(conn, spec)
            record(conn, Act(time.time(), self.who, "created a metric", metric.name))
            return metric

        return await self.database.run(change)

    async def monitor(self, spec: ModelSpec) -> Metric:
        """Give a metric a model; one that does not exist is created.

        Raises `MetricNotFound` for an unknown uid.
        """

        def change(conn: Connection) -> tuple[Metric, list[bytes]]:
            return custom.monitor_metric(conn, spec, self.pending_samples)

        return await self._change(change, "monitored a metric")

    async def unmonitor(self, name: str) -> Metric:
        """Stop a metric's model; its rows stay.  Raises `MetricNotFound`."""

        def change(conn: Connection) -> tuple[Metric, list[bytes]]:
            metric = queries.find_metric(conn, name, lock=True)
            message = custom.unmonitor_metric(conn, metric)
            return queries.get_metric(conn, metric.uid), [message]

        return await self._change(change, "unmonitored a metric", name)

    async def delete(self, name: str) -> Metric:
        """Remove a metric, its rows and its model.  Raises `MetricNotFound`."""

        def change(conn: Connection) -> tuple[Metric, list[bytes]]:
            metric = queries.find_metric(conn, name, lock=True)
            return metric, [custom.delete_metric(conn, metric)]

        return await self._change(change, "deleted a metric", name)

    async def repair(self, name: str) -> Repair:
        """Remove a metric's rows that are ahead of the clock, so that it takes samples again.

        Raises `MetricNotFound`.
        """
        latest = int(time.time() + self.max_future_s)

        def change(conn: Connection) -> tuple[Repair, list[bytes]]:
            return custom.repair_metric(conn, queries.find_metric(conn, name, lock=True), latest)

        return await self._change(change, "repaired a metric", name)

    async def rebuild(self, name: str) -> Rebuild:
        """Make rows of a metric's late samples, and its model again from the first row.  Raises `MetricNotFound`."""

        def change(conn: Connection) -> tuple[Rebuild, list[bytes]]:
            metric = queries.find_metric(conn, name, lock=True)
            rules = JoinRules(self.unlearnt_windows(conn), self.gaps)
            return custom.rebuild_metric(conn, metric, self.pending_samples, int(time.time()), rules)

        return await self._change(change, "rebuilt a metric", name)

    async def load(self, name: str, samples: Sequence[tuple[int, float]], *, monitor: bool) -> int:
        """Keep samples for a metric's next rebuild, but those whose times have rows; how many have none.

        A metric that does not exist is created; with ``monitor`` it gets a model.
        """

        def change(conn: Connection) -> int:
            spec = ModelSpec.for_name(name)
            found = queries.find_metrics(conn, [str(spec.name)], lock=True).get(str(spec.name))
            metric = found or custom.create_metric(conn, spec, monitor=monitor)
            return joining.stage(conn, metric.uid, samples)

        return await self.database.run(change)

    async def late_metrics(self) -> list[str]:
        """Names of the metrics that have late samples."""
        return await self.database.read(joining.late_metrics)

    async def snapshot_model(self, name: str) -> Snapshot:
        """Ask for a snapshot of a metric's model; it is ready when the model has run all rows that are stored now.

        Raises `MetricNotFound`, `ModelNotFound`.
        """

        def change(conn: Connection) -> tuple[Snapshot, list[bytes]]:
            snapshot, message = models.snapshot_model(conn, queries.find_metric(conn, name), int(time.time()))
            return snapshot, [message]

        return await self._change(change, "snapshot of a model", name)

    async def snapshots(self, name: str) -> list[Snapshot]:
        """A metric's snapshots, the oldest first.  Raises `MetricNotFound`."""

        def read(conn: Connection) -> list[Snapshot]:
            return snapshots.list_of(conn, queries.find_metric(conn, name).uid)

        return await self.database.read(read)

    async def revert_model(self, name: str, *, version: int | None = None, replay: bool = False) -> Metric:
        """Let a metric's model go on from a snapshot, by default the newest; see `models.revert_model`.

        Raises `MetricNotFound`, `SnapshotNotFound`.
        """

        def change(conn: Connection) -> tuple[Metric, list[bytes]]:
            metric, message = models.revert_model(
                conn, queries.find_metric(conn, name, lock=True), version, replay=replay
            )
            return metric, [message]

        return await self._change(change, "reverted a model", name)

    async def clone_model(self, name: str, new: str, *, version: int | None = None) -> Metric:
        """Give the metric ``new``, which may not have a model, a copy of a snapshot of another one's.

        Raises `MetricNotFound`, `SnapshotNotFound`, `ModelExists`, `InvalidModelSpec`.
        """

        def change(conn: Connection) -> tuple[Metric, list[bytes]]:
            metric, message = models.clone_model(conn, queries.find_metric(conn, name), version, new)
            return metric, [message]

        return await self._change(change, "cloned a model", name)

    async def export_model(self, name: str, *, version: int | None = None) -> bytes:
        """A snapshot as a file (`htmengine.evidence.model_file`).  Raises `MetricNotFound`, `SnapshotNotFound`."""

        def read(conn: Connection) -> ModelFile:
            return models.export_model(conn, queries.find_metric(conn, name), version)

        return (await self.database.read(read)).pack()

    async def import_model(self, data: bytes, name: str | None = None) -> Metric:
        """Give a metric without a model an exported one.

        Raises `CheckpointError`, `ModelExists`, `InvalidModelSpec`.
        """
        file = ModelFile.unpack(data)

        def change(conn: Connection) -> tuple[Metric, list[bytes]]:
            metric, message = models.import_model(conn, file, name)
            return metric, [message]

        return await self._change(change, "imported a model")

    async def ledger(self, name: str | None = None) -> Ledger:
        """Where the samples of a metric, or of the whole engine, are.  Raises `MetricNotFound`."""

        def read(conn: Connection) -> Ledger:
            return read_ledger(conn, name)

        return await self.database.read(read)

    async def send(self, lines: Iterable[str], sender: str = "") -> None:
        """Samples as lines ``name value timestamp``; fires when they are durable in the samples queue."""
        await self.send_batches(
            SampleBatch(part, senders=[(sender, len(part))] if sender else []) for part in in_messages(lines)
        )

    async def tell_rejects(self, counts: Mapping[str, int], shown: Sequence[Reject]) -> None:
        """Have samples counted, by reason, that were rejected before they were sent; some of them are ``shown``."""
        await self.send_batches([SampleBatch([], rejected=dict(counts), rejects=list(shown))])

    async def send_batches(self, batches: Iterable[SampleBatch]) -> None:
        """Batches, a message each; fires when they are durable in the samples queue."""
        await self.bus.declare_queue(self.samples_queue, limits=SAMPLES_LIMITS)
        for batch in batches:
            await self.bus.publish(self.samples_queue, [encode_samples(batch)])

    async def _change(
        self, change: Callable[[Connection], tuple[Changed, list[bytes]]], what: str, name: str | None = None
    ) -> Changed:
        """One transaction, then its messages.  ``what`` is done with the metric ``name``, for the audit."""
        changed, outbox = await self.database.run(self._with_outbox, change, what, name)
        for message in outbox:
            await self.bus.declare_queue(message.queue)
            await self.bus.publish(message.queue, [message.body])
        await self.database.run(queries.delete_outbox, [message.id for message in outbox])
        return changed

    def _with_outbox(
        self,
        conn: Connection,
        change: Callable[[Connection], tuple[Changed, list[bytes]]],
        what: str,
        name: str | None,
    ) -> tuple[Changed, list[OutboxMessage]]:
        changed, bodies = change(conn)
        about = name or (changed.name if isinstance(changed, Metric) else changed.uid)
        record(conn, Act(time.time(), self.who, what, about))
        queue = self.shards.queue_of(changed.uid)
        return changed, queries.add_outbox(conn, [(queue, body) for body in bodies])
