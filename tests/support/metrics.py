# SPDX-License-Identifier: MIT
"""Many metrics, or an incident, in a running engine's database, faster than by sending samples."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence

from sqlalchemy import Connection

from htmengine.incidents import queries as incidents
from htmengine.incidents.records import Incident, Member, Phase
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


def seed_incident(engine: Engine, name: str) -> None:
    """An open incident of a metric, about its newest row, that paged."""
    [(uid, rowid, timestamp)] = engine.query(
        "SELECT uid, last_rowid, CAST(strftime('%s', last_timestamp) AS INTEGER) FROM metric WHERE name = ?", name
    )
    now = time.time()
    incident = Incident(
        "9b1d5d1e-seeded", "ops", name, Phase.OPEN, timestamp, timestamp, now - 600, now - 600,
        None, None, None, True, None, 5.5, 4.0, 2.0, 1,
    )  # fmt: skip
    text = "the mean of 30 minutes is the lowest in 2 weeks"
    member = Member(
        incident.id, uid, name, rowid, timestamp, timestamp, 5.5, "level 6", "down", text, 2.0, 60.0, 50.0, 71.5
    )
    database = Database(f"sqlite:///{engine.data_dir / 'htmengine.db'}")
    try:
        database.run_sync(incidents.save_incident, incident)
        database.run_sync(incidents.save_members, [member])
    finally:
        database.close()


def seed_incidents(engine: Engine, count: int) -> None:
    """Open incidents of the metrics that `seed_metrics` made, of 1 to 20 metrics each; every fifth paged."""
    metrics = engine.query("SELECT uid, name, last_rowid FROM metric ORDER BY name")
    database = Database(f"sqlite:///{engine.data_dir / 'htmengine.db'}")
    try:
        for number in range(count):
            first = number * 37 % len(metrics)
            database.run_sync(_save_incident, number, metrics[first : first + 1 + number % 20])
    finally:
        database.close()


def _save_incident(conn: Connection, number: int, metrics: Sequence[tuple[str, str, int]]) -> None:
    opened = int(time.time()) - 60 * number
    paged = number % 5 == 0
    incident = Incident(
        f"{number:08x}-seeded", "ops", f"{metrics[0][1]} and others", Phase.OPEN, opened, opened, opened, opened,
        None, None, None, paged, None if paged else "price", 5.5, 4.0, 2.0, len(metrics),
    )  # fmt: skip
    text = "the mean of 30 minutes is the highest in 9 weeks"
    incidents.save_incident(conn, incident)
    incidents.save_members(
        conn,
        [
            Member(incident.id, uid, name, rowid, opened, opened, 5.5, "level 6", "up", text, 9.0, 2.0, 1.0, 3.0)
            for uid, name, rowid in metrics
        ],
    )


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
