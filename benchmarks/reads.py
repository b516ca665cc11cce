# SPDX-License-Identifier: MIT
"""Answers of the HTTP service over months of data: beside Graphite's own renderer, and the rows read by sqlite3 alone.

The same metrics, a row a minute, are stored in our database and in Whisper files.  The web service and graphite-render
(Graphite's renderer on Python 3, under wsgiref) each run as a process of their own and answer the same requests over
loopback, in turn.  The limit is sqlite3 in this process: one pass over the rows that an answer is made from.

    pip install -e '.[test]'
    python benchmarks/reads.py --metrics 3 --rows 130000 --rounds 5
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import httpx
from tqdm import tqdm

CLIENT = httpx.Client(timeout=120)
START = 1_700_000_040
STEP = 60


def name_of(number: int) -> str:
    return f"bench.m{number}"


def value_of(number: int, row: int) -> float:
    return 50 + 40 * math.sin(row / 700 + number) + row % 7


# --- the data -------------------------------------------------------------------------------------------


def fill_database(path: Path, metrics: int, rows: int) -> None:
    from htmengine.adapters.datasource import custom
    from htmengine.adapters.datasource.custom import ModelSpec
    from htmengine.repository import migrations, queries
    from htmengine.repository.engine import Database
    from htmengine.repository.queries import Score

    url = f"sqlite:///{path}"
    migrations.upgrade(url)
    database = Database(url)
    for number in tqdm(range(metrics), "our database", leave=False):
        metric = database.run_sync(custom.create_metric, ModelSpec.for_name(name_of(number)))
        for first in range(1, rows + 1, 10_000):
            part = range(first, min(first + 10_000, rows + 1))
            samples = [(metric.uid, row, START + STEP * row, value_of(number, row)) for row in part]
            database.run_sync(queries.insert_samples, samples)
            scores = [
                Score(uid, row, at, value, row % 100 / 100, row % 90 / 100, 0.1) for uid, row, at, value in samples
            ]
            database.run_sync(queries.save_scores, scores)
        database.run_sync(queries.update_tails, [(metric.uid, rows, START + STEP * rows)])
    database.close()


def fill_whisper(folder: Path, metrics: int, rows: int) -> None:
    from graphite_render._vendor import whisper

    for number in tqdm(range(metrics), "Whisper files", leave=False):
        path = folder.joinpath(*name_of(number).split(".")).with_suffix(".wsp")
        path.parent.mkdir(parents=True, exist_ok=True)
        age = int(time.time() - START) // STEP
        whisper.create(str(path), [(STEP, max(age, rows) + 10)])
        points = [(START + STEP * row, value_of(number, row)) for row in range(1, rows + 1)]
        whisper.update_many(str(path), points)


# --- the two services -----------------------------------------------------------------------------------


def serve_ours(pipe: Connection, path: Path) -> None:
    from twisted.internet import reactor as installed

    from htmengine.operations import Operations
    from htmengine.repository.engine import Database
    from htmengine.sharding import ShardQueues
    from htmengine.testing import MemoryBus
    from htmengine.web.service import WebOptions, WebService

    reactor: Any = installed
    database = Database(f"sqlite:///{path}", reactor=reactor)
    operations = Operations(database, MemoryBus(), ShardQueues("input.", 1), "samples")
    service = WebService(reactor=reactor, operations=operations, database=database, options=WebOptions(port=0))
    service.privilegedStartService()
    pipe.send(service.url)
    reactor.run(installSignalHandlers=False)


def serve_graphite(pipe: Connection, folder: Path) -> None:
    import logging
    from wsgiref.simple_server import WSGIRequestHandler, make_server

    config = folder / "config.yaml"
    config.write_text(f"whisper:\n  directories: [{folder}]\nsearch_index: {folder}/index\ntime_zone: UTC\n")
    os.environ["GRAPHITE_API_CONFIG"] = str(config)
    from graphite_render.app import app

    class Quiet(WSGIRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            pass

    logging.disable()
    with make_server("127.0.0.1", 0, app, handler_class=Quiet) as server:
        pipe.send(f"http://127.0.0.1:{server.server_port}/")
        server.serve_forever()


def start(serve: Callable[..., None], place: Path) -> tuple[multiprocessing.Process, str]:
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.Process(target=serve, args=(theirs, place), daemon=True)
    process.start()
    return process, ours.recv()


# --- what is measured -----------------------------------------------------------------------------------


def seconds(call: Callable[[], Any], rounds: int) -> float:
    """The median of some rounds."""
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def get(url: str, path: str, **params: Any) -> Any:
    response = CLIENT.get(url + path, params=params)
    assert response.status_code == 200, response.text[:500]
    return response.json()


def pass_over(path: Path, metrics: int, rows: int) -> float:
    """One pass of sqlite3 over the rows of a range."""
    with sqlite3.connect(path) as connection:
        sql = "SELECT max(metric_value) FROM metric_data JOIN metric USING (uid) WHERE name = ? AND rowid <= ?"
        rows_of = [connection.execute(sql, (name_of(number), rows)).fetchone() for number in range(metrics)]
    return max(float(row[0]) for row in rows_of)


def peak_memory(process: multiprocessing.Process) -> int:
    """Most memory that a process has had, in MB."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) // 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--metrics", type=int, default=3)
    parser.add_argument("--rows", type=int, default=130_000, help="of each metric; 130,000 are three months")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="htmengine-reads-") as folder:
        database, whisper = Path(folder, "db"), Path(folder, "whisper")
        fill_database(database, given.metrics, given.rows)
        fill_whisper(whisper, given.metrics, given.rows)
        us, ours = start(serve_ours, database)
        them, theirs = start(serve_graphite, whisper)
        try:
            measure(given, database, ours, theirs)
            print(f"peak memory: {peak_memory(us)} MB, graphite-render {peak_memory(them)} MB")
        finally:
            us.kill()
            them.kill()


