# SPDX-License-Identifier: MIT
"""Samples that wait for earlier ones, and samples that came too late."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    known = set(sa.inspect(op.get_bind()).get_table_names())  # MySQL cannot take back what was done
    uid = sa.String(40).with_variant(mysql.VARCHAR(40, charset="utf8mb4", collation="utf8mb4_bin"), "mysql")
    number = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    if "held_sample" not in known:
        op.create_table(
            "held_sample",
            sa.Column("id", number, primary_key=True, autoincrement=True),
            sa.Column("uid", uid, sa.ForeignKey("metric.uid", ondelete="CASCADE"), nullable=False, index=True),
            sa.Column("timestamp", sa.BigInteger, nullable=False),
            sa.Column("value", sa.Double, nullable=False),
            sa.Column("kind", sa.String(1), nullable=False),
            sa.Column("started_at", sa.Double, nullable=False),
            sa.Column("due_at", sa.Double, nullable=False, index=True),
            sqlite_autoincrement=True,
        )
    if "late_sample" not in known:
        op.create_table(
            "late_sample",
            sa.Column("uid", uid, sa.ForeignKey("metric.uid", ondelete="CASCADE"), primary_key=True),
            sa.Column("timestamp", sa.BigInteger, primary_key=True, autoincrement=False),
            sa.Column("value", sa.Double, nullable=False),
        )
