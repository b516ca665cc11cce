# SPDX-License-Identifier: MIT
"""Mutated messages of every queue, through the readers and through the services that consume them.

    make fuzz-messages MUTATIONS=10000000 ARGS="--seed 0 --handled 10"

A mutation knows JSON: it replaces, removes, repeats, moves and wraps values, most often by those that break programs;
now and then it cuts or changes bytes.  A reader may raise `InvalidMessage` and nothing else.  What it takes goes to its
service, on a SQLite database in memory: the service must go on, and score a metric that only good messages are about.
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tqdm import tqdm
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from htmengine import messages as m
from htmengine.adapters.datasource import custom
from htmengine.adapters.datasource.custom import ModelSpec
from htmengine.alerts.configuration import AlertConfig, AlertOptions, Rule
from htmengine.alerts.receivers import Webhook
from htmengine.alerts.service import AlertService
from htmengine.bus.interface import Delivery
from htmengine.errors import BusClosed, InvalidMessage
from htmengine.incidents.budget_rules import BudgetRules
from htmengine.model_swapper import frames
from htmengine.model_swapper.model_cache import RunnerOptions
from htmengine.model_swapper.model_scheduler_service import ModelScheduler, SchedulerOptions
from htmengine.model_swapper.turns import Outcome, Slice
from htmengine.process.progress import Progress
from htmengine.repository import counts, queries, schema
from htmengine.repository.engine import Database
from htmengine.runtime.anomaly_service import AnomalyOptions, AnomalyService
from htmengine.runtime.metric_storer import MetricStorer
from htmengine.runtime.storing import StorerOptions
from htmengine.sharding import ShardQueues
from tests.support.database import InlineDatabase

START = 1_400_000_000
ROWS = 3000
SHARDS = ShardQueues("shard.", 2)
#: Messages that a service is given at once.
BATCH = 50

HOSTILE: tuple[Any, ...] = (
    *(None, True, False, 0, -0.0, -1, 1, 2, 255, 2**31 - 1, 2**31, 2**32, 2**53, 2**63 - 1, 2**63, -(2**63) - 1, 2**70),
    *(0.333, 0.025, 7.0, -0.5, 1e-320, 1.7976931348623157e308, -1.7976931348623157e308, 1e16, 10**400),
    *("", " ", "a ", "\0", "\n", "../../etc/passwd", ".", "x" * 41, "x" * 256, "x" * 70_000, "NaN", "1", "é\u2028😀"),
    *([], {}, [[]], [[1, 2, 3]], {"": {}}, {"params": {}}, [None] * 3),
    *("defineModel", "deleteModel", "cloneModel", "snapshotModel", "plain", START, 253_402_300_800, 253_402_300_799),
    *(-30_610_224_000, -62_135_596_801, 4_102_444_801),
)
TOKENS = (b"NaN", b"Infinity", b"-Infinity", b"1e400", b"-1e400", b"1" * 5000, b'"\\ud800"', b'"\xff"', b"[" * 3000)


# --- mutations ------------------------------------------------------------------------------------------


def mutate(rng: random.Random, body: bytes) -> bytes:
    """One to three changes of a JSON body."""
    value = json.loads(body)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        value = _changed(rng, value)
    text = json.dumps(
        value, ensure_ascii=rng.random() < 0.1, separators=rng.choice(((",", ":"), (", ", ": ")))
    ).encode()
    return text if rng.random() < 0.85 else _with_changed_bytes(rng, text)


def _changed(rng: random.Random, value: Any) -> Any:
    """The value with one place in it changed."""
    value = copy.deepcopy(value)
    places = list(_places(value))
    if not places:
        return rng.choice(HOSTILE)
    inside, key = rng.choice(places)
    match rng.randrange(8):
        case 0:
            del inside[key]
        case 1 if isinstance(inside, list):
            inside.insert(key, copy.deepcopy(rng.choice(inside)))
        case 2:
            other, place = rng.choice(places)
            inside[key] = copy.deepcopy(other[place])
        case 3:
            inside[key] = [inside[key]] if rng.random() < 0.5 else {"x": inside[key]}
        case 4 if isinstance(inside[key], int | float) and abs(inside[key]) < 2**63:
            inside[key] += rng.choice((-1, 1, 0.5, 2**31, 1e-9))
        case _:
            alike = [each for each in HOSTILE if type(each) is type(inside[key])]
            inside[key] = copy.deepcopy(rng.choice(alike if alike and rng.random() < 0.7 else HOSTILE))
    return value


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every list or object with every index or name in it."""
    if isinstance(value, dict | list):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from _places(value[key])


