# SPDX-License-Identifier: MIT
"""Spans of rows that somebody called fine."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    if sa.inspect(op.get_bind()).has_table("fine_span"):  # MySQL cannot take back what was done
        return
    op.create_table(
        "fine_span",
        sa.Column("uid", _exact(40), sa.ForeignKey("metric.uid", ondelete="CASCADE"), primary_key=True),
        sa.Column("origin", _exact(80), primary_key=True),
        sa.Column("after", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("first", sa.Integer, nullable=False),
        sa.Column("last", sa.Integer, nullable=False),
        sa.Column("until", sa.Integer),
        sa.Column("direction", sa.String(4)),
        sa.Column("height", sa.Double),
    )


def _exact(length: int) -> sa.String:
    return sa.String(length).with_variant(mysql.VARCHAR(length, charset="utf8mb4", collation="utf8mb4_bin"), "mysql")
