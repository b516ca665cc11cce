# SPDX-License-Identifier: MIT
"""``htmengine status``: queue lengths, rates and lags of every stage."""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable, Iterator

import click

from htmengine.cli.common import Engine, engine_options, example, failing_cleanly, in_time, run_reactor
from htmengine.cli.troubles import trouble_line
from htmengine.csv_files import format_timestamp
from htmengine.process.twisted_types import Reactor, later
from htmengine.status import Queues, Status, queue_samples, read_status

#: Rates are of this many seconds.
LOOK_S = 1.0
_LINE = "{:<14}{:>12}  {:<26}{:>12}  {}"


@click.command(epilog=example("htmengine status --every 60 --send"))
@engine_options
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.option("--every", "every_s", type=click.FloatRange(min=2.0), help="Repeat after this many seconds.")
@click.option("--send", is_flag=True, help="Send the queues' lengths to the engine, as metrics htmengine.queues.*.")
@failing_cleanly
def status(engine: Engine, as_json: bool, every_s: float | None, send: bool) -> None:
    """Show queue lengths, rates and lags of every stage, and troubles, whether the engine runs or not.

    Status 1 if an embedded engine runs and hangs, or its disk takes nothing.
    """

    async def start(reactor: Reactor) -> None:
        async with engine.client(reactor) as client:
            operations = client.operations
            sleep: Callable[[float], Awaitable[None]] = lambda seconds: later(reactor, seconds)  # noqa: E731
            while True:
                reading = read_status(operations.bus, operations.database, _queues(engine), seconds=LOOK_S, sleep=sleep)
                found = await in_time(reading, reactor)
                click.echo(json.dumps(found.to_json()) if as_json else "\n".join(_lines(found)))
                if send:
                    await in_time(operations.send(queue_samples(found.lengths, int(reactor.seconds()))), reactor)
                if every_s is None:
                    return
                await sleep(every_s - LOOK_S)
                engine.tell_whether_it_runs()

    run_reactor(start)
    if engine.untold():
        sys.exit(1)


def _queues(engine: Engine) -> Queues:
    config = engine.deployment.config
    return Queues(
        samples=config.metric_listener.queue_name,
        model_input=engine.deployment.shards.queues,
        results=config.interface_bus.results_queue,
        schedulers=config.interface_bus.scheduler_notification_queue,
    )


def _lines(found: Status) -> Iterator[str]:
    yield _LINE.format("queue", "messages", "taken by", "rows/s", "newest sample")
    yield _row("samples", found.lengths.samples, "Metric Storer", found.stored_per_s, found.newest_stored)
    schedulers = "Model Scheduler" if found.schedulers in (None, 1) else f"Model Scheduler ({found.schedulers})"
    yield _row("model input", found.lengths.model_input, schedulers, None, None)
    yield _row("results", found.lengths.results, "Anomaly Service", found.scored_per_s, found.newest_scored)
    yield waiting_line(found.waiting, found.lag_s)
    counts = ", ".join(f"{count} {name}" for name, count in sorted(found.metrics.items())) or "none"
    yield f"metrics: {counts}"
    yield from map(trouble_line, found.troubles)


def waiting_line(rows: int, lag_s: float | None) -> str:
    """How many rows wait, and how long the one of a metric with scores that waits longest.

    >>> waiting_line(4000, None)
    '4000 rows wait for their score, all of metrics without any score so far'
    >>> waiting_line(0, None)
    '0 rows wait for their score; the metric furthest behind is -'
    """
    if rows and lag_s is None:
        return f"{rows} rows wait for their score, all of metrics without any score so far"
    lag = "-" if lag_s is None else f"{lag_s:.0f} s behind"
    return f"{rows} rows wait for their score; the metric furthest behind is {lag}"


def _row(queue: str, messages: int | None, taker: str, per_s: float | None, newest: int | None) -> str:
    return _LINE.format(
        queue,
        "-" if messages is None else messages,
        taker,
        "" if per_s is None else f"{per_s:.0f}",
        "" if newest is None else format_timestamp(newest),
    ).rstrip()
