# SPDX-License-Identifier: MIT
"""What migrations make of an empty database, and of one that HTM Engine made at each of its four versions: it is
upgraded in place, and its rows stay.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, text

from htmengine import ledger
from htmengine.errors import RepositoryError
from htmengine.messages import InputRow, ModelInput, SampleBatch, decode_model_message
from htmengine.repository import counts, migrations, queries, schema
from htmengine.repository.connections import make_engine
from htmengine.repository.engine import Database
from htmengine.repository.queries import MetricStatus
from htmengine.runtime.storing import StorerOptions, store_batches
from htmengine.sharding import ShardQueues
from tests.support.migrations import (
    DATETIME,
    DEFAULTS,
    INITIAL,
    PREDICTIONS,
    htm_engine_tables,
    insert,
    tables,
    with_later_version,
)
from tests.support.servers import MariaDB, PostgreSQL
from tests.unit.test_opf import DESCRIPTION

#: HTM Engine's column model_params: the description of a NuPIC model.
MODEL = json.dumps(
    {
        "modelConfig": DESCRIPTION,
        "inferenceArgs": {"predictionSteps": [1], "predictedField": "c1", "inputPredictedField": "auto"},
        "timestampFieldName": "c0",
        "valueFieldName": "c1",
    }
)
SPEC = json.dumps({"datasource": "custom", "metricSpec": {"metric": "m"}, "modelParams": {"min": 0, "max": 10}})
OPTIONS = StorerOptions("samples", ShardQueues("shard.", 4), auto_monitor=True, pending_samples=3)


#: uid, name, status, parameters, model_params, last_rowid, last_timestamp
METRICS: Sequence[tuple[Any, ...]] = [
    ("a" * 32, "active", 1, SPEC, MODEL, 3, datetime(2015, 7, 2, 10, 10)),
    ("b" * 32, "plain", 0, None, None, 2, datetime(2015, 7, 2, 10, 5)),
    ("c" * 32, "creating", 2, SPEC, MODEL, 0, None),
    ("d" * 32, "strange", 1, SPEC, json.dumps({"modelConfig": {"model": "CLA2"}}), 0, None),
    ("e" * 32, "undescribed", 1, "{}", None, 2, None),
]
#: uid, rowid, timestamp, value, raw score, score, display value
ROWS: Sequence[tuple[Any, ...]] = [
    ("a" * 32, 1, datetime(2015, 7, 2, 10, 0), 1.5, 1.0, 0.99, 0),
    ("a" * 32, 2, datetime(2015, 7, 2, 10, 5), 2.5, 0.25, 0.125, 0),
    ("a" * 32, 3, datetime(2015, 7, 2, 10, 10), 3.5, None, None, None),
    ("b" * 32, 1, datetime(2015, 7, 2, 10, 0), 0.1, None, None, None),
    ("b" * 32, 2, datetime(2015, 7, 2, 10, 5), 0.2, None, None, None),
    ("e" * 32, 1, datetime(2015, 7, 2, 10, 0), 0.1, None, None, None),
    ("e" * 32, 2, datetime(2015, 7, 2, 10, 5), 0.3, None, None, None),
]


def make_htm_engines(url: str, version: int) -> None:
    """A database as HTM Engine left it."""
    engine = make_engine(url)
    with engine.begin() as conn:
        mysql = conn.dialect.name == "mysql"
        for statement in htm_engine_tables(version, mysql):
            conn.exec_driver_sql(statement)
        insert(
            conn,
            "metric",
            "datasource, server, location, uid, name, status, parameters, model_params, last_rowid, last_timestamp",
            [("custom", row[1], "", *row) for row in METRICS],
        )
        insert(
            conn,
            "metric_data",
            "uid, rowid, timestamp, metric_value, raw_anomaly_score, anomaly_score, display_value",
            ROWS,
        )
        conn.exec_driver_sql("INSERT INTO instance_status_history VALUES ('i-1', '2015-07-02 10:00:00', 'active')")
        conn.exec_driver_sql("INSERT INTO alembic_version VALUES ('their-own')")
    engine.dispose()


@pytest.fixture(params=["sqlite", "mariadb", "postgresql"])
def anywhere(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], str]:
    """Makes an empty database and returns its URL."""
    if request.param == "sqlite":
        numbers = count()
        return lambda: f"sqlite:///{tmp_path / f'db{next(numbers)}'}"
    server: MariaDB | PostgreSQL = request.getfixturevalue(request.param)
    return server.new_database


def test_migrations_make_the_tables_of_the_schema(anywhere: Callable[[], str]) -> None:
    migrated, created = anywhere(), anywhere()
    migrations.upgrade(migrated)
    engine = make_engine(created)
    schema.metadata.create_all(engine)
    engine.dispose()
    made = tables(migrated)
    del made[migrations.VERSION_TABLE]
    assert made == tables(created)


def test_a_later_version_adds_a_column(
    anywhere: Callable[[], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To an empty database, and to one that the release before has made."""
    empty, older = anywhere(), anywhere()
    migrations.upgrade(older)
    monkeypatch.setattr(migrations, "SCRIPTS", with_later_version(tmp_path / "migrations"))
    for url in (empty, older):
        migrations.upgrade(url)
        assert "note" in [column["name"] for column in tables(url)["trouble"]["columns"]]


