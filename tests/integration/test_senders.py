# SPDX-License-Identifier: MIT
"""Real senders and readers in front of one engine: carbon's relays, collectd, statsd of npm, graphite-web."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import httpx
import pytest

from tests.support.engine import Engine, running_engine, wait_for
from tests.support.senders import CarbonCRelay, CarbonRelay, Collectd, GraphiteWeb, NodeStatsd
from tests.support.servers import free_port

PORTS = {"pickle": free_port(), "protobuf": free_port()}
OPTIONS = {
    "HTMENGINE__APPLICATION__METRIC_LISTENER__PICKLE_PORT": str(PORTS["pickle"]),
    "HTMENGINE__APPLICATION__METRIC_LISTENER__PROTOBUF_PORT": str(PORTS["protobuf"]),
}
LINES = 1000
START = 1_400_000_000


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    data_dir = tmp_path_factory.mktemp("engine") / "data"
    with running_engine(data_dir, "--workers", "1", "--no-auto-monitor", environment=OPTIONS) as started:
        yield started


def rows(engine: Engine, name: str) -> int:
    """Of the metrics whose names begin so."""
    query = "SELECT count(*) FROM metric_data JOIN metric USING (uid) WHERE name LIKE ? || '%'"
    return int(engine.query(query, name)[0][0])


def lines(name: str) -> str:
    return "".join(f"{name}.m{number % 10} {number} {START + number}\n" for number in range(LINES))


@pytest.mark.parametrize("protocol", PORTS)
def test_carbons_relay(engine: Engine, protocol: str) -> None:
    with CarbonRelay(PORTS[protocol], protocol) as relay:
        relay.send(lines(protocol))
        wait_for(lambda: rows(engine, f"{protocol}.m") == LINES, "all samples")
        wait_for(lambda: rows(engine, "carbon.relays."), "the relay's own metrics")


def test_carbon_c_relay_sends_lines(engine: Engine) -> None:
    with CarbonCRelay(engine.port) as relay:
        relay.send(lines("crelay"))
        wait_for(lambda: rows(engine, "crelay.m") == LINES, "all samples")


def test_collectd_writes_to_graphite(engine: Engine) -> None:
    with Collectd("write_graphite", f'<Node "a">\nHost "127.0.0.1"\nPort "{engine.port}"\n</Node>'):
        wait_for(lambda: rows(engine, "web1.load.load.shortterm") > 2, "the machine's load")


def test_the_statsd_of_npm_flushes_to_graphite(engine: Engine) -> None:
    with NodeStatsd(engine.port) as statsd, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.sendto(b"shop.logins:3|c\nshop.page:320|ms", ("127.0.0.1", statsd.port))
        wait_for(lambda: rows(engine, "stats.shop.logins"), "the counter's rate")
        wait_for(lambda: rows(engine, "stats.timers.shop.page.upper_90"), "the timer")


def test_graphite_web_draws_and_finds_the_engines_series(engine: Engine) -> None:
    now = int(time.time())
    engine.send(f"drawn.{name} {number} {now - 60 * (20 - number)}" for number in range(20) for name in ("a", "b"))
    wait_for(lambda: rows(engine, "drawn.") == 40, "all rows")
    with (
        GraphiteWeb(engine.url.removeprefix("http://")) as front,
        httpx.Client(base_url=f"http://127.0.0.1:{front.port}", timeout=60) as client,
    ):
        found = client.get("/metrics/find", params={"query": "drawn.*"}).json()
        assert [each["id"] for each in found] == ["drawn.a", "drawn.b"]
        span = {"from": "-30min", "until": "now"}
        summed = client.get("/render", params={"target": "sumSeries(drawn.*)", "format": "json", **span}).json()
        assert [value for value, _ in summed[0]["datapoints"] if value is not None] == [2.0 * n for n in range(20)]
        picture = client.get("/render", params={"target": "holtWintersForecast(drawn.a)", **span})
        assert (picture.headers["Content-Type"], picture.content[:8]) == ("image/png", b"\x89PNG\r\n\x1a\n")
