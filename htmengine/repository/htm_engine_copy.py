# SPDX-License-Identifier: MIT
"""HTM Engine's metrics and rows, copied from its database server into an empty database of an engine.

In: both URLs.  Out: tables as HTM Engine left them, which `migrations` upgrade.  The copy is one transaction, so that
one that was interrupted has not been; the source stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sqlalchemy import (
    Column,
    Connection,
    DateTime,
    Double,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    insert,
    inspect,
    select,
)

from htmengine.errors import DatabaseFailed
from htmengine.repository.connections import COMMAND_TIMEOUT_S, database_url, make_engine
from htmengine.repository.failures import in_one_line
from htmengine.repository.htm_engine_models import THEIR_VERSIONS
from htmengine.repository.migrations import VERSION_TABLE

ROWS_AT_ONCE = 10_000
_NOT_EMPTY = "--from: the copy needs an empty database; this one has an engine's tables already"
_NOT_A_COPY = (
    "--from: the copy needs an empty database; HTM Engine made this one itself: leave --from out to go on with it,"
    " or name another database in [repository]"
)
_ANOTHER = "--from: the engine's database has the copy of another one; name that one, or an empty database"
#: HTM Engine made it, the copy leaves it out, and the upgrade makes it.
_NOT_COPIED = "instance_status_history"

#: HTM Engine's tables with types that every database has; no engine goes on with what its others hold.
_TABLES = MetaData()
_metric = Table(
    "metric",
    _TABLES,
    Column("uid", String(40), primary_key=True),
    *(Column(name, String(length)) for name, length in (("datasource", 100), ("name", 255), ("description", 200))),
    *(Column(name, String(length)) for name, length in (("server", 255), ("location", 200), ("tag_name", 200))),
    *(Column(name, Text) for name in ("parameters", "message", "collector_error", "model_params")),
    Column("status", Integer),
    Column("last_timestamp", DateTime),
    Column("poll_interval", Integer),
    Column("last_rowid", Integer),
)
Table(
    "metric_data",
    _TABLES,
    Column("uid", String(40), ForeignKey("metric.uid", ondelete="CASCADE"), primary_key=True),
    Column("rowid", Integer, primary_key=True, autoincrement=False),
    Column("timestamp", DateTime, nullable=False),
    Column("metric_value", Double, nullable=False),
    *(Column(name, Double) for name in ("raw_anomaly_score", "anomaly_score", "display_value")),
    Column("multi_step_best_predictions", Text),
)
_versions = Table(THEIR_VERSIONS, _TABLES, Column("version_num", String(32), primary_key=True))


def copy_tables(source: str, target: str, progress: Callable[[int], object] = lambda _: None) -> None:
    """Copy metrics and rows, unless they have been copied; ``progress`` is told how many rows.

    Raises `DatabaseFailed`: the source is no database of HTM Engine's, or the target has something else than its copy.
    """
    _check_source(source)
    theirs = make_engine(source, patient=True, only_look=True, option="--from")
    ours = make_engine(target, patient=True, lock_s=COMMAND_TIMEOUT_S)
    try:
        with in_one_line(source, "--from"), theirs.connect() as reading:
            _require(inspect(reading).has_table(THEIR_VERSIONS), "--from: not a database that HTM Engine made")
            with in_one_line(target), ours.begin() as writing:
                if _is_empty(writing):
                    _copy(reading, writing, progress)
                else:
                    _require(_share_metrics(reading, writing), _ANOTHER)
    finally:
        theirs.dispose()
        ours.dispose()


def _check_source(source: str) -> None:
    """SQLite would make a file that is not there."""
    url = database_url(source, "--from")
    is_missing = url.get_backend_name() == "sqlite" and not Path(str(url.database)).is_file()
    _require(not is_missing, f"--from: there is no file {url.database}")


def _share_metrics(reading: Connection, writing: Connection) -> bool:
    theirs, ours = (set(each.scalars(select(_metric.c.uid))) for each in (reading, writing))
    return not theirs or not ours or not theirs.isdisjoint(ours)


def _is_empty(writing: Connection) -> bool:
    """False: it has a copy already.  Raises `DatabaseFailed` if it has something else."""
    there = set(inspect(writing).get_table_names())
    if THEIR_VERSIONS in there and writing.execute(select(_versions)).first() is not None:
        _require(VERSION_TABLE in there or _NOT_COPIED not in there, _NOT_A_COPY)
        return False
    _require(VERSION_TABLE not in there, _NOT_EMPTY)
    _TABLES.create_all(writing)
    _require(writing.execute(select(_metric)).first() is None, _NOT_EMPTY)
    return True


def _require(holds: bool, why_not: str) -> None:
    if not holds:
        raise DatabaseFailed(why_not)


def _copy(reading: Connection, writing: Connection, progress: Callable[[int], object]) -> None:
    for table in _TABLES.sorted_tables:
        there = {column["name"] for column in inspect(reading).get_columns(table.name)}
        columns = [column for column in table.columns if column.name in there]
        stream = reading.execution_options(yield_per=ROWS_AT_ONCE).execute(select(*columns))
        for rows in stream.mappings().partitions():
            writing.execute(insert(table), [dict(row) for row in rows])
            progress(len(rows))
