# SPDX-License-Identifier: MIT
"""Whatever goes wrong with one metric, at any stage, harms that metric alone.

One engine has a metric for each stage at which an error comes up that nobody expects, and twenty others, which must be
complete and bit-identical to what the model alone gives.  The faults come from outside (tests/support/faults).
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import httpx

from htmengine.repository import queries, troubles
from htmengine.repository.engine import Database
from htmengine.repository.queries import Metric
from tests.support.crashes import SETTINGS, Rows, scored
from tests.support.distributed import distributed_engine
from tests.support.engine import running_engine, wait_for
from tests.support.faults import Orders
from tests.support.receivers import HttpReceiver, http_receiver
from tests.support.servers import MariaDB, RabbitMQ

ROWS, FIRST = 40, 5
OTHERS = [f"other.{number}" for number in range(20)]

SCHEDULER = "htmengine.model_swapper"
ANOMALY = "htmengine.runtime.anomaly_service"
ALERTS = "htmengine.alerts"


@dataclass(frozen=True, slots=True)
class Fault:
    """A stage, and what becomes of the metric whose rows cannot pass it."""

    place: str
    ends: str  #: "ERROR"; "refused": its lines; "alive": only this stage is without it
    by_name: bool = False  #: else by its uid


FAULTS = {
    "listening": Fault("htmengine.runtime.sample_batcher:line_at", "refused", by_name=True),
    "parsing": Fault("htmengine.messages.samples:SampleBatch.sample", "refused", by_name=True),
    "making": Fault("htmengine.adapters.datasource.custom:create_metrics", "refused", by_name=True),
    "storing": Fault("htmengine.repository.queries:insert_samples", "refused"),
    "defining": Fault("htmengine.adapters.datasource.custom:define_from_data", "ERROR"),
    "fetching": Fault("htmengine.repository.queries:get_rows", "ERROR"),
    "enqueueing": Fault(f"{SCHEDULER}.progress:Progress.keep", "ERROR"),
    "commanding": Fault(f"{SCHEDULER}.swap_controller:up_to", "ERROR"),
    "answering": Fault(f"{SCHEDULER}.swap_controller:SwapController._rows_done", "ERROR"),
    "publishing": Fault(f"{SCHEDULER}.model_scheduler_service:encode_results", "ERROR"),
    "starting": Fault(f"{SCHEDULER}.model_cache:ModelCache.define", "ERROR"),
    "running": Fault(f"{SCHEDULER}.model_cache:ModelCache.ran", "ERROR"),
    "saving": Fault(f"{SCHEDULER}.checkpoints:CheckpointStore.save", "ERROR"),
    "restoring": Fault(f"{SCHEDULER}.checkpoints:CheckpointStore.load", "ERROR"),
    "remembering": Fault("htmengine.runtime.detector_states:DetectorStates._restore", "ERROR"),
    "scoring": Fault(f"{ANOMALY}:AnomalyService._advance", "ERROR"),
    "keeping": Fault("htmengine.repository.results:save_anomalies", "ERROR"),
    "telling": Fault(f"{ANOMALY}:encode_inference", "ERROR"),
    "evaluating": Fault(f"{ALERTS}.evaluation:evaluate", "alive"),
    "firing": Fault(f"{ALERTS}.queries:add_alert", "alive"),
    "delivering": Fault(f"{ALERTS}.sender:Sender.send", "alive", by_name=True),
    "reading": Fault("htmengine.repository.reading:rows_of", "alive"),
    "streaming": Fault("htmengine.web.events:result_json", "alive", by_name=True),
}
#: Large batches: what fails in one is taken apart, and many small ones would take their time.
QUICK = SETTINGS | {"HTMENGINE__APPLICATION__METRIC_LISTENER__BATCH_MAX_LINES": "1000"}
ERRORS = ("ZeroDivisionError", "RecursionError", "KeyError", "AssertionError", "Surprise")


ALERTS_CONF = """
[receiver:hook]
type = webhook
url = {url}
[alert:any]
metrics = *
threshold = 0.3
max_age_s = 0
receivers = hook
"""


def victim(stage: str) -> str:
    """The metric that fails at a stage."""
    return f"victim.{stage}"


def samples(name: str) -> list[tuple[int, float]]:
    """A metric's rows, its own."""
    own = sum(name.encode()) % 17
    return [(1_400_000_000 + 300 * row, float((row * 7 + own) % 23)) for row in range(ROWS)]


def lines(names: Iterable[str], first: int, last: int) -> list[str]:
    rows = {name: samples(name) for name in names}
    return [f"{name} {rows[name][row][1]!r} {rows[name][row][0]}" for row in range(first, last) for name in rows]


