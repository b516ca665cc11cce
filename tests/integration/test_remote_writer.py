# SPDX-License-Identifier: MIT
"""Results in a real Prometheus: written by the engine, and scraped, through a kill of the engine."""

from __future__ import annotations

import math
import time
from pathlib import Path

import httpx

from tests.support.engine import Engine, wait_for
from tests.support.servers import Prometheus, free_port

NAME = "web.load;host=h1;instance=i1"
ROWS = 120
SCORE = 'htmengine_metric_anomaly_score{{metric="web.load",host="h1",instance="i1",job="{}"}}'


def send(engine: Engine, first: int, last: int, newest: int) -> None:
    """Rows ten seconds apart, of which row ``ROWS`` is at ``newest``."""
    rows = range(first, last + 1)
    engine.send(f"{NAME} {math.sin(row / 5)} {newest - 10 * (ROWS - row)}" for row in rows)


def test_each_result_is_there_once_and_scraped_scores_beside_them(tmp_path: Path) -> None:
    port, newest = free_port(), int(time.time())
    scrape = {"metrics_path": "/federate", "honor_labels": True, "params": {"match[]": ["web.*"]}}
    with Prometheus(f"127.0.0.1:{port}", **scrape) as prometheus:
        engine = Engine(tmp_path / "data", "--workers", "1", "--http-port", str(port))
        engine.environment = {
            "HTMENGINE__APPLICATION__REMOTE_WRITE__URL": prometheus.write_url,
            "HTMENGINE__APPLICATION__METRIC_STORER__PENDING_SAMPLES": "10",
            "HTMENGINE_CRASH_AT": "export.sent",
        }
        engine.start()
        try:
            send(engine, 1, 60, newest)
            wait_for(lambda: engine.process.poll() is not None, "the engine to die after it has written")
            del engine.environment["HTMENGINE_CRASH_AT"]
            engine.start()
            send(engine, 61, ROWS, newest)
            engine.wait_until_scored(NAME, ROWS)
            written = SCORE.format("")
            wait_for(lambda: len(prometheus.samples(written)) == ROWS, "all results")
            scores = [score for _, _, score in engine.scores(NAME)]
            times = [newest - 10 * (ROWS - row) for row in range(1, ROWS + 1)]
            assert prometheus.samples(written) == dict(zip(times, scores, strict=True))
            wait_for(lambda: prometheus.value(SCORE.format("htmengine")) == scores[-1], "the score that is scraped")
            page = httpx.get(f"{engine.url}/metrics").text
            assert "htmengine_remote_write_waiting 0.0" in page
        finally:
            engine.stop()
