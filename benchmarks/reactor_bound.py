# SPDX-License-Identifier: MIT
"""How long the worst requests hold the reactor of an engine, in ms: the most between two ticks of 5 ms.

    python -m benchmarks.reactor_bound [--rows 90000] [--metrics 10]

The engine runs in this process, on metrics with so many rows each; a client in another process asks for one thing at a
time.  ``callbacks`` is the CPU time of the reactor's thread; ``all`` that of all threads, which may hold it too, or the
clock's time where that is less.  What else keeps the machine busy is in neither.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from twisted.internet.task import LoopingCall

from htmengine.adapters.datasource import custom
from htmengine.adapters.datasource.custom import ModelSpec
from htmengine.deployment import Deployment
from htmengine.process.twisted_types import installed_reactor
from htmengine.repository import queries
from htmengine.repository.engine import Database
from htmengine.services import make_engine
from tests.support.servers import free_port

TICK_S = 0.005
NOTHING_S = 5.0
START = 1_400_000_000
#: Just under what one request may ask for: a million points, ten million computed, patterns of 1000 characters.
TARGETS = {
    "all rows": "m.*",
    "all rows, summed": "sumSeries(m.*)",
    "all rows, their greatest": "highestMax(m.*, 3)",
    "all rows, scaled ten times": "scale(" * 10 + "m.*" + ", 2)" * 10,
    "a bad pattern": f"aliasSub(m.*, '{'(aa|aa)' * 60}', 'b')",
    "a pattern of optional letters": f"aliasSub(m.*, '{'a?' * 300}{'a' * 300}', 'b')",
}


class Gaps:
    """The most that was done between two ticks of the reactor."""

    def __init__(self) -> None:
        self._at = self._now()
        self._callbacks = self._all = 0.0

    def tick(self) -> None:
        now = self._now()
        callbacks, everything, clock = (after - before for after, before in zip(now, self._at, strict=True))
        self._callbacks = max(self._callbacks, callbacks)
        self._all = max(self._all, min(everything, clock - TICK_S))
        self._at = now

    def take(self) -> str:
        """Milliseconds since the last time that somebody asked."""
        shown = f"callbacks {1000 * self._callbacks:>6.1f}  all {1000 * self._all:>6.1f}"
        self._callbacks = self._all = 0.0
        return shown

    def _now(self) -> tuple[float, float, float]:
        """Of the reactor's thread, of the process, of the clock."""
        return time.thread_time(), time.process_time(), time.monotonic()


def fill(url: str, metrics: int, rows: int) -> None:
    """Metrics m.0 and so on with rows a minute apart."""
    database = Database(url)
    for number in range(metrics):
        made = database.run_sync(custom.create_metrics, [ModelSpec.for_name(f"m.{number}")], monitor=False)
        uid = made[f"m.{number}"].uid
        samples = [(uid, row, START + 60 * row, float(row * 7 % 23)) for row in range(1, rows + 1)]
        for first in range(0, rows, 50_000):
            database.run_sync(queries.insert_samples, samples[first : first + 50_000])
        database.run_sync(queries.update_tails, [(uid, rows, samples[-1][2])])
    database.close()


def ask(url: str) -> str:
    """The status of an answer, read to its end by another process."""
    command = ["curl", "-s", "-m", "120", "-o", os.devnull, "-w", "%{http_code} %{size_download}", url]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def measure(port: int, rows: int, gaps: Gaps) -> None:
    """In a thread: each request, and what it did to the reactor."""
    time.sleep(3)
    gaps.take()
    time.sleep(NOTHING_S)
    print(f"{'nothing':<32} {gaps.take()}", flush=True)
    base = f"http://127.0.0.1:{port}"
    everything = f"from={START}&until={START + 60 * rows}&maxDataPoints=1000000"
    requests = {
        name: f"{base}/render?target={quote(target)}&format=json&{everything}" for name, target in TARGETS.items()
    }
    requests["rows of the API"] = f"{base}/api/v1/metrics/m.0/data?limit=10000"
    requests["a plot of the API"] = f"{base}/api/v1/metrics/m.0/plot?points=2000"
    requests["all names"] = f"{base}/metrics/find?query=*"
    for name, url in requests.items():
        began = time.monotonic()
        answer = ask(url)
        print(f"{name:<32} {gaps.take()}  {time.monotonic() - began:6.1f} s  {answer} bytes", flush=True)


def main(argv: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=90_000)
    parser.add_argument("--metrics", type=int, default=10)
    options = parser.parse_args(argv)
    reactor = installed_reactor()
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        os.environ |= {
            "HTMENGINE__APPLICATION__WEB__PORT": str(port),
            "HTMENGINE__APPLICATION__METRIC_LISTENER__PORT": "0",
        }
        deployment = Deployment.embedded(None, Path(folder) / "data")
        deployment.make_database()
        fill(deployment.database_url, options.metrics, options.rows)
        service, _ = make_engine(deployment, reactor)
        service.privilegedStartService()
        service.startService()
        gaps = Gaps()
        LoopingCall(gaps.tick).start(TICK_S)

        def run() -> None:
            try:
                measure(port, options.rows, gaps)
            finally:
                reactor.callFromThread(reactor.stop)  # type: ignore[attr-defined]

        threading.Thread(target=run).start()
        reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
        reactor.run()


if __name__ == "__main__":
    main(sys.argv[1:])
