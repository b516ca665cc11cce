# SPDX-License-Identifier: MIT
"""What may cost more when there is more of it: rows with more alert rules or event streams, lists of many metrics.

Each figure is CPU time of this process, the least of ``--rounds`` rounds that take turns; ratios are to the first line.

    python -m benchmarks.growth rules events broadcasts lists
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias, cast

from sqlalchemy import Connection, insert, update
from tqdm import tqdm
from twisted.internet.defer import ensureDeferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from benchmarks.page import table, write
from htmengine.alerts import queries as alert_queries
from htmengine.alerts.configuration import Rule
from htmengine.alerts.evaluation import Scored, decide, keys_of_interest
from htmengine.alerts.rule_index import RuleIndex
from htmengine.bus.interface import QueueLimits
from htmengine.cli import metrics
from htmengine.incidents.candidates import candidates
from htmengine.messages import ScoredRow, encode_inference
from htmengine.process.twisted_types import Reactor
from htmengine.repository import migrations, queries, reading, rejects, results, troubles
from htmengine.repository.engine import Database
from htmengine.repository.queries import Metric, MetricStatus
from htmengine.repository.reading import AnomalyQuery, MetricQuery
from htmengine.repository.results import Result
from htmengine.repository.schema import anomaly, metric, metric_data, metric_score
from htmengine.repository.times import to_datetime
from htmengine.runtime.anomaly_service import _info
from htmengine.selectors import Selection
from htmengine.testing import MemoryBus
from htmengine.web import api, incidents
from htmengine.web.access import Access, AccessRules
from htmengine.web.events import POLL_S, EventFeed, Filter
from htmengine.web.graphite import routes
from htmengine.web.graphite.formats import NODE_FORMATS
from htmengine.web.graphite.paths import Pattern
from htmengine.web.http import Call, Stream
from htmengine.web.reader import Reader
from htmengine.web.routes import Routes
from htmengine.web.site import BoundedSite
from htmengine.web.views import encoded

#: Microseconds of CPU by what was measured.
Costs: TypeAlias = dict[str, float]
View: TypeAlias = Callable[[Connection], object]

METRICS = 1000
RESULTS = 500


def rules(rounds: int) -> Costs:
    """Rows without a hit, of 1,000 metrics; each rule is for one metric, by its name or by its label."""
    scored = [
        Scored(f"uid{n}", f"web{n}.requests;host=h{n}", (ScoredRow(1, 1000, 5.0, 0.1, 0.5),)) for n in range(METRICS)
    ]

    def evaluate(count: int) -> None:
        index = indexes[count]
        found = keys_of_interest(index, scored), decide(index, {}, scored, 0.0), candidates(index, scored, 0.0)
        assert not any(found)

    indexes = {count: RuleIndex(map(_rule, range(count))) for count in (1, 10, 100, 1000)}
    return _compare({f"{count:,} rules": partial(evaluate, count) for count in indexes}, METRICS, rounds)


def _rule(number: int) -> Rule:
    selector = f"web{number}.*" if number % 2 else f'{{host="h{number}"}}'
    return Rule(f"rule{number}", metrics=(selector,), pages_per_week=number % 3)


def events(rounds: int) -> Costs:
    """Results of 500 metrics to clients that want all of them, through Twisted Web as far as their sockets."""
    feeds = {count: _Feed(count) for count in (1, 10, 50, 200)}
    return _compare({f"{count} event streams": feed.send for count, feed in feeds.items()}, RESULTS, rounds)


def broadcasts(rounds: int) -> Costs:
    """Messages of one scored row, as the Anomaly Service makes them for each metric, with and without a queue."""
    spec = '{"modelParams": {"min": 0, "max": 100}}'
    metric = Metric("0" * 32, "custom", "web1.requests", None, None, None, spec, MetricStatus.ACTIVE)
    info, rows = _info(metric), [ScoredRow(1, 1000, 5.0, 0.1, 0.5)]
    buses = {heard: _bus(heard) for heard in (False, True)}

    def send(bus: MemoryBus) -> None:
        bodies = [encode_inference(info, rows) for _ in range(METRICS) if bus.is_heard("results")]
        if bodies:
            ensureDeferred(bus.broadcast("results", bodies))

    return _compare(
        {
            "message, a queue bound" if heard else "message, no queue": partial(send, bus)
            for heard, bus in buses.items()
        },
        METRICS,
        rounds,
    )


def _bus(heard: bool) -> MemoryBus:
    bus = MemoryBus()
    bus.startService()
    ensureDeferred(bus.declare_fanout("results"))
    if heard:
        ensureDeferred(bus.declare_queue("application", limits=QueueLimits(overflow="drop-head")))
        ensureDeferred(bus.bind("application", "results"))
    return bus


class _Feed:
    """Event streams of some clients, and results that are there when they are asked for."""

    def __init__(self, clients: int) -> None:
        self._clock = Clock()
        self._newest = 0
        self._feed = EventFeed(cast(Reader, self), self._clock)
        served = Routes(Access(AccessRules(), self._clock.seconds), self._clock, 30.0)
        served.add(["GET"], "/events", None, self._stream)
        site = BoundedSite(served.resource, cast(Reactor, self._clock))
        for _ in range(clients):
            connection = site.buildProtocol(None)
            connection.makeConnection(_Socket())
            connection.dataReceived(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert self._feed.clients == clients

    async def _stream(self, _call: Call) -> Stream:
        return Stream(lambda request: self._feed.serve(request, Filter(), None), "text/event-stream")

    async def read(self, view: Callable[..., Any], *args: Any) -> Any:
        """As the database would answer."""
        if view is results.last_number:
            return self._newest
        if view is results.results_after:
            found = [_result(number) for number in range(args[0] + 1, self._newest + 1)]
            return found, self._newest
        return 1, self._newest

    def send(self) -> None:
        """Let all clients have the next results."""
        self._newest += RESULTS
        self._clock.advance(POLL_S)


class _Socket(StringTransport):
    """Takes everything."""

    def write(self, data: bytes) -> None:
        pass

    def writeSequence(self, data: Iterable[bytes]) -> None:  # noqa: N802  (Twisted's)
        pass


def _result(number: int) -> Result:
    metric = number % RESULTS
    return Result(number, f"{metric:032x}", f"web{metric}.requests", number, number, 1.5, 0.1, 0.5)


def lists(rounds: int) -> Costs:
    """First pages of 100,000 metrics in SQLite: without dots in their names, as a tree, and with labels."""
    with tempfile.TemporaryDirectory() as folder:
        opened = {kind: _filled(Path(folder) / kind, name_of) for kind, name_of in NAMES.items()}
        works = {
            f"{kind}: {name}": partial(opened[kind].read_sync, view)
            for kind in NAMES
            for name, view in (_pages() | _graphite(*FOUND[kind])).items()
        }
        costs = _compare(works, 1, rounds)
        for database in opened.values():
            database.close()
    return costs


NAMES: dict[str, Callable[[int], str]] = {
    "flat": lambda n: f"metric{n}",
    "tree": lambda n: f"dc{n % 10}.web{n % 1000}.{n}",
    "labels": lambda n: f"requests{n % 100};dc=d{n % 10};host=web{n // 100}",
}
FOUND = {
    "flat": ("*", "*55*"),
    "tree": ("*", "dc1.*", "dc1.web1.*", "*.web1.*"),
    "labels": ("requests1*",),
}


def _pages() -> dict[str, View]:
    all_of_them = Selection.of(())
    queries_of = {
        "by name": MetricQuery(),
        "by score": MetricQuery(by_score=True),
        "search": MetricQuery("55"),
        "search, none": MetricQuery("nothing"),
        "by status": MetricQuery(statuses=[MetricStatus.ACTIVE]),
        "by label": MetricQuery('{dc="d3"}'),
    }
    return {
        **{f"100 {name}": partial(_page_of, api._metrics, query, None, 100) for name, query in queries_of.items()},
        "htmengine metrics, 1,000": lambda conn: metrics._page(conn, MetricQuery(), all_of_them, None, metrics.PAGE),
        "100 anomalies": lambda conn: reading.page_of_anomalies(conn, AnomalyQuery(0.9), None, 100),
        "alerts": lambda conn: alert_queries.list_alerts(conn, 100),
        "incidents": lambda conn: incidents._list(conn, {"open": False, "limit": 100}, 0.0),
        "tags": partial(_page_of, routes._tag_list),
        "hosts of a label": partial(_page_of, routes._complete_values, "host", ["dc=d3"], "web1", 100),
        "series by labels": lambda conn: routes._tagged(conn, ["dc=d3", "host=web5"]),
        "rejects": rejects.list_of,
        "troubles": troubles.list_of,
    }


def _graphite(*patterns: str) -> dict[str, View]:
    parsed = {text: Pattern.parse(text) for text in patterns}
    return {
        **{f"find {text}": partial(_found, pattern) for text, pattern in parsed.items()},
        **{f"expand {text}": partial(_page_of, routes._expand, [pattern], True) for text, pattern in parsed.items()},
    }


def _page_of(view: Callable[..., Any], *args: Any) -> object:
    """As the HTTP service makes it; the connection is the last argument."""
    *given, conn = args
    return encoded(conn, view, *given)


def _found(pattern: Pattern, conn: Connection) -> object:
    return NODE_FORMATS["treejson"].encode(routes._nodes(conn, pattern))


def _filled(path: Path, name_of: Callable[[int], str]) -> Database:
    url = f"sqlite:///{path}"
    migrations.upgrade(url)
    database = Database(url)
    database.run_sync(_fill, name_of)
    return database


def _fill(conn: Connection, name_of: Callable[[int], str]) -> None:
    all_metrics = [
        Metric(f"{n:032x}", "custom", name_of(n), None, None, None, "{}", MetricStatus.ACTIVE) for n in range(100_000)
    ]
    queries.create_metrics(conn, all_metrics)
    score = {**dict.fromkeys(("generation", "rowid", "scored"), 1), "timestamp": to_datetime(1)}
    scored = [{"uid": each.uid, "anomaly_score": random.random(), **score} for each in all_metrics]
    conn.execute(insert(metric_score), scored)
    row = {"rowid": 1, "timestamp": to_datetime(1), "metric_value": 1.0, "anomaly_score": 1.0}
    conn.execute(insert(metric_data), [{"uid": each.uid, **row} for each in all_metrics])
    conn.execute(
        insert(anomaly), [{**row, "uid": m.uid, "timestamp": to_datetime(n)} for n, m in enumerate(all_metrics)]
    )
    conn.execute(update(metric).values(last_rowid=1, last_timestamp=to_datetime(1)))


def _compare(works: Mapping[str, Callable[[], object]], times: int, rounds: int) -> Costs:
    """What each takes, in turns, divided by ``times``."""
    for work in works.values():
        work()
    least = dict.fromkeys(works, float("inf"))
    for _ in tqdm(range(rounds)):
        for name, work in works.items():
            least[name] = min(least[name], _cpu_us(work) / times)
    return least


def _cpu_us(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return (time.process_time() - began) * 1e6


MEASUREMENTS: dict[str, Callable[[int], Costs]] = {
    "rules": rules,
    "events": events,
    "broadcasts": broadcasts,
    "lists": lists,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="+", choices=MEASUREMENTS)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--page", type=Path, help="has a place for a table")
    given = parser.parse_args()
    lines: list[list[str]] = []
    for what in given.what:
        costs = MEASUREMENTS[what](given.rounds)
        first = next(iter(costs.values()))
        for name, cost in costs.items():
            print(f"{name:30} {cost:10.2f} us {cost / first:8.2f}", flush=True)
            lines.append([name, f"{cost:,.1f}", f"{cost / first:.2f}"])
    if given.page is not None:
        write(given.page, "growth", table(["", "us of CPU", "of the first"], lines))


if __name__ == "__main__":
    main()
