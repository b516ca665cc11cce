# SPDX-License-Identifier: MIT
"""The skeleton application, started and used as its README says, on servers of this test."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.engine import wait_for
from tests.support.servers import MariaDB, RabbitMQ, free_port

APPLICATION = Path(__file__).parents[1] / "support" / "skeleton-app"
BIN = Path(sys.executable).parent
SERVICES = {"model_scheduler", "metric_listener", "metric_storer", "anomaly_service", "web_service"}


@pytest.fixture
def environment(tmp_path: Path, rabbitmq: RabbitMQ, mariadb: MariaDB) -> dict[str, str]:
    """Servers and ports are not those of the application's files."""
    return {
        **os.environ,
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "APPLICATION_CONFIG_PATH": str(APPLICATION / "conf"),
        "HTMENGINE__APPLICATION__REPOSITORY__PORT": str(mariadb.port),
        "HTMENGINE__APPLICATION__METRIC_LISTENER__PORT": str(free_port()),
        "HTMENGINE__RABBITMQ__CONNECTION__PORT": str(rabbitmq.port),
    }


@pytest.fixture
def run(tmp_path: Path, environment: dict[str, str]) -> Iterator[Path]:
    """supervisord runs in this folder, which has logs/."""
    for script in ("reset_db.py", "migrate.py"):
        options = ["--suppress-prompt-and-continue-with-deletion"] if script == "reset_db.py" else []
        command = [sys.executable, APPLICATION / script, *options]
        subprocess.run(command, cwd=tmp_path, env=environment, check=True, timeout=120)
    (tmp_path / "logs").mkdir()
    supervisord = [BIN / "supervisord", "-n", "-c", APPLICATION / "conf" / "supervisord.conf"]
    with (tmp_path / "logs" / "output.log").open("wb") as output:
        process = subprocess.Popen(supervisord, cwd=tmp_path, env=environment, stdout=output, stderr=output)
    try:
        yield tmp_path
    finally:
        process.send_signal(signal.SIGTERM)
        status = process.wait(90)
        for log in sorted((tmp_path / "logs").glob("*.log")):
            print(f"--- {log.name}\n{log.read_text(errors='replace')[-1500:]}")
    assert status == 0
    stopped = (tmp_path / "logs" / "supervisord.log").read_text()
    assert "with SIGKILL" not in stopped
    for service in SERVICES:
        assert f"stopped: {service}" in stopped


def control(run: Path, environment: dict[str, str], *arguments: str) -> str:
    command = [BIN / "supervisorctl", "-c", APPLICATION / "conf" / "supervisord.conf", *arguments]
    done = subprocess.run(command, cwd=run, env=environment, capture_output=True, text=True, timeout=60, check=False)
    return str(done.stdout)


def states(run: Path, environment: dict[str, str]) -> dict[str, str]:
    lines = [line.split() for line in control(run, environment, "status").splitlines()]
    return {words[0].removeprefix("htmengine:"): words[1] for words in lines if words[0].startswith("htmengine:")}


def test_the_application_works_as_its_readme_says(run: Path, environment: dict[str, str]) -> None:
    running = dict.fromkeys(SERVICES, "RUNNING")
    wait_for(lambda: states(run, environment) == {**running, "alert_service": "STOPPED"}, "all services to run", 60)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", APPLICATION / "tests" / "integration"]
    tested = subprocess.run(command, cwd=run, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert tested.returncode == 0, tested.stdout + tested.stderr
    assert "1 passed" in tested.stdout
    # a service that is killed is back by itself
    pid = control(run, environment, "pid", "htmengine:metric_storer").strip()
    os.kill(int(pid), signal.SIGKILL)
    wait_for(
        lambda: (
            control(run, environment, "pid", "htmengine:metric_storer").strip() not in ("0", pid)
            and states(run, environment)["metric_storer"] == "RUNNING"
        ),
        "the storer to be back",
        60,
    )
    # alerts are wanted by those who start them
    control(run, environment, "start", "htmengine:alert_service")
    wait_for(lambda: states(run, environment)["alert_service"] == "RUNNING", "the alert service", 60)
