# SPDX-License-Identifier: MIT
"""Rules with a budget: their states, verdicts, incidents, what people did about these, and silences."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    if "height" not in {known["name"] for known in sa.inspect(op.get_bind()).get_columns("anomaly")}:
        op.add_column("anomaly", sa.Column("height", sa.Double))
    _make(
        "rule_state",
        sa.Column("rule", sa.String(60), primary_key=True),
        sa.Column("state", _long_text(), nullable=False),
        sa.Column("changed_at", sa.Double, nullable=False),
    )
    _make(
        "alarm_state",
        sa.Column("rule", sa.String(60), primary_key=True),
        sa.Column("uid", _exact(40), primary_key=True),
        sa.Column("rowid", sa.Integer, nullable=False),
        sa.Column("timestamp", sa.BigInteger),
        sa.Column("height", sa.Double),
        sa.Column("hits", sa.Text, nullable=False),
        sa.Column("silent_since", sa.BigInteger, index=True),
    )
    _make(
        "alarm_verdict",
        sa.Column("rule", sa.String(60), primary_key=True),
        sa.Column("uid", _exact(40), primary_key=True),
        sa.Column("rowid", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("kind", sa.String(20), primary_key=True),
        sa.Column("timestamp", sa.BigInteger, nullable=False),
        sa.Column("height", sa.Double, nullable=False),
        sa.Column("threshold", sa.Double),
        sa.Column("tokens", sa.Double),
        sa.Column("verdict", sa.String(20), nullable=False),
        sa.Column("incident_id", sa.String(36)),
        sa.Index("alarm_verdict_timestamp", "rule", "timestamp"),
    )
    _make(
        "incident",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("rule", sa.String(60), nullable=False),
        sa.Column("title", _long_text(), nullable=False),
        sa.Column("phase", sa.String(8), nullable=False),
        sa.Column("timestamp", sa.BigInteger, nullable=False),
        sa.Column("last_timestamp", sa.BigInteger, nullable=False),
        sa.Column("opened_at", sa.Double, nullable=False, index=True),
        sa.Column("last_at", sa.Double, nullable=False),
        sa.Column("mattered_at", sa.Double),
        sa.Column("over_at", sa.Double),
        sa.Column("reason", _long_text()),
        sa.Column("paged", sa.Boolean, nullable=False),
        sa.Column("held_back", sa.String(20)),
        sa.Column("height", sa.Double, nullable=False),
        sa.Column("threshold", sa.Double),
        sa.Column("tokens", sa.Double),
        sa.Column("members", sa.Integer, nullable=False),
        sa.Column("acknowledged_at", sa.Double),
        sa.Column("acknowledged_by", _exact(100)),
        sa.Index("incident_phase", "phase", "opened_at"),
    )
    _make(
        "incident_member",
        sa.Column("incident_id", sa.String(36), sa.ForeignKey("incident.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("uid", _exact(40), primary_key=True),
        sa.Column("metric", _exact(255), nullable=False),
        sa.Column("rowid", sa.Integer, nullable=False),
        sa.Column("timestamp", sa.BigInteger, nullable=False),
        sa.Column("last_timestamp", sa.BigInteger, nullable=False),
        sa.Column("height", sa.Double, nullable=False),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("direction", sa.String(4)),
        sa.Column("text", _long_text(), nullable=False),
        sa.Column("metric_value", sa.Double),
        sa.Column("expected", sa.Double),
        sa.Column("lower", sa.Double),
        sa.Column("upper", sa.Double),
        sa.Index("incident_member_uid", "uid"),
    )
    _make(
        "incident_event",
        sa.Column("id", _number(), primary_key=True, autoincrement=True),
        sa.Column("incident_id", sa.String(36), index=True),
        sa.Column("rule", sa.String(60)),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("who", _exact(100), nullable=False),
        sa.Column("what", sa.String(20), nullable=False),
        sa.Column("note", _long_text(), nullable=False),
        sqlite_autoincrement=True,
    )
    _make(
        "silence",
        sa.Column("id", _number(), primary_key=True, autoincrement=True),
        sa.Column("metrics", _long_text(), nullable=False),
        sa.Column("from_at", sa.Double, nullable=False),
        sa.Column("until_at", sa.Double, nullable=False, index=True),
        sa.Column("who", _exact(100), nullable=False),
        sa.Column("why", _long_text(), nullable=False),
        sqlite_autoincrement=True,
    )


def _make(name: str, *parts: Any, **options: Any) -> None:
    """MySQL cannot take back what an upgrade did before it failed."""
    if not sa.inspect(op.get_bind()).has_table(name):
        op.create_table(name, *parts, **options)


def _exact(length: int) -> sa.String:
    return sa.String(length).with_variant(mysql.VARCHAR(length, charset="utf8mb4", collation="utf8mb4_bin"), "mysql")


def _long_text() -> sa.Text:
    return sa.Text().with_variant(mysql.TEXT(charset="utf8mb4", collation="utf8mb4_bin"), "mysql")


def _number() -> sa.BigInteger:
    return sa.BigInteger().with_variant(sa.Integer, "sqlite")
