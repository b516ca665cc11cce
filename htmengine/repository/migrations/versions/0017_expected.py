# SPDX-License-Identifier: MIT
"""What was expected of each metric's newest scored row."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    known = {column["name"] for column in sa.inspect(op.get_bind()).get_columns("metric_score")}
    for name in ("expected", "lower_bound", "upper_bound"):
        if name not in known:  # MySQL cannot take back what was done
            op.add_column("metric_score", sa.Column(name, sa.Double))
