# SPDX-License-Identifier: MIT
"""What storing a row with its scores costs: as the engine does it, and as one would write it by hand for the database.

    python -m benchmarks.storing [--metrics 1000] [--rounds 30] [--only sqlite]

Each transaction has one row of every metric: the Metric Storer's inserts rows, the Anomaly Service's adds their scores.
By hand: the driver's ``executemany`` of the same rows into the same table, with and without the second step.  All take
turns, each in a database of its own: SQLite in a temporary folder, a private MariaDB and a private PostgreSQL.
Prints microseconds of CPU a row, of this process and of the server.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, insert
from tqdm import tqdm

from benchmarks.page import table, write
from htmengine.messages import ScoredRow
from htmengine.repository import counts, migrations, queries, results
from htmengine.repository.counts import MetricScore
from htmengine.repository.engine import Database
from htmengine.repository.queries import Score
from htmengine.repository.schema import metric, metric_score
from htmengine.repository.times import to_datetime
from tests.support.servers import MariaDB, PostgreSQL, Server

START = 1_700_000_000
#: Stores the rows with this rowid of all metrics.
Step = Callable[[Connection, list[str], int], object]
#: CPU seconds a transaction, of this process and of the server.
Cost = tuple[float, float]


def rows(conn: Connection, uids: list[str], row: int) -> None:
    """As the Metric Storer."""
    queries.insert_samples(conn, [(uid, row, START + 60 * row, 1.5) for uid in uids])


def scores(conn: Connection, uids: list[str], row: int) -> None:
    """As the Anomaly Service."""
    queries.save_scores(conn, [Score(uid, row, START + 60 * row, 1.5, 0.05, 0.5, 0.03) for uid in uids])


def tails(conn: Connection, uids: list[str], row: int) -> None:
    """Where each metric's rows end."""
    queries.update_tails(conn, [(uid, row, START + 60 * row) for uid in uids])


def counted(conn: Connection, uids: list[str], row: int) -> None:
    """How far each metric's scores are."""
    counts.save_scores(conn, [MetricScore(uid, 1, row, row, START + 60 * row, 1.5, 0.05, 0.5) for uid in uids])


def log(conn: Connection, uids: list[str], row: int) -> None:
    """Which rows were scored."""
    results.append_log(conn, [(uid, ScoredRow(row, START + 60 * row, 1.5, 0.05, 0.5)) for uid in uids])


def inserted(conn: Connection, uids: list[str], row: int) -> None:
    """By hand: rows without scores."""
    at = _time(conn, row)
    _many(
        conn,
        "INSERT INTO metric_data (uid, rowid, timestamp, metric_value) VALUES (?, ?, ?, ?)",
        [(uid, row, at, 1.5) for uid in uids],
    )


def scored(conn: Connection, uids: list[str], row: int) -> None:
    """By hand: the scores of rows."""
    at = _time(conn, row)
    _many(
        conn,
        "UPDATE metric_data SET raw_anomaly_score = ?, anomaly_score = ?, display_value = ?"
        " WHERE uid = ? AND rowid = ? AND timestamp = ? AND metric_value = ?",
        [(0.05, 0.5, 0.03, uid, row, at, 1.5) for uid in uids],
    )


def _many(conn: Connection, statement: str, values: list[tuple[Any, ...]]) -> None:
    """The driver's own way."""
    if conn.dialect.name != "sqlite":
        statement = statement.replace("?", "%s")
    cursor = conn.connection.cursor()
    cursor.executemany(statement, values)
    cursor.close()


def _time(conn: Connection, row: int) -> object:
    moment = to_datetime(START + 60 * row)
    return moment.isoformat(" ", "microseconds") if conn.dialect.name == "sqlite" else moment


#: What is compared: by name the transactions of a round, each a sequence of steps.
CONTESTANTS: Mapping[str, tuple[tuple[Step, ...], ...]] = {
    "a row with its scores, the engine": ((rows,), (scores,)),
    "the same by hand": ((inserted,), (scored,)),
    "a row without scores by hand": ((inserted,),),
    "with tails, counts and log, the engine": ((rows, tails), (scores, counted, log)),
}