class Isolation:
    """Every stage fails for its own metric, on an engine that runs."""

    def __init__(self, *, send: Callable[[list[str]], None], url: str, database: str, orders: Orders) -> None:
        self._send = send
        self._url = url
        self._database = Database(database)
        self._orders = orders
        self._heard = b""

    def run(self, hook: HttpReceiver) -> None:
        """Up to the end of the last row; raises AssertionError."""
        known = [*OTHERS, *(victim(stage) for stage in FAULTS if stage != "making")]
        self._send(lines(known, 0, FIRST))
        wait_for(lambda: all(metric.last_rowid == FIRST for metric in self.metrics(len(known))), "the first rows")
        self._orders.give(self._faults())
        threading.Thread(target=self._listen, daemon=True).start()
        self._send(lines([*known, victim("making")], FIRST, ROWS))
        expected = {name: scored(samples(name)) for name in OTHERS}
        wait_for(lambda: self._rows(OTHERS) == expected, "the scores of the others")
        for stage, fault in FAULTS.items():
            wait_for(lambda stage=stage, ends=fault.ends: self._ends(stage) == ends, f"{fault.ends} of {stage}")
        for name in OTHERS:
            wait_for(lambda name=name: name.encode() in self._heard, f"events of {name}")
            wait_for(lambda name=name: any(name.encode() in each.body for each in hook.requests), f"alert of {name}")
        assert (self._status(victim("reading")), self._status(OTHERS[0])) == (500, 200)
        assert self._database.run_sync(troubles.list_of)

    def all_came_about(self) -> None:
        """Called when the engine has ended."""
        assert set(self._orders.raised()) == {fault.place for fault in FAULTS.values()}
        assert all(metric.message is None for metric in self.metrics() if metric.name in OTHERS)
        self._database.close()

    def metrics(self, at_least: int = 0) -> list[Metric]:
        wait_for(lambda: len(self._database.run_sync(queries.list_metrics)) >= at_least, f"{at_least} metrics")
        return self._database.run_sync(queries.list_metrics)

    def _faults(self) -> dict[str, tuple[str, str]]:
        uids = {metric.name: metric.uid for metric in self.metrics()}
        marked = {stage: victim(stage) if fault.by_name else uids[victim(stage)] for stage, fault in FAULTS.items()}
        return {
            fault.place: (marked[stage], ERRORS[number % len(ERRORS)])
            for number, (stage, fault) in enumerate(FAULTS.items())
        }

    def _rows(self, names: Iterable[str]) -> dict[str, Rows]:
        uids = {metric.name: metric.uid for metric in self.metrics()}
        found = {name: self._database.run_sync(queries.get_rows, uids[name], 0, ROWS + 1) for name in names}
        return {
            name: [(row.timestamp, row.value, row.raw, row.anomaly) for row in rows] for name, rows in found.items()
        }

    def _ends(self, stage: str) -> str:
        found = {metric.name: metric for metric in self.metrics()}.get(victim(stage))
        if found is None or found.last_rowid == FIRST:
            return "refused"
        return "ERROR" if found.status.name == "ERROR" and found.message else "alive"

    def _status(self, name: str) -> int:
        return httpx.get(f"{self._url}/api/v1/metrics/{name}/data", timeout=30).status_code

    def _listen(self) -> None:
        with (
            contextlib.suppress(httpx.TransportError),
            httpx.stream("GET", f"{self._url}/api/v1/events", timeout=60) as stream,
        ):
            for part in stream.iter_bytes():
                self._heard += part


def test_an_error_at_any_stage_harms_its_metric_alone(tmp_path: Path) -> None:
    orders = Orders(tmp_path / "faults.json", [fault.place for fault in FAULTS.values()])
    with http_receiver() as hook:
        (tmp_path / "conf").mkdir()
        (tmp_path / "conf" / "alerts.conf").write_text(ALERTS_CONF.format(url=hook.url))
        options = ["--workers", "1", "--config", str(tmp_path / "conf")]
        with running_engine(tmp_path / "data", *options, environment=QUICK | orders.environment) as engine:
            url = f"sqlite:///{tmp_path / 'data' / 'htmengine.db'}"
            isolation = Isolation(send=engine.send, url=engine.url, database=url, orders=orders)
            isolation.run(hook)
            assert engine.stop() == 0
        isolation.all_came_about()


def test_an_error_at_any_stage_of_any_service_harms_its_metric_alone(
    tmp_path: Path, rabbitmq: RabbitMQ, mariadb: MariaDB
) -> None:
    orders = Orders(tmp_path / "faults.json", [fault.place for fault in FAULTS.values()])
    url = mariadb.new_database()
    services = ("listener", "storer", "scheduler", "anomaly", "alerts", "web")
    with (
        http_receiver() as hook,
        distributed_engine(
            tmp_path / "engine",
            rabbitmq_port=rabbitmq.port,
            database_url=url,
            options=QUICK | orders.environment,
        ) as engine,
    ):
        (engine.config_dir / "alerts.conf").write_text(ALERTS_CONF.format(url=hook.url))
        engine.start_all(*services)
        isolation = Isolation(send=engine.send, url=engine.url, database=url, orders=orders)
        isolation.run(hook)
        assert [engine.stop(service) for service in services] == [0] * len(services)
        isolation.all_came_about()
