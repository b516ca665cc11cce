# SPDX-License-Identifier: MIT
"""The client library in programs of its own, blocking and on Twisted, at an embedded and a distributed engine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.distributed import distributed_engine
from tests.support.engine import running_engine
from tests.support.servers import MariaDB, RabbitMQ

#: An application: monitors a metric, follows its results, cleans up.
BLOCKING = """
from htmengine.client import Client
from htmengine.errors import InvalidModelSpec, MetricExists, MetricNotFound

with Client({where}) as client:
    results = client.results()
    client.create("other")
    try:
        client.create("other")
    except MetricExists:
        print("exists")
    client.monitor({{"metricSpec": {{"metric": "m"}}, "modelParams": {{"min": 0, "max": 10}}}})
    client.send([("m", row % 7, 1_400_000_000 + 60 * row) for row in range(1, 1201)])
    rows = 0
    while rows < 1200:
        message = next(results)
        if "results" in message:
            assert message["metric"]["name"] == "m"
            rows += len(message["results"])
    results.close()
    [uid] = [metric.uid for metric in client.metrics() if metric.name == "m"]
    assert [row.value for row in client.rows(uid, after_rowid=1190)] == [row % 7 for row in range(1191, 1201)]
    print(client.unmonitor("m").status.name)
    client.delete("m")
    try:
        client.delete("m")
    except MetricNotFound as error:
        print(error)
    try:
        client.monitor("m", max=3)
    except InvalidModelSpec as error:
        print(error)
    print([metric.name for metric in client.metrics()])
"""
#: Two lives of an application that must not miss a result.
TWISTED = """
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import react
from htmengine.client import AsyncClient

async def first(client):
    await client.results(queue="app")
    await client.monitor("m", min=0, max=10)
    await client.send([("m", row % 7, 1_400_000_000 + 60 * row) for row in range(1, 101)])

async def second(client):
    rows = []
    async for message in await client.results(queue="app"):
        rows += [row["rowid"] for row in message.get("results", [])]
        if len(rows) >= 100:
            break
    print(rows == list(range(1, 101)))

async def main(reactor):
    for life in (first, second):
        async with AsyncClient(reactor, {where}) as client:
            await life(client)

react(lambda reactor: Deferred.fromCoroutine(main(reactor)))
"""


@pytest.fixture(params=["embedded", "distributed"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The arguments that lead a client to a running engine."""
    if request.param == "embedded":
        with running_engine(tmp_path / "data", "--workers", "1") as engine:
            yield f"data_dir=__import__('pathlib').Path({str(engine.data_dir)!r})"
        return
    rabbitmq: RabbitMQ = request.getfixturevalue("rabbitmq")
    mariadb: MariaDB = request.getfixturevalue("mariadb")
    database_url = mariadb.new_database()
    with distributed_engine(tmp_path / "engine", rabbitmq_port=rabbitmq.port, database_url=database_url) as engine:
        engine.start_all()
        yield f"config_dir=__import__('pathlib').Path({str(engine.config_dir)!r})"


def run(program: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HTMENGINE__")}
    command = [sys.executable, "-W", "error", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_blocking_application(where: str) -> None:
    assert run(BLOCKING.format(where=where)).splitlines() == [
        "exists",
        "UNMONITORED",
        "no metric named 'm'",
        "modelParams: min and max go together",
        "['other']",
    ]


def test_a_twisted_application_that_comes_back_has_missed_nothing(where: str) -> None:
    assert run(TWISTED.format(where=where)) == "True\n"
