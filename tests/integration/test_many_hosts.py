# SPDX-License-Identifier: MIT
"""Several schedulers share the work; one dies under load, and the scores are those of an undisturbed run."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import pytest

from tests.support.distributed import QUICK, DistributedEngine, distributed_engine
from tests.support.engine import wait_for
from tests.support.servers import MariaDB, RabbitMQ

START = 1_700_000_000
METRICS = 12
ROWS = 240
OPTIONS = {
    **QUICK,
    "HTMENGINE__MODEL_CHECKPOINT__STORAGE__CHECKPOINT_ROWS": "25",
}


def lines(first: int, last: int) -> list[str]:
    noise = random.Random(first)
    return [
        f"host{number}.load {math.sin(row / (5 + number)) + noise.random()!r} {START + 60 * row}"
        for row in range(first, last + 1)
        for number in range(METRICS)
    ]


def shards_of(engine: DistributedEngine, name: str) -> int:
    """How many shards a scheduler has, by its log."""
    log = engine.log(name)
    return log.count(" taken") - log.count(" given to") - log.count(" lost")


def wait_for_shares(engine: DistributedEngine, **shares: int) -> None:
    wait_for(lambda: {name: shards_of(engine, name) for name in shares} == shares, f"shares {shares}")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, rabbitmq: RabbitMQ, mariadb: MariaDB) -> list[Any]:
    """The scores of a run with one scheduler, to which nothing happens."""
    with distributed_engine(
        tmp_path_factory.mktemp("undisturbed"),
        rabbitmq_port=rabbitmq.port,
        database_url=mariadb.new_database(),
        options=OPTIONS,
    ) as engine:
        engine.start_all()
        for first in range(1, ROWS, 40):
            engine.send(lines(first, first + 39))
        engine.wait_until_scored(METRICS * ROWS)
        return engine.scores()


@pytest.mark.parametrize("shared_folder", [True, False], ids=["shared folder", "folders of their own"])
def test_a_scheduler_that_dies_changes_no_score(
    tmp_path: Path, rabbitmq: RabbitMQ, mariadb: MariaDB, undisturbed: list[Any], shared_folder: bool
) -> None:
    with distributed_engine(
        tmp_path / "engine", rabbitmq_port=rabbitmq.port, database_url=mariadb.new_database(), options=OPTIONS
    ) as engine:
        own = {} if shared_folder else {"HTMENGINE__MODEL_CHECKPOINT__STORAGE__ROOT": str(tmp_path / "second")}
        engine.start_all("listener", "storer", "anomaly")
        engine.start("scheduler", "first")
        wait_for_shares(engine, first=4)
        engine.send(lines(1, 40))
        engine.wait_until_scored(METRICS * 20)
        engine.start("scheduler", "second", **own)  # the first one gives it half of the shards, and their models
        wait_for_shares(engine, first=2, second=2)
        for first in range(41, 121, 40):
            engine.send(lines(first, first + 39))
        engine.wait_until_scored(METRICS * 90)
        engine.kill("second")
        for first in range(121, ROWS, 40):
            engine.send(lines(first, first + 39))
        engine.wait_until_scored(METRICS * ROWS)
        wait_for_shares(engine, first=4)
        assert engine.scores() == undisturbed
        assert engine.query("SELECT COUNT(*) FROM metric WHERE status <> 1") == [(0,)]
