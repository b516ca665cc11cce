# SPDX-License-Identifier: MIT
"""Other protocols over HTTP, each by its real client: Prometheus, OpenTelemetry's SDK, InfluxDB's client."""

from __future__ import annotations

import gzip
import time
from collections.abc import Iterator
from itertools import pairwise

import httpx
import pytest
from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.client.write.point import Point
from influxdb_client.client.write_api import SYNCHRONOUS, WriteOptions
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource

from htmengine.wires.compression import snap
from htmengine.wires.remote_write import write_version_1
from htmengine.wires.samples import RESULT_NAMES
from tests.support.engine import Engine, running_engine, wait_for
from tests.support.servers import Prometheus


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with running_engine(tmp_path_factory.mktemp("engine") / "data", "--workers", "1", "--no-auto-monitor") as started:
        yield started


def values(engine: Engine, name: str) -> list[float]:
    found = engine.query(
        "SELECT metric_value FROM metric_data JOIN metric USING (uid) WHERE name = ? ORDER BY rowid", name
    )
    return [value for (value,) in found]


class TestOpenTelemetry:
    def test_a_gauge_a_counter_and_a_histogram(self, engine: Engine) -> None:
        exporter = OTLPMetricExporter(f"{engine.url}/v1/metrics")
        reader = PeriodicExportingMetricReader(exporter, export_interval_millis=3_600_000)
        provider = MeterProvider([reader], resource=Resource({"service.name": "shop"}))
        meter = provider.get_meter("tests")
        orders, load, latency = (
            meter.create_counter("orders"),
            meter.create_gauge("load"),
            meter.create_histogram("latency"),
        )
        for _ in range(3):
            orders.add(60, {"shop": "b"})
            load.set(0.5)
            latency.record(3.0)
            assert provider.force_flush()
            time.sleep(1.1)  # a row a second at most
        provider.shutdown()
        wait_for(lambda: values(engine, "load;service.name=shop"), "the gauge")
        assert values(engine, "load;service.name=shop")[0] == 0.5
        rates = wait_for(lambda: values(engine, "orders;service.name=shop;shop=b"), "the counter's rates")
        assert 0.0 < rates[0] <= 60.0 / 1.1  # each of 60 came after 1.1 s or later
        assert values(engine, "latency.count;service.name=shop")
        metric = httpx.get(f"{engine.url}/api/v1/metrics", params={"search": "orders"}).json()["metrics"][0]
        assert metric["rate"]

    def test_what_is_no_request_is_refused_by_name(self, engine: Engine) -> None:
        url = f"{engine.url}/v1/metrics"
        assert httpx.post(url, content=b"x", headers={"Content-Type": "text/plain"}).status_code == 415
        refused = httpx.post(url, content=b"[", headers={"Content-Type": "application/json"})
        assert (refused.status_code, "ExportMetricsServiceRequest" in refused.text) == (400, True)


class TestInflux:
    def test_the_client_of_version_2(self, engine: Engine) -> None:
        with InfluxDBClient(engine.url, token="any", org="any", enable_gzip=True) as client:
            point = (
                Point("disk").tag("host", "h1").field("free", 5.5).field("full", value=False).time(1_400_000_000, "s")
            )
            client.write_api(write_options=SYNCHRONOUS).write("any", record=point, write_precision="s")
            with client.write_api(write_options=WriteOptions(batch_size=100, flush_interval=100)) as batching:
                batching.write(
                    "any",
                    record=[f"disk,host=h1 free={n} {1_400_000_000 + n}" for n in range(1, 50)],
                    write_precision="s",
                )
        wait_for(lambda: len(values(engine, "disk.free;host=h1")) == 50, "fifty rows")

    def test_lines_that_are_wrong_do_not_keep_the_others_out(self, engine: Engine) -> None:
        body = gzip.compress(b"cpu usage=1 1400000000\nno line at all\ncpu usage=2 1400000001\n")
        headers = {"Content-Encoding": "gzip"}
        refused = httpx.post(f"{engine.url}/write", params={"precision": "s"}, content=body, headers=headers)
        assert (refused.status_code, "no line at all" in refused.text) == (400, True)
        wait_for(lambda: values(engine, "cpu.usage") == [1.0, 2.0], "both rows")
        assert httpx.get(f"{engine.url}/api/v1/ledger").json()["rejected"]["line_form"] == 1


class TestPrometheus:
    def test_the_engines_own_results_become_no_metrics(self, engine: Engine) -> None:
        series = {(("__name__", name), ("metric", "cpu")): [(1_400_000_000.0, 1.0)] for name in RESULT_NAMES | {"up"}}
        headers = {"Content-Type": "application/x-protobuf", "Content-Encoding": "snappy"}
        body = snap(write_version_1(series))
        assert httpx.post(f"{engine.url}/api/v1/write", content=body, headers=headers).status_code == 204
        wait_for(lambda: values(engine, "up;metric=cpu") == [1.0], "the one that is no result")
        assert httpx.get(f"{engine.url}/api/v1/ledger").json()["rejected"]["own_result"] == len(RESULT_NAMES)
        assert not httpx.get(f"{engine.url}/api/v1/metrics", params={"search": "htmengine_metric"}).json()["metrics"]

    def test_nothing_is_lost_through_a_kill(self, engine: Engine) -> None:
        with Prometheus(write_to=f"{engine.url}/api/v1/write") as prometheus:
            name = f"process_cpu_seconds_total;instance=127.0.0.1:{prometheus.port};job=htmengine"
            wait_for(lambda: len(values(engine, name)) > 2, "rates of a counter")
            port = engine.url.rpartition(":")[2]
            engine.kill()
            time.sleep(2)
            engine._options[engine._options.index("--http-port") + 1] = port
            engine.start()
            rows = len(values(engine, name))
            wait_for(lambda: len(values(engine, name)) > rows + 5, "what came meanwhile, and after")
        query = "SELECT strftime('%s', timestamp) FROM metric_data JOIN metric USING (uid) WHERE name = ? ORDER BY 1"
        times = [at for (at,) in engine.query(query, name)]
        assert {int(after) - int(before) for before, after in pairwise(times)} <= {1, 2}  # a look a second
        wait_for(lambda: httpx.get(f"{engine.url}/api/v1/ledger").json()["adds_up"], "a ledger that adds up")
        [(uid,)] = engine.query("SELECT uid FROM metric WHERE name = ?", name)
        series = f"{engine.url}/api/v1/metrics/{uid}/ledger"
        wait_for(lambda: httpx.get(series).json()["held"] == 0, "the last sample")
        ledger = httpx.get(series).json()
        assert ledger["adds_up"]
        assert ledger["stored"] == len(values(engine, name))
        assert ledger["received"] == ledger["stored"] + sum(ledger["rejected"].values())
        up = f"up;instance=127.0.0.1:{prometheus.port};job=htmengine"
        assert set(values(engine, up)) == {1.0}
