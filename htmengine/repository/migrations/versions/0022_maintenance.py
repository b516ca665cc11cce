# SPDX-License-Identifier: MIT
"""Maintenance that was made while the engine ran."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    if sa.inspect(op.get_bind()).has_table("maintenance"):  # MySQL cannot take back what was done
        return
    op.create_table(
        "maintenance",
        sa.Column("name", _exact(60), primary_key=True),
        sa.Column(
            "options",
            sa.Text().with_variant(mysql.TEXT(charset="utf8mb4", collation="utf8mb4_bin"), "mysql"),
            nullable=False,
        ),
        sa.Column("changed_at", sa.Double, nullable=False),
        sa.Column("changed_by", _exact(100), nullable=False),
    )


def _exact(length: int) -> sa.String:
    return sa.String(length).with_variant(mysql.VARCHAR(length, charset="utf8mb4", collation="utf8mb4_bin"), "mysql")
