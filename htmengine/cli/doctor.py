# SPDX-License-Identifier: MIT
"""``htmengine doctor``: one sample of a probe metric goes through a running deployment, stage by stage."""

from __future__ import annotations

import contextlib
import socket
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import click
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.threads import deferToThread

from htmengine.bus.interface import Bus
from htmengine.cli.common import Engine, engine_options, example, failing_cleanly, printable, run_reactor
from htmengine.client import AsyncClient, Results
from htmengine.deployment import Deployment
from htmengine.errors import HtmEngineError, MetricNotFound, StartError
from htmengine.process.twisted_types import Reactor, later, within
from htmengine.repository.queries import Metric, Row
from htmengine.repository.reading import names_with_prefix

T = TypeVar("T")
Work = Coroutine[Deferred[Any], Any, T]

#: Between two looks at the database.
LOOK_S = 0.1
#: The probe's only value, and its metric's range.
VALUE, LOW, HIGH = 50.0, 0.0, 100.0
#: What the names of probe metrics begin with.
PROBES = "htmengine.doctor."
#: More than there are.
MOST_STAGES = 12


@click.command(epilog=example("htmengine doctor --config /etc/htmengine"))
@engine_options
@click.option("--within", "each_s", type=click.FloatRange(min=0.5), default=30.0, show_default=True, help="Of a stage.")
@failing_cleanly
def doctor(engine: Engine, each_s: float) -> None:
    """Send one sample of a probe metric through a running deployment: each stage with its time, and what is wrong.

    The first stage that fails is the last one, and the status is 1.  The probe metric is removed at the end.  If its
    sample is stored only later, a later run removes it.
    """
    run_reactor(partial(_examine, engine, each_s))


@dataclass(frozen=True, slots=True)
class Stages:
    """Does one stage after the other and prints a line of each."""

    reactor: Reactor
    each_s: float

    async def do(self, name: str, work: Work[T], why: Callable[[], Awaitable[str]] | None = None) -> T:
        """Its result.  A stage that fails ends the command; ``why`` says what is wrong if it takes too long."""
        begun = self.reactor.seconds()
        try:
            done = await within(Deferred.fromCoroutine(work), self.each_s, self.reactor)
        except TimeoutError:
            wrong = f"nothing within {self.each_s:g} s" + (f": {await why()}" if why else "")
        except (HtmEngineError, OSError) as error:
            wrong = str(error)
        else:
            click.echo(stage_line(name, self.reactor.seconds() - begun))
            return done
        click.echo(stage_line(name, self.reactor.seconds() - begun, wrong))
        raise click.exceptions.Exit(1)


def stage_line(name: str, seconds: float, wrong: str = "") -> str:
    """A stage for a terminal.

    >>> print(stage_line("Metric Storer", 0.1234))
    ok     Metric Storer       0.12 s
    >>> print(stage_line("Metric Storer", 30, "nothing within 30 s"))
    WRONG  Metric Storer      30.00 s  nothing within 30 s
    """
    line = f"{'WRONG' if wrong else 'ok':<7}{name:<16}{seconds:>8.2f} s"
    return f"{line}  {printable(wrong)}" if wrong else line


async def _examine(engine: Engine, each_s: float, reactor: Reactor) -> None:
    stages = Stages(reactor, each_s)
    await stages.do("engine", _configured(engine.deployment))
    await stages.do("database", _database(engine))
    async with contextlib.AsyncExitStack() as opened:
        client = AsyncClient(reactor, engine.deployment, patient=False)
        await stages.do("bus", opened.enter_async_context(client))
        name = probe_name(reactor.seconds() + MOST_STAGES * each_s)
        opened.push_async_callback(_remove, client, name)
        await _follow(stages, engine.deployment, client, name, opened)


async def _configured(deployment: Deployment) -> None:
    """An embedded engine is one process, which runs or not; the services of a distributed one are asked later."""
    if deployment.folder is not None and not deployment.folder.in_use:
        raise StartError(f"no engine runs on {deployment.folder.path}: start it with `htmengine run`")


async def _database(engine: Engine) -> None:
    with engine.database():
        pass