def measure(given: argparse.Namespace, database: Path, ours: str, theirs: str) -> None:
    end = START + STEP * given.rows
    for label, rows in (("all rows", given.rows), ("a week", 7 * 1440), ("a day", 1440)):
        target = {"target": "bench.*", "from": end - STEP * rows, "until": end, "format": "json", "maxDataPoints": 1000}
        answers = [get(url, "render", **target) for url in (ours, theirs)]
        assert len(answers[0]) == len(answers[1]) == given.metrics
        mine = seconds(lambda target=target: get(ours, "render", **target), given.rounds)  # type: ignore[misc]
        peer = seconds(lambda target=target: get(theirs, "render", **target), given.rounds)  # type: ignore[misc]
        limit = seconds(lambda rows=rows: pass_over(database, given.metrics, rows), given.rounds)  # type: ignore[misc]
        print(
            f"/render of {given.metrics} metrics, {label}: {1000 * mine:.0f} ms; graphite-render {1000 * peer:.0f} ms"
            f" ({mine / peer:.2f}); one pass of sqlite3 {1000 * limit:.0f} ms ({mine / limit:.1f})"
        )
    plot = seconds(lambda: get(ours, f"api/v1/metrics/{name_of(0)}/plot"), given.rounds)
    size = len(json.dumps(get(ours, f"api/v1/metrics/{name_of(0)}/plot")))
    floor = seconds(lambda: get(ours, "api/v1/session"), given.rounds)
    limit = seconds(lambda: pass_over(database, 1, given.rows), given.rounds)
    print(
        f"/plot of one metric, all rows: {1000 * plot:.0f} ms, {size // 1024} KB; one pass of sqlite3"
        f" {1000 * limit:.0f} ms ({plot / limit:.1f}); an answer that reads nothing {1000 * floor:.1f} ms"
    )


if __name__ == "__main__":
    main()
