# SPDX-License-Identifier: MIT
"""Many rows inserted and changed at once: the same on every database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, insert, text

from htmengine.repository import bulk, migrations, queries
from htmengine.repository.engine import Database
from htmengine.repository.queries import Score
from htmengine.repository.schema import metric
from tests.support.servers import MariaDB, PostgreSQL

UIDS = [f"{number:032x}" for number in range(3)]
ROWS = bulk.ROWS_IN_STATEMENT + 7


@pytest.fixture(params=["sqlite", "mariadb", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'db'}"
    else:
        server: MariaDB | PostgreSQL = request.getfixturevalue(request.param)
        url = server.new_database()
    migrations.upgrade(url)
    database = Database(url)
    database.run_sync(_fill)
    yield database
    database.close()


def _fill(conn: Connection) -> None:
    rows = [{"uid": uid, "datasource": "custom", "name": uid, "status": 1, "last_rowid": ROWS} for uid in UIDS]
    conn.execute(insert(metric), rows)
    queries.insert_samples(conn, [(uid, n, 60 * n, n / 7) for uid in UIDS for n in range(1, ROWS + 1)])


def test_each_row_gets_its_own_values_and_no_other_is_touched(database: Database) -> None:
    raws = {n: n / 3e5 for n in range(1, ROWS)}
    predictions = {"1": [[0.1, 0.9], ["NULL, {\\'\"'}) %s ?1 :a \n é", 1.0]]}
    scores = [
        Score(UIDS[0], n, 60 * n, n / 7, raw, raw / 7, raw / 9, predictions if n % 2 else None)
        for n, raw in raws.items()
    ]
    assert database.run_sync(queries.save_scores, scores[::-1]) == len(scores)
    stored = database.run_sync(queries.get_rows, UIDS[0], 0, 2 * ROWS)
    assert {row.rowid: row.raw for row in stored} == {**raws, ROWS: None}
    assert [(row.anomaly, row.display) for row in stored[:-1]] == [(raw / 7, raw / 9) for raw in raws.values()]
    assert [row.predictions for row in stored[:2]] == [predictions, None]
    others = database.run_sync(queries.get_rows, UIDS[1], 0, 2 * ROWS)
    assert {row.raw for row in others} == {None}


def test_rows_that_are_gone_are_left_out(database: Database) -> None:
    gone = [Score(uid, n, 60 * n, n / 7, 0.5, 0.5, 0.5) for uid, n in (("nobody", 1), (UIDS[0], ROWS + 9))]
    assert database.run_sync(queries.save_scores, gone) == 0
    assert len(database.run_sync(queries.get_rows, UIDS[0], 0, 2 * ROWS)) == ROWS


def test_nothing_is_no_statement(database: Database) -> None:
    database.run_sync(queries.save_scores, [])


def test_tails_are_times_to_the_second(database: Database) -> None:
    database.run_sync(queries.update_tails, [(UIDS[2], 77, 1_400_000_123), (UIDS[0], 78, 1_400_000_456)])
    metrics = {each.uid: each for each in database.run_sync(queries.list_metrics)}
    assert (metrics[UIDS[2]].last_rowid, metrics[UIDS[2]].last_timestamp) == (77, 1_400_000_123)
    assert metrics[UIDS[1]].last_rowid == ROWS


def test_keys_in_another_character_set_are_still_found_by_their_index(mariadb: MariaDB) -> None:
    database = Database(mariadb.new_database())
    migrations.upgrade(database._engine.url.render_as_string(hide_password=False))
    with database._engine.begin() as conn:  # as in a database that HTM Engine made
        conn.execute(text("ALTER TABLE metric_data DROP FOREIGN KEY metric_data_ibfk_1"))
        conn.execute(text("ALTER TABLE metric_data CONVERT TO CHARACTER SET latin1"))
    database.run_sync(_fill)
    examined = "SHOW SESSION STATUS LIKE 'Handler_read_rnd_next'"
    with database._engine.begin() as conn:
        before = int(conn.execute(text(examined)).one()[1])
        queries.save_scores(conn, [Score(UIDS[0], 5, 300, 5 / 7, 0.25, 0.5, 0.5)])
        assert int(conn.execute(text(examined)).one()[1]) - before < ROWS
    assert database.run_sync(queries.get_rows, UIDS[0], 4, 1)[0].raw == 0.25
    database.close()
