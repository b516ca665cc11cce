# SPDX-License-Identifier: MIT
"""What real processes tell about themselves: /metrics, /healthz, /readyz; and that the documents tell the same."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.distributed import distributed_engine
from tests.support.engine import Engine, running_engine, wait_for
from tests.support.servers import MariaDB, Prometheus, RabbitMQ, free_port, program

DOCS = Path(__file__).parents[2] / "docs"
START = 1_400_000_000
#: What a name has on the page beyond a metric's.
SUFFIX = re.compile(r"_(total|bucket|sum|count)$")


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """One that watches itself, and has rows scored as they come, a worker that died, and rejects."""
    os.environ["HTMENGINE__APPLICATION__TELEMETRY__SELF_MONITOR"] = "yes"
    try:
        with running_engine(tmp_path_factory.mktemp("engine") / "data", "--workers", "2") as started:
            started.send([sample(number) for number in range(300)])
            started.wait_until_scored("m", 300)
            started.send([*(sample(number) for number in range(300, 320)), "m 1", sample(0)])
            started.wait_until_scored("m", 320)
            yield started
    finally:
        del os.environ["HTMENGINE__APPLICATION__TELEMETRY__SELF_MONITOR"]


def sample(number: int) -> str:
    return f"m {number % 7} {START + 60 * number}"


def page(url: str) -> dict[tuple[str, ...], float]:
    """By name and the values of its labels."""
    return {
        (each.name, *each.labels.values()): each.value
        for family in text_string_to_metric_families(httpx.get(f"{url}/metrics", timeout=30).text)
        for each in family.samples
    }


def names(url: str) -> set[str]:
    """Of our metrics, with no suffix, whether they have values or not."""
    found = re.findall(r"^# TYPE (htmengine_\w+) ", httpx.get(f"{url}/metrics", timeout=30).text, re.MULTILINE)
    return {SUFFIX.sub("", name) for name in found}


def checks(url: str, path: str = "/readyz") -> tuple[int, dict[str, Any]]:
    answer = httpx.get(url + path, timeout=30)
    return answer.status_code, {name: each["detail"] for name, each in answer.json()["checks"].items()}


class TestEmbedded:
    def test_every_stage_is_counted_and_timed(self, engine: Engine) -> None:
        def seen() -> dict[tuple[str, ...], float] | None:
            shown = page(engine.url)
            return shown if shown["htmengine_received_to_scored_seconds_count",] else None

        shown = wait_for(seen, "a score whose way was timed")
        assert shown["htmengine_listener_lines_total",] == 322
        assert shown["htmengine_listener_rejected_total", "field_count"] == 1
        assert shown["htmengine_storer_rejected_total", "field_count"] == 1
        assert shown["htmengine_storer_rejected_total", "timestamp_duplicate"] == 1
        assert shown["htmengine_storer_stored_total",] >= 320
        assert shown["htmengine_anomaly_scored_total",] == 320
        assert shown["htmengine_scheduler_scored_total",] >= 320  # a young model has run some, too
        assert 0 < shown["htmengine_received_to_scored_seconds_sum",] < 60
        for stage in (
            "htmengine_listener_publish",
            "htmengine_storer_transaction",
            "htmengine_received_to_stored",
            "htmengine_scheduler_turn",
            "htmengine_anomaly_transaction",
        ):
            assert shown[f"{stage}_seconds_count",] > 0, stage
            assert shown[f"{stage}_seconds_bucket", "+Inf"] == shown[f"{stage}_seconds_count",]
        assert {key[1] for key in shown if key[0] == "htmengine_queue_messages"} == {
            "alerts",
            "samples",
            "model_input",
            "results",
        }
        assert shown["htmengine_workers",] == 2
        assert shown["htmengine_worker_resident_bytes", "0"] > 1e6
        assert (
            sum(
                shown["htmengine_worker_models", worker]
                for worker in "01"
                if ("htmengine_worker_models", worker) in shown
            )
            >= 1
        )

    def test_it_is_alive_and_ready_and_a_missing_worker_is_told_by_name(self, engine: Engine) -> None:
        assert checks(engine.url, "/healthz") == (200, {"process": ""})
        code, found = checks(engine.url)
        assert (code, set(found.values())) == (200, {""})
        os.kill(engine.worker_pids()[0], signal.SIGKILL)
        code, found = wait_for(lambda: (state := checks(engine.url))[0] == 503 and state, "the missing worker")
        assert found["workers"] == "1 of 2 are ready"
        assert checks(engine.url, "/healthz")[0] == 200
        wait_for(lambda: checks(engine.url)[0] == 200, "its successor")
        assert page(engine.url)["htmengine_worker_deaths_total",] == 1

    def test_it_watches_itself(self, engine: Engine) -> None:
        def own() -> list[tuple[Any, ...]]:
            return engine.query("SELECT status FROM metric WHERE name = 'htmengine.queue_messages.samples'")

        assert wait_for(own, "its own metrics") == [(8,)]


class TestDistributed:
    @pytest.fixture
    def broker(self) -> Iterator[RabbitMQ]:
        with RabbitMQ() as server:
            yield server

    def test_a_service_tells_on_a_port_of_its_own_whether_it_can_work(
        self, tmp_path: Path, broker: RabbitMQ, mariadb: MariaDB
    ) -> None:
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        with distributed_engine(
            tmp_path / "engine", rabbitmq_port=broker.port, database_url=mariadb.new_database()
        ) as engine:
            engine.start("storer", HTMENGINE__APPLICATION__TELEMETRY__STORER_PORT=str(port))
            wait_for(lambda: answers(url, 200), "the storer")
            assert checks(url)[1] == {"process": "", "bus": "", "database": "", "MetricStorer": "", "progress": ""}
            assert {key[1] for key in page(url) if key[0] == "htmengine_queue_messages"} == {"samples"}
            assert not {"htmengine_listener_lines", "htmengine_workers"} & names(url)
            broker.kill()
            wait_for(lambda: answers(url, 503), "the broker's absence")
            assert checks(url)[1]["bus"] == "no answer within 3 s"
            assert checks(url, "/healthz")[0] == 200
            broker.start()
            wait_for(lambda: answers(url, 200), "the broker's return")
            assert page(url)["htmengine_bus_lost_connections_total",] >= 1


def answers(url: str, code: int) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=30).status_code == code
    except httpx.TransportError:
        return False


class TestDocuments:
    def documented(self) -> set[str]:
        return set(re.findall(r"^\| `(htmengine_\w+)` \|", (DOCS / "self-metrics.md").read_text(), re.MULTILINE))

    def test_the_table_has_every_metric_that_there_is(self, engine: Engine) -> None:
        here = {name for name in self.documented() if not name.startswith("htmengine_remote_write_")}
        assert names(engine.url) == here - {
            "htmengine_bus_lost_connections",
            "htmengine_bus_refused",
            "htmengine_bus_remade_queues",
        }

    @pytest.mark.parametrize("file", ["prometheus-rules.yml", "grafana-dashboard.json"])
    def test_every_metric_that_a_file_names_exists(self, file: str) -> None:
        named = set(re.findall(r"htmengine_\w+", (DOCS / file).read_text()))
        assert len(named) > 10
        assert {SUFFIX.sub("", name) for name in named} <= self.documented()

    def test_counters_and_histograms_are_asked_for_by_their_full_names(self, engine: Engine) -> None:
        shown = {key[0] for key in page(engine.url)} | names(engine.url)
        whole = {name for name in shown if not SUFFIX.search(name)} | shown
        for file in ("prometheus-rules.yml", "grafana-dashboard.json"):
            for name in re.findall(r"htmengine_\w+", (DOCS / file).read_text()):
                assert name in whole or SUFFIX.search(name), name

    def test_prometheus_accepts_the_rules(self) -> None:
        command = [program("promtool"), "check", "rules", str(DOCS / "prometheus-rules.yml")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr

    def test_prometheus_reads_the_page(self, engine: Engine) -> None:
        text = httpx.get(f"{engine.url}/metrics", timeout=30).content
        command = [program("promtool"), "check", "metrics"]
        done = subprocess.run(command, input=text, capture_output=True, timeout=60, check=False)
        assert b"error" not in done.stderr.lower(), done.stderr
        ours = [line for line in done.stderr.decode().splitlines() if line.startswith("htmengine_")]
        assert ours == []

    def test_a_real_prometheus_fires_the_rules(self, tmp_path: Path) -> None:
        rules = (DOCS / "prometheus-rules.yml").read_text()
        at_once = re.sub(r"^ +for: .*\n", "", rules, flags=re.MULTILINE)  # a test does not wait for minutes
        with (
            running_engine(tmp_path / "engine", "--workers", "1", "--no-auto-monitor") as engine,
            Prometheus(engine.url.removeprefix("http://"), at_once) as prometheus,
        ):
            wait_for(lambda: prometheus.targets() == ["up"], "the first look at the engine")
            wrong = ["m 1", "m x 1400000000"]
            engine.send([sample(0), *wrong])  # a reason's counter begins with its first reject
            wait_for(lambda: prometheus.value("sum(htmengine_storer_rejected_total)") == 2, "a look at the rejects")
            rejects = {("HtmEngineRejectsMany", "field_count"), ("HtmEngineRejectsMany", "value_not_a_number")}
            assert not rejects & prometheus.firing()
            engine.send([sample(1), *wrong])
            wait_for(lambda: rejects <= prometheus.firing(), "the alerts of rejects")
            # No metric has a model.
            assert prometheus.firing() - rejects <= {("HtmEngineSamplesStoredButNotScored", "")}
            engine.stop()
            wait_for(lambda: ("HtmEngineDown", "") in prometheus.firing(), "the alert of an engine that is down")
            assert prometheus.targets() == ["down"]

    def test_the_dashboard_is_whole(self) -> None:
        dashboard = json.loads((DOCS / "grafana-dashboard.json").read_text())
        ids = [panel["id"] for panel in dashboard["panels"]]
        assert len(ids) == len(set(ids)) > 10
        assert all(target["expr"] for panel in dashboard["panels"] for target in panel["targets"])
