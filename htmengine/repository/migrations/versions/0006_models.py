# SPDX-License-Identifier: MIT
"""HTM Engine's models, made anew.

Its column model_params has NuPIC's descriptions of models, whose states cannot be read here.  Each becomes the
definition of a new model, which learns from all stored rows when the metric's next sample comes, and scores them anew.
"""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa
from alembic import op

from htmengine.errors import InvalidModelSpec
from htmengine.htm.params import ModelParams
from htmengine.repository import counts, schema
from htmengine.repository.counts import MetricScore
from htmengine.repository.queries import MetricStatus

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_MODELLED = (MetricStatus.ACTIVE, MetricStatus.CREATE_PENDING)


def upgrade() -> None:
    """Give each of HTM Engine's metrics what this engine expects of it; our own stay as they are."""
    connection = op.get_bind()
    m = schema.metric.c
    query = sa.select(m.uid, m.status, m.model_params, m.last_rowid, m.last_timestamp)
    for uid, status, text, last_rowid, last_timestamp in connection.execute(query).all():
        changes = {**_tail(connection, uid, last_rowid, last_timestamp), **_model(status, text)}
        if changes:
            connection.execute(sa.update(schema.metric).where(m.uid == uid).values(changes))
        if changes.get("model_params"):
            counts.start_scores(connection, MetricScore(uid, 1))


def _tail(connection: sa.Connection, uid: str, last_rowid: int | None, last_timestamp: Any) -> dict[str, Any]:
    """The metric's newest row, if the metric does not know it."""
    data = schema.metric_data
    newest = connection.execute(
        sa.select(data.c.rowid, data.c.timestamp).where(data.c.uid == uid).order_by(data.c.rowid.desc()).limit(1)
    ).first()
    if newest is None:
        return {} if last_rowid is not None else {"last_rowid": 0}
    if (last_rowid or 0) >= newest.rowid and last_timestamp is not None and last_timestamp >= newest.timestamp:
        return {}
    return {"last_rowid": max(last_rowid or 0, newest.rowid), "last_timestamp": newest.timestamp}


def _model(status: int, text: str | None) -> dict[str, Any]:
    """The definition of the model that takes the place of HTM Engine's."""
    try:
        old = json.loads(text) if text else None
        if old and "generation" in old:
            return {}
        if not old:
            # its range is found from its rows, as that of a new metric
            return {"status": int(MetricStatus.PENDING_DATA), "model_params": None} if status in _MODELLED else {}
        params = ModelParams.from_opf(old["modelConfig"], old.get("inferenceArgs"))
    except (InvalidModelSpec, ValueError, KeyError, TypeError) as error:
        message = f"HTM Engine's model cannot be made here: {error}"
        changed = {"status": int(MetricStatus.ERROR), "message": message} if status in _MODELLED else {}
        return {"model_params": None, **changed}
    definition = json.dumps({"generation": 1, "params": params.to_json()})
    return {"model_params": definition, "status": int(MetricStatus.ACTIVE) if status in _MODELLED else status}
