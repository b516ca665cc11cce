# SPDX-License-Identifier: MIT
"""The schema's migrations (Alembic): ``htmengine db upgrade``, ``htmengine db reset``, and an embedded engine's start.

The versions have a table of their own, ``htmengine_version``: a database that HTM Engine made has its own history in
``alembic_version``, which stays as it is while its tables are upgraded in place.

A version makes what it made when it was written, for ever: its tables and values are literals, and it imports nothing
that may change.  A change of `schema` is a new version, made by hand after the pattern of ``script.py.mako``.  What
needs live code, since its result is read by live code, runs after the last version (`htm_engine_models`).

Alembic is imported by what upgrades: each command checks the schema, and most never change it.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, MetaData, column, inspect, select, table, text

from htmengine.errors import StartError
from htmengine.repository import schema
from htmengine.repository.connections import COMMAND_TIMEOUT_S, database_url, make_engine
from htmengine.repository.failures import in_one_line

VERSION_TABLE = "htmengine_version"
#: ``env.py``, the folder ``versions``, and the pattern of a version.
SCRIPTS = Path(__file__).parent


def upgrade(url: str, version: str = "head") -> None:
    """Bring a database up to date, whatever it was before: empty, HTM Engine's, or an older one of ours.

    Several processes may do so at once: one upgrades, the others wait for it.  Raises `DatabaseFailed`.
    """
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    config.attributes["url"] = url
    with in_one_line(url):
        command.upgrade(config, version)


def check(conn: Connection) -> None:
    """Raises `StartError` unless the schema is the one that this release works on."""
    refuse_unknown(conn)
    if not is_current(conn):
        current = _current(conn) or "not there"
        raise StartError(f"the database's schema is {current}, {head()} is needed: run `htmengine db upgrade`")


def is_current(conn: Connection) -> bool:
    """Whether the schema is the one that this release works on."""
    return _current(conn) == head()


def head() -> str:
    """The last version that there is."""
    return all_versions()[-1]


def all_versions() -> list[str]:
    """All versions, in order: each file's name begins with its own."""
    return sorted(path.name.partition("_")[0] for path in (SCRIPTS / "versions").glob("[0-9]*.py"))


def refuse_unknown(conn: Connection) -> None:
    """Raises `StartError` if another release has made the schema and this one does not know how to go on from it."""
    current, known = _current(conn), all_versions()
    if current is not None and current not in known:
        raise StartError(
            f"the database's schema is {current}, which this release does not know (it knows {', '.join(known)}): "
            "install the release that made it, or a newer one"
        )


def reset(url: str) -> None:
    """Make the database if there is none, drop our tables with all that they hold, and make them again.

    Tables of other programs stay.  Raises `DatabaseFailed`.
    """
    create_database(url)
    engine = make_engine(url, patient=True, lock_s=COMMAND_TIMEOUT_S)
    with in_one_line(url), engine.begin() as conn:
        ours = {*schema.metadata.tables, VERSION_TABLE} & set(inspect(conn).get_table_names())
        existing = MetaData()
        existing.reflect(conn, only=sorted(ours))
        existing.drop_all(conn, [table for table in existing.sorted_tables if table.name in ours])
    engine.dispose()
    upgrade(url)


def create_database(url: str) -> None:
    """Make the database itself where the server has none of that name; its user must be allowed to.

    Raises `DatabaseFailed`.
    """
    parsed = database_url(url)
    make = _MAKE_DATABASE.get(parsed.get_backend_name())
    if make is None:
        return
    system_database, statement = make
    server = make_engine(url, database=system_database)
    quoted = server.dialect.identifier_preparer.quote(str(parsed.database))
    with in_one_line(url), server.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
        there = conn.execute(text(statement), {"name": parsed.database}).first()
        if there is None:
            conn.exec_driver_sql(f"CREATE DATABASE {quoted}")
    server.dispose()


#: By kind of server: the database that every server has, and what tells whether there is one of some name.
_MAKE_DATABASE = {
    "mysql": ("", "SELECT 1 FROM information_schema.schemata WHERE schema_name = :name"),
    "postgresql": ("postgres", "SELECT 1 FROM pg_database WHERE datname = :name"),
}


def _current(conn: Connection) -> str | None:
    there = inspect(conn).has_table(VERSION_TABLE)
    return conn.execute(select(_VERSIONS.c.version_num)).scalar() if there else None


#: As Alembic makes it.
_VERSIONS = table(VERSION_TABLE, column("version_num"))