class Contestant:
    """A database of its own, and the costs of its rounds."""

    def __init__(self, url: str, transactions: tuple[tuple[Step, ...], ...], uids: list[str], server: Server | None):
        migrations.upgrade(url)
        self._database = Database(url)
        self._transactions = transactions
        self._uids = uids
        self._server = server
        self._database.run_sync(_make_metrics, uids)
        self.costs: list[Cost] = []

    def take_turn(self, row: int) -> None:
        before = time.process_time(), server_seconds(self._server)
        for steps in self._transactions:
            self._database.run_sync(_store, steps, self._uids, row)
        after = time.process_time(), server_seconds(self._server)
        self.costs.append((after[0] - before[0], after[1] - before[1]))

    def close(self) -> None:
        self._database.close()


def _make_metrics(conn: Connection, uids: list[str]) -> None:
    conn.execute(insert(metric), [{"uid": uid, "datasource": "custom", "name": uid, "status": 1} for uid in uids])
    conn.execute(insert(metric_score), [{"uid": uid, "generation": 1, "rowid": 0, "scored": 0} for uid in uids])


def _store(conn: Connection, steps: tuple[Step, ...], uids: list[str], row: int) -> None:
    for step in steps:
        step(conn, uids, row)


def server_seconds(server: Server | None) -> float:
    """CPU that a server and its children have used."""
    if server is None:
        return 0.0
    groups = {process.pid for process in server._processes}
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has just ended
            fields = stat.read_text().rpartition(")")[2].split()
            if groups & {int(fields[1]), int(fields[2])}:  # PostgreSQL's children have groups of their own
                ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def measure(name: str, urls: Iterator[str], server: Server | None, options: argparse.Namespace) -> list[list[str]]:
    """Print a database's figures; the lines of the table."""
    uids = [f"{number * 0x9E3779B97F4A7C15 % 2**128:032x}" for number in range(options.metrics)]
    contestants = {
        each: Contestant(next(urls), transactions, uids, server) for each, transactions in CONTESTANTS.items()
    }
    for row in tqdm(range(1, options.rounds + 1), desc=name, leave=False, disable=None):
        for contestant in contestants.values():
            contestant.take_turn(row)
    print(f"{name:42}{'CPU a row':>12}{'server':>12}")
    lines = []
    for each, contestant in contestants.items():
        contestant.close()
        mine = 1e6 * statistics.median(cost for cost, _ in contestant.costs) / options.metrics
        others = 1e6 * statistics.mean(cost for _, cost in contestant.costs) / options.metrics
        print(f"  {each:40}{mine:9.1f} us{others:9.1f} us", flush=True)
        lines.append([name, each, f"{mine:.1f}", f"{others:.1f}"])
    return lines


def _files(folder: str) -> Iterator[str]:
    for number in range(len(CONTESTANTS)):
        yield f"sqlite:///{Path(folder) / f'{number}.db'}"


def _databases(server: MariaDB | PostgreSQL) -> Iterator[str]:
    while True:
        yield server.new_database()


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--metrics", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--only", choices=["sqlite", "mariadb", "postgresql"])
    parser.add_argument("--page", type=Path, help="has a place for a table")
    options = parser.parse_args()
    lines = []
    if options.only in (None, "sqlite"):
        with tempfile.TemporaryDirectory() as folder:
            lines += measure("sqlite", _files(folder), None, options)
    for kind in (MariaDB, PostgreSQL):
        if options.only in (None, kind.__name__.lower()):
            with kind() as server:
                lines += measure(kind.__name__.lower(), _databases(server), server, options)
    if options.page is not None:
        write(options.page, "storing", table(["", "", "us of CPU a row", "of the server"], lines))


if __name__ == "__main__":
    main()
