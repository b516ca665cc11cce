# SPDX-License-Identifier: MIT
"""The ledger's counters, from what is stored so far."""

from __future__ import annotations

import json

import sqlalchemy as sa
from alembic import op

from htmengine.repository import counts, schema
from htmengine.repository.counts import MetricScore

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables that are not there, and begin the counters with what the rows say."""
    connection = op.get_bind()
    schema.metadata.create_all(connection, [schema.metric_score, schema.ledger_total])
    columns = {column["name"] for column in sa.inspect(connection).get_columns(schema.reject_count.name)}
    if "last_at" not in columns:
        op.add_column(schema.reject_count.name, sa.Column("last_at", sa.BigInteger))
    _count_received(connection)
    _count_scores(connection)


def _count_received(connection: sa.Connection) -> None:
    stored = connection.execute(sa.select(sa.func.sum(schema.metric.c.last_rowid))).scalar() or 0
    rejected = connection.execute(sa.select(sa.func.sum(schema.reject_count.c.count))).scalar() or 0
    counts.add_total(connection, counts.RECEIVED, int(stored) + int(rejected))


def _count_scores(connection: sa.Connection) -> None:
    metric, data = schema.metric.c, schema.metric_data.c
    for uid, definition in connection.execute(sa.select(metric.uid, metric.model_params)).all():
        if definition and "generation" in json.loads(definition):  # HTM Engine's own definitions have none
            of_metric = sa.and_(data.uid == uid, data.anomaly_score.is_not(None))
            scored, rowid = connection.execute(
                sa.select(sa.func.count(), sa.func.max(data.rowid)).where(of_metric)
            ).one()
            generation = json.loads(definition)["generation"]
            counts.start_scores(connection, MetricScore(uid, generation, rowid or 0, scored))