async def _follow(
    stages: Stages, deployment: Deployment, client: AsyncClient, name: str, opened: contextlib.AsyncExitStack
) -> None:
    """The probe's sample, from the port to the results exchange."""
    bus, reactor, config = client.operations.bus, stages.reactor, deployment.config
    metric = await stages.do("probe metric", _probe(client, name, reactor.seconds()))
    results = await stages.do("results queue", client.results())
    opened.push_async_callback(results.close)
    at = int(reactor.seconds())
    await stages.do("Metric Listener", _send(deployment, client, (name, VALUE, at)))
    storer = partial(_silent, bus, [(config.metric_listener.queue_name, "Metric Storer")])
    await stages.do("Metric Storer", _row(client, metric, reactor, scored=False), storer)
    model_input = deployment.shards.queue_of(metric.uid)
    scorers = [(model_input, "Model Scheduler"), (config.interface_bus.results_queue, "Anomaly Service")]
    await stages.do("score", _row(client, metric, reactor, scored=True), partial(_silent, bus, scorers))
    await stages.do("broadcast", _broadcast(results, metric))


async def _send(deployment: Deployment, client: AsyncClient, sample: tuple[str, float, int]) -> None:
    """Through the Graphite port; through the bus where nobody knows the port."""
    section = deployment.config.metric_listener
    port = _port(deployment)
    if not port:
        await client.send([sample])
        return
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(section.host, section.host)  # noqa: S104
    try:
        await deferToThread(_send_line, host, port, "{} {!r} {}\n".format(*sample))
    except OSError as error:
        raise StartError(f"{host}:{port}: {error.strerror or error}; is the Metric Listener there?") from None


def _port(deployment: Deployment) -> int:
    """Of Graphite lines: what an embedded engine has noted, which may have a --graphite-port; 0: nobody knows it."""
    sign = deployment.folder.last_sign() if deployment.folder is not None else None
    return (sign.port if sign is not None else 0) or deployment.config.metric_listener.port


def _send_line(host: str, port: int, line: str) -> None:
    with socket.create_connection((host, port), timeout=5) as connection:
        connection.sendall(line.encode())
        connection.shutdown(socket.SHUT_WR)
        connection.recv(1)  # the listener closes when it has read the line


async def _row(client: AsyncClient, metric: Metric, reactor: Reactor, *, scored: bool) -> Row:
    """The probe's row, when it is there."""
    while True:
        for row in await client.rows(metric.uid):
            if row.anomaly is not None or not scored:
                return row
        await later(reactor, LOOK_S)


async def _broadcast(results: Results, metric: Metric) -> None:
    """Returns when the results exchange has told of the probe."""
    async for message in results:
        if message.get("metric", {}).get("uid") == metric.uid:
            return


async def _silent(bus: Bus, stages: Sequence[tuple[str, str]]) -> str:
    """Why nothing comes of a queue's messages, as far as the bus can tell."""
    read = {state.name for state in await bus.inspect([queue for queue, _ in stages]) if state.has_reader}
    missing = [f"nobody reads {queue}, start the {service}" for queue, service in stages if queue not in read]
    return "; ".join(missing) or "`htmengine status`, `htmengine rejects` and the services' logs tell more"


def probe_name(until: float) -> str:
    """Of a new probe metric, which its command uses until then, epoch seconds."""
    return f"{PROBES}{int(until)}.{uuid.uuid4().hex[:8]}"


def is_left(name: str, now: float) -> bool:
    """Whether no command uses the probe metric any more: its sample came when the command had given up.

    >>> is_left("htmengine.doctor.1500000000.0123abcd", 1_500_000_001.0)
    True
    >>> is_left("htmengine.doctor.1500000000.0123abcd", 1_499_999_999.0)
    False
    >>> is_left("htmengine.doctor.seen.0123abcd", 1_500_000_001.0)
    False
    """
    until = name.removeprefix(PROBES).split(".")[0]
    return name.startswith(PROBES) and until.isdecimal() and int(until) < now


async def _probe(client: AsyncClient, name: str, now: float) -> Metric:
    """The new probe metric, when those of earlier commands are gone."""
    await _remove_earlier(client, now)
    return await client.monitor(name, min=LOW, max=HIGH)


async def _remove_earlier(client: AsyncClient, now: float) -> None:
    for name in await client.operations.database.read(lambda conn: list(names_with_prefix(conn, PROBES))):
        if is_left(name, now):
            await _remove(client, name)


async def _remove(client: AsyncClient, name: str) -> None:
    with contextlib.suppress(MetricNotFound):
        await client.delete(name)
