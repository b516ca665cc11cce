# SPDX-License-Identifier: MIT
"""Which metrics of an incident page nobody: silenced, in maintenance, or called fine."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    known = {column["name"] for column in sa.inspect(op.get_bind()).get_columns("incident_member")}
    if "quiet" not in known:  # MySQL cannot take back what was done
        op.add_column("incident_member", sa.Column("quiet", sa.String(20)))
