# SPDX-License-Identifier: MIT
"""The schema's migrations (Alembic): ``htmengine db upgrade``, ``htmengine db reset``, and every engine's start.

The versions have a table of their own, ``htmengine_version``: a database that HTM Engine made has its own history in
``alembic_version``, which stays as it is while its tables are upgraded in place.
"""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import MetaData, create_engine

VERSION_TABLE = "htmengine_version"


def upgrade(url: str, version: str = "head") -> None:
    """Bring a database up to date, whatever it was before: empty, HTM Engine's, or an older one of ours."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["url"] = url
    command.upgrade(config, version)


def reset(url: str) -> None:
    """Drop all tables and make them anew."""
    engine = create_engine(url)
    with engine.begin() as conn:
        existing = MetaData()
        existing.reflect(conn)
        existing.drop_all(conn)
    engine.dispose()
    upgrade(url)
