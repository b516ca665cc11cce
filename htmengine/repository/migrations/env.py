# SPDX-License-Identifier: MIT
"""Alembic's entry: runs the versions on the database whose URL it is given."""

from __future__ import annotations

from alembic import context
from sqlalchemy import create_engine, pool

from htmengine.repository.migrations import VERSION_TABLE
from htmengine.repository.schema import metadata


def run_migrations() -> None:
    """All versions in one transaction where the database can."""
    engine = create_engine(context.config.attributes["url"], poolclass=pool.NullPool)
    with engine.connect() as connection:
        context.configure(
            connection=connection,
            target_metadata=metadata,
            version_table=VERSION_TABLE,
            render_as_batch=True,
        )
        with context.begin_transaction():
            context.run_migrations()
    engine.dispose()


run_migrations()
