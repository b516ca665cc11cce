# SPDX-License-Identifier: MIT
"""Rules that were made through the API, and what people and programs changed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    known = set(sa.inspect(op.get_bind()).get_table_names())  # MySQL cannot take back what was done
    text = sa.Text().with_variant(mysql.TEXT(charset="utf8mb4", collation="utf8mb4_bin"), "mysql")
    who = sa.String(100).with_variant(mysql.VARCHAR(100, charset="utf8mb4", collation="utf8mb4_bin"), "mysql")
    if "alert_rule" not in known:
        op.create_table(
            "alert_rule",
            sa.Column("name", sa.String(60), primary_key=True),
            sa.Column("options", text, nullable=False),
            sa.Column("changed_at", sa.Double, nullable=False),
            sa.Column("changed_by", who, nullable=False),
        )
    if "audit" not in known:
        op.create_table(
            "audit",
            sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
            sa.Column("at", sa.Double, nullable=False, index=True),
            sa.Column("who", who, nullable=False),
            sa.Column("what", sa.String(40), nullable=False),
            sa.Column("about", text, nullable=False),
            sa.Column("note", text, nullable=False),
            sqlite_autoincrement=True,
        )
