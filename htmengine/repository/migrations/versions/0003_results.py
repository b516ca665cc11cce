# SPDX-License-Identifier: MIT
"""The anomalies of all metrics, from the scores that are stored, and the log of results, which begins now."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from htmengine.repository import schema

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

#: The default of [anomaly_likelihood] anomaly_floor.
_FLOOR = 0.99


def upgrade() -> None:
    """Make the tables, and list the anomalies that there are."""
    connection = op.get_bind()
    schema.metadata.create_all(connection, [schema.anomaly, schema.result_log])
    names = ("uid", "rowid", "timestamp", "metric_value", "anomaly_score")
    data = schema.metric_data.c
    great = sa.select(*(data[name] for name in names)).where(data.anomaly_score >= _FLOOR)
    connection.execute(sa.insert(schema.anomaly).from_select(names, great))
