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
import functools
import random
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from htmengine.evidence.detector import Detector
from htmengine.evidence.scale import anomaly_score
from htmengine.evidence.scoring import detector_for
from htmengine.htm.model import Model
from htmengine.messages import decode_broadcast
from htmengine.offline.scores import ValueRange
from htmengine.process import crash_points
from htmengine.repository.queries import Metric
from tests.support import seeds
from tests.support.crash_targets import DistributedTarget, EmbeddedTarget, Target
from tests.support.engine import wait_for
from tests.support.servers import MariaDB, RabbitMQ

METRICS = 4
PENDING_SAMPLES = 20

#: Everything happens soon and often: small batches and turns, many checkpoints, models swapped all the time.
SETTINGS = {
    "HTMENGINE__APPLICATION__METRIC_STORER__PENDING_SAMPLES": str(PENDING_SAMPLES),
    "HTMENGINE__APPLICATION__METRIC_STORER__LATE_WINDOW_S": "0.5",
    "HTMENGINE__APPLICATION__METRIC_LISTENER__BATCH_MAX_LINES": "20",
    "HTMENGINE__MODEL_SWAPPER__MODEL_SCHEDULER__ROWS_PER_TURN": "10",
    "HTMENGINE__MODEL_SWAPPER__MODEL_SCHEDULER__WORKER_MEMORY_MB": "1",
    "HTMENGINE__MODEL_CHECKPOINT__STORAGE__CHECKPOINT_ROWS": "15",
    "HTMENGINE__MODEL_CHECKPOINT__STORAGE__CHECKPOINT_SECONDS": "0.1",
}

#: Maintenance that begins while the first model is not defined yet, or later; some series end in it.
MAINTENANCE = """
[maintenance:move]
metrics = metric.1
cron = 10 17 * * *
for_s = 1800
learning = no
"""
IN_MAINTENANCE = ("metric.1", range(1_400_001_000, 1_400_002_800))

#: (timestamp, value, raw anomaly score, anomaly score), as stored
Scored = tuple[int, float, float | None, float | None]
Rows = list[Scored]
#: A metric's status and message.
ACTIVE = ("ACTIVE", None)


# --- what a seed decides --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Crash:
    """One death: at a named point, or of a process at some time after its start, or after the engine listens."""

    what: str  #: a crash point, "engine", "workers" or "stop" (SIGTERM)
    times: int = 1
    after_s: float = 0.0
    early: bool = False  #: while the engine starts
    pick: float = 0.0  #: which of several processes, from 0 to 1

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
        crashes.sort(key=lambda crash: crash.what == "workers")  # after it nothing has to be started again
        return cls(seed, chance.randint(1, 2), samples, _sendings(chance, samples), crashes)

    @property
    def rows(self) -> int:
        return sum(len(each) for each in self.samples.values())

    def expected(self) -> dict[str, Rows]:
        """What an undisturbed engine stores, from the model alone."""
        return {name: scored(samples, _unlearnt(name, samples)) for name, samples in self.samples.items()}


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
    early = what != "workers" and chance.random() < 0.3
    return Crash(what, after_s=chance.uniform(0.0, 0.6), early=early, pick=chance.random())


def scored(samples: Sequence[tuple[int, float]], unlearnt: range = range(0)) -> Rows:
    """``unlearnt``: the places of samples that the model does not learn, nor the evidence once there is a later one."""
    params = ValueRange(pending_samples=PENDING_SAMPLES).params_for([value for _, value in samples])
    model, detector = Model(params), detector_for(params)
    rows: Rows = []
    for place, (at, value) in enumerate(samples):
        if place == unlearnt.stop > unlearnt.start:
            detector = _after([row for number, row in enumerate(rows) if number not in unlearnt], detector_for(params))
        raw = (model.score if place in unlearnt else model.learn)(at, value)
        rows.append((at, value, raw, anomaly_score(detector.update(at, value, raw))))
    return rows


