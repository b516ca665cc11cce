# SPDX-License-Identifier: MIT
"""How long the shards of a killed scheduler stay without one, and until all rows that came meanwhile have their scores.

Two schedulers, RabbitMQ and MariaDB on this machine; kill -9 of one of them, rows at the same moment; again and again.
The first figure is bounded below by how often schedulers count each other, the second by what the models alone take.

    PYTHONPATH=. python benchmarks/takeover.py --times 5
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

from tqdm import tqdm

from htmengine.model_swapper.model_scheduler_service import BALANCE_S
from tests.support.distributed import DistributedEngine, distributed_engine
from tests.support.engine import wait_for
from tests.support.servers import MariaDB, RabbitMQ

START = 1_700_000_000
METRICS, ROWS = 12, 20
OPTIONS = {"HTMENGINE__APPLICATION__METRIC_STORER__PENDING_SAMPLES": str(ROWS)}


def lines(part: int) -> list[str]:
    """The next rows of all metrics."""
    return [
        f"load.m{number} {row % 7 + number} {START + 60 * row}"
        for row in range(part * ROWS, (part + 1) * ROWS)
        for number in range(METRICS)
    ]


def shards_of(engine: DistributedEngine, name: str) -> int:
    """How many shards a scheduler has, by its log."""
    log = engine.log(name)
    return log.count(" taken") - log.count(" given to") - log.count(" lost")


def takeover(engine: DistributedEngine, part: int) -> tuple[float, float]:
    """Seconds until the survivor has all four shards, and until all rows are scored."""
    victim = f"victim{part}"
    engine.start("scheduler", victim)
    wait_for(lambda: (shards_of(engine, "survivor"), shards_of(engine, victim)) == (2, 2), "equal shares")
    engine.kill(victim)
    began = time.perf_counter()
    engine.send(lines(part))
    wait_for(lambda: shards_of(engine, "survivor") == 4, "the takeover")
    taken = time.perf_counter() - began
    engine.wait_until_scored(METRICS * ROWS * (part + 1))
    return taken, time.perf_counter() - began


def main() -> None:
    """Print the figures of each time."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--times", type=int, default=5)
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        RabbitMQ() as rabbitmq,
        MariaDB() as mariadb,
        distributed_engine(
            Path(folder), rabbitmq_port=rabbitmq.port, database_url=mariadb.new_database(), options=OPTIONS
        ) as engine,
    ):
        engine.start_all("listener", "storer", "anomaly")
        engine.start("scheduler", "survivor")
        engine.send(lines(0))
        engine.wait_until_scored(METRICS * ROWS)
        for part in tqdm(range(1, options.times + 1), desc="takeovers", leave=False, disable=None):
            taken, scored = takeover(engine, part)
            print(f"shards taken after {taken:.2f} s, all rows scored after {scored:.2f} s", flush=True)
    print(f"schedulers count each other every {BALANCE_S:g} s; load of the machine {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
