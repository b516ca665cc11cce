# SPDX-License-Identifier: MIT
"""Power cuts by seed: an engine's files come back older than it left them, each to another moment, and it goes on.

A seed decides what was sent when the power failed, and what is left of the files: a copy made while the engine ran, an
older database, or logs of database and queues that end anywhere.  The client then sends all its rows, some with other
values than before.  Each row that is stored has to have the scores that a new model gives to the stored rows.
All rows are stored, unless the queues came back newer than the database: samples in them may then be newer than rows
that the database lost.

``make power-cuts SEEDS=1000`` runs many and prints a summary; tests/integration/test_power_cuts.py runs some.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import sqlite3
import struct
import time
from collections.abc import Callable
from pathlib import Path

from htmengine.ledger import read_ledger
from htmengine.repository import late_samples, queries
from htmengine.repository.engine import Database
from tests.support.crashes import PENDING_SAMPLES, SETTINGS, Rows, Scenario, scored
from tests.support.engine import Engine, wait_for
from tests.support.processes import start_forked
from tests.support.seeds import Report, command, finish

DATABASE, QUEUES = "htmengine.db", "bus.db"
#: The last line of all: when it is stored, so is what came before.
LAST = "last.metric 1 1500000000"


def copy_database(source: Path, to: Path) -> None:
    """As it is now, while others write to it."""
    with contextlib.closing(sqlite3.connect(source)) as running, contextlib.closing(sqlite3.connect(to)) as copy:
        running.backup(copy)


def cut_log(database: Path, part: float) -> None:
    """Leave a part of what of the write-ahead log is not in the file yet: 1 leaves all, 0 nothing."""
    log, index = (database.with_name(database.name + suffix) for suffix in ("-wal", "-shm"))
    copied_frames = struct.unpack_from("=I", index.read_bytes(), 96)[0]
    page_bytes = int.from_bytes(log.read_bytes()[8:12], "big")
    first = 32 + copied_frames * (24 + page_bytes)
    os.truncate(log, int(first + part * (log.stat().st_size - first)))
    index.unlink()


# --- what can happen to the files -----------------------------------------------------------------------


def copied_while_it_runs(data: Path, earlier: Path, chance: random.Random) -> None:
    """As `cp -r` may: file after file, in any order."""
    files = [path for path in data.rglob("*") if path.is_file()]
    chance.shuffle(files)
    for path in files:
        to = earlier / path.relative_to(data)
        to.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):  # a checkpoint that was replaced
            shutil.copyfile(path, to)
        time.sleep(chance.uniform(0, 0.01))


def older_database(data: Path, earlier: Path, _chance: random.Random) -> None:
    """Queues and models are newer."""
    for suffix in ("-wal", "-shm"):
        (data / (DATABASE + suffix)).unlink(missing_ok=True)
    shutil.copyfile(earlier / DATABASE, data / DATABASE)


def cut_database(data: Path, _earlier: Path, chance: random.Random) -> None:
    """A disk that had not written what it said it had."""
    cut_log(data / DATABASE, chance.choice((0.0, chance.random(), chance.random())))


def cut_queues(data: Path, _earlier: Path, chance: random.Random) -> None:
    """The same to the queues alone."""
    cut_log(data / QUEUES, chance.choice((0.0, chance.random(), chance.random())))


def cut_both(data: Path, earlier: Path, chance: random.Random) -> None:
    """Each to another moment."""
    cut_database(data, earlier, chance)
    cut_queues(data, earlier, chance)


KINDS: tuple[Callable[[Path, Path, random.Random], None], ...] = (
    copied_while_it_runs,
    older_database,
    cut_database,
    cut_both,
    cut_queues,
)


# --- one run --------------------------------------------------------------------------------------------


class PowerCut:
    """One seed, in a folder of its own."""

    def __init__(self, seed: int, folder: Path) -> None:
        self._chance = random.Random(seed)
        self._damage = KINDS[seed % len(KINDS)]
        self._scenario = Scenario.of(seed)
        self._data, self._earlier = folder / "data", folder / "earlier"
        self._earlier.mkdir()
        self.report = Report(seed)
        self.report.happened[self._damage.__name__] = 1

    def run(self) -> None:
        """Send some, fail, damage the files, send all."""
        engine = self._engine(self._data)
        try:
            engine.start()
            self._send_some(engine)
        finally:
            engine.kill()
        data = self._data
        if self._damage is copied_while_it_runs:
            data = self._earlier
        else:
            self._damage(data, self._earlier, self._chance)
        engine = self._engine(data)
        try:
            self._go_on(engine)
        finally:
            engine.kill()

    def _engine(self, data: Path) -> Engine:
        engine = Engine(data, "--workers", str(self._scenario.workers), start=start_forked)
        engine.environment |= SETTINGS
        return engine

    def _send_some(self, engine: Engine) -> None:
        sendings = self._scenario.sendings
        last = self._chance.randrange(len(sendings))
        copied = self._chance.randint(0, last)
        for number, lines in enumerate(sendings[: last + 1]):
            engine.send(lines)
            if number == copied and self._damage is older_database:
                copy_database(self._data / DATABASE, self._earlier / DATABASE)
        time.sleep(self._chance.uniform(0.0, 1.5))
        if self._damage is copied_while_it_runs:
            self._damage(self._data, self._earlier, self._chance)

    def _go_on(self, engine: Engine) -> None:
        try:
            engine.start()
        except AssertionError:
            if not _is_damaged(engine.data_dir / DATABASE):
                raise
            self.report.happened["refused"] += 1  # what a copy with other tools may be
            return
        sent = self._sent_again()
        engine.send([*(line for lines in sent for line in lines), LAST])
        database = Database(f"sqlite:///{engine.data_dir / DATABASE}")
        try:
            wait_for(lambda: _is_done(database), "all rows to be stored and scored")
            self._compare(database)
        except AssertionError as error:
            raise AssertionError(f"{error}: {database.run_sync(read_ledger, None)}") from None
        finally:
            database.close()

    def _sent_again(self) -> list[list[str]]:
        """Everything; from some row on, perhaps, other values than before."""
        sendings = self._scenario.sendings
        changed = self._chance.choice((len(sendings), self._chance.randrange(len(sendings))))
        return [*sendings[:changed], *([_with_another_value(line) for line in lines] for lines in sendings[changed:])]

    def _compare(self, database: Database) -> None:
        ledger = database.run_sync(read_ledger, None)
        self.report.expect("the ledger adds up", ledger.adds_up, True)
        for metric in database.run_sync(queries.list_metrics):
            if metric.last_rowid < PENDING_SAMPLES:
                continue
            rows: Rows = [
                (row.timestamp, row.value, row.raw, row.anomaly)
                for row in database.run_sync(queries.get_rows, metric.uid, 0, 1_000_000)
            ]
            self.report.expect(f"scores of {metric.name}", rows, scored([row[:2] for row in rows]))
        if self._damage is cut_queues:
            self.report.expect("rows stored", ledger.stored, self._scenario.rows + 1)
        elif ledger.stored < self._scenario.rows + 1:
            self.report.happened["rows that came too late"] += 1


def _with_another_value(line: str) -> str:
    name, value, at = line.split()
    return f"{name} {float(value) + 3.0!r} {at}"


def _is_done(database: Database) -> bool:
    """Whether the last line is stored, nothing waits for earlier samples, and every row that gets a score has it."""
    metrics = {metric.name: metric for metric in database.run_sync(queries.list_metrics)}
    if LAST.split(maxsplit=1)[0] not in metrics or database.run_sync(late_samples.any_held):
        return False
    return not any(
        metric.last_rowid >= PENDING_SAMPLES
        and database.run_sync(queries.lacks_scores, metric.uid, 0, metric.last_rowid)
        for metric in metrics.values()
    )


def _is_damaged(path: Path) -> bool:
    try:
        with contextlib.closing(sqlite3.connect(path)) as file:
            return file.execute("PRAGMA integrity_check").fetchall() != [("ok",)]
    except sqlite3.DatabaseError:
        return True


# --- many runs ------------------------------------------------------------------------------------------


def run_seed(seed: int, folder: Path) -> Report:
    """One seed in a new folder."""
    return finish(PowerCut(seed, folder))


def main() -> None:
    """``make power-cuts``: status 1 if any seed has a problem; its folder is kept."""
    parser = argparse.ArgumentParser(description="Bring engines' files back older than they were, and compare scores.")
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    options = parser.parse_args()
    with command("power-cuts", lambda done: f"{done.happened['refused']} copies refused") as runs:
        runs.run_all(range(options.first, options.first + options.seeds), run_seed)


if __name__ == "__main__":
    main()
