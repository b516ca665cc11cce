# SPDX-License-Identifier: MIT
"""What comes in at the Graphite port and over HTTP: names, samples from the future, rejects with their senders."""

from __future__ import annotations

import gzip
import math
import socket
import time
from collections.abc import Iterator
from itertools import accumulate, chain
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.engine import START, Engine, htmengine, running_engine, wait_for

FUTURE = 4_070_908_800  # 2099


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    folder = tmp_path_factory.mktemp("admission") / "data"
    said = {"HTMENGINE__APPLICATION__ADMISSION__COUNTERS": "*.total"}
    with running_engine(folder, "--workers", "1", environment=said) as started:
        yield started


def get(engine: Engine, path: str) -> Any:
    answer = httpx.get(f"{engine.url}/api/v1/{path}", timeout=60)
    assert answer.status_code == 200, answer.text
    return answer.json()


def values(engine: Engine, name: str) -> list[float]:
    sql = "SELECT metric_value FROM metric_data JOIN metric USING (uid) WHERE name = ? ORDER BY rowid"
    return [value for (value,) in engine.query(sql, name)]


def wait_for_values(engine: Engine, name: str, *expected: float) -> None:
    wait_for(lambda: values(engine, name) == list(expected), f"{expected} of {name}, not {values(engine, name)}")


def test_a_sample_from_the_future_is_rejected_and_its_metric_goes_on(engine: Engine) -> None:
    now = int(time.time())
    engine.send([f"f.a 1 {now - 600}", f"f.a 2 {now - 300}", f"f.a 9 {FUTURE}", f"f.a 3 {now}", f"f.a 4 {now + 1}"])
    wait_for_values(engine, "f.a", 1, 2, 3, 4)
    [told] = get(engine, "rejects?reason=timestamp_future")["rejects"]
    assert (told["sender"], told["line"]) == ("127.0.0.1", f"f.a 9 {FUTURE}")


def test_a_metric_has_one_name_however_it_is_written(engine: Engine) -> None:
    now = int(time.time())
    engine.send([f"disk;dc=a;host=h1 1 {now - 60}", f"disk;host=h1;dc=a 2 {now}"])
    engine.send([f"s.host..app.n 1 {now - 120}", f"s.host.app.n 2 {now - 60}", f".s.host.app.n 3 {now}"])
    wait_for_values(engine, "disk;dc=a;host=h1", 1, 2)
    wait_for_values(engine, "s.host.app.n", 1, 2, 3)
    assert len(htmengine(engine, "results", "disk;host=h1;dc=a", "--format", "csv").splitlines()) == 3
    assert get(engine, "metrics/disk;host=h1;dc=a")["name"] == "disk;dc=a;host=h1"


def test_rejects_name_their_sender_in_the_log_the_api_and_the_command(engine: Engine) -> None:
    engine.send(["ohm.disk.w 2,25 1700000000", "\x1b[31m 1 1700000000"])
    wait_for(lambda: len(get(engine, "rejects")["rejects"]) >= 2, "two rejects")
    assert "from 127.0.0.1: 'ohm.disk.w 2,25 1700000000'" in engine.log_path.read_text()
    told = htmengine(engine, "rejects")
    assert "  value_not_a_number  127.0.0.1  ohm.disk.w 2,25 1700000000\n" in told
    assert "\\x1b[31m 1" in told
    assert "\x1b" not in told


def test_bad_samples_of_a_request_are_counted_with_its_sender(engine: Engine) -> None:
    samples = [{"metric": "web;host=h1", "value": 1, "timestamp": FUTURE + 1}]
    refused = httpx.post(f"{engine.url}/api/v1/samples", json={"samples": samples}, timeout=60)
    assert refused.status_code == 400
    wait_for(
        lambda: any(str(FUTURE + 1) in each["line"] for each in get(engine, "rejects")["rejects"]),
        "the request's reject",
    )


def test_another_protocol_is_told_and_its_connection_closed(engine: Engine) -> None:
    for first in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x00\x00\x00\x20\x80\x02]q\x01"):
        with socket.create_connection(("127.0.0.1", engine.port), timeout=60) as connection:
            connection.sendall(first)
            assert connection.recv(1) == b""
    log = engine.log_path.read_text()
    assert "127.0.0.1: an HTTP client comes to the line port" in log
    assert "127.0.0.1: Graphite pickles come to the line port" in log


