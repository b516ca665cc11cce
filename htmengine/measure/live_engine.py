# SPDX-License-Identifier: MIT
"""A whole engine in this process, fed for some seconds: what a row costs outside the workers."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

from sqlalchemy import Connection

from htmengine.adapters.datasource.custom import ModelSpec
from htmengine.client import AsyncClient
from htmengine.deployment import Deployment, engine_deployment
from htmengine.operations import Operations
from htmengine.process.twisted_types import Reactor, later
from htmengine.repository import counts
from htmengine.services import make_engine

#: Metrics with a row in turn.
METRICS = 200
#: Rows that may be on their way.
_ROWS_AHEAD = 10 * METRICS
_POLL_S = 0.05


@contextlib.asynccontextmanager
async def live_engine(reactor: Reactor, folder: Path) -> AsyncIterator[Deployment]:
    """An engine of its own on that folder, on free ports."""
    deployment = engine_deployment(data_dir=folder, config_dir=None, graphite_port=0, http_port=0, auto_monitor=False)
    engine, _ = make_engine(deployment, reactor)
    engine.privilegedStartService()
    engine.startService()
    try:
        yield deployment
    finally:
        await engine.stopService()


async def cpu_ms_per_row(reactor: Reactor, folder: Path, seconds: float) -> float:
    """This process's CPU time for a row, from the samples queue to the stored score, as fast as they go."""
    async with live_engine(reactor, folder) as deployment, AsyncClient(reactor, deployment) as client:
        operations = client.operations
        names = [f"capacity.{number}" for number in range(METRICS)]
        for name in names:
            await operations.monitor(ModelSpec.for_name(name, min=0, max=100))
        ends_at = time.perf_counter() + seconds
        sent, cpu = 0, time.process_time()
        while time.perf_counter() < ends_at:
            timestamp = 1_400_000_000 + 300 * (sent // METRICS)
            await operations.send([f"{name} {sent % 97} {timestamp}" for name in names])
            sent += METRICS
            await _until_scored(reactor, operations, sent - _ROWS_AHEAD)
        await _until_scored(reactor, operations, sent)
        return 1000 * (time.process_time() - cpu) / sent


async def _until_scored(reactor: Reactor, operations: Operations, rows: int) -> None:
    while rows > 0 and await operations.database.read(_scored) < rows:
        await later(reactor, _POLL_S)


def _scored(conn: Connection) -> int:
    return sum(score.scored for score in counts.get_scores(conn).values())
