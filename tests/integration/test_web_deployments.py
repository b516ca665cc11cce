# SPDX-License-Identifier: MIT
"""The web service as it is deployed: a process of its own on real servers, with TLS, stopped while streams are open."""

from __future__ import annotations

import contextlib
import json
import re
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.distributed import DistributedEngine, distributed_engine
from tests.support.engine import running_engine, wait_for
from tests.support.servers import MariaDB, RabbitMQ

START = 1_700_000_000
URL = re.compile(r"dashboard and API: (\S+)/\n")


@pytest.fixture(scope="module")
def engine(
    tmp_path_factory: pytest.TempPathFactory, rabbitmq: RabbitMQ, mariadb: MariaDB
) -> Iterator[DistributedEngine]:
    with distributed_engine(
        tmp_path_factory.mktemp("web") / "engine",
        rabbitmq_port=rabbitmq.port,
        database_url=mariadb.new_database(),
    ) as made:
        made.start_all("storer", "scheduler", "anomaly", "web")
        yield made


def url_of(engine: DistributedEngine) -> str:
    return str(wait_for(lambda: URL.findall(engine.log("web"))[-1:], "the web service")[0])


class TestDistributed:
    def test_what_goes_in_by_http_comes_out_scored(self, engine: DistributedEngine) -> None:
        with httpx.Client(base_url=url_of(engine), timeout=30) as client:
            spec = {"metricSpec": {"metric": "web.a"}, "modelParams": {"min": 0, "max": 100}, "monitor": True}
            uid = client.post("/api/v1/metrics", json=spec).json()["uid"]
            values = [50.0 + n % 5 for n in range(400)] + [5000.0]
            samples = [
                {"metric": "web.a", "value": value, "timestamp": START + 300 * n} for n, value in enumerate(values)
            ]
            assert client.post("/api/v1/samples", json={"samples": samples}).json() == {"accepted": 401}
            wait_for(
                lambda: (client.get(f"/api/v1/metrics/{uid}").json()["newest"] or {}).get("rowid") == 401, "scores"
            )
            assert client.get("/api/v1/anomalies").json()["anomalies"][0]["rowid"] == 401
            plot = client.get(f"/api/v1/metrics/{uid}/plot", params={"points": 10}).json()
            assert (sum(plot["count"]), max(plot["max"])) == (401, 5000.0)
            form = {"target": "scale(web.a.anomaly_score, 2)", "from": START, "until": START + 300 * 400}
            [series] = client.post("/render", data=form).json()
            assert round(max(value for value, _ in series["datapoints"] if value is not None), 6) == 2.0
            ledger = client.get("/api/v1/ledger").json()
            assert (ledger["scored"], ledger["adds_up"]) == (401, True)
            status = client.get("/api/v1/status").json()
            assert status["queues"] == {"samples": 0, "model_input": 0, "results": 0}

    def test_events_go_on_where_they_were_after_kill_9(self, engine: DistributedEngine) -> None:
        seen = first_event(url_of(engine), "0")
        engine.kill("web")
        (engine.folder / "web.log").unlink()
        engine.start("web")
        again = first_event(url_of(engine), str(seen["id"]))
        assert again["data"]["rowid"] == seen["data"]["rowid"] + 1


def first_event(url: str, last_event_id: str) -> dict[str, Any]:
    headers = {"Last-Event-ID": last_event_id}
    with httpx.stream("GET", f"{url}/api/v1/events", headers=headers, timeout=30) as response:
        lines = response.iter_lines()
        number = next(int(line[4:]) for line in lines if line.startswith("id: "))
        data = next(json.loads(line[6:]) for line in lines if line.startswith("data: "))
    return {"id": number, "data": data}


def test_a_database_that_is_away_costs_time_and_no_request_hangs(
    tmp_path: Path, rabbitmq: RabbitMQ, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTMENGINE__APPLICATION__WEB__ANSWER_WITHIN_S", "2")
    with (
        MariaDB() as server,
        distributed_engine(
            tmp_path / "engine", rabbitmq_port=rabbitmq.port, database_url=server.new_database()
        ) as engine,
    ):
        engine.start("web")
        url = url_of(engine)
        assert httpx.get(f"{url}/api/v1/metrics").json()["total"] == 0
        server.stop()
        refused = httpx.get(f"{url}/api/v1/metrics", timeout=30)
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "5")
        assert httpx.get(f"{url}/api/v1/session").status_code == 200
        server.start()
        wait_for(lambda: httpx.get(f"{url}/api/v1/metrics", timeout=30).status_code == 200, "the database")


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    path = tmp_path / "server.pem"
    key = tmp_path / "key.pem"
    command = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    subprocess.run(
        ["openssl", *command.split(), "-keyout", str(key), "-out", str(path)], check=True, capture_output=True
    )
    path.write_text(key.read_text() + path.read_text())
    return path


def test_tls(tmp_path: Path, certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTMENGINE__APPLICATION__WEB__TLS_CERTIFICATE", str(certificate))
    monkeypatch.setenv("HTMENGINE__APPLICATION__WEB__WRITE_TOKEN", "write-token-012345")
    with running_engine(tmp_path / "data", "--workers", "1") as engine:
        assert engine.url.startswith("https://")
        url = engine.url.replace("127.0.0.1", "localhost")
        context = ssl.create_default_context(cafile=str(certificate))
        with httpx.Client(base_url=url, verify=context) as client:
            assert client.get("/api/v1/status").status_code == 200
            opened = client.post("/api/v1/session", json={"token": "write-token-012345"})
            assert "Secure" in opened.headers["Set-Cookie"]
            assert client.get("/api/v1/session").json()["write"] is True
        with pytest.raises(httpx.ConnectError):
            httpx.get(url)


def test_a_certificate_that_is_none_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty.pem").write_text("nothing")
    for name in ("empty.pem", "missing.pem"):
        monkeypatch.setenv("HTMENGINE__APPLICATION__WEB__TLS_CERTIFICATE", str(tmp_path / name))
        with pytest.raises(AssertionError, match=f"tls_certificate .*{name}"), running_engine(tmp_path / "data"):
            pass


def test_a_stop_does_not_wait_for_open_streams(tmp_path: Path) -> None:
    with running_engine(tmp_path / "data", "--workers", "1") as engine, contextlib.ExitStack() as streams:
        for _ in range(3):
            streams.enter_context(httpx.stream("GET", f"{engine.url}/api/v1/events", timeout=30))
        wait_for(lambda: httpx.get(f"{engine.url}/api/v1/status").json()["event_clients"] == 3, "the streams")
        began = time.monotonic()
        engine.stop()
        assert time.monotonic() - began < 10
        assert "Traceback" not in engine.log_path.read_text()
