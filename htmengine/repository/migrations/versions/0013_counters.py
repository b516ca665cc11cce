# SPDX-License-Identifier: MIT
"""The last sample of each counter, and the whole texts of metrics with many labels."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    known = set(sa.inspect(op.get_bind()).get_table_names())  # MySQL cannot take back what was done
    uid = sa.String(40).with_variant(mysql.VARCHAR(40, charset="utf8mb4", collation="utf8mb4_bin"), "mysql")
    text = sa.Text().with_variant(mysql.TEXT(charset="utf8mb4", collation="utf8mb4_bin"), "mysql")
    if "metric_counter" not in known:
        op.create_table(
            "metric_counter",
            sa.Column("uid", uid, sa.ForeignKey("metric.uid", ondelete="CASCADE"), primary_key=True),
            sa.Column("value", sa.Double, nullable=False),
            sa.Column("timestamp", sa.Double, nullable=False),
            sa.Column("started_at", sa.Double, nullable=False),
        )
    if "metric_text" not in known:
        op.create_table(
            "metric_text",
            sa.Column("uid", uid, sa.ForeignKey("metric.uid", ondelete="CASCADE"), primary_key=True),
            sa.Column("text", text, nullable=False),
        )
