# SPDX-License-Identifier: MIT
"""``htmengine status`` beside real engines of both deployments: every stage is seen, and what is wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from htmengine.repository import troubles
from htmengine.repository.engine import Database
from tests.support.distributed import QUICK, DistributedEngine, distributed_engine
from tests.support.engine import Engine, running_engine, wait_for
from tests.support.processes import run_htmengine
from tests.support.servers import MariaDB, RabbitMQ

START = 1_700_000_000
QUEUES = ("samples", "model_input", "results")


def lines(first: int, last: int) -> list[str]:
    return [f"m{number} {row % 7} {START + 60 * row}" for row in range(first, last + 1) for number in range(5)]


@dataclass(frozen=True)
class Watched:
    """An engine, and how the command finds it."""

    engine: Engine | DistributedEngine
    options: tuple[str, ...]
    environment: Mapping[str, str]
    database_url: str

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "htmengine.cli.main", "status", *self.options, *words]

    def text(self, *words: str) -> str:
        done = run_htmengine("status", *self.options, *words, environment=self.environment)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def status(self, *words: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.text("--json", *words))
        return found

    def wait_for(self, **wanted: Any) -> dict[str, Any]:
        """The first status with these figures."""

        def found() -> dict[str, Any] | None:
            status = self.status()
            figures = status | status["lengths"]
            return status if all(figures[name] == value for name, value in wanted.items()) else None

        status: dict[str, Any] = wait_for(found, str(wanted))
        return status


@pytest.fixture
def distributed(tmp_path: Path, rabbitmq: RabbitMQ, mariadb: MariaDB) -> Iterator[Watched]:
    url = mariadb.new_database()
    with distributed_engine(
        tmp_path / "engine", rabbitmq_port=rabbitmq.port, database_url=url, options=QUICK
    ) as engine:
        engine.start_all("listener", "storer", "scheduler", "anomaly", "web")
        yield Watched(engine, (), engine.environment(), url)


@pytest.fixture
def embedded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    for name, value in QUICK.items():
        monkeypatch.setenv(name, value)
    with running_engine(tmp_path / "data", "--workers", "1") as engine:
        url = f"sqlite:///{engine.data_dir / 'htmengine.db'}"
        yield Watched(engine, ("--data-dir", str(engine.data_dir)), os.environ, url)


@pytest.fixture(params=["embedded", "distributed"])
def watched(request: pytest.FixtureRequest) -> Watched:
    found: Watched = request.getfixturevalue(request.param)
    return found


def test_an_engine_at_rest(watched: Watched) -> None:
    watched.engine.send(lines(1, 40))
    status = watched.wait_for(waiting=0, newest_scored=START + 60 * 40, received_per_s=0.0, scored_per_s=0.0)
    assert status["lengths"] == dict.fromkeys(QUEUES, 0)
    assert status["schedulers"] == (1 if isinstance(watched.engine, DistributedEngine) else None)
    assert (status["metrics"], status["lag_s"]) == ({"ACTIVE": 5}, 0.0)
    assert status["troubles"] == []
    shown = watched.text()
    assert "0 rows wait for their score; the metric furthest behind is 0 s behind" in shown
    assert [line.split("  ")[0] for line in shown.splitlines()[1:4]] == ["samples", "model input", "results"]


def doctor(watched: Watched, *words: str) -> tuple[int, list[str]]:
    """Status and lines of ``htmengine doctor``; an embedded engine has noted its port, which nobody configured."""
    port = {"HTMENGINE__APPLICATION__METRIC_LISTENER__PORT": str(watched.engine.port)}
    told = port if isinstance(watched.engine, DistributedEngine) else {}
    done = run_htmengine("doctor", *watched.options, *words, environment={**watched.environment, **told})
    assert done.stderr == ""
    return done.returncode, done.stdout.splitlines()


def test_the_doctor_follows_a_probe_and_names_the_stage_that_stops_it(watched: Watched) -> None:
    watched.engine.send(["htmengine.doctor.1500000000.late 50 -1"])
    wait_for(lambda: watched.engine.query("SELECT name FROM metric"), "a probe whose sample came late")
    status, shown = doctor(watched)
    assert (status, [line.split()[0] for line in shown]) == (0, ["ok"] * 9), shown
    assert watched.engine.query("SELECT name FROM metric") == []
    if isinstance(watched.engine, DistributedEngine):
        watched.engine.kill("anomaly")
        status, shown = doctor(watched, "--within", "5")
        assert (status, shown[-1].split()[:2]) == (1, ["WRONG", "score"]), shown
        assert shown[-1].endswith(f"nobody reads {watched.engine.names}.raw, start the Anomaly Service")
        assert watched.engine.query("SELECT name FROM metric") == []


def lengths_stored(watched: Watched) -> set[str]:
    """Metrics of queues' lengths that have two rows."""
    found = watched.engine.query("SELECT name, last_rowid FROM metric WHERE name LIKE 'htmengine.queues.%'")
    return {name for name, rows in found if rows >= 2}


