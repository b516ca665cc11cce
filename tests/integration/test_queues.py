# SPDX-License-Identifier: MIT
"""An application that went away stops no scoring, and the command shows and removes the queue that it left."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.distributed import QUICK, distributed_engine
from tests.support.engine import lines, running_engine
from tests.support.servers import MariaDB, RabbitMQ

#: An application that has gone away, with a queue that holds three messages.
GONE = """
from htmengine.client import Client

with Client({where}) as client:
    client.results(queue="gone.application.results")
"""
SMALL = {"HTMENGINE__APPLICATION__METRIC_STREAMER__QUEUE_MAX_MESSAGES": "3"}


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment or None)


def test_an_embedded_engine_scores_on_and_the_queue_is_listed_and_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**QUICK, **SMALL}.items():
        monkeypatch.setenv(name, value)
    with running_engine(tmp_path) as engine:
        where = f"data_dir=__import__('pathlib').Path({str(tmp_path)!r})"
        done = run(sys.executable, "-c", GONE.format(where=where))
        assert done.returncode == 0, done.stderr
        for part in range(5):
            engine.send(lines(1 + 20 * part, 20 + 20 * part, metrics=1))
            engine.wait_until_scored("m0", 20 + 20 * part)
        htmengine = (sys.executable, "-m", "htmengine.cli.main", "queues", "--data-dir", str(tmp_path))
        (row,) = [line.split() for line in run(*htmengine).stdout.splitlines() if line.startswith("gone.application")]
        assert row[1] == "3"
        assert row[-1] == "htmengine.model.results"
        refused = run(*htmengine, "--delete", "htmengine.metric.custom.data")
        assert run(*htmengine, "--delete", "gone.application.results").returncode == 0
        again = run(*htmengine, "--delete", "gone.application.results")
        assert (refused.returncode, again.returncode) == (1, 1)
        assert "gone.application" not in run(*htmengine).stdout


def test_a_distributed_engine_scores_on_and_the_queue_keeps_to_its_bound(
    tmp_path: Path, rabbitmq: RabbitMQ, mariadb: MariaDB
) -> None:
    with distributed_engine(
        tmp_path / "engine",
        rabbitmq_port=rabbitmq.port,
        database_url=mariadb.new_database(),
        options={**QUICK, **SMALL},
    ) as engine:
        done = run(sys.executable, "-c", GONE.format(where=""), **engine.environment())
        assert done.returncode == 0, done.stderr
        engine.start_all()
        for part in range(5):
            engine.send(lines(1 + 20 * part, 20 + 20 * part, metrics=1))
            engine.wait_until_scored(20 + 20 * part)
        listed = engine.command("queues", "gone.application.results")
        (row,) = [line.split() for line in listed.splitlines() if line.startswith("gone.application")]
        assert row[1] == "3"
        engine.command("queues", "--delete", "gone.application.results")
        assert "gone.application" not in engine.command("queues", "gone.application.results")
