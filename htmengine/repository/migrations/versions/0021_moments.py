# SPDX-License-Identifier: MIT
"""The whole time of a counter's sample that waits for earlier ones."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    known = {column["name"] for column in sa.inspect(op.get_bind()).get_columns("held_sample")}
    if "moment" not in known:  # MySQL cannot take back what was done
        op.add_column("held_sample", sa.Column("moment", sa.Double, nullable=False, server_default="0"))