def _with_changed_bytes(rng: random.Random, text: bytes) -> bytes:
    at = rng.randrange(len(text) + 1)
    match rng.randrange(5):
        case 0:
            return text[:at]
        case 1:
            return text[:at] + bytes([rng.randrange(256)]) + text[at + 1 :]
        case 2:
            return text[:at] + rng.choice(TOKENS) + text[at:]
        case 3:  # a value becomes something that Python's json cannot write
            colon = text.find(b":", at)
            return text if colon < 0 else text[: colon + 1] + rng.choice(TOKENS) + b"," + text[colon + 1 :]
        case _:  # a property comes twice
            names = text.split(b'"')
            name = rng.choice(names[1::2] or [b"x"])
            return text.replace(b"{", b'{"' + name + b'":' + rng.choice((b"1", b"[]", b"null")) + b",", 1)


# --- services -------------------------------------------------------------------------------------------


@dataclass
class Fed:
    """A bus with one subscription, which has what it is fed; it closes when that is used up."""

    waiting: list[bytes] = field(default_factory=list)
    published: Counter[str] = field(default_factory=Counter)
    acknowledged: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    progress: Progress = field(default_factory=lambda: Progress(time.time))

    async def declare_queue(self, queue: str, limits: object = None) -> None: ...

    async def declare_fanout(self, exchange: str, *, topic: bool = False) -> None: ...

    async def bind(self, queue: str, exchange: str) -> None: ...

    async def depth(self, queue: str) -> int:
        return 0

    async def subscribe(self, queue: str, prefetch: int = 0) -> Fed:
        return self

    async def get(self, most: int) -> list[Delivery]:
        taken, self.waiting = self.waiting[:most], self.waiting[most:]
        if not taken:
            raise BusClosed
        return [Delivery(body, self.headers, None) for body in taken]

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        self.acknowledged += len(deliveries)

    async def close(self) -> None: ...

    async def publish(self, queue: str, bodies: Sequence[bytes], headers: object = None) -> None:
        self.published[queue] += len(bodies)

    broadcast = publish

    def is_heard(self, exchange: str) -> bool:
        return True


