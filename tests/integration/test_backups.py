# SPDX-License-Identifier: MIT
"""Going back to a backup as docs/operations.md tells: later rows are gone, and those that come instead are scored."""

from __future__ import annotations

import contextlib
import random
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import make_url

from htmengine.bus.queue_file import QueueFile
from htmengine.config import MetricListenerSection
from htmengine.ledger import Ledger, read_ledger
from htmengine.messages import SampleBatch, encode_samples
from htmengine.repository.engine import Database
from tests.support.distributed import QUICK, distributed_engine
from tests.support.engine import lines, running_engine, wait_for
from tests.support.power_cuts import copy_database, cut_log
from tests.support.servers import MariaDB, PostgreSQL, RabbitMQ


@pytest.mark.parametrize("server", ["mariadb", "postgresql"])
def test_a_distributed_engine_goes_back_to_a_dump(
    tmp_path: Path, rabbitmq: RabbitMQ, server: str, request: pytest.FixtureRequest
) -> None:
    database: MariaDB | PostgreSQL = request.getfixturevalue(server)
    url = database.new_database()
    name, dump = str(make_url(url).database), tmp_path / "dump.sql"
    with distributed_engine(
        tmp_path / "engine", rabbitmq_port=rabbitmq.port, database_url=url, options=QUICK
    ) as engine:
        engine.start_all()
        engine.send(lines(1, 60, metrics=3))
        engine.wait_until_scored(180)
        database.dump(name, dump)
        engine.send(lines(61, 100, metrics=3))
        engine.wait_until_scored(300)
        before = engine.scores()
        for service in ("listener", "storer", "scheduler", "anomaly"):
            assert engine.stop(service) == 0
        database.go_back(name, dump)
        assert engine.scored() == 180
        engine.start_all()
        wait_for(lambda: engine.log("listener").count("listening for Graphite lines") == 2, "the listener")
        other = [line.replace("m2 ", "m2 1") for line in lines(61, 120, metrics=3)]
        earlier = lines(1, 60, metrics=3)
        engine.send([*other, *(line.replace("m2 ", "m3 ") for line in (*earlier, *other) if line.startswith("m2 "))])
        engine.wait_until_scored(480)
        scores = engine.scores()
        assert [row for row in scores if row[1] <= 100 and row[0] < "m2"] == [row for row in before if row[0] < "m2"]
        assert [row[1:] for row in scores if row[0] == "m2"] == [row[1:] for row in scores if row[0] == "m3"]
        assert "does not fit the database" in engine.log("scheduler")


def read_ledger_of(folder: Path) -> Ledger:
    database = Database(f"sqlite:///{folder / 'htmengine.db'}")
    try:
        return database.read_sync(read_ledger, None)
    finally:
        database.close()


def store_at_once(folder: Path, samples: list[str]) -> None:
    """Have an engine that does not run now store them in one transaction."""
    with contextlib.closing(QueueFile(folder / "bus.db")) as file, file.transaction():
        file.put(MetricListenerSection().queue_name, [encode_samples(SampleBatch(samples))], {}, 0.0)


def forget_outbox(database: Path) -> None:
    """Its messages make the models ask for their rows, maybe before those that come again are stored."""
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("DELETE FROM outbox")


def test_an_embedded_engine_notices_that_its_database_is_older_than_its_models(tmp_path: Path) -> None:
    """Rows get the rowids of rows that are gone, and the scores of an engine that never saw those.

    The results of m0's rows are gone with the database: its checkpoint fits the rows that are sent again.
    """
    copy = tmp_path / "copy.db"
    with running_engine(tmp_path / "data") as engine:
        engine.send(lines(1, 300, metrics=2))
        for name in ("m0", "m1"):
            engine.wait_until_scored(name, 300)
        copy_database(engine.data_dir / "htmengine.db", copy)
        forget_outbox(copy)
        for first in (301, 321):  # a checkpoint has the last results only
            engine.send(lines(first, first + 19, metrics=2))
            before = engine.wait_until_scored("m0", first + 19)
            engine.wait_until_scored("m1", first + 19)
        assert engine.stop() == 0
        shutil.copy(copy, engine.data_dir / "htmengine.db")
        other = [line.replace("m1 ", "m1 1") for line in lines(301, 360, metrics=2)]
        store_at_once(engine.data_dir, other)
        engine.start()
        assert engine.wait_until_scored("m0", 360)[:340] == before
        as_m1 = [line.replace("m1 ", "reference ") for line in (*lines(1, 300, metrics=2), *other) if line[:2] == "m1"]
        engine.send(as_m1)
        assert engine.wait_until_scored("m1", 360) == engine.wait_until_scored("reference", 360)
        lost, contradicted = sorted(message for (message,) in engine.query("SELECT message FROM trouble"))[::-1]
        assert lost == "set aside: InvalidMessage: results of m0 were lost: of rows 301 to 320, or of some of them"
        assert contradicted.startswith("checkpoints of rows that the database no longer has: 1, the last of model ")
        ledger = read_ledger_of(engine.data_dir)
        assert ledger.adds_up
        assert (ledger.scored, ledger.waiting) == (3 * 360, 0)


def test_copies_of_a_busy_engine_go_on_without_a_wrong_score(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `htmengine backup` makes one; with queues and models newer than the database; with a log that is cut off."""
    backup, skewed, cut, rows = tmp_path / "backup", tmp_path / "skewed", tmp_path / "cut", 500
    monkeypatch.setenv("HTMENGINE__MODEL_CHECKPOINT__STORAGE__CHECKPOINT_ROWS", "20")
    names = [f"m{number}" for number in range(8)]
    skewed.mkdir()
    with running_engine(tmp_path / "data") as engine:
        engine.send(lines(1, 300, metrics=8))
        wait_for(lambda: len(engine.scores("m7")) > 100, "some scores")
        for first in range(301, rows, 10):
            engine.send(lines(first, first + 9, metrics=8))
            if first == 401:
                copy_database(engine.data_dir / "htmengine.db", skewed / "htmengine.db")
                command = [sys.executable, "-m", "htmengine.cli.main", "backup", "--data-dir", str(engine.data_dir)]
                subprocess.run([*command, str(backup)], check=True)
        # Samples that wait in a newer queue would be newer than rows that the database lost, which then come too late.
        wait_for(lambda: engine.query("SELECT MIN(last_rowid) FROM metric") == [(rows,)], "all rows to be stored")
        copy_database(engine.data_dir / "bus.db", skewed / "bus.db")
        expected = {name: engine.wait_until_scored(name, rows) for name in names}
        engine.kill()
        shutil.copytree(engine.data_dir, cut)
        shutil.copytree(engine.data_dir / "checkpoints", skewed / "checkpoints")
    cut_log(cut / "htmengine.db", random.Random(7).random())
    for folder in (backup, skewed, cut):
        with running_engine(folder) as engine:
            [(stored,)] = engine.query("SELECT MIN(last_rowid) FROM metric")
            assert stored < rows
            for name in names:  # all rows get their scores, before another row comes
                assert engine.wait_until_scored(name, stored)[:stored] == expected[name][:stored]
            engine.send(lines(1, rows, metrics=8))
            for name in names:
                assert engine.wait_until_scored(name, rows) == expected[name]
            ledger = read_ledger_of(folder)
            assert ledger.adds_up
            assert (ledger.scored, ledger.waiting, ledger.skipped) == (8 * rows, 0, 0)
