# SPDX-License-Identifier: MIT
"""Alerts: the rules' states, what fired, and what the receivers are told."""

from __future__ import annotations

from alembic import op

from htmengine.repository import schema

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables that are not there: a new database has them already."""
    tables = [schema.alert_state, schema.alert, schema.alert_delivery]
    schema.metadata.create_all(op.get_bind(), tables=tables)
