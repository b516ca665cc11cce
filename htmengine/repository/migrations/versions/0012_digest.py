# SPDX-License-Identifier: MIT
"""The digest of the rows that a metric's model has scored; of a model of an earlier release it is not known."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """MySQL cannot take back what an upgrade did before it failed."""
    if "digest" not in {known["name"] for known in sa.inspect(op.get_bind()).get_columns("metric_score")}:
        op.add_column("metric_score", sa.Column("digest", sa.BigInteger))
