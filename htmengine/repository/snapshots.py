# SPDX-License-Identifier: MIT
"""Snapshots: whole states of models, kept in the database under version numbers.

A snapshot is asked for (`add`), and filled by the Anomaly Service with the model and its likelihood after the same
row (`fill`).  A metric's definition may start from one of its own snapshots; that one is never removed.  As in
`queries`, each function takes ``conn`` first and runs in the caller's transaction.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, delete, func, insert, select, update

from htmengine.errors import SnapshotNotFound
from htmengine.repository.queries import Metric
from htmengine.repository.schema import model_snapshot

#: Versions of one metric that are kept.
KEPT = 10

_HEAD = tuple(
    model_snapshot.c[name] for name in ("uid", "version", "generation", "created_at", "params", "rowid", "scored")
)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A model's state after the row ``rowid``; one without a rowid is still waited for."""

    uid: str
    version: int
    generation: int
    created_at: int  #: when it was asked for, epoch seconds
    params: dict[str, Any]
    rowid: int | None = None
    scored: int | None = None  #: rows that the model had scored

    @property
    def ready(self) -> bool:
        """Whether it can be used."""
        return self.rowid is not None


@dataclass(frozen=True, slots=True)
class SavedModel:
    """What a snapshot holds: the model and the likelihood, after the same row."""

    model: bytes
    likelihood: bytes


def add(conn: Connection, metric: Metric, params: dict[str, Any], generation: int, now: int) -> Snapshot:
    """Ask for a snapshot of a metric's current model, under the next version.

    Those of earlier models that never came are removed, and the oldest ones beyond `KEPT`.
    """
    c = model_snapshot.c
    newest = conn.execute(select(func.max(c.version)).where(c.uid == metric.uid)).scalar() or 0
    in_use = metric.definition.snapshot if metric.definition else None
    conn.execute(
        delete(model_snapshot).where(
            c.uid == metric.uid,
            (c.version <= newest + 1 - KEPT) | (c.rowid.is_(None) & (c.generation < generation)),
            c.version != (in_use or 0),
        )
    )
    values = {"generation": generation, "created_at": now, "params": json.dumps(params)}
    conn.execute(insert(model_snapshot), {"uid": metric.uid, "version": newest + 1, **values})
    return Snapshot(metric.uid, newest + 1, generation, now, params)


def fill(conn: Connection, uid: str, version: int, rowid: int, scored: int, state: SavedModel) -> None:
    """The state has come.  The first one counts; one that nobody waits for any more is let go."""
    c = model_snapshot.c
    conn.execute(
        update(model_snapshot)
        .where(c.uid == uid, c.version == version, c.rowid.is_(None))
        .values(rowid=rowid, scored=scored, model=state.model, likelihood=state.likelihood)
    )


def forget_waiting(conn: Connection, uid: str) -> None:
    """The metric's worker makes no snapshots: nothing waits for one any more."""
    c = model_snapshot.c
    conn.execute(delete(model_snapshot).where(c.uid == uid, c.rowid.is_(None)))


def list_of(conn: Connection, uid: str) -> list[Snapshot]:
    """A metric's snapshots, the oldest first."""
    c = model_snapshot.c
    return _read(conn, select(*_HEAD).where(c.uid == uid).order_by(c.version))


def find(conn: Connection, metric: Metric, version: int | None) -> Snapshot:
    """A snapshot that is ready: of that version, or the newest.  Raises `SnapshotNotFound`."""
    ready = [each for each in list_of(conn, metric.uid) if each.ready and version in (None, each.version)]
    if not ready:
        raise SnapshotNotFound(metric.name, version)
    return ready[-1]


def state_of(conn: Connection, uid: str, version: int) -> SavedModel | None:
    """What a snapshot holds; None if there is none, or it has not come yet."""
    c = model_snapshot.c
    query = select(c.model, c.likelihood).where(c.uid == uid, c.version == version, c.rowid.is_not(None))
    row = conn.execute(query).first()
    return None if row is None else SavedModel(bytes(row.model), bytes(row.likelihood))


def _read(conn: Connection, query: Select[Any]) -> list[Snapshot]:
    return [
        Snapshot(uid, version, generation, created_at, json.loads(params), rowid, scored)
        for uid, version, generation, created_at, params, rowid, scored in conn.execute(query)
    ]
