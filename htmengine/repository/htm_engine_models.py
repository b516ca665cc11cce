# SPDX-License-Identifier: MIT
"""Models that HTM Engine made, defined again.

Its column model_params has NuPIC's descriptions of models, whose states cannot be read here.  Each becomes the
definition of a new model, which learns from all stored rows when the metric's next sample comes, and scores them.
Called after an upgrade of the schema (`migrations`), in its transaction.
"""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import Connection, and_, inspect, or_, select, update

from htmengine.errors import InvalidModelSpec
from htmengine.htm import opf
from htmengine.repository import counts
from htmengine.repository.counts import MetricScore
from htmengine.repository.queries import MetricStatus
from htmengine.repository.schema import metric

#: HTM Engine's own history of its schema; nobody else's databases are searched.
THEIR_VERSIONS = "alembic_version"
#: All definitions of ours begin so; it spares reading them.
_OUR_DEFINITION = '{"generation"'
_MODELLED = [status for status in MetricStatus if status.has_model]


def convert(conn: Connection) -> None:
    """Define the models of HTM Engine's metrics; our own stay as they are, so that it may be called again."""
    if not inspect(conn).has_table(THEIR_VERSIONS):
        return
    m = metric.c
    undescribed = and_(m.model_params.is_(None), m.status.in_(_MODELLED))
    theirs = or_(undescribed, m.model_params.not_like(f"{_OUR_DEFINITION}%"))
    for uid, status, text in conn.execute(select(m.uid, m.status, m.model_params).where(theirs)).all():
        changes = _changes(status, text)
        if changes:
            conn.execute(update(metric).where(m.uid == uid).values(changes))
        if changes.get("model_params"):
            counts.start_scores(conn, MetricScore(uid, 1))


def _changes(status: int, text: str | None) -> dict[str, Any]:
    """What the metric gets: the definition of the model that takes the place of HTM Engine's, or why there is none."""
    try:
        old = json.loads(text) if text else None
        if old and "generation" in old:
            return {}
        if not old:
            # its range is found from its rows, as that of a new metric
            return {"status": int(MetricStatus.PENDING_DATA), "model_params": None} if status in _MODELLED else {}
        params = opf.model_params(old["modelConfig"], old.get("inferenceArgs"))
    except (InvalidModelSpec, ValueError, KeyError, TypeError) as error:
        message = f"HTM Engine's model cannot be made here: {error}"
        changed = {"status": int(MetricStatus.ERROR), "message": message} if status in _MODELLED else {}
        return {"model_params": None, **changed}
    definition = json.dumps({"generation": 1, "params": params.to_json()})
    return {"model_params": definition, "status": int(MetricStatus.ACTIVE) if status in _MODELLED else status}