def test_it_sends_the_lengths_of_the_queues_to_the_engine_until_it_is_stopped(watched: Watched) -> None:
    with subprocess.Popen(
        watched.command("--json", "--every", "2", "--send"),
        env=dict(watched.environment),
        stdout=subprocess.PIPE,
        text=True,
    ) as sending:
        try:
            assert sending.stdout is not None
            seen = [json.loads(sending.stdout.readline()) for _ in range(2)]
            wait_for(lambda: len(lengths_stored(watched)) == len(QUEUES), "the lengths")
        finally:
            sending.send_signal(signal.SIGINT)
            sending.communicate(timeout=60)
    assert all(set(each["lengths"]) == set(QUEUES) for each in seen)
    assert lengths_stored(watched) == {f"htmengine.queues.{queue}.messages" for queue in QUEUES}


def test_troubles_are_shown_by_the_command_and_counted_at_healthz(watched: Watched) -> None:
    database = Database(watched.database_url)
    database.run_sync(troubles.replace, "worker 0", ["checkpoints cannot be written"], START)
    database.close()
    assert "2023-11-14 22:13:20  worker 0: checkpoints cannot be written" in watched.text()
    assert [each["message"] for each in watched.status()["troubles"]] == ["checkpoints cannot be written"]
    answer = httpx.get(f"{watched.engine.url}/healthz", timeout=60)
    assert (answer.status_code, answer.json()["status"], answer.json()["troubles"]) == (200, "ok", 1)


def test_each_stage_that_stands_still_shows_in_the_queue_before_it(distributed: Watched) -> None:
    engine = distributed.engine
    assert isinstance(engine, DistributedEngine)
    engine.send(lines(1, 40))
    distributed.wait_for(waiting=0, newest_scored=START + 60 * 40)
    assert [engine.stop(name) for name in ("storer", "scheduler", "anomaly")] == [0, 0, 0]
    engine.send(lines(41, 60))
    distributed.wait_for(samples=1, model_input=0, results=0, schedulers=0, waiting=0)
    engine.start("storer")
    status = distributed.wait_for(samples=0, waiting=100, newest_stored=START + 60 * 60)
    assert status["lengths"]["model_input"] >= 1
    assert status["lag_s"] == 20 * 60.0
    engine.start("scheduler")
    status = distributed.wait_for(model_input=0, schedulers=1)
    assert status["waiting"] == 100
    wait_for(lambda: distributed.status()["lengths"]["results"] >= 1, "results that nobody takes")
    engine.start("anomaly")
    distributed.wait_for(results=0, waiting=0, newest_scored=START + 60 * 60)


def test_an_engine_that_is_stopped_is_seen_all_the_same(embedded: Watched) -> None:
    engine = embedded.engine
    assert isinstance(engine, Engine)
    engine.send(lines(1, 3))
    wait_for(lambda: engine.query("SELECT SUM(last_rowid) FROM metric") == [(15,)], "the samples")
    assert engine.stop() == 0
    embedded.status("--send")
    status = embedded.status()
    assert (status["lengths"]["samples"], status["metrics"]) == (1, {"PENDING_DATA": 5})
