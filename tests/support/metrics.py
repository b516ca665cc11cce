# SPDX-License-Identifier: MIT
"""Many metrics in a running engine's database, faster than by sending samples."""

from __future__ import annotations

import math
from collections.abc import Iterable

from sqlalchemy import Connection

from htmengine.repository import queries
from htmengine.repository.engine import Database
from htmengine.repository.queries import Metric, MetricStatus
from tests.support.engine import Engine

#: Time before the first sample.
START = 1_400_000_000


def seed_metrics(engine: Engine, numbers: Iterable[int], rows: int = 0) -> None:
    """Metrics named ``metric.00042`` without a model, each with that many samples, a minute apart."""
    database = Database(f"sqlite:///{engine.data_dir / 'htmengine.db'}")
    try:
        database.run_sync(_create, numbers, rows)
    finally:
        database.close()


def _value(row: int, number: int) -> float:
    """Days of 1440 minutes, with some noise."""
    return math.sin(row / 1440 * math.tau + number) + 0.1 * math.sin(row * row)


def _create(conn: Connection, numbers: Iterable[int], rows: int) -> None:
    for number in numbers:
        uid = f"{number:032x}"
        name = f"metric.{number:05d}"
        metric = Metric(uid, "custom", name, None, None, None, "{}", MetricStatus.UNMONITORED)
        queries.create_metrics(conn, [metric])
        if rows:
            samples = [(uid, row, START + 60 * row, _value(row, number)) for row in range(1, rows + 1)]
            queries.insert_samples(conn, samples)
            queries.update_tails(conn, [(uid, rows, samples[-1][2])])
