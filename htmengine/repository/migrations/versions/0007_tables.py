# SPDX-License-Identifier: MIT
"""The tables of the first release: made, or taken over from HTM Engine.  Those before it were never released.

HTM Engine's history ended with four versions: initial tables, timestamps from TIMESTAMP to DATETIME, defaults, and the
column multi_step_best_predictions.  A database at any of them gets the tables and columns that it lacks; its rows stay.
display_value was a whole number and becomes a real one, since it holds a log-scale score in 0..1.  What names
metrics is compared byte by byte from now on.  HTM Engine's models are converted afterwards (`htm_engine_models`).

MySQL commits with each change of a table, so these come first: what follows them is one transaction, and an upgrade
that failed can be repeated.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

from htmengine.errors import RepositoryError

revision = "0007"
down_revision = None
branch_labels = None
depends_on = None

#: The default of [anomaly_likelihood] anomaly_floor.
_FLOOR = 0.99


def _exact(length: int) -> sa.String:
    return sa.String(length).with_variant(mysql.VARCHAR(length, charset="utf8mb4", collation="utf8mb4_bin"), "mysql")


def _uid() -> sa.Column[str]:
    return sa.Column("uid", _exact(40), sa.ForeignKey("metric.uid", ondelete="CASCADE"), primary_key=True)


_LONG_TEXT = sa.Text().with_variant(mysql.TEXT(charset="utf8mb4", collation="utf8mb4_bin"), "mysql")
_LONG_BYTES = sa.LargeBinary().with_variant(mysql.MEDIUMBLOB(), "mysql")
_COUNTER = sa.BigInteger().with_variant(sa.Integer, "sqlite")

_tables = sa.MetaData()

_metric = sa.Table(
    "metric",
    _tables,
    sa.Column("uid", _exact(40), primary_key=True),
    sa.Column("datasource", _exact(100), nullable=False),
    sa.Column("name", _exact(255), nullable=False),
    sa.Column("description", _exact(200)),
    sa.Column("server", _exact(255)),
    sa.Column("location", _exact(200)),
    sa.Column("parameters", _LONG_TEXT),
    sa.Column("status", sa.Integer, nullable=False, server_default="0"),
    sa.Column("message", _LONG_TEXT),
    sa.Column("collector_error", _LONG_TEXT),
    sa.Column("last_timestamp", sa.DateTime),
    sa.Column("poll_interval", sa.Integer),
    sa.Column("tag_name", sa.String(200)),
    sa.Column("model_params", _LONG_TEXT),
    sa.Column("last_rowid", sa.Integer, nullable=False, server_default="0"),
    sa.UniqueConstraint("name", "datasource", name="metric_name"),
    sa.Index("metric_status", "status"),
)
_metric_data = sa.Table(
    "metric_data",
    _tables,
    _uid(),
    sa.Column("rowid", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("timestamp", sa.DateTime, nullable=False),
    sa.Column("metric_value", sa.Double, nullable=False),
    sa.Column("raw_anomaly_score", sa.Double),
    sa.Column("anomaly_score", sa.Double),
    sa.Column("display_value", sa.Double),
    sa.Column("multi_step_best_predictions", _LONG_TEXT),
)
sa.Table(
    "instance_status_history",
    _tables,
    sa.Column("server", sa.String(100), primary_key=True),
    sa.Column("timestamp", sa.DateTime, primary_key=True),
    sa.Column("status", sa.String(32), nullable=False, server_default="active"),
)
sa.Table("lock", _tables, sa.Column("name", sa.String(40), primary_key=True))
sa.Table(
    "outbox",
    _tables,
    sa.Column("id", _COUNTER, primary_key=True, autoincrement=True),
    sa.Column("queue", sa.String(255), nullable=False),
    sa.Column("body", _LONG_BYTES, nullable=False),
    sqlite_autoincrement=True,
)
sa.Table(
    "model_snapshot",
    _tables,
    _uid(),
    sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("params", sa.Text, nullable=False),
    sa.Column("rowid", sa.Integer),
    sa.Column("scored", sa.Integer),
    sa.Column("model", _LONG_BYTES),
    sa.Column("likelihood", _LONG_BYTES),
)
sa.Table(
    "processed_batch",
    _tables,
    sa.Column("batch_id", _exact(64), primary_key=True),
    sa.Column("processed_at", sa.BigInteger, nullable=False, index=True),
)
sa.Table(
    "anomaly_state",
    _tables,
    _uid(),
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Column("rowid", sa.Integer, nullable=False),
    sa.Column("state", _LONG_BYTES, nullable=False),
)
sa.Table(
    "reject_count",
    _tables,
    sa.Column("uid", _exact(40), primary_key=True),
    sa.Column("reason", _exact(40), primary_key=True),
    sa.Column("count", sa.BigInteger, nullable=False),
    sa.Column("last_at", sa.BigInteger),
)
sa.Table(
    "metric_score",
    _tables,
    _uid(),
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Column("rowid", sa.Integer, nullable=False),
    sa.Column("scored", sa.Integer, nullable=False),
    sa.Column("timestamp", sa.DateTime),
    sa.Column("metric_value", sa.Double),
    sa.Column("raw_anomaly_score", sa.Double),
    sa.Column("anomaly_score", sa.Double),
)
_ledger_total = sa.Table(
    "ledger_total",
    _tables,
    sa.Column("name", sa.String(40), primary_key=True),
    sa.Column("count", sa.BigInteger, nullable=False),
)
_anomaly = sa.Table(
    "anomaly",
    _tables,
    _uid(),
    sa.Column("rowid", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("timestamp", sa.DateTime, nullable=False),
    sa.Column("metric_value", sa.Double, nullable=False),
    sa.Column("anomaly_score", sa.Double, nullable=False),
    sa.Index("anomaly_timestamp", "timestamp"),
)
sa.Table(
    "result_log",
    _tables,
    sa.Column("number", _COUNTER, primary_key=True, autoincrement=False),
    sa.Column("spans", _LONG_BYTES, nullable=False),
)
sa.Table(
    "alert_state",
    _tables,
    sa.Column("rule", sa.String(60), primary_key=True),
    sa.Column("uid", _exact(40), primary_key=True),
    sa.Column("phase", sa.String(8), nullable=False),
    sa.Column("open", sa.Boolean, nullable=False, index=True),
    sa.Column("rowid", sa.Integer, nullable=False),
    sa.Column("hits", sa.Text, nullable=False),
    sa.Column("alert_id", sa.String(36), nullable=False),
    sa.Column("fired_at", sa.BigInteger),
    sa.Column("changed_at", sa.Double, nullable=False),
)
sa.Table(
    "alert",
    _tables,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("rule", sa.String(60), nullable=False),
    sa.Column("uid", _exact(40), nullable=False),
    sa.Column("metric", _exact(255), nullable=False),
    sa.Column("rowid", sa.Integer, nullable=False),
    sa.Column("timestamp", sa.BigInteger, nullable=False),
    sa.Column("metric_value", sa.Double, nullable=False),
    sa.Column("anomaly_score", sa.Double, nullable=False),
    sa.Column("created_at", sa.Double, nullable=False, index=True),
    sa.Column("resolved_at", sa.Double),
    sa.Column("reason", sa.Text),
)
sa.Table(
    "alert_delivery",
    _tables,
    sa.Column("id", sa.String(110), primary_key=True),
    sa.Column("alert_id", sa.String(36), nullable=False),
    sa.Column("status", sa.String(8), nullable=False),
    sa.Column("receiver", sa.String(60), nullable=False),
    sa.Column("state", sa.String(9), nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("next_at", sa.Double, nullable=False),
    sa.Column("ended_at", sa.Double),
    sa.Column("answer", sa.Text),
    sa.UniqueConstraint("alert_id", "status", "receiver", name="alert_delivery_once"),
    sa.Index("alert_delivery_due", "receiver", "state", "next_at"),
)
sa.Table(
    "trouble",
    _tables,
    sa.Column("source", sa.String(200), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("message", sa.Text, nullable=False),
    sa.Column("since", sa.BigInteger, nullable=False),
)


def upgrade() -> None:
    """Take over what is there, and make what is not."""
    connection = op.get_bind()
    there = [table for table in _tables.sorted_tables if sa.inspect(connection).has_table(table.name)]
    if connection.dialect.name == "mysql":
        _convert_characters(connection, there)
    for table in there:
        _take_over(connection, table)
    if _metric in there:
        _make_names_unique(connection)
    _tables.create_all(connection)
    if _metric in there:
        _find_last_rows(connection)
        _count_received(connection)
        _list_anomalies(connection)


# --- tables ---------------------------------------------------------------------------------------------


def _convert_characters(connection: sa.Connection, tables: Sequence[sa.Table]) -> None:
    """Give MySQL's tables the characters of ours: else foreign keys between them would not fit.

    What a foreign key uses cannot be converted, so they are dropped first.  The row format is for an index on whole
    names.
    """
    inspector = sa.inspect(connection)
    for table in tables:
        for key in inspector.get_foreign_keys(table.name):
            op.drop_constraint(str(key["name"]), table.name, type_="foreignkey")
    for table in tables:
        characters = "CONVERT TO CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
        op.execute(f"ALTER TABLE `{table.name}` {characters}, ROW_FORMAT=DYNAMIC")
    for table in tables:
        for constraint in table.foreign_key_constraints:
            op.create_foreign_key(None, table.name, "metric", ["uid"], ["uid"], ondelete=constraint.ondelete)


def _take_over(connection: sa.Connection, table: sa.Table) -> None:
    inspector = sa.inspect(connection)
    known = {column["name"]: column for column in inspector.get_columns(table.name)}
    indexes = {index["name"] for index in inspector.get_indexes(table.name)}
    with op.batch_alter_table(table.name) as batch:
        for column in table.columns:
            if column.name not in known:
                batch.add_column(sa.Column(column.name, column.type, server_default=column.server_default))
            elif _differs(connection, column.type, known[column.name]["type"]):
                # A TIMESTAMP becomes what it was written as: both are in the connection's time zone.
                moment = isinstance(column.type, sa.DateTime)
                batch.alter_column(
                    column.name,
                    type_=column.type,
                    existing_type=known[column.name]["type"],
                    existing_nullable=known[column.name]["nullable"],
                    existing_server_default=None if moment else known[column.name]["default"],
                )
        for index in table.indexes:
            if index.name not in indexes:
                batch.create_index(str(index.name), [column.name for column in index.columns])


def _differs(connection: sa.Connection, wanted: sa.types.TypeEngine[Any], known: sa.types.TypeEngine[Any]) -> bool:
    """Whether a column needs another type.  A change copies the whole table, which may be long."""
    lengths = [getattr(each, "length", None) for each in (wanted, known)]
    kinds = [str(each.compile(dialect=connection.dialect)).split()[0].split("(")[0] for each in (wanted, known)]
    return kinds[0] != kinds[1] or (kinds[0] == "VARCHAR" and lengths[0] != lengths[1])


def _make_names_unique(connection: sa.Connection) -> None:
    """HTM Engine kept names apart with a lock, not with an index."""
    m = _metric.c
    doubled = sa.select(m.name).group_by(m.name, m.datasource).having(sa.func.count() > 1)
    names = sorted(connection.execute(doubled).scalars())
    if names:
        raise RepositoryError(f"metrics of the same name: {', '.join(names)}; rename or delete all but one first")
    there = {key["name"] for key in sa.inspect(connection).get_unique_constraints("metric")}
    if "metric_name" in there:  # MySQL cannot take back what an upgrade did before it failed
        return
    with op.batch_alter_table("metric") as batch:
        batch.create_unique_constraint("metric_name", ["name", "datasource"])


# --- what HTM Engine's rows say -------------------------------------------------------------------------


def _find_last_rows(connection: sa.Connection) -> None:
    """A metric knows its newest row; HTM Engine's may be behind it."""
    m, data = _metric.c, _metric_data.c
    for uid, last_rowid, last_timestamp in connection.execute(sa.select(m.uid, m.last_rowid, m.last_timestamp)).all():
        newest = connection.execute(
            sa.select(data.rowid, data.timestamp).where(data.uid == uid).order_by(data.rowid.desc()).limit(1)
        ).first()
        known = last_rowid or 0
        if newest is None:
            changes: dict[str, Any] = {"last_rowid": known}
        elif known < newest.rowid or last_timestamp is None or last_timestamp < newest.timestamp:
            changes = {"last_rowid": max(known, newest.rowid), "last_timestamp": newest.timestamp}
        else:
            continue
        connection.execute(sa.update(_metric).where(m.uid == uid).values(changes))


def _count_received(connection: sa.Connection) -> None:
    """The ledger begins with the rows that are stored."""
    stored = int(connection.execute(sa.select(sa.func.sum(_metric.c.last_rowid))).scalar() or 0)
    if stored:
        connection.execute(sa.insert(_ledger_total), {"name": "received", "count": stored})


def _list_anomalies(connection: sa.Connection) -> None:
    names = ("uid", "rowid", "timestamp", "metric_value", "anomaly_score")
    data = _metric_data.c
    great = sa.select(*(data[name] for name in names)).where(data.anomaly_score >= _FLOOR)
    connection.execute(sa.insert(_anomaly).from_select(names, great))
