# SPDX-License-Identifier: MIT
"""The taps as an operator starts them: real twistd, real broker, real database."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.support.distributed import QUICK, distributed_engine
from tests.support.engine import wait_for
from tests.support.servers import MariaDB, RabbitMQ

TWISTD = Path(sys.executable).with_name("twistd")
#: Each tap, and what its log says when it is at work.
TAPS = {
    "listener": "listening for Graphite lines",
    "storer": "(consuming)",
    "scheduler": "shard 0 taken",
    "anomaly": "(consuming)",
    "web": "dashboard and API",
    "alerts": "(consuming)",
}


def command(tap: str, folder: Path) -> list[str | Path]:
    return [TWISTD, "-n", "--pidfile=", f"--rundir={folder}", f"htmengine-{tap}"]


@pytest.mark.parametrize("tap", TAPS)
def test_a_tap_says_that_it_needs_a_configuration(tap: str, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "APPLICATION_CONFIG_PATH"}
    ended = subprocess.run(
        command(tap, tmp_path), env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 1
    assert "htmengine: APPLICATION_CONFIG_PATH must name the folder with application.conf" in ended.stderr


def test_all_taps_together_are_an_engine(tmp_path: Path, rabbitmq: RabbitMQ, mariadb: MariaDB) -> None:
    folder = tmp_path / "engine"
    with distributed_engine(
        folder,
        rabbitmq_port=rabbitmq.port,
        database_url=mariadb.new_database(),
        options=QUICK,
    ) as engine:
        with (engine.config_dir / "application.conf").open("a") as configuration:
            configuration.write("[anomaly_likelihood]\nstatistics_refresh_rate = 24\n")  # only HTM Engine had it
        for tap in TAPS:
            with (folder / f"{tap}.log").open("wb") as log:
                engine.processes[tap] = subprocess.Popen(
                    command(tap, folder), stdout=log, stderr=log, env=engine.environment()
                )
        for tap, said in TAPS.items():
            wait_for(lambda tap=tap, said=said: said in engine.log(tap), f"{tap} to say {said!r}")
        engine.send([f"m {row % 7} {1_700_000_000 + 60 * row}" for row in range(1, 31)])
        engine.wait_until_scored(30)
        for tap in TAPS:
            assert engine.log(tap).count("statistics_refresh_rate: no longer has an effect") == 1
        [page] = re.findall(r"dashboard and API: (\S+)", engine.log("web"))
        assert httpx.get(page, timeout=60).status_code == 200  # its reactor runs, as the others' do
        for process in engine.processes.values():
            process.send_signal(signal.SIGTERM)
        # twistd ends as a process that SIGTERM has ended, after an orderly stop
        assert {tap: process.wait(60) for tap, process in engine.processes.items()} == dict.fromkeys(TAPS, -15)
        assert all("Server Shut Down." in engine.log(tap) for tap in TAPS)
