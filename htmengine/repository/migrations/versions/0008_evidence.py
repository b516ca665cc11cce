# SPDX-License-Identifier: MIT
"""The row from which a metric's scores are the evidence's, and what the evidence says of each listed row."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _add("metric_score", sa.Column("evidence_from", sa.Integer))
    long_text = sa.Text().with_variant(mysql.TEXT(charset="utf8mb4", collation="utf8mb4_bin"), "mysql")
    _add("anomaly", sa.Column("why", long_text))


def _add(table: str, column: sa.Column[object]) -> None:
    """MySQL cannot take back what an upgrade did before it failed."""
    there = {known["name"] for known in sa.inspect(op.get_bind()).get_columns(table)}
    if column.name not in there:
        op.add_column(table, column)
