# SPDX-License-Identifier: MIT
"""What storing scores costs a row, by database: a statement a row beside `htmengine.repository.bulk`.

    python -m benchmarks.bulk_update [--metrics 2000] [--url URL ...]

Without a URL it measures SQLite in a temporary folder and, where one is installed, a private MariaDB that syncs each
transaction.  Each transaction changes one row of every metric, as the Anomaly Service does when rows come in turn.
Prints microseconds a row: elapsed, and of this process's CPU.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from sqlalchemy import Connection, bindparam, insert, update
from tqdm import tqdm

from htmengine.evidence.likelihood import AnomalyLikelihood
from htmengine.repository import migrations, queries
from htmengine.repository.engine import Database
from htmengine.repository.queries import AnomalyState, Score
from htmengine.repository.schema import metric, metric_data
from tests.support.servers import MariaDB

ROUNDS = 5


def statement_a_row(conn: Connection, scores: list[Score]) -> None:
    """The peer: what SQLAlchemy makes of an update with many parameters."""
    conn.execute(
        update(metric_data)
        .where(metric_data.c.uid == bindparam("u"), metric_data.c.rowid == bindparam("r"))
        .values(raw_anomaly_score=bindparam("raw"), anomaly_score=bindparam("a"), display_value=bindparam("d")),
        [{"u": s.uid, "r": s.rowid, "raw": s.raw, "a": s.anomaly, "d": s.display} for s in scores],
    )


def fill(conn: Connection, uids: list[str]) -> None:
    """Metrics with unscored rows."""
    conn.execute(insert(metric), [{"uid": uid, "datasource": "custom", "name": uid, "status": 1} for uid in uids])
    queries.insert_samples(conn, [(uid, row, 60 * row, 1.5) for uid in uids for row in range(1, 2 * ROUNDS + 1)])


def measure(name: str, rows: int, transactions: list[Callable[[], None]]) -> None:
    """Print a line for transactions of so many rows each."""
    started, cpu = time.perf_counter(), time.process_time()
    for transaction in tqdm(transactions, desc=name, leave=False):
        transaction()
    per_row = 1e6 / (rows * len(transactions))
    elapsed, used = (time.perf_counter() - started) * per_row, (time.process_time() - cpu) * per_row
    print(f"  {name:32}{elapsed:10.1f} us{used:10.1f} us CPU", flush=True)


def run(url: str, metrics: int) -> None:
    """All figures of one database."""
    migrations.upgrade(url)
    database = Database(url)
    uids = [f"{number:032x}" for number in range(metrics)]
    database.run_sync(fill, uids)

    def scores(row: int) -> list[Score]:
        return [Score(uid, row, 60 * row, 1.5, 0.05, 0.5, 0.03) for uid in uids]

    def stores(store: Callable[[Connection, list[Score]], object], first: int) -> list[Callable[[], None]]:
        return [lambda row=row: database.run_sync(store, scores(row)) for row in range(first, first + ROUNDS)]  # type: ignore[misc]

    measure("scores, a statement a row", metrics, stores(statement_a_row, 1))
    measure("scores, as the engine does", metrics, stores(queries.save_scores, 1 + ROUNDS))
    likelihood = AnomalyLikelihood()
    for row in range(9000):
        likelihood.score(row % 97, row % 41 / 40)
    states = [AnomalyState(uid, 1, 50, likelihood.save()) for uid in uids]
    measure("states (one in 50 rows)", metrics, [lambda: database.run_sync(queries.save_states, states)] * 2)
    measure("states, read at a restart", metrics, [lambda: database.run_sync(_read, uids)] * 2)
    database.close()


def _read(conn: Connection, uids: list[str]) -> None:
    queries.load_states(conn, uids)


@contextlib.contextmanager
def _databases(urls: list[str]) -> Iterator[list[str]]:
    if urls:
        yield urls
        return
    options = ["--innodb-flush-log-at-trx-commit=1", "--innodb-buffer-pool-size=256M"]
    with tempfile.TemporaryDirectory() as folder, MariaDB(options=options) as server:
        yield [f"sqlite:///{Path(folder) / 'db'}", server.new_database()]


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--metrics", type=int, default=2000)
    parser.add_argument("--url", action="append", default=[], help="an empty database; may be given several times")
    options = parser.parse_args()
    with _databases(options.url) as urls:
        for url in urls:
            print(url.partition(":")[0])
            run(url, options.metrics)


if __name__ == "__main__":
    main()