def test_repair_frees_metrics_that_ran_ahead_offline_and_while_the_engine_runs(tmp_path: Path) -> None:
    now = int(time.time())
    engine = Engine(tmp_path / "data", "--workers", "1")
    try:
        engine.environment = {"HTMENGINE__APPLICATION__ADMISSION__MAX_FUTURE_S": "4e9"}
        engine.start()
        for name in ("offline", "running"):
            htmengine(engine, "monitor", name, "--min", "0", "--max", "10")
        engine.send([f"{name} {v} {t}" for name in ("offline", "running") for v, t in ((1, now - 60), (9, FUTURE))])
        for name in ("offline", "running"):
            engine.wait_until_scored(name, 2)
        assert engine.stop() == 0
        engine.environment = {}
        assert "rows ahead of the clock removed: 1" in htmengine(engine, "repair", "offline")
        engine.start()
        wait_for(
            lambda: engine.query("SELECT 1 FROM trouble WHERE source = 'clock' AND message LIKE '%sample of running%'"),
            "the trouble",
        )
        assert "rows ahead of the clock removed: 1" in htmengine(engine, "repair", "running")
        assert "no row is ahead" in htmengine(engine, "repair", "running")
        engine.send([f"{name} 2 {now}" for name in ("offline", "running")])
        for name in ("offline", "running"):
            wait_for(lambda name=name: [row for row, *_ in engine.scores(name)] == [1, 3], f"scores of {name}")
        assert '"adds_up": true' in htmengine(engine, "ledger", "--json")
    finally:
        if engine.process is not None and engine.process.poll() is None:
            engine.kill()


def test_a_body_of_samples_may_be_compressed(engine: Engine) -> None:
    body = gzip.compress(b"zip.a 1 1400000000\nzip.a 2 1400000060\n")
    headers = {"Content-Type": "text/plain", "Content-Encoding": "gzip"}
    answer = httpx.post(f"{engine.url}/api/v1/samples", content=body, headers=headers)
    assert (answer.status_code, answer.json()) == (202, {"accepted": 2})
    wait_for_values(engine, "zip.a", 1, 2)
    for bad, encoding, status in ((b"no gzip", "gzip", 400), (body, "br", 415)):
        refused = httpx.post(
            f"{engine.url}/api/v1/samples", content=bad, headers={**headers, "Content-Encoding": encoding}
        )
        assert refused.status_code == status


def test_rules_are_previewed_on_the_metrics_that_there_are(engine: Engine, tmp_path: Path) -> None:
    engine.send(["preview.web1.cpu 1 1400000000", "preview.debug 1 1400000000"])
    wait_for_values(engine, "preview.debug", 1)
    rules = tmp_path / "rules.txt"
    rules.write_text("# what may come in\nrename preview.*.cpu to cpu.$1\ndrop preview.debug\n")
    said = htmengine(engine, "admission", "--rules", str(rules))
    assert "preview.web1.cpu -> cpu.web1\n" in said
    assert "preview.debug: dropped_by_rule, rule 2\n" in said
    assert "1 renamed, 1 kept out" in said
    sample = tmp_path / "sample.txt"
    sample.write_text("preview.web2.cpu 1 1400000000\nnew;b=2;a=1\nnew.total 5 1400000000\nnew.total 6 1400000060\n")
    said = htmengine(engine, "admission", "--rules", str(rules), "--sample", str(sample))
    assert said.splitlines() == [
        "preview.web2.cpu -> cpu.web2",
        "new.total: a counter, whose rates are stored",
        "2 stay, 1 renamed, 0 kept out",
    ]


def test_an_incident_of_a_counter_over_the_graphite_port_is_found_as_that_of_its_rate(engine: Engine) -> None:
    """A stall, and three times the rate; between them the engine is killed.  What nobody calls a counter is told."""
    rates = [8.0 + 2 * math.sin(n / 5) for n in range(600)]
    rates[500:505] = [0.0] * 5
    rates[580:585] = [25.0] * 5
    totals = list(accumulate((60 * rate for rate in rates), initial=5e6))
    for name in ("web.total", "web.rate"):
        htmengine(engine, "monitor", name, "--min", "0", "--max", "30")
    rows = [
        (f"web.total {totals[n + 1]!r} {START + 60 * n}", f"web.rate {rate!r} {START + 60 * n}")
        for n, rate in enumerate(rates)
    ]
    engine.send([f"web.total {totals[0]!r} {START - 60}", *chain(*rows[:550])])
    engine.send(f"web.untold {7 * n} {START + 300 * n}" for n in range(320))
    engine.wait_until_scored("web.rate", 540)
    engine.wait_until_scored("web.untold", 300)
    engine.kill()
    engine.start()
    wait_for(lambda: engine.query("SELECT 1 FROM trouble WHERE source = 'counters'"), "the trouble")
    [told] = [line for line in htmengine(engine, "troubles", status=1).splitlines() if "counters: " in line]
    assert "web.untold looks like a counter" in told
    assert "counters = web.untold in section [admission]" in told
    engine.send(chain(*rows[550:]))
    scores = {name: [score for *_, score in engine.wait_until_scored(name, 600)] for name in ("web.total", "web.rate")}
    assert values(engine, "web.total") == pytest.approx(rates, abs=1e-6)
    assert scores["web.total"] == pytest.approx(scores["web.rate"], abs=0.02)
    assert min(max(scores["web.total"][500:505]), max(scores["web.total"][580:585])) > 0.99
    assert get(engine, "metrics/web.total")["rate"] is True
