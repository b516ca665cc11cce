# SPDX-License-Identifier: MIT
"""How long each metric has had no new row."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    if not sa.inspect(op.get_bind()).has_table("metric_idle"):  # MySQL cannot take back what was done
        uid = sa.String(40).with_variant(mysql.VARCHAR(40, charset="utf8mb4", collation="utf8mb4_bin"), "mysql")
        op.create_table(
            "metric_idle",
            sa.Column("uid", uid, sa.ForeignKey("metric.uid", ondelete="CASCADE"), primary_key=True),
            sa.Column("last_rowid", sa.Integer, nullable=False),
            sa.Column("idle_s", sa.Double, nullable=False),
        )