@pytest.fixture(params=["sqlite", "mariadb"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'db'}"
    server: MariaDB = request.getfixturevalue("mariadb")
    return server.new_database()


@pytest.fixture(params=[INITIAL, DATETIME, DEFAULTS, PREDICTIONS])
def upgraded(request: pytest.FixtureRequest, empty: str) -> Iterator[Database]:
    make_htm_engines(empty, request.param)
    migrations.upgrade(empty)
    database = Database(empty)
    yield database
    database.close()


def test_rows_and_scores_stay(upgraded: Database) -> None:
    for uid in ("a" * 32, "b" * 32):
        rows = upgraded.run_sync(queries.get_rows, uid, 0, 100)
        stored = [(uid, row.rowid, row.timestamp, row.value, row.raw, row.anomaly) for row in rows]
        assert stored == [(row[0], row[1], epoch(row[2]), row[3], row[4], row[5]) for row in ROWS if row[0] == uid]
    assert upgraded.run_sync(lambda conn: conn.execute(text("SELECT * FROM alembic_version")).all()) == [("their-own",)]
    history = upgraded.run_sync(lambda conn: conn.execute(schema.instance_status_history.select()).all())
    assert history == [("i-1", datetime(2015, 7, 2, 10, 0), "active")]


def test_columns_have_the_types_that_the_program_expects(upgraded: Database) -> None:
    def differences(conn: Connection) -> list[Any]:
        context = MigrationContext.configure(conn, opts={"version_table": migrations.VERSION_TABLE})
        return [*flat(compare_metadata(context, schema.metadata))]

    # Theirs and harmless: more indexes, the table alembic_version, columns that may be NULL, ON UPDATE CASCADE.
    allowed = {"remove_index", "remove_table", "modify_nullable", "modify_default", "remove_fk", "add_fk"}
    assert [each for each in upgraded.run_sync(differences) if each[0] not in allowed] == []


def test_metrics_go_on_where_they_were(upgraded: Database) -> None:
    found = {metric.name: metric for metric in upgraded.run_sync(queries.list_metrics)}
    assert {name: metric.status for name, metric in found.items()} == {
        "active": MetricStatus.ACTIVE,
        "creating": MetricStatus.ACTIVE,
        "plain": MetricStatus.UNMONITORED,
        "strange": MetricStatus.ERROR,
        "undescribed": MetricStatus.PENDING_DATA,
    }
    assert found["active"].definition.generation == 1
    assert found["active"].definition.params["value"]["resolution"] == 1.5
    assert str(found["strange"].message).startswith("HTM Engine's model cannot be made here")
    assert [found[name].last_rowid for name in ("active", "plain", "undescribed")] == [3, 2, 2]
    scores = upgraded.run_sync(counts.get_scores)
    assert {uid: (score.generation, score.scored) for uid, score in scores.items()} == {
        "a" * 32: (1, 0),
        "c" * 32: (1, 0),
    }


def test_the_next_samples_are_stored_after_the_old_ones_and_fed_to_models(upgraded: Database) -> None:
    at = epoch(datetime(2015, 7, 2, 10, 15))
    lines = [f"active 4.5 {at}", f"plain 0.3 {at}", f"undescribed 0.5 {at}", f"Active 1 {at}"]
    stored = upgraded.run_sync(store_batches, [SampleBatch(lines)], OPTIONS, 1.5e9, [])
    assert stored.stored == 4
    messages = [decode_model_message(message.body) for message in stored.outbox]
    assert [ModelInput("a" * 32, 1, 3, (InputRow(4, at, 4.5),))] in messages
    [definition] = [message for message in messages if not isinstance(message, list)]
    assert (definition.model_id, definition.args["upTo"]) == ("e" * 32, 3)


def test_the_ledger_and_the_anomalies_begin_with_the_old_rows(upgraded: Database) -> None:
    whole = upgraded.run_sync(ledger.read_ledger, None)
    assert (whole.received, whole.stored) == (7, 7)
    assert whole.adds_up
    anomalies = upgraded.run_sync(lambda conn: conn.execute(schema.anomaly.select()).all())
    assert anomalies == [("a" * 32, 1, datetime(2015, 7, 2, 10, 0), 1.5, 0.99, None, None)]  # nobody knows why


def test_upgrading_again_changes_nothing(upgraded: Database, empty: str) -> None:
    before = tables(empty), upgraded.run_sync(queries.list_metrics)
    migrations.upgrade(empty)
    assert (tables(empty), upgraded.run_sync(queries.list_metrics)) == before


def test_names_that_are_there_twice_are_named_and_hold_up_no_later_upgrade(empty: str) -> None:
    make_htm_engines(empty, PREDICTIONS)
    rename_plain(empty, "active")
    with pytest.raises(RepositoryError, match="metrics of the same name: active") as failed:
        migrations.upgrade(empty)
    rename_plain(empty, "plain")
    migrations.upgrade(empty)
    assert failed.tb is not None  # what the failed upgrade had is not gone by itself


def rename_plain(url: str, name: str) -> None:
    """Call a metric of the old engine's otherwise."""
    engine = make_engine(url)
    with engine.begin() as conn:
        conn.execute(text("UPDATE metric SET name = :name WHERE uid = :uid"), {"name": name, "uid": "b" * 32})
    engine.dispose()


def epoch(moment: datetime) -> int:
    return int((moment - datetime(1970, 1, 1)).total_seconds())


def flat(differences: Sequence[Any]) -> Iterator[Any]:
    for each in differences:
        yield from each if isinstance(each, list) else [each]
