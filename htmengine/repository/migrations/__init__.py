# SPDX-License-Identifier: MIT
"""The schema's migrations (Alembic): ``htmengine db upgrade``, ``htmengine db reset``, and every engine's start.

The versions have a table of their own, ``htmengine_version``: a database that HTM Engine made has its own history in
``alembic_version``, which stays as it is while its tables are upgraded in place.
"""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, MetaData, create_engine

from htmengine.errors import StartError

VERSION_TABLE = "htmengine_version"


def upgrade(url: str, version: str = "head") -> None:
    """Bring a database up to date, whatever it was before: empty, HTM Engine's, or an older one of ours."""
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
    """Drop all tables and make them anew."""
    engine = create_engine(url)
    with engine.begin() as conn:
        existing = MetaData()
        existing.reflect(conn)
        existing.drop_all(conn)
    engine.dispose()
    upgrade(url)


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    return config
