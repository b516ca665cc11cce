# SPDX-License-Identifier: MIT
"""The ports of carbon's frames and of statsd, each by its real client."""

from __future__ import annotations

import pickle
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import graphitesend
import httpx
import pytest
import statsd

from htmengine.labels import identity
from tests.support.engine import Engine, running_engine, wait_for
from tests.support.servers import free_port, program

JAVASCRIPT = Path(__file__).parents[1] / "javascript"
PICKLE, STATSD = free_port(), free_port()
OPTIONS = {
    "HTMENGINE__APPLICATION__METRIC_LISTENER__PICKLE_PORT": str(PICKLE),
    "HTMENGINE__APPLICATION__METRIC_LISTENER__STATSD_PORT": str(STATSD),
    "HTMENGINE__APPLICATION__STATSD__FLUSH_INTERVAL_S": "1",
}


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    data_dir = tmp_path_factory.mktemp("engine") / "data"
    with running_engine(data_dir, "--workers", "1", "--no-auto-monitor", environment=OPTIONS) as started:
        yield started


def values(engine: Engine, name: str) -> list[float]:
    query = "SELECT metric_value FROM metric_data JOIN metric USING (uid) WHERE name = ? ORDER BY rowid"
    return [value for (value,) in engine.query(query, name)]


def test_graphitesend_in_its_pickle_mode(engine: Engine) -> None:
    client = graphitesend.GraphitePickleClient(
        graphite_server="127.0.0.1", graphite_port=PICKLE, prefix="shop", system_name=""
    )
    client.send_list([("orders", number, 1_400_000_000 + number) for number in range(50)])
    leaked = client.socket
    client.disconnect()
    leaked.close()
    wait_for(lambda: len(values(engine, "shop.orders")) == 50, "fifty rows")


def test_4_kb_of_labels_come_in_lines_and_pickles(engine: Engine) -> None:
    text = "long;" + ";".join(f"label{n:02}={'x' * 72}" for n in range(50))
    engine.send([f"{text} 1 1400000000"])
    wait_for(lambda: values(engine, identity(text)) == [1.0], "the line")
    points = pickle.dumps([(text, (1_400_000_060, 2))], protocol=2)
    with socket.create_connection(("127.0.0.1", PICKLE)) as client:
        client.sendall(struct.pack("!L", len(points)) + points)
    wait_for(lambda: values(engine, identity(text)) == [1.0, 2.0], "the pickle")
    [found] = httpx.get(f"{engine.url}/api/v1/metrics", params={"search": "label49="}).json()["metrics"]
    assert found["text"] == text


@pytest.mark.parametrize("make", [statsd.StatsClient, statsd.TCPStatsClient])
def test_the_statsd_package(engine: Engine, make: type) -> None:
    client = make("127.0.0.1", STATSD, prefix=make.__name__)
    client.incr("logins", 3)
    client.gauge("queue", 70)
    client.timing("page", 320)
    name = f"stats.counters.{make.__name__}.logins.count"
    wait_for(lambda: 3.0 in values(engine, name), "the counter")
    assert 70.0 in values(engine, f"stats.gauges.{make.__name__}.queue")
    assert 320.0 in values(engine, f"stats.timers.{make.__name__}.page.upper_90")
    client.close()


@pytest.mark.parametrize("protocol", ["udp", "tcp"])
def test_the_client_of_npm(engine: Engine, protocol: str) -> None:
    node = program("node", required=False)
    if not (JAVASCRIPT / "node_modules" / "hot-shots").exists():
        pytest.skip("hot-shots is not installed (npm ci, in tests/javascript)")
    subprocess.run([node, str(JAVASCRIPT / "statsd_client.mjs"), str(STATSD), protocol], check=True, timeout=120)
    prefix = f"node.{protocol}"
    expected = {
        f"stats.counters.{prefix}.logins.count": 3.0,
        f"stats.counters.{prefix}.half.count": 2.0,  # sampled
        f"stats.counters.{prefix}.tagged.count;site=de": 5.0,
        f"stats.gauges.{prefix}.queue": 70.0,
        f"stats.timers.{prefix}.page.upper_90": 320.0,
        f"stats.sets.{prefix}.users.count": 2.0,
    }
    for name, value in expected.items():
        wait_for(lambda name=name, value=value: value in values(engine, name), name)
    assert not values(engine, f"stats.counters.{prefix}.tenth.count")


def test_the_ledger_adds_up(engine: Engine) -> None:
    deadline = time.monotonic() + 30
    while not httpx.get(f"{engine.url}/api/v1/ledger").json()["adds_up"]:
        assert time.monotonic() < deadline
        time.sleep(0.2)
