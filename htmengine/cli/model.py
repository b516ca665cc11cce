# SPDX-License-Identifier: MIT
"""``htmengine model``: snapshots of models, and what can be done with one."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import click
from twisted.internet.defer import Deferred

from htmengine.cli.common import Engine, NewFile, engine_options, example, failing_cleanly, new_file, run_reactor
from htmengine.csv_files import format_timestamp
from htmengine.errors import HtmEngineError
from htmengine.operations import Operations
from htmengine.process.twisted_types import Reactor, later
from htmengine.repository.snapshots import Snapshot

T = TypeVar("T")

#: How often a snapshot that was asked for is looked for.
POLL_S = 0.1

_timeout = click.option(
    "--timeout", "timeout_s", type=float, default=60.0, show_default=True, help="Seconds to wait for the model."
)
_version = click.option("--version", type=click.IntRange(min=1), help="Of `htmengine model snapshots`.")


@click.group()
def model() -> None:
    """A metric's model as a whole: snapshot, revert, clone, export, import."""


@model.command(epilog=example("htmengine model snapshot web1.cpu"))
@click.argument("name")
@engine_options
@_timeout
@failing_cleanly
def snapshot(name: str, engine: Engine, timeout_s: float) -> None:
    """Keep the model as it is after all samples stored now."""
    taken = _with_operations(engine, lambda reactor, operations: _take(reactor, operations, name, timeout_s))
    click.echo(f"{name}: version {taken.version} after row {taken.rowid}")


@model.command(epilog=example("htmengine model snapshots web1.cpu"))
@click.argument("name")
@engine_options
@failing_cleanly
def snapshots(name: str, engine: Engine) -> None:
    """List a metric's snapshots."""
    found = _with_operations(engine, lambda _, operations: operations.snapshots(name))
    click.echo(f"{'version':<9}{'taken':<21}after row")
    for each in found:
        row = each.rowid if each.ready else "waiting for the model"
        click.echo(f"{each.version:<9}{format_timestamp(each.created_at):<21}{row}")


@model.command(epilog=example("htmengine model revert web1.cpu --version 3"))
@click.argument("name")
@engine_options
@_version
@click.option("--replay", is_flag=True, help="Run and score again all rows after the snapshot.")
@failing_cleanly
def revert(name: str, engine: Engine, version: int | None, replay: bool) -> None:
    """Continue a model from a snapshot, by default the newest.

    What the model has learnt since is forgotten, and the scores stay; with --replay it learns the rows since the
    snapshot again and their scores are made again.
    """
    metric = _with_operations(
        engine, lambda _, operations: operations.revert_model(name, version=version, replay=replay)
    )
    click.echo(f"{metric.name}: {metric.status.name}")


@model.command(epilog=example("htmengine model clone web1.cpu web2.cpu"))
@click.argument("name")
@click.argument("new")
@engine_options
@_version
@_timeout
@failing_cleanly
def clone(name: str, new: str, engine: Engine, version: int | None, timeout_s: float) -> None:
    """Give the metric NEW a copy of a model, or of one of its snapshots.

    NEW must not have a model.  The copy continues with new samples.
    """

    async def start(reactor: Reactor, operations: Operations) -> str:
        chosen = version or (await _take(reactor, operations, name, timeout_s)).version
        metric = await operations.clone_model(name, new, version=chosen)
        return f"{metric.name}: {metric.status.name}"

    click.echo(_with_operations(engine, start))


@model.command("export", epilog=example("htmengine model export web1.cpu web1.htmmodel"))
@click.argument("name")
@click.argument("file", type=NewFile())
@engine_options
@_version
@_timeout
@failing_cleanly
def export(name: str, file: Path, engine: Engine, version: int | None, timeout_s: float) -> None:
    """Write a model, or one of its snapshots, to FILE."""

    async def start(reactor: Reactor, operations: Operations) -> bytes:
        chosen = version or (await _take(reactor, operations, name, timeout_s)).version
        return await operations.export_model(name, version=chosen)

    data = _with_operations(engine, start)
    with new_file(file, "wb") as out:
        out.write(data)
    click.echo(f"{file}: {len(data)} bytes")


#: Far more than any model has.
MOST_BYTES = 256 << 20


@model.command("import", epilog=example("htmengine model import web1.htmmodel --name web3.cpu"))
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@engine_options
@click.option("--name", help="The metric; by default the one with the exported metric's name.")
@failing_cleanly
def import_(file: Path, engine: Engine, name: str | None) -> None:
    """Give the model in FILE to a metric without one."""
    with file.open("rb") as content:
        data = content.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise click.UsageError(f"FILE: {file} has more than {MOST_BYTES >> 20} MB, which no exported model has")
    metric = _with_operations(engine.make(), lambda _, operations: operations.import_model(data, name))
    click.echo(f"{metric.name}: {metric.status.name}")


def _with_operations(engine: Engine, do: Callable[[Reactor, Operations], Coroutine[Deferred[Any], Any, T]]) -> T:
    async def start(reactor: Reactor) -> T:
        async with engine.client(reactor) as client:
            return await do(reactor, client.operations)

    return run_reactor(start)


async def _take(reactor: Reactor, operations: Operations, name: str, timeout_s: float) -> Snapshot:
    """Ask for a snapshot and wait for it."""
    asked = await operations.snapshot_model(name)
    deadline = reactor.seconds() + timeout_s
    while reactor.seconds() < deadline:
        found = {each.version: each for each in await operations.snapshots(name)}.get(asked.version)
        if found is None:
            raise HtmEngineError(
                f"the snapshot of {name!r} was refused: the workers make none (NuPIC's, docs/nupic.md)"
            )
        if found.ready:
            return found
        await later(reactor, POLL_S)
    raise HtmEngineError(f"no snapshot of {name!r} came within {timeout_s:g} s; is the engine running?")
