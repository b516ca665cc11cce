# SPDX-License-Identifier: MIT
"""Metrics have the one name that their samples have now, and the last rejected lines have a table.

A metric whose tags are not sorted, or whose dots are not right, gets the name under which its samples come from now on,
unless a metric has that name already.  Of several the one with the most rows gets it; the others keep theirs.
"""

from __future__ import annotations

import re

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    if "reject_sample" not in sa.inspect(op.get_bind()).get_table_names():  # MySQL cannot take back what was done
        op.create_table(
            "reject_sample",
            sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
            sa.Column("reason", _exact(40), nullable=False, index=True),
            sa.Column("sender", _exact(100), nullable=False),
            sa.Column("line", _exact(400), nullable=False),
            sa.Column("rejected_at", sa.BigInteger, nullable=False),
            sqlite_autoincrement=True,
        )
    _rename_metrics(op.get_bind())


def _exact(length: int) -> sa.String:
    return sa.String(length).with_variant(mysql.VARCHAR(length, charset="utf8mb4", collation="utf8mb4_bin"), "mysql")


def _rename_metrics(conn: sa.Connection) -> None:
    metric = sa.table("metric", *(sa.column(name) for name in ("uid", "datasource", "name", "last_rowid")))
    c = metric.c
    odd = sa.or_(*(c.name.like(pattern) for pattern in ("%;%", "%..%", ".%", "%.")))
    rows = conn.execute(sa.select(c.uid, c.datasource, c.name).where(odd).order_by(c.last_rowid.desc(), c.uid)).all()
    for uid, datasource, name in rows:
        new = _normal(name)
        taken = sa.select(c.uid).where(c.datasource == datasource, c.name == new)
        if new not in ("", name) and not conn.execute(taken).first():
            conn.execute(sa.update(metric).where(c.uid == uid).values(name=new))


def _normal(name: str) -> str:
    """The name that samples have; "" if no sample can have any such name."""
    path, *tags = name.split(";")
    path = re.sub(r"\.{2,}", ".", path).strip(".")
    if not path or not all(map(_is_tag, tags)):
        return ""
    pairs = dict(_pair(tag) for tag in tags)
    return ";".join([path, *(f"{key}={value}" for key, value in sorted(pairs.items()))])


def _is_tag(tag: str) -> bool:
    key, value = _pair(tag)
    return bool(key and value) and value[0] != "~" and "!" not in key and "^" not in key


def _pair(tag: str) -> tuple[str, str]:
    key, _, value = tag.partition("=")
    return key, value
