# SPDX-License-Identifier: MIT
"""When the rows of an incident's metrics became unusual."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    known = {column["name"] for column in sa.inspect(op.get_bind()).get_columns("incident_member")}
    if "since" not in known:  # MySQL cannot take back what was done
        op.add_column("incident_member", sa.Column("since", sa.BigInteger))
