# SPDX-License-Identifier: MIT
"""What can be done with a metric's model as a whole: snapshot, revert, clone, export, import.

In: requests from `htmengine.operations`.  Out: rows of the tables metric and model_snapshot, and messages for the
models, which the caller publishes after its transaction.  Each function is synchronous, takes ``conn`` first
and runs in the caller's transaction.

A model that starts from a snapshot is a new generation like any other: its definition names the snapshot and the row
after which it goes on.  So it can be made again at any time, from the snapshot and the rows after that one.
"""

from __future__ import annotations

import json
import uuid
from typing import Any

from sqlalchemy import Connection

from htmengine.adapters.datasource import custom
from htmengine.adapters.datasource.custom import ModelSpec
from htmengine.errors import ModelExists, ModelNotFound, ModelYoung
from htmengine.evidence.model_file import ModelFile
from htmengine.messages import (
    CLONE_MODEL,
    DEFINE_MODEL,
    SNAPSHOT_MODEL,
    CommandArgs,
    Method,
    ModelCommand,
    encode_model_command,
)
from htmengine.repository import counts, queries, results, snapshots
from htmengine.repository.counters import learn_texts
from htmengine.repository.counts import MetricScore
from htmengine.repository.queries import Definition, Metric, MetricStatus
from htmengine.repository.snapshots import SavedModel, Snapshot

#: Statuses in which a metric has no model that another could take the place of; of a young one it may.
WITHOUT_MODEL = frozenset(
    {MetricStatus.UNMONITORED, MetricStatus.PENDING_DATA, MetricStatus.CONSTANT, MetricStatus.EXPIRED}
)


def snapshot_model(conn: Connection, metric: Metric, now: int) -> tuple[Snapshot, bytes]:
    """Ask for the model as it is after all rows that are stored now.  Raises `ModelNotFound`, `ModelYoung`."""
    definition = metric.definition
    if not metric.status.has_model or definition is None:
        raise ModelNotFound(metric.name, metric.status.name)
    if definition.young:
        raise ModelYoung(metric.name, metric.last_rowid, definition.early)
    snapshot = snapshots.add(conn, metric, definition.params, definition.generation, now)
    args = CommandArgs(version=snapshot.version, upTo=metric.last_rowid)
    return snapshot, _command(SNAPSHOT_MODEL, metric.uid, definition.generation, args)


def revert_model(conn: Connection, metric: Metric, version: int | None, *, replay: bool) -> tuple[Metric, bytes]:
    """Go on from a snapshot: with the rows that are not scored yet, or (``replay``) with all rows after it again.

    What the model has learnt since the snapshot is forgotten; without ``replay`` scores that are stored stay.
    Raises `SnapshotNotFound`.
    """
    snapshot = snapshots.find(conn, metric, version)
    assert snapshot.rowid is not None
    now = counts.get_scores(conn, [metric.uid]).get(metric.uid)
    if replay or now is None or now.rowid < snapshot.rowid:
        start = MetricScore(metric.uid, 0, snapshot.rowid, snapshot.scored or 0)
        results.forget_anomalies(conn, metric.uid, after=snapshot.rowid)
    else:
        start = now
    return _start(conn, metric, snapshot, start, DEFINE_MODEL)


def clone_model(conn: Connection, source: Metric, version: int | None, name: str) -> tuple[Metric, bytes]:
    """Give a metric, new or without a model, a copy of another one's model, from a snapshot.

    It goes on with the samples that come from now on.  Raises `SnapshotNotFound`, `ModelExists`.
    """
    snapshot = snapshots.find(conn, source, version)
    state = snapshots.state_of(conn, source.uid, snapshot.version)
    assert state is not None
    return _adopt(conn, custom.export_spec(source), name, snapshot.params, state, CLONE_MODEL, snapshot.created_at)


def export_model(conn: Connection, metric: Metric, version: int | None) -> ModelFile:
    """A snapshot with all that it needs elsewhere.  Raises `SnapshotNotFound`."""
    snapshot = snapshots.find(conn, metric, version)
    state = snapshots.state_of(conn, metric.uid, snapshot.version)
    assert state is not None
    learn_texts(conn, [metric.name])
    return ModelFile(custom.export_spec(metric), snapshot.params, snapshot.created_at, state.model, state.likelihood)


def import_model(conn: Connection, file: ModelFile, name: str | None) -> tuple[Metric, bytes]:
    """Give a metric, new or without a model, an exported model; by default one of the exported metric's name.

    It goes on with the samples that come from now on.  Raises `ModelExists`, `InvalidModelSpec`.
    """
    spec = ModelSpec.parse(file.spec)
    state = SavedModel(file.model, file.likelihood)
    return _adopt(
        conn, file.spec, name or spec.long_text or str(spec.name), file.params, state, DEFINE_MODEL, file.created_at
    )


# --- parts ----------------------------------------------------------------------------------------------


def _adopt(
    conn: Connection,
    spec: dict[str, Any],
    name: str,
    params: dict[str, Any],
    state: SavedModel,
    method: Method,
    created_at: int,
) -> tuple[Metric, bytes]:
    """A model that comes from elsewhere becomes this metric's, as its next snapshot and a definition from it."""
    source = {**spec, "metricSpec": {**spec["metricSpec"], "metric": name}}
    parsed = ModelSpec.parse(source)
    found = queries.find_metrics(conn, [str(parsed.name)]).get(str(parsed.name))
    metric = found or custom.create_metric(conn, parsed)
    if metric.status not in WITHOUT_MODEL and not (metric.definition is not None and metric.definition.young):
        raise ModelExists(metric.name)
    queries.set_parameters(conn, metric.uid, json.dumps(source))
    snapshot = snapshots.add(conn, metric, params, _next_generation(metric), created_at)
    snapshots.fill(conn, metric.uid, snapshot.version, metric.last_rowid, 0, state)
    snapshot = snapshots.find(conn, metric, snapshot.version)
    return _start(conn, metric, snapshot, MetricScore(metric.uid, 0, metric.last_rowid), method)


def _start(
    conn: Connection, metric: Metric, snapshot: Snapshot, start: MetricScore, method: Method
) -> tuple[Metric, bytes]:
    """A new generation that goes on from a snapshot, after the row ``start.rowid``."""
    generation = _next_generation(metric)
    definition = Definition(generation, snapshot.params, snapshot.version, start.rowid)
    queries.set_definition(conn, metric.uid, definition, MetricStatus.CREATE_PENDING)
    counts.start_scores(conn, start._replace(generation=generation))
    message = _command(method, metric.uid, generation, {"upTo": metric.last_rowid})
    return queries.get_metric(conn, metric.uid), message


def _next_generation(metric: Metric) -> int:
    return metric.definition.generation + 1 if metric.definition else 1


def _command(method: Method, uid: str, generation: int, args: CommandArgs) -> bytes:
    return encode_model_command(ModelCommand(method, uid, generation, uuid.uuid4().hex, args))
