# SPDX-License-Identifier: MIT
"""A wire that another package brings, installed as users install it: over a port of its own, and over HTTP."""

from __future__ import annotations

import gzip
import socket
import subprocess
import sys
from pathlib import Path

import httpx

from tests.support.engine import running_engine, wait_for
from tests.support.servers import free_port

PACKAGE = Path(__file__).parents[1] / "support" / "opentsdb-wire"


def test_the_example_package(tmp_path: Path) -> None:
    site, port = tmp_path / "site", free_port()
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    source = tmp_path / "source"
    source.mkdir()
    for file in PACKAGE.iterdir():
        (source / file.name).write_bytes(file.read_bytes())
    subprocess.run([*install, "--target", str(site), str(source)], check=True, timeout=120)
    environment = {
        "PYTHONPATH": str(site),
        "HTMENGINE__APPLICATION__METRIC_LISTENER__WIRE_PORTS": f"opentsdb:{port}",
        "HTMENGINE__APPLICATION__WEB__WIRES": "opentsdb",
    }
    options = ["--workers", "1", "--no-auto-monitor"]
    with running_engine(tmp_path / "data", *options, environment=environment) as engine:
        with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
            connection.sendall(b"put web.load 1400000000 0.5 host=h1 dc=a\nget web.load\n")
        body = gzip.compress(b"put web.load 1400000060123 0.75 dc=a host=h1\nput web.load x 1\n")
        headers = {"Content-Encoding": "gzip"}
        answer = httpx.post(f"{engine.url}/wires/opentsdb", content=body, headers=headers, timeout=60)
        assert (answer.status_code, "value_not_a_number" in answer.text) == (400, True)
        query = "SELECT metric_value FROM metric_data JOIN metric USING (uid) WHERE name = 'web.load;dc=a;host=h1'"
        wait_for(lambda: engine.query(query + " ORDER BY rowid") == [(0.5,), (0.75,)], "both samples")
        ledger = httpx.get(f"{engine.url}/api/v1/ledger", timeout=60).json()
        assert (ledger["adds_up"], ledger["rejected"]["value_not_a_number"]) == (True, 1)
        assert httpx.post(f"{engine.url}/wires/other", content=b"").status_code == 404
