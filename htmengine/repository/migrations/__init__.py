# SPDX-License-Identifier: MIT
"""The schema's migrations (Alembic): ``htmengine db upgrade``, ``htmengine db reset``, and an embedded engine's start.

The versions have a table of their own, ``htmengine_version``: a database that HTM Engine made has its own history in
``alembic_version``, which stays as it is while its tables are upgraded in place.
"""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, MetaData, NullPool, create_engine, inspect, text

from htmengine.errors import StartError
from htmengine.repository import schema
from htmengine.repository.engine import database_url, make_engine

VERSION_TABLE = "htmengine_version"


def upgrade(url: str, version: str = "head") -> None:
    """Bring a database up to date, whatever it was before: empty, HTM Engine's, or an older one of ours.

    Several processes may do so at once: one upgrades, the others wait for it.
    """
    config = _config()
    config.attributes["url"] = url
    command.upgrade(config, version)


def check(conn: Connection) -> None:
    """Raises `StartError` unless the schema is the one that this release works on."""
    current = MigrationContext.configure(conn, opts={"version_table": VERSION_TABLE}).get_current_revision()
    wanted = ScriptDirectory.from_config(_config()).get_current_head()
    if current != wanted:
        raise StartError(
            f"the database's schema is {current or 'not there'}, {wanted} is needed: run `htmengine db upgrade`"
        )


def reset(url: str) -> None:
    """Make the database if there is none, drop our tables with all that they hold, and make them anew.

    Tables of other programs stay.
    """
    create_database(url)
    engine = make_engine(url)
    with engine.begin() as conn:
        ours = {*schema.metadata.tables, VERSION_TABLE} & set(inspect(conn).get_table_names())
        existing = MetaData()
        existing.reflect(conn, only=sorted(ours))
        existing.drop_all(conn, [table for table in existing.sorted_tables if table.name in ours])
    engine.dispose()
    upgrade(url)


def create_database(url: str) -> None:
    """Make the database itself where the server has none of that name; its user must be allowed to."""
    parsed = database_url(url)
    make = _MAKE_DATABASE.get(parsed.get_backend_name())
    if make is None:
        return
    system_database, statement = make
    server = create_engine(parsed.set(database=system_database), isolation_level="AUTOCOMMIT", poolclass=NullPool)
    quoted = server.dialect.identifier_preparer.quote(str(parsed.database))
    with server.connect() as conn:
        there = conn.execute(text(statement), {"name": parsed.database}).first()
        if there is None:
            conn.exec_driver_sql(f"CREATE DATABASE {quoted}")


#: By kind of server: the database that every server has, and what tells whether there is one of some name.
_MAKE_DATABASE = {
    "mysql": ("", "SELECT 1 FROM information_schema.schemata WHERE schema_name = :name"),
    "postgresql": ("postgres", "SELECT 1 FROM pg_database WHERE datname = :name"),
}


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    return config
