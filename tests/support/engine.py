# SPDX-License-Identifier: MIT
"""A real engine as a process, in a folder of its own on free loopback ports, and what tests ask of it."""

from __future__ import annotations

import contextlib
import math
import re
import signal
import socket
import sqlite3
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support import processes

#: The timestamp before that of row 1.
START = 1_700_000_000
#: Nothing here takes this long unless it hangs.
PATIENCE_S = 180.0

_PORT = re.compile(r"Graphite lines on 127\.0\.0\.1:(\d+)")
_URL = re.compile(r"dashboard and API: (\S+)/")


class Engine:
    """``htmengine run`` on a data folder; may be killed and started again on the same one."""

    def __init__(
        self,
        data_dir: Path,
        *options: str,
        command: Sequence[str] = (),
        start: processes.Start = processes.start_quickly,
    ) -> None:
        self.data_dir = data_dir
        self.log_path = data_dir.with_name(data_dir.name + ".log")
        self._command = [*(command or [sys.executable, "-m", "htmengine.cli.main", "run"])]
        self._options = ["--data-dir", str(data_dir), "--graphite-port", "0", "--http-port", "0", *options]
        self.environment: dict[str, str] = {}  #: added to that of the tests
        self._start = start
        self.process: processes.Process | None = None
        self.port = 0
        self.url = ""  #: of its HTTP service, without a slash at the end

    def start(self) -> Engine:
        """Start it, and wait until it listens."""
        self.log_path.touch()
        seen = self.log_path.stat().st_size
        self.process = self._start([*self._command, *self._options], self.log_path, self.environment)
        self.port = int(wait_for(lambda: self._logged(_PORT, seen), "the engine to listen"))
        self.url = wait_for(lambda: self._logged(_URL, seen), "its HTTP service")
        return self

    def _logged(self, pattern: re.Pattern[str], seen: int) -> str | None:
        assert self.process is not None
        text = self.log_path.read_bytes()[seen:].decode()
        if self.process.poll() is not None:
            raise AssertionError(f"the engine ended with {self.process.returncode}:\n{text}")
        found = pattern.search(text)
        return found and found.group(1)

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_S)

    def kill(self) -> None:
        """kill -9 of the engine alone: its workers have to notice by themselves."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(PATIENCE_S)

    def worker_pids(self) -> list[int]:
        """The worker processes that run now."""
        assert self.process is not None
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [int(pid) for pid in children if b"model_runner" in Path(f"/proc/{pid}/cmdline").read_bytes()]

    def send(self, lines: Iterable[str]) -> None:
        """Over TCP, as nc would."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S) as connection:
            connection.sendall("".join(f"{line}\n" for line in lines).encode())
            connection.shutdown(socket.SHUT_WR)
            connection.recv(1)  # the engine has read it all when it closes

    def query(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """Read the engine's database, as another program would."""
        with contextlib.closing(sqlite3.connect(self.data_dir / "htmengine.db", timeout=30)) as connection:
            return connection.execute(sql, values).fetchall()

    def scores(self, name: str) -> list[tuple[int, float, float]]:
        """(rowid, raw anomaly score, anomaly score) of all rows that have one."""
        return self.query(
            "SELECT rowid, raw_anomaly_score, anomaly_score FROM metric_data WHERE anomaly_score IS NOT NULL"
            " AND uid = (SELECT uid FROM metric WHERE name = ?) ORDER BY rowid",
            name,
        )

    def wait_until_scored(self, name: str, rows: int) -> list[tuple[int, float, float]]:
        """Wait for that many scores of a metric."""
        scored = "SELECT count(anomaly_score) FROM metric_data JOIN metric USING (uid) WHERE name = ?"
        wait_for(lambda: self.query(scored, name)[0][0] >= rows, f"{rows} scores of {name}")
        return self.scores(name)


def lines(first: int, last: int, *, metrics: int) -> list[str]:
    """Rows ``first`` to ``last``, a minute apart, of the metrics m0, m1 and so on, as Graphite's lines."""
    return [
        f"m{number} {math.sin(row / 5) + number} {START + 60 * row}"
        for row in range(first, last + 1)
        for number in range(metrics)
    ]


def wait_for(condition: Any, what: str, patience_s: float = PATIENCE_S) -> Any:
    """Wait until the condition gives something true, which is returned."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        result = condition()
        if result:
            return result
        time.sleep(0.05)
    raise AssertionError(f"waited {patience_s} s in vain for {what}")


@contextlib.contextmanager
def running_engine(
    data_dir: Path,
    *options: str,
    command: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    start: processes.Start = processes.start_quickly,
) -> Iterator[Engine]:
    """An engine that is gone at the end, whatever happens; its log is shown if the test fails."""
    engine = Engine(data_dir, *options, command=command, start=start)
    engine.environment |= environment or {}
    try:
        yield engine.start()
    except BaseException:
        print(engine.log_path.read_text()[-4000:])
        raise
    finally:
        if engine.process is not None and engine.process.poll() is None:
            engine.kill()


def htmengine(engine: Engine, *arguments: str, status: int = 0) -> str:
    """What a command on an engine's folder says, on both of its outputs."""
    done = processes.run_htmengine(*arguments, "--data-dir", str(engine.data_dir), environment=engine.environment)
    assert done.returncode == status, done.stderr
    return done.stdout + done.stderr
