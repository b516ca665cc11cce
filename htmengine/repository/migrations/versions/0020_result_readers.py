# SPDX-License-Identifier: MIT
"""Who reads the log of results on, and how far each has come."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    if sa.inspect(op.get_bind()).has_table("result_reader"):  # MySQL cannot take back what was done
        return
    op.create_table(
        "result_reader",
        sa.Column("name", sa.String(40), primary_key=True),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("turn_until", sa.BigInteger, nullable=False),
    )
