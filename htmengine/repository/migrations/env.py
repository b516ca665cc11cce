# SPDX-License-Identifier: MIT
"""Alembic's entry: runs the versions on the database whose URL it is given."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection, Engine, create_engine, event, pool, text

from htmengine.repository import htm_engine_models, migrations
from htmengine.repository.connections import COMMAND_TIMEOUT_S, database_url, make_engine
from htmengine.repository.schema import metadata

#: One process at a time upgrades a database; a server keeps these locks until they are given back or the
#: connection ends, as it does after an upgrade that failed.
_LOCKS = {
    "mysql": ("SELECT GET_LOCK('htmengine_schema', 86400)", "SELECT RELEASE_LOCK('htmengine_schema')"),
    "postgresql": ("SELECT pg_advisory_lock(7211903)", "SELECT pg_advisory_unlock(7211903)"),
}


def run_migrations() -> None:
    """All versions in one transaction where the database can; MySQL commits after each change of a table.

    SQLite's foreign keys are not enforced here: a table whose columns change is dropped in between.
    """
    engine = _engine(context.config.attributes["url"])
    try:
        _upgrade(engine)
    finally:
        engine.dispose()  # ends the connection, and with it a lock that was not given back


def _upgrade(engine: Engine) -> None:
    with engine.connect() as connection:
        lock, unlock = _LOCKS.get(engine.dialect.name, (None, None))
        _execute(connection, lock)
        context.configure(
            connection=connection,
            target_metadata=metadata,
            version_table=migrations.VERSION_TABLE,
            render_as_batch=True,
            transactional_ddl=engine.dialect.name != "mysql",
        )
        with context.begin_transaction():
            migrations.refuse_unknown(connection)
            context.run_migrations()
            if migrations.is_current(connection):
                htm_engine_models.convert(connection)
        _execute(connection, unlock)


def _engine(url: str) -> Engine:
    parsed = database_url(url)
    if parsed.get_backend_name() != "sqlite":
        return make_engine(url, patient=True)
    engine = create_engine(parsed, poolclass=pool.NullPool, connect_args={"timeout": COMMAND_TIMEOUT_S})
    event.listen(engine, "connect", lambda connection, _: setattr(connection, "isolation_level", None))
    event.listen(engine, "begin", lambda conn: conn.exec_driver_sql("BEGIN IMMEDIATE"))
    return engine


def _execute(connection: Connection, statement: str | None) -> None:
    if statement is not None:
        connection.execute(text(statement))
        connection.commit()


run_migrations()
