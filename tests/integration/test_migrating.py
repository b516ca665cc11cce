# SPDX-License-Identifier: MIT
"""A deployment of HTM Engine taken over: its configuration, and a month of 50 metrics in MariaDB as it left them.

A row an hour; ``HTMENGINE_ROWS_AN_HOUR=12 pytest -s`` rehearses what docs/migrating.md has the times of.
"""

from __future__ import annotations

import json
import math
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from htmengine.history.migration import keep_scores
from htmengine.repository import migrations, queries
from htmengine.repository.connections import make_engine
from htmengine.repository.engine import Database
from htmengine.repository.htm_engine_copy import copy_tables
from tests.support.migrations import PREDICTIONS, htm_engine_tables, insert
from tests.support.servers import MariaDB, PostgreSQL
from tests.unit.test_opf import DESCRIPTION

ROWS_AN_HOUR = int(os.environ.get("HTMENGINE_ROWS_AN_HOUR", "1"))
METRICS, ROWS = 50, 30 * 24 * ROWS_AN_HOUR
#: Rows with a spike that HTM Engine found, and one that it found where nothing was.
SPIKE, NOTHING = 600 * ROWS_AN_HOUR, 500 * ROWS_AN_HOUR
BEGIN = datetime(2016, 3, 1)
MODEL = json.dumps({"modelConfig": DESCRIPTION, "inferenceArgs": {"predictedField": "c1"}})
CONFIGURATION = {
    "application.conf": "[metric_listener]\nplaintext_port = 2103\nqueue_name = q\n"
    "[anomaly_likelihood]\nstatistics_refresh_rate = 24\n[web]\nport = 8080\n[dashboard]\ncolour = red\n",
    "model-swapper.conf": "[interface_bus]\nresults_queue = r\n",
    "model-checkpoint.conf": "",
    "rabbitmq.conf": "[connection]\nhost = localhost\nuser = guest\n",
}


def name_of(number: int) -> str:
    return "/cpu" if number == 0 else f"host{number}.load"


def value(number: int, row: int) -> float:
    spike = 60.0 if row == SPIKE else 0.0
    return round(50 + 10 * math.sin(row / ROWS_AN_HOUR * math.pi / 12) + (row * 7 + number) % 5 + spike, 3)


def rows(number: int) -> Iterator[tuple[Any, ...]]:
    for row in range(1, ROWS + 1):
        alarm = row == SPIKE or (number == 1 and row == NOTHING)
        score = 0.999999 if alarm else 0.5
        yield f"{number:032x}", row, BEGIN + timedelta(hours=row / ROWS_AN_HOUR), value(number, row), 0.25, score, 0


@pytest.fixture
def old_database(mariadb: MariaDB) -> str:
    """As HTM Engine's last version left it."""
    url = mariadb.new_database()
    engine = make_engine(url)
    with engine.begin() as conn:
        for statement in htm_engine_tables(PREDICTIONS, mysql=True):
            conn.exec_driver_sql(statement)
        conn.exec_driver_sql("INSERT INTO alembic_version VALUES ('their-own')")
        conn.exec_driver_sql("INSERT INTO instance_status_history VALUES ('i-1', '2016-03-01 10:00:00', 'active')")
        conn.exec_driver_sql("INSERT INTO `lock` VALUES ('metrics')")
        columns = "datasource, server, location, uid, name, status, model_params, last_rowid, last_timestamp"
        newest = BEGIN + timedelta(hours=ROWS / ROWS_AN_HOUR)
        metrics = [
            ("custom", name_of(number), "", f"{number:032x}", name_of(number), 1, MODEL, ROWS, newest)
            for number in range(METRICS - 1)
        ]
        strange = json.dumps({"modelConfig": {"model": "CLA2"}})
        metrics.append(("custom", "strange", "", "f" * 32, "strange", 1, strange, 0, None))
        insert(conn, "metric", columns, metrics)
        data = "uid, rowid, timestamp, metric_value, raw_anomaly_score, anomaly_score, display_value"
        for number in range(METRICS - 1):
            insert(conn, "metric_data", data, [*rows(number)])
    engine.dispose()
    return url


def htmengine(folder: Path, url: str, *arguments: str) -> str:
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "htmengine.cli.main", *arguments, "--config", str(folder)],
        capture_output=True,
        text=True,
        timeout=300 * ROWS_AN_HOUR,
        check=False,
        env=os.environ | {"HTMENGINE__APPLICATION__REPOSITORY__URL": url},
    )
    assert done.returncode == 0, done.stderr
    kilobytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    print(f"{' '.join(arguments)}: {time.monotonic() - started:.0f} s, {kilobytes >> 10} MB at most")
    return done.stdout


def test_a_deployment_of_htm_engine_is_taken_over(old_database: str, tmp_path: Path) -> None:
    for name, text in CONFIGURATION.items():
        (tmp_path / name).write_text(text)
    told = htmengine(tmp_path, old_database, "migrate-from-htmengine", "--days", "1")
    assert "configuration: 4 options are kept" in told
    assert "application.conf [metric_listener] plaintext_port: is called port" in told
    assert "statistics_refresh_rate: without effect: it is refreshed with every row" in told
    assert "application.conf [dashboard] colour: the application's" in told
    assert "rabbitmq.conf [connection] user: stands in [credentials]" in told
    assert f"{(METRICS - 1) * ROWS} scores of {METRICS - 1} of {METRICS} metrics are kept" in told
    assert f"alarms of the last 1 days, {METRICS - 1} metrics with a model and old scores" in told
    assert "2016-03-26" not in told  # the spike is older
    assert "strange: HTM Engine's model cannot be made here" in told
    assert "/cpu" in htmengine(tmp_path, old_database, "metrics")

    found = json.loads(htmengine(tmp_path, old_database, "migrate-from-htmengine", "--json"))
    assert (found["scores_kept"], found["scores_gone"]) == ((METRICS - 1) * ROWS, [])
    alarms = {each["metric"]: each for each in found["alarms"]}
    assert len(alarms) == METRICS - 1
    spike = 1_456_790_400 + 3600 // ROWS_AN_HOUR * SPIKE
    assert all(each["both"] == [spike] for each in alarms.values())
    assert alarms["host1.load"]["only_old"] == [1_456_790_400 + 3600 // ROWS_AN_HOUR * NOTHING]
    assert alarms["/cpu"]["only_old"] == []


def test_it_is_copied_into_another_kind_of_database(old_database: str, postgresql: PostgreSQL) -> None:
    url = postgresql.new_database()
    copied: list[int] = []
    copy_tables(old_database, url, copied.append)
    migrations.upgrade(url)
    database = Database(url)
    try:
        kept, scores, gone = keep_scores(database)
        assert (sum(copied), len(kept), scores, gone) == (
            *(METRICS + (METRICS - 1) * ROWS + 1, METRICS - 1),
            *((METRICS - 1) * ROWS, []),
        )
        metric = database.read_sync(queries.find_metric, "host1.load")
        newest = database.read_sync(queries.get_rows, metric.uid, ROWS - 1, 1)[0]
        assert (newest.timestamp, newest.value) == (1_456_790_400 + 30 * 86_400, value(1, ROWS))
    finally:
        database.close()
