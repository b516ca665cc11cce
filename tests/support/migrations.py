# SPDX-License-Identifier: MIT
"""What tests of migrations share: the tables of a database as data, and a version that a later release may have."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from sqlalchemy import inspect

from htmengine.repository import migrations
from htmengine.repository.connections import make_engine

LATER_VERSION = """
import sqlalchemy as sa
from alembic import op

revision = "later"
down_revision = {head!r}

def upgrade():
    op.add_column("trouble", sa.Column("note", sa.String(200)))
"""


def with_later_version(folder: Path) -> Path:
    """In a new folder: the migrations, and one more version, which adds the column trouble.note."""
    shutil.copytree(migrations.SCRIPTS, folder)
    (folder / "versions" / "9999_later.py").write_text(LATER_VERSION.format(head=migrations.head()))
    return folder


def tables(url: str) -> dict[str, dict[str, Any]]:
    """Each table's columns (with type, collation, default and whether they may be NULL), keys and indexes."""
    engine = make_engine(url)
    inspector = inspect(engine)
    found = {
        name: {
            "columns": [{**column, "type": repr(column["type"])} for column in inspector.get_columns(name)],
            "primary key": inspector.get_pk_constraint(name),
            "foreign keys": inspector.get_foreign_keys(name),
            "unique": sorted(inspector.get_unique_constraints(name), key=str),
            "indexes": sorted(inspector.get_indexes(name), key=str),
        }
        for name in inspector.get_table_names()
    }
    engine.dispose()
    return found
