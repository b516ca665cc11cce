# SPDX-License-Identifier: MIT
"""Snapshots of models."""

from __future__ import annotations

from alembic import op

from htmengine.repository import schema

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table."""
    schema.metadata.create_all(op.get_bind(), [schema.model_snapshot])