class Services:
    """Every service that consumes a queue, with two metrics that mutated messages are about, and one that none is."""

    def __init__(self) -> None:
        database = Database("sqlite://")
        database.run_sync(schema.metadata.create_all)
        self.database = InlineDatabase(database)
        self.clock = Clock()
        self.clock.advance(START + 60 * ROWS)
        self.failures: list[Failure] = []
        self.uids = [self._metric(name) for name in ("web1.cpu", "web2.cpu", "good")]
        self.feeds: dict[str, Fed] = {name: Fed() for name in QUEUES}
        storer = StorerOptions("samples", SHARDS, auto_monitor=True, pending_samples=20)
        wired: dict[str, Any] = {"database": self.database, "on_failure": self.failures.append}
        alerts = AlertConfig(
            rules=(Rule("load", threshold=0.9, receivers=("hook",)),),
            receivers=(Webhook("hook", url="http://127.0.0.1/"),),
        )
        self.storer = MetricStorer(bus=self.feeds["samples"], clock=self.clock, options=storer, **wired)
        self.anomaly = AnomalyService(
            bus=self.feeds["results"],
            options=AnomalyOptions("results", "exchange", SHARDS),
            now=self.clock.seconds,
            **wired,
        )
        alert_options = AlertOptions(alerts, "exchange")
        self.alerts = AlertService(
            bus=self.feeds["exchange"],
            clock=self.clock,
            sender=None,
            options=alert_options,
            budget_rules=BudgetRules(clock=self.clock, database=self.database, options=alert_options),
            **wired,
        )
        self.scheduler = ModelScheduler(
            reactor=self.clock,
            bus=self.feeds["models"],
            options=SchedulerOptions(SHARDS, "group", "results", workers=1, runner=RunnerOptions("unused")),
            **wired,
        )
        self.scheduler.pool.send_turn = self._run_turn  # type: ignore[method-assign]
        self.scheduler._perform(self.scheduler.controller.worker_started(0))
        self.storer.running = self.anomaly.running = self.alerts.running = self.scheduler.running = 1

    def _metric(self, name: str) -> str:
        metric, _ = self.database.run_sync(custom.monitor_metric, ModelSpec.for_name(name, min=0, max=100), 20)
        rows = [(metric.uid, n, START + 60 * n, float(n)) for n in range(1, ROWS + 1)]
        self.database.run_sync(queries.insert_samples, rows)
        self.database.run_sync(queries.update_tails, [(metric.uid, ROWS, START + 60 * ROWS)])
        return str(metric.uid)

    def _run_turn(self, worker: int, turn: int, slices: Sequence[Slice]) -> None:
        """What a worker gets over the wire, answered later as if each model were where it should be."""
        head, columns = frames.unpack(frames.pack_turn(turn, slices)[frames.LENGTH.size :])
        outcomes = []
        for sent in frames.slices_of(head, columns):
            rows = tuple(m.ResultRow(row.rowid, row.timestamp, row.value, 0.5) for row in sent.rows)
            at = rows[-1].rowid if rows else sent.after
            snapshot = sent.command is not None and sent.command.method == m.SNAPSHOT_MODEL
            outcomes.append(Outcome(sent.model_id, sent.generation, at, rows, model=b"state" if snapshot else None))
        body = frames.pack_answer(turn, outcomes, {}, [])[frames.LENGTH.size :]
        self.clock.callLater(0, self.scheduler._answered, worker, turn, frames.outcomes_of(*frames.unpack(body)))

    def feed(self, queue: str, bodies: Sequence[bytes]) -> None:
        """Give a service messages; raises what would end it."""
        fed = self.feeds[queue]
        if queue == "models":
            for body in bodies:
                self.scheduler._message_arrived(0, fed, Delivery(body, {}, None))
                self.clock.advance(0)
        else:
            fed.waiting = list(bodies)
            service = {"samples": self.storer, "results": self.anomaly, "exchange": self.alerts}[queue]
            service._tasks.start(service.consume())
        for failure in self.failures:
            failure.raiseException()
        assert fed.acknowledged or not bodies, queue

    # --- good messages -------------------------------------------------------------------------------

    def seeds(self, queue: str, after: int = 0) -> list[bytes]:
        """Real messages about the first two metrics: their next rows."""
        one, other, _ = self.uids
        of_one, of_other = map(self._generation, (one, other))
        rows = tuple(m.InputRow(n, START + 60 * n, float(n)) for n in range(after + 1, after + 4))
        info = m.MetricInfo(one, "web1.cpu", None, None, None, "custom", {"metricSpec": {"metric": "web1.cpu"}})
        scored = [m.ScoredRow(n, START + 60 * n, float(n), 0.5, 0.99) for n in range(after + 1, after + 4)]
        forecast = {"1": [[0.5, 0.25], [1.5, 0.75]]}
        match queue:
            case "samples":
                lines = [f"web{n}.cpu {n} {START + 60 * (ROWS + after + n)}" for n in (1, 2, 3)]
                return [m.encode_samples(m.SampleBatch(lines, f"batch-{after}", {"not_utf8": 2}, float(START)))]
            case "models":
                args: list[tuple[m.Method, m.CommandArgs]] = [
                    (m.DEFINE_MODEL, {"params": {"encoder": {"w": 21}}, "upTo": after + 3}),
                    (m.SNAPSHOT_MODEL, {"version": 1, "upTo": after + 3}),
                    (m.CLONE_MODEL, {"upTo": 3}),
                    (m.DELETE_MODEL, {}),
                ]
                commands = [m.ModelCommand(method, one, of_one, "c", each) for method, each in args]
                inputs = [
                    m.ModelInput(one, of_one, after, rows),
                    m.ModelInput(other, of_other, after, rows, float(START)),
                ]
                return [m.encode_model_inputs(inputs), *map(m.encode_model_command, commands)]
            case "results":
                first = tuple(m.ResultRow(row.rowid, row.timestamp, row.value, 0.5) for row in rows)
                second = (m.ResultRow(after + 1, START + 60, 1.0, 0.025, forecast),)
                results = [m.ModelResult(one, of_one, first, float(START)), m.ModelResult(other, of_other, second)]
                return [
                    m.encode_results([*results, m.ModelResult(one, of_one, (), at=after + 3)]),
                    m.encode_command_result(m.CommandResult(m.DEFINE_MODEL, one, of_one, "c")),
                    m.encode_model_snapshot(m.ModelSnapshot(one, of_one, "c", 1, after + 3, b"model")),
                    m.encode_model_error(m.ModelError(other, of_other, "cannot go on")),
                ]
            case _:
                command = m.CommandResult(m.DEFINE_MODEL, one, 1, "c")
                packed = [m.encode_inference(info, scored), m.encode_command_outcome(command, info)]
                return [zlib.decompress(body) for body in packed]

    def _generation(self, uid: str) -> int:
        """That of a metric's model now: mutated results can be such as if others were lost."""
        score = self.database.run_sync(counts.get_scores, [uid]).get(uid)
        return score.generation if score else 1

    def good(self, rowid: int) -> bytes:
        """The result of a row of the metric that no mutated message is about."""
        return m.encode_results(
            [m.ModelResult(self.uids[2], 1, (m.ResultRow(rowid, START + 60 * rowid, float(rowid), 0.5),))]
        )

    def scored(self) -> int:
        """How many rows of that metric have scores."""
        rows = self.database.run_sync(queries.get_rows, self.uids[2], 0, ROWS)
        return sum(row.anomaly is not None for row in rows)


