# SPDX-License-Identifier: MIT
"""The first tables: made, or taken over from HTM Engine.

HTM Engine's history ended with four versions: initial tables, timestamps from TIMESTAMP to DATETIME, defaults, and the
column multi_step_best_predictions.  A database at any of them gets the columns that it lacks; its rows stay.
display_value was a whole number and becomes a real one, since it holds a log-scale score in 0..1.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from htmengine.repository import schema

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_TABLES = (
    schema.metric,
    schema.metric_data,
    schema.outbox,
    schema.processed_batch,
    schema.anomaly_state,
    schema.reject_count,
)


def upgrade() -> None:
    """Take over what is there, and make what is not."""
    connection = op.get_bind()
    there = set(sa.inspect(connection).get_table_names())
    for table in (schema.metric, schema.metric_data):
        if table.name in there:
            _take_over(table)
    schema.metadata.create_all(connection, _TABLES)


def _take_over(table: sa.Table) -> None:
    known = {column["name"]: column for column in sa.inspect(op.get_bind()).get_columns(table.name)}
    with op.batch_alter_table(table.name) as batch:
        for column in table.columns:
            if column.name not in known:
                batch.add_column(sa.Column(column.name, column.type, server_default=column.server_default))
            elif column.name in ("timestamp", "last_timestamp", "display_value", "multi_step_best_predictions"):
                batch.alter_column(
                    column.name,
                    type_=column.type,
                    existing_type=known[column.name]["type"],
                    existing_nullable=known[column.name]["nullable"],
                    existing_server_default=None,
                    server_default=None,
                )
