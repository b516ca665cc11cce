# SPDX-License-Identifier: MIT
"""The interval between each metric's rows, and since when it is that."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    known = {column["name"] for column in sa.inspect(op.get_bind()).get_columns("metric_score")}
    for name, kind in (("interval_s", sa.Double), ("interval_since", sa.BigInteger)):
        if name not in known:  # MySQL cannot take back what was done
            op.add_column("metric_score", sa.Column(name, kind))
