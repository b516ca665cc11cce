# SPDX-License-Identifier: MIT
"""Crashes by seed: an engine is killed again and again while a client sends, and must end as if nothing had happened.

A seed decides everything: the series, how they are cut into sendings, where and when which process is killed.  The
client sends again what it is not sure of.  At the end the stored rows and all scores are those of an undisturbed
run to the last bit, each row was broadcast, and the ledger adds up, as it did whenever it was looked at.

``make crashes SEEDS=1000`` runs many and prints a summary; tests/integration/test_crashes.py runs some.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from htmengine import crash_points
from htmengine.bus.interface import QueueLimits
from htmengine.bus.queue_file import QueueFile
from htmengine.htm.model import Model
from htmengine.htm.scoring import likelihood_for
from htmengine.ledger import Ledger, read_ledger
from htmengine.messages import decode_broadcast
from htmengine.offline import params_for, score_rows
from htmengine.repository.engine import Database
from tests.support.engine import PATIENCE_S, Engine, wait_for

METRICS = 4
PENDING_SAMPLES = 20
AUDIT_QUEUE = "audit"
RESULTS_QUEUE = "htmengine.mswapper.results"
EXCHANGE = "htmengine.model.results"

#: Everything happens soon and often: small batches and turns, many checkpoints, models swapped all the time.
SETTINGS = {
    "HTMENGINE__APPLICATION__METRIC_STORER__PENDING_SAMPLES": str(PENDING_SAMPLES),
    "HTMENGINE__APPLICATION__METRIC_LISTENER__BATCH_MAX_LINES": "20",
    "HTMENGINE__MODEL_SWAPPER__MODEL_SCHEDULER__ROWS_PER_TURN": "10",
    "HTMENGINE__MODEL_SWAPPER__MODEL_SCHEDULER__WORKER_MEMORY_MB": "1",
    "HTMENGINE__MODEL_CHECKPOINT__STORAGE__CHECKPOINT_ROWS": "15",
    "HTMENGINE__MODEL_CHECKPOINT__STORAGE__CHECKPOINT_SECONDS": "0.1",
}

#: (timestamp, value, raw anomaly score, anomaly score), as stored
Rows = list[tuple[int, float, float, float]]


# --- what a seed decides --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Crash:
    """One death: at a named point, or of a process at some time after the start."""

    what: str  #: a crash point, "engine", "workers" or "stop" (SIGTERM)
    times: int = 1
    after_s: float = 0.0

    @property
    def at_point(self) -> bool:
        return self.what in crash_points.POINTS


@dataclass(frozen=True, slots=True)
class Scenario:
    """What one seed does to an engine."""

    seed: int
    workers: int
    samples: dict[str, list[tuple[int, float]]]  #: (timestamp, value) by metric
    sendings: list[list[str]]
    crashes: list[Crash]

    @classmethod
    def of(cls, seed: int) -> Scenario:
        """The scenario of a seed.  Points take turns over the seeds, so that few seeds pass all of them."""
        chance = random.Random(seed)
        samples = {f"metric.{number}": _series(chance) for number in range(METRICS)}
        points = list(crash_points.POINTS)
        crashes = [Crash(points[seed % len(points)], chance.randint(1, 2))]
        crashes += [_crash(chance, points) for _ in range(chance.randint(0, 2))]
        chance.shuffle(crashes)
        return cls(seed, chance.randint(1, 2), samples, _sendings(chance, samples), crashes)

    @property
    def rows(self) -> int:
        return sum(len(each) for each in self.samples.values())

    def expected(self) -> dict[str, Rows]:
        """What an undisturbed engine stores, from the model alone."""
        return {name: _scored(samples) for name, samples in self.samples.items()}


def _series(chance: random.Random) -> list[tuple[int, float]]:
    at, value, rows = 1_400_000_000, 50.0, []
    for _ in range(chance.randint(PENDING_SAMPLES, 100)):
        at += chance.choice((60, 60, 60, 300))
        value = value * 0.9 + chance.uniform(0, 10) + (chance.random() < 0.03) * 100
        rows.append((at, round(value, 3)))
    return rows


def _sendings(chance: random.Random, samples: dict[str, list[tuple[int, float]]]) -> list[list[str]]:
    lines = [f"{name} {value!r} {at}" for name, rows in samples.items() for at, value in rows]
    lines.sort(key=lambda line: int(line.rsplit(" ", 1)[1]))
    sendings = []
    while lines:
        size = chance.choice((1, 10, 40, 80))
        sendings.append(lines[:size])
        del lines[:size]
    return sendings


def _crash(chance: random.Random, points: Sequence[str]) -> Crash:
    what = chance.choice(("point", "point", "engine", "engine", "workers", "stop"))
    if what == "point":
        return Crash(chance.choice(points), chance.randint(1, 4))
    return Crash(what, after_s=chance.uniform(0.0, 0.6))


def _scored(samples: Sequence[tuple[int, float]]) -> Rows:
    timestamps, values = [at for at, _ in samples], [value for _, value in samples]
    params = params_for(values, None, None, PENDING_SAMPLES)
    assert params is not None
    scores = score_rows(Model(params), likelihood_for(params), timestamps, values)
    return [(at, value, raw, anomaly) for (at, value), (raw, anomaly) in zip(samples, scores, strict=True)]


# --- one run --------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Report:
    """What happened in one run, and what is wrong with its end."""

    seed: int
    happened: Counter[str] = field(default_factory=Counter)  #: crashes that came about
    sent: int = 0  #: lines, with those that were sent again
    problems: list[str] = field(default_factory=list)
    received: int = 0


class Run:
    """One scenario on one engine in a folder of its own."""

    def __init__(self, scenario: Scenario, folder: Path) -> None:
        self._scenario = scenario
        self._once = folder / "crashed"
        self._data = folder / "data"
        self._engine = Engine(self._data, "--workers", str(scenario.workers))
        self._ahead = list(scenario.crashes)
        self._killer: threading.Timer | None = None
        self._at: Crash | None = None
        self.report = Report(scenario.seed)

    def run(self) -> Report:
        """To the end, whatever happens on the way; then look at what is left."""
        _make_audit_queue(self._data)
        try:
            self._start()
            while not self._send() or not self._wait_for_scores():
                self._ended()
                self._start()
        finally:
            self._disarm()
            if self._engine.process is not None and self._engine.process.poll() is None:
                self._engine.kill()
        self._compare()
        return self.report

    # --- crashes

    def _start(self) -> None:
        """With the next crash ahead; it may come before the engine listens."""
        while True:
            self._arm()
            try:
                self._engine.start()
            except AssertionError:
                self._ended()
            else:
                return

    def _arm(self) -> None:
        self._at = self._ahead.pop(0) if self._ahead else None
        self._engine.environment = dict(SETTINGS)
        if self._at is None:
            return
        if self._at.at_point:
            self._engine.environment[crash_points.VARIABLE] = f"{self._at.what}:{self._at.times}"
            self._engine.environment[crash_points.ONCE_VARIABLE] = str(self._once)
        else:
            self._killer = threading.Timer(self._at.after_s, self._kill, (self._at.what,))
            self._killer.start()

    def _kill(self, what: str) -> None:
        process = self._engine.process
        with contextlib.suppress(OSError):  # whoever is to die may have ended by itself
            if process is None or process.poll() is not None:
                return
            if what == "workers":
                for pid in self._engine.worker_pids():
                    os.kill(pid, signal.SIGKILL)
            else:
                process.send_signal(signal.SIGTERM if what == "stop" else signal.SIGKILL)
            self.report.happened[what] += 1

    def _disarm(self) -> None:
        if self._killer is not None:
            self._killer.cancel()
            self._killer.join()
            self._killer = None
        if self._once.exists():
            assert self._at is not None
            self._once.unlink()
            self.report.happened[self._at.what] += 1

    def _ended(self) -> None:
        """The engine is gone; for a reason that we know, or the run has failed."""
        process = self._engine.process
        assert process is not None
        status = process.wait(PATIENCE_S)
        self._disarm()
        if status not in (-signal.SIGKILL, -signal.SIGTERM, 0):
            raise AssertionError(f"the engine ended with status {status}")

    # --- the client

    def _send(self) -> bool:
        """All samples from the first; False if the engine died meanwhile."""
        for lines in self._scenario.sendings:
            try:
                self._engine.send(lines)
            except OSError:
                return False
            self.report.sent += len(lines)
        return True

    def _wait_for_scores(self) -> bool:
        """False if the engine died meanwhile."""
        process = self._engine.process
        assert process is not None
        done = wait_for(
            lambda: self._progress() or (process.poll() is not None and "dead"),
            f"{self._scenario.rows} scores; {self._ledger()}",
        )
        return bool(done != "dead")

    def _progress(self) -> bool:
        ledger = self._ledger()
        if not ledger.adds_up:
            raise AssertionError(f"the ledger does not add up: {ledger}")
        return ledger.scored >= self._scenario.rows and ledger.waiting == 0 and self._is_told()

    def _is_told(self) -> bool:
        """Whether all scores were broadcast: then their messages are gone from the results queue."""
        with contextlib.closing(QueueFile(self._data / "bus.db")) as file:
            return file.queue(RESULTS_QUEUE).messages == 0

    # --- the end

    def _ledger(self) -> Ledger:
        with contextlib.closing(Database(f"sqlite:///{self._data / 'htmengine.db'}")) as database:
            return database.run_sync(read_ledger, None)

    def _compare(self) -> None:
        expected = self._scenario.expected()
        ledger = self._ledger()
        self.report.received = ledger.received
        self._expect("the ledger adds up", ledger.adds_up, True)
        self._expect("rows stored", ledger.stored, self._scenario.rows)
        self._expect("rows scored", ledger.scored, self._scenario.rows)
        for name, rows in expected.items():
            self._expect(f"rows of {name}", self._stored(name), rows)
        self._expect(
            "metrics by status", self._engine.query("SELECT DISTINCT status, message FROM metric"), [(1, None)]
        )
        self._expect("rows broadcast", _audit(self._data), expected)

    def _stored(self, name: str) -> Rows:
        rows = self._engine.query(
            "SELECT rowid, CAST(strftime('%s', timestamp) AS INTEGER), metric_value, raw_anomaly_score, anomaly_score"
            " FROM metric_data WHERE uid = (SELECT uid FROM metric WHERE name = ?) ORDER BY rowid",
            name,
        )
        assert [rowid for rowid, *_ in rows] == list(range(1, len(rows) + 1))
        return [(at, value, raw, anomaly) for _, at, value, raw, anomaly in rows]

    def _expect(self, what: str, found: object, expected: object) -> None:
        if found != expected:
            self.report.problems.append(f"{what}: {found!r:.300} instead of {expected!r:.300}")


def _make_audit_queue(data: Path) -> None:
    """A queue that hears all broadcasts, from before the first one."""
    data.mkdir(mode=0o700)
    with contextlib.closing(QueueFile(data / "bus.db")) as file, file.transaction():
        file.declare_queue(AUDIT_QUEUE, QueueLimits(max_messages=1_000_000), time.time())
        file.declare_fanout(EXCHANGE)
        file.bind(AUDIT_QUEUE, EXCHANGE)


def _audit(data: Path) -> dict[str, Rows]:
    """What was broadcast, by metric; raises if a row was broadcast with different scores."""
    heard: dict[str, dict[int, tuple[int, float, float, float]]] = {}
    for message in _messages(data):
        for row in decode_broadcast(message).get("results", []):
            rows = heard.setdefault(decode_broadcast(message)["metric"]["name"], {})
            scored = (row["ts"], row["value"], row["rawAnomaly"], row["anomaly"])
            if rows.setdefault(row["rowid"], scored) != scored:
                raise AssertionError(f"row {row['rowid']} was broadcast as {rows[row['rowid']]} and {scored}")
    return {name: [rows[rowid] for rowid in sorted(rows)] for name, rows in sorted(heard.items())}


def _messages(data: Path) -> Iterator[bytes]:
    with contextlib.closing(QueueFile(data / "bus.db")) as file:
        at, complete = 0, False
        while not complete:
            part = file.read(AUDIT_QUEUE, at, 1000, 1 << 24)
            yield from (body for _, _, body in part.messages)
            at, complete = part.end, part.complete


# --- many runs ------------------------------------------------------------------------------------------


def run_seed(seed: int, folder: Path) -> Report:
    """One seed in a new folder; an engine that hangs or ends wrongly is a problem of its report."""
    run = Run(Scenario.of(seed), folder)
    try:
        return run.run()
    except AssertionError as error:
        run.report.problems.append(str(error))
        return run.report


@dataclass(slots=True)
class Summary:
    """What many runs led to."""

    seeds: int = 0
    happened: Counter[str] = field(default_factory=Counter)
    failed: list[int] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    def add(self, report: Report) -> None:
        self.seeds += 1
        self.happened.update(report.happened)
        if report.problems:
            self.failed.append(report.seed)

    def lines(self) -> Iterator[str]:
        for what, count in sorted(self.happened.items()):
            yield f"{what:<24} {count:>6}"
        seconds = time.monotonic() - self.began
        yield f"{self.seeds} seeds, {self.happened.total()} crashes, {len(self.failed)} failed, {seconds:.0f} s"


def main() -> None:
    """``make crashes``: status 1 if any seed has a problem; its folder is kept."""
    parser = argparse.ArgumentParser(description="Kill engines at seeded points and compare what is left.")
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that no engine is left behind
    summary = Summary()
    try:
        _run_seeds(range(options.first, options.first + options.seeds), summary)
    finally:
        print("\n".join(summary.lines()))
    sys.exit(1 if summary.failed else 0)


def _run_seeds(seeds: Sequence[int], summary: Summary) -> None:
    root = Path(tempfile.mkdtemp(prefix="htmengine-crashes-"))
    with tqdm(seeds, unit="seed") as progress:
        for seed in progress:
            folder = root / str(seed)
            folder.mkdir()
            report = run_seed(seed, folder)
            summary.add(report)
            if report.problems:
                progress.write(f"seed {seed}: {'; '.join(report.problems)}\n  kept in {folder}")
            else:
                shutil.rmtree(folder)
            progress.set_postfix(crashes=summary.happened.total(), failed=len(summary.failed))


if __name__ == "__main__":
    main()