READERS: dict[str, Callable[[bytes], object]] = {
    "samples": m.decode_samples,
    "models": m.decode_model_message,
    "results": m.decode_result_message,
    "exchange": m.decode_inference,
}
QUEUES = tuple(READERS)


def run(mutations: int, seed: int = 0, handled: int = 10) -> Counter[str]:
    """Try mutations, of each queue as many; of those that are valid every ``handled``-th goes to its service.

    Returns how many were valid, refused and handled.
    """
    rng = random.Random(seed)
    services = Services()
    waiting: dict[str, list[bytes]] = {queue: [] for queue in QUEUES}
    counts: Counter[str] = Counter()
    seeds: dict[str, list[bytes]] = {}
    good = 0
    for n in tqdm(range(mutations), disable=None):
        queue = QUEUES[n % len(QUEUES)]
        if n % 200 == 0:
            seeds = {each: services.seeds(each, n // 200 % (ROWS - 3)) for each in QUEUES}
        body = mutate(rng, rng.choice(seeds[queue]))
        packed = zlib.compress(body, 1) if queue == "exchange" else body
        try:
            READERS[queue](packed)
        except InvalidMessage:
            counts["refused"] += 1
            if counts["refused"] % (handled * 20):
                continue
        else:
            counts["valid"] += 1
            if counts["valid"] % handled:
                continue
        waiting[queue].append(packed)
        if len(waiting[queue]) == BATCH:
            if queue == "results" and good < ROWS:
                good += 1
                waiting[queue].insert(BATCH // 2, services.good(good))
            counts["handled"] += len(waiting[queue])
            services.feed(queue, waiting[queue])
            waiting[queue] = []
    for queue in QUEUES:
        counts["handled"] += len(waiting[queue])
        services.feed(queue, waiting[queue])
    assert services.scored() == good, f"{services.scored()} rows of {good} are scored"
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mutations", type=int, default=10_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--handled", type=int, default=10, help="one of this many valid messages goes to its service")
    options = parser.parse_args()
    counts = run(options.mutations, options.seed, options.handled)
    sys.stdout.write(", ".join(f"{number} {what}" for what, number in counts.items()) + "\n")


if __name__ == "__main__":
    main()
