# SPDX-License-Identifier: MIT
"""The application at its running engine: samples go in at the Graphite port, scores come out."""

from __future__ import annotations

import math
import os
import socket
import time
import uuid
from pathlib import Path

from htmengine.client import Client
from htmengine.config import load

ROWS = 300


def test_samples_are_scored_and_broadcast() -> None:
    config = load(Path(os.environ["APPLICATION_CONFIG_PATH"]), os.environ)
    name = f"skeleton.{uuid.uuid4().hex}"
    with Client() as client:
        results = client.results()
        metric = client.monitor(name, min=-1, max=1)
        start = int(time.time()) - 60 * ROWS
        lines = "".join(f"{name} {math.sin(row / 5)} {start + 60 * row}\n" for row in range(ROWS))
        with socket.create_connection((config.metric_listener.host, config.metric_listener.port), 30) as connection:
            connection.sendall(lines.encode())
        rowids: list[int] = []
        while len(rowids) < ROWS:
            message = next(results)
            if message.get("metric", {}).get("uid") == metric.uid:
                rowids += [row["rowid"] for row in message["results"]]
        results.close()
        assert rowids == list(range(1, ROWS + 1))
        assert all(row.anomaly is not None for row in client.rows(metric.uid))
        client.delete(name)