def _unlearnt(name: str, samples: Sequence[tuple[int, float]]) -> range:
    """The places of those in maintenance."""
    metric, window = IN_MAINTENANCE
    places = [place for place, (at, _) in enumerate(samples) if name == metric and at in window]
    return range(places[0], places[-1] + 1) if places else range(0)


def _after(rows: Rows, detector: Detector) -> Detector:
    for at, value, raw, _ in rows:
        assert raw is not None
        detector.update(at, value, raw)
    return detector


# --- one run --------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Report(seeds.Report):
    """``happened`` are crashes that came about."""

    sent: int = 0  #: lines, with those that were sent again
    received: int = 0


class Run:
    """One scenario on one engine."""

    def __init__(self, scenario: Scenario, target: Target) -> None:
        self._scenario = scenario
        self._target = target
        self._ahead = list(scenario.crashes)
        self._killer: threading.Timer | None = None
        self._at: Crash | None = None
        self._to_send = 0  #: the first sending that may not have arrived
        self.report = Report(scenario.seed)

    def run(self) -> Report:
        """To the end, whatever happens on the way; then look at what is left."""
        try:
            self._start()
            while not (self._send() and self._wait_for_scores()):
                self._target.wait_for_death()
                self._disarm()
                self._start()
            self._disarm()
            self._compare()
        finally:
            self._disarm()
            self._target.close()
        return self.report

    # --- crashes

    def _start(self) -> None:
        """With the next crash ahead; it may come before the engine listens."""
        while True:
            self._at = self._ahead.pop(0) if self._ahead else None
            order = f"{self._at.what}:{self._at.times}" if self._at is not None and self._at.at_point else None
            self._set_timer(early=True)
            try:
                self._target.start(order)
            except AssertionError:
                self._target.wait_for_death()
                self._disarm()
            else:
                self._set_timer(early=False)
                return

    def _set_timer(self, *, early: bool) -> None:
        crash = self._at
        if crash is not None and not crash.at_point and crash.early == early:
            self._killer = threading.Timer(crash.after_s, self._kill, (crash,))
            self._killer.start()

    def _kill(self, crash: Crash) -> None:
        if self._target.kill(crash.what, crash.pick):
            self.report.happened[crash.what] += 1

    def _disarm(self) -> None:
        if self._killer is not None:
            self._killer.cancel()
            self._killer.join()
            self._killer = None
        if self._target.once.exists():
            assert self._at is not None
            self._target.once.unlink()
            self.report.happened[self._at.what] += 1

    # --- the client

    def _send(self) -> bool:
        """What is not sure to have arrived; False if a process died meanwhile.

        When the listener dies, nothing is sure: all samples are sent again.
        """
        sendings = self._scenario.sendings
        while self._to_send < len(sendings):
            lines = sendings[self._to_send]
            try:
                self._target.send(lines)
            except OSError:
                self._to_send = 0
                return False
            self.report.sent += len(lines)
            self._to_send += 1
            if self._target.dead():
                break
        return not self._dead()

    def _dead(self) -> bool:
        if self._target.listener_dead():
            self._to_send = 0
        return self._target.dead()

    def _wait_for_scores(self) -> bool:
        """False if a process died meanwhile."""
        try:
            wait_for(lambda: self._dead() or self._is_complete(), f"{self._scenario.rows} scores, all broadcast")
        except AssertionError as error:
            raise AssertionError(f"{error}: {self._target.ledger()}") from None
        return not self._dead()

    def _is_complete(self) -> bool:
        ledger = self._target.ledger()
        if not ledger.adds_up:
            raise AssertionError(f"the ledger does not add up: {ledger}")
        return ledger.scored >= self._scenario.rows and ledger.waiting == 0 and self._target.told()

    # --- the end

    def _compare(self) -> None:
        expected = self._scenario.expected()
        ledger = self._target.ledger()
        self.report.received = ledger.received
        self.report.expect("the ledger adds up", ledger.adds_up, True)
        self.report.expect("rows stored", ledger.stored, self._scenario.rows)
        self.report.expect("rows scored", ledger.scored, self._scenario.rows)
        metrics = self._target.metrics()
        self.report.expect(
            "metrics", {m.name: (m.status.name, m.message) for m in metrics}, dict.fromkeys(expected, ACTIVE)
        )
        self.report.expect("rows", {metric.name: self._stored(metric) for metric in metrics}, expected)
        self.report.expect("rows broadcast", _heard(self._target.broadcasts()), expected)

    def _stored(self, metric: Metric) -> Rows:
        rows = self._target.rows(metric)
        assert [row.rowid for row in rows] == list(range(1, len(rows) + 1))
        return [(row.timestamp, row.value, row.raw, row.anomaly) for row in rows]


