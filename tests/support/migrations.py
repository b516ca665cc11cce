# SPDX-License-Identifier: MIT
"""What tests of migrations share: the tables of a database as data, a version that a later release may have, and the
tables that HTM Engine made.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Column, Connection, MetaData, Table, inspect
from sqlalchemy import insert as insert_into
from sqlalchemy.types import NullType

from htmengine.repository import migrations
from htmengine.repository.connections import make_engine

#: HTM Engine's versions, in order: initial tables, TIMESTAMP to DATETIME, defaults, the classifier's predictions.
INITIAL, DATETIME, DEFAULTS, PREDICTIONS = range(1, 5)

LATER_VERSION = """
import sqlalchemy as sa
from alembic import op

revision = "9999"
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


def htm_engine_tables(version: int, mysql: bool) -> Iterator[str]:
    """The statements that make HTM Engine's tables as of one of its versions."""
    moment = "DATETIME" if version >= DATETIME else "TIMESTAMP"
    zero, minute, nothing = (f" DEFAULT {each}" if version >= DEFAULTS else "" for each in ("0", "60", "''"))
    # COMPACT and 3-byte characters: what MySQL 5.6 gave to tables by default
    storage = " ENGINE=InnoDB ROW_FORMAT=COMPACT DEFAULT CHARSET=utf8mb3" if mysql else ""
    predictions = "multi_step_best_predictions TEXT," if version >= PREDICTIONS else ""
    yield f"""CREATE TABLE metric (
        uid VARCHAR(40) NOT NULL, datasource VARCHAR(100){nothing}, name VARCHAR(255){nothing},
        description VARCHAR(200){nothing}, server VARCHAR(100){nothing}, location VARCHAR(200){nothing},
        parameters TEXT, status INTEGER{zero}, message TEXT, collector_error TEXT,
        last_timestamp {moment} NULL, poll_interval INTEGER{minute}, tag_name VARCHAR(200){nothing},
        model_params TEXT, last_rowid INTEGER{zero}, PRIMARY KEY (uid)){storage}"""
    yield "CREATE INDEX location_index ON metric (location)"
    yield "CREATE INDEX server_index ON metric (server)"
    yield f"""CREATE TABLE metric_data (
        uid VARCHAR(40) NOT NULL, rowid INTEGER NOT NULL, timestamp {moment} NOT NULL, metric_value DOUBLE NOT NULL,
        raw_anomaly_score DOUBLE, anomaly_score DOUBLE, display_value INTEGER, {predictions}
        PRIMARY KEY (uid, rowid),
        CONSTRAINT metric_data_metric FOREIGN KEY (uid) REFERENCES metric (uid) ON UPDATE CASCADE ON DELETE CASCADE
        ){storage}"""
    yield "CREATE INDEX timestamp_index ON metric_data (timestamp)"
    yield f"""CREATE TABLE instance_status_history (
        server VARCHAR(100) NOT NULL, timestamp {moment} NOT NULL, status VARCHAR(32) NOT NULL DEFAULT 'active',
        PRIMARY KEY (server, timestamp)){storage}"""
    yield f"CREATE TABLE `lock` (name VARCHAR(40) NOT NULL, PRIMARY KEY (name)){storage}"
    yield f"CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL){storage}"


def insert(conn: Connection, table: str, columns: str, rows: Sequence[tuple[Any, ...]]) -> None:
    names = columns.split(", ")
    fill = insert_into(Table(table, MetaData(), *[Column(name, NullType) for name in names]))
    conn.execute(fill, [dict(zip(names, map(plain, row), strict=True)) for row in rows])


def plain(value: Any) -> Any:
    return str(value) if isinstance(value, datetime) else value
