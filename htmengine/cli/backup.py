# SPDX-License-Identifier: MIT
"""``htmengine backup``."""

from __future__ import annotations

from pathlib import Path

import click

from htmengine.backup import copy_engine
from htmengine.cli.common import Engine, engine_options, example, failing_cleanly
from htmengine.errors import BackupFailed


@click.command(epilog=example("htmengine backup /backups/htmengine-monday"))
@engine_options
@click.argument("target", metavar="DIR", type=click.Path(path_type=Path))
@failing_cleanly
def backup(engine: Engine, target: Path) -> None:
    """Copy an embedded engine to a new folder DIR; it may run meanwhile.

    To go back, stop the engine, move its data folder away and DIR into its place.
    """
    folder = engine.deployment.folder
    if folder is None:
        raise BackupFailed("this engine's database is on a server: dump it there, as docs/operations.md says")
    models = copy_engine(folder, engine.deployment.checkpoints, target)
    click.echo(f"{target} has the database, the queues and {models} files of models")
