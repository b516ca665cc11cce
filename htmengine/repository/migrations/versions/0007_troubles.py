# SPDX-License-Identifier: MIT
"""Troubles that the operator should know of."""

from __future__ import annotations

from alembic import op

from htmengine.repository import schema

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table."""
    schema.metadata.create_all(op.get_bind(), [schema.trouble])
