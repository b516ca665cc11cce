# SPDX-License-Identifier: MIT
"""The first tables: made, or taken over from HTM Engine.

HTM Engine's history ended with four versions: initial tables, timestamps from TIMESTAMP to DATETIME, defaults, and the
column multi_step_best_predictions.  A database at any of them gets the columns that it lacks; its rows stay.
display_value was a whole number and becomes a real one, since it holds a log-scale score in 0..1.  What names
metrics is compared byte by byte from now on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op

from htmengine.errors import RepositoryError
from htmengine.repository import schema

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_TABLES = (
    schema.metric,
    schema.metric_data,
    schema.instance_status_history,
    schema.lock,
    schema.outbox,
    schema.processed_batch,
    schema.anomaly_state,
    schema.reject_count,
)


def upgrade() -> None:
    """Take over what is there, and make what is not."""
    connection = op.get_bind()
    there = [table for table in _TABLES if sa.inspect(connection).has_table(table.name)]
    if connection.dialect.name == "mysql":
        _convert_characters(connection, there)
    for table in there:
        _take_over(connection, table)
    if schema.metric in there:
        _make_names_unique(connection)
    schema.metadata.create_all(connection, _TABLES)


def _convert_characters(connection: sa.Connection, tables: Sequence[sa.Table]) -> None:
    """Give MySQL's tables the characters of ours: else foreign keys between them would not fit.

    What a foreign key uses cannot be converted, so they are made anew.  The row format is for an index on whole names.
    """
    inspector = sa.inspect(connection)
    for table in tables:
        for key in inspector.get_foreign_keys(table.name):
            op.drop_constraint(str(key["name"]), table.name, type_="foreignkey")
    for table in tables:
        characters = "CONVERT TO CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
        op.execute(f"ALTER TABLE `{table.name}` {characters}, ROW_FORMAT=DYNAMIC")
    if schema.metric_data in tables:
        op.create_foreign_key(None, "metric_data", "metric", ["uid"], ["uid"], ondelete="CASCADE")


def _take_over(connection: sa.Connection, table: sa.Table) -> None:
    inspector = sa.inspect(connection)
    known = {column["name"]: column for column in inspector.get_columns(table.name)}
    indexes = {index["name"] for index in inspector.get_indexes(table.name)}
    with op.batch_alter_table(table.name) as batch:
        for column in table.columns:
            if column.name not in known:
                batch.add_column(sa.Column(column.name, column.type, server_default=column.server_default))
            elif _differs(connection, column.type, known[column.name]["type"]):
                # A TIMESTAMP becomes what it was written as: both are in the connection's time zone.
                moment = isinstance(column.type, sa.DateTime)
                batch.alter_column(
                    column.name,
                    type_=column.type,
                    existing_type=known[column.name]["type"],
                    existing_nullable=known[column.name]["nullable"],
                    existing_server_default=None if moment else known[column.name]["default"],
                )
        for index in table.indexes:
            if index.name not in indexes:
                batch.create_index(str(index.name), [column.name for column in index.columns])


def _differs(connection: sa.Connection, wanted: sa.types.TypeEngine[Any], known: sa.types.TypeEngine[Any]) -> bool:
    """Whether a column needs another type.  A change copies the whole table, which may be long."""
    lengths = [getattr(each, "length", None) for each in (wanted, known)]
    kinds = [str(each.compile(dialect=connection.dialect)).split()[0].split("(")[0] for each in (wanted, known)]
    return kinds[0] != kinds[1] or (kinds[0] == "VARCHAR" and lengths[0] != lengths[1])


def _make_names_unique(connection: sa.Connection) -> None:
    """HTM Engine kept names apart with a lock, not with an index."""
    m = schema.metric.c
    doubled = sa.select(m.name).group_by(m.name, m.datasource).having(sa.func.count() > 1)
    names = sorted(connection.execute(doubled).scalars())
    if names:
        raise RepositoryError(f"metrics of the same name: {', '.join(names)}; rename or delete all but one first")
    there = {key["name"] for key in sa.inspect(connection).get_unique_constraints(schema.metric.name)}
    if "metric_name" in there:  # MySQL cannot take back what an upgrade did before it failed
        return
    with op.batch_alter_table(schema.metric.name) as batch:
        batch.create_unique_constraint("metric_name", ["name", "datasource"])
