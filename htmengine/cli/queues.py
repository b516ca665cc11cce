# SPDX-License-Identifier: MIT
"""``htmengine queues``: the bus's queues, the engine's own and those of applications."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import click

from htmengine.bus.interface import QueueState
from htmengine.cli.common import Engine, at_engine, engine_options, example, failing_cleanly, printable
from htmengine.deployment import Deployment
from htmengine.errors import UnroutableMessage
from htmengine.operations import Operations
from htmengine.runtime.carbon_queue import queue_from

_COLUMNS = "{:<40} {:>9} {:>10} {:>9} {:>9}  {:<16} {}"


@click.command(epilog=example("htmengine queues --delete my.application.results"))
@engine_options
@click.argument("names", nargs=-1)
@click.option("--delete", "name", metavar="NAME", help="Remove an application's queue and its messages.")
@failing_cleanly
def queues(engine: Engine, names: Sequence[str], name: str | None) -> None:
    """List the queues: length, size, age of the oldest message, messages dropped, reader, exchanges.

    RabbitMQ lists no queues to its clients: there NAMES, and those of [metric_streamer] application_queues, are asked
    for beside the engine's own, and a dash stands for what it does not tell.
    """
    deployment = engine.deployment
    own = own_queues(deployment)
    if name is not None:
        _delete(engine, name, own)
        return
    asked = [*own, *deployment.config.metric_streamer.application_queues.split(), *names]

    async def inspect(operations: Operations) -> list[QueueState]:
        return await operations.bus.inspect(asked)

    states = at_engine(engine, inspect)
    click.echo(_COLUMNS.format("queue", "messages", "bytes", "oldest", "dropped", "reader", "bound to"))
    for state in states:
        click.echo(queue_line(state).rstrip())


def own_queues(deployment: Deployment) -> set[str]:
    """Names of the engine's own queues."""
    own = {queue for queues in deployment.queues.values() for queue in queues}
    section = deployment.config.metric_listener
    if section.amqp_exchange:
        own.add(queue_from(section.amqp_exchange, section.queue_name))
    return own | {deployment.config.interface_bus.scheduler_notification_queue}


def _delete(engine: Engine, name: str, own: Collection[str]) -> None:
    if name in own:
        raise click.ClickException(f"{name} is the engine's own queue: it holds what is not stored or scored yet")

    async def delete(operations: Operations) -> None:
        if not await _exists(operations, name):
            raise UnroutableMessage(name)
        await operations.bus.delete_queue(name)

    at_engine(engine, delete)
    click.echo(f"deleted {printable(name)}")


async def _exists(operations: Operations, name: str) -> bool:
    return any(state.name == name for state in await operations.bus.inspect([name]))


def queue_line(state: QueueState) -> str:
    """One queue for a terminal.

    >>> queue_line(QueueState("app", 3, False, 900, 7200.0, 0, 90000.0, ["results"])).split()
    ['app', '3', '900', '2', 'h', '0', 'none', 'for', '25', 'h', 'results']
    """
    return _COLUMNS.format(
        printable(state.name),
        state.messages,
        _told(state.bytes),
        _span(state.oldest_s),
        _told(state.dropped),
        "yes" if state.has_reader else f"none for {_span(state.unread_s)}" if state.unread_s is not None else "none",
        printable(" ".join(state.exchanges)),
    )


def _told(number: int | None) -> str:
    return "-" if number is None else str(number)


def _span(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