def _heard(bodies: Iterable[bytes]) -> dict[str, Rows]:
    """What was broadcast last, by metric; raises if a row was broadcast with different scores.

    The raw score of a young model's row is another one when its metric has rows enough, and the anomaly score the same.
    """
    heard: dict[str, dict[int, Scored]] = {}
    for message in map(decode_broadcast, bodies):
        for row in message.get("results", []):
            rows = heard.setdefault(message["metric"]["name"], {})
            scored = (row["ts"], row["value"], row["rawAnomaly"], row["anomaly"])
            before = rows.setdefault(row["rowid"], scored)
            young = row["rowid"] < PENDING_SAMPLES and before[3] == scored[3]
            if before != scored and not young:
                raise AssertionError(f"row {row['rowid']} was broadcast as {before} and {scored}")
            rows[row["rowid"]] = scored
    return {name: [rows[rowid] for rowid in sorted(rows)] for name, rows in sorted(heard.items())}


# --- many runs ------------------------------------------------------------------------------------------


#: Makes an engine in a folder for a scenario.
MakeTarget = Callable[[Path, Scenario], Target]


def embedded(folder: Path, scenario: Scenario) -> Target:
    """The embedded deployment."""
    configuration = folder / "conf"
    configuration.mkdir()
    (configuration / "alerts.conf").write_text(MAINTENANCE)
    settings = SETTINGS | {"APPLICATION_CONFIG_PATH": str(configuration)}
    return EmbeddedTarget(settings, folder, scenario.workers)


def distributed(rabbitmq: RabbitMQ, mariadb: MariaDB) -> MakeTarget:
    """The distributed deployment; all engines share the servers."""
    alembic = threading.Lock()  # it makes tables, and is for one thread at a time

    def make(folder: Path, scenario: Scenario) -> Target:
        with alembic:
            target = DistributedTarget(
                SETTINGS, folder, rabbitmq_port=rabbitmq.port, database_url=mariadb.new_database()
            )
        (target.config_dir / "alerts.conf").write_text(MAINTENANCE)
        return target

    return make


def run_seed(seed: int, folder: Path, make: MakeTarget = embedded) -> Report:
    """One seed in a new folder."""
    scenario = Scenario.of(seed)
    return seeds.finish(Run(scenario, make(folder, scenario)))


def main() -> None:
    """``make crashes``: status 1 if any seed has a problem; its folder is kept."""
    parser = argparse.ArgumentParser(description="Kill engines at seeded points and compare what is left.")
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--jobs", type=int, default=2, help="seeds at a time")
    parser.add_argument("--distributed", action="store_true", help="a process a service, RabbitMQ and MariaDB")
    options = parser.parse_args()
    with (
        seeds.command("crashes", lambda done: f"{done.happened.total()} crashes") as runs,
        contextlib.ExitStack() as stack,
    ):
        make: MakeTarget = embedded
        if options.distributed:
            make = distributed(stack.enter_context(RabbitMQ()), stack.enter_context(MariaDB()))
        chosen = range(options.first, options.first + options.seeds)
        runs.run_all(chosen, functools.partial(run_seed, make=make), options.jobs)


if __name__ == "__main__":
    main()
