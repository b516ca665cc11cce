# SPDX-License-Identifier: MIT
"""kill -9 at named points and random moments, by seed; ``make crashes`` runs many more."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from htmengine.process import crash_points
from tests.support.crashes import Run, Scenario, distributed, embedded, run_seed
from tests.support.servers import MariaDB, RabbitMQ

#: Enough that every point is among them; with those of the services 30.
SEEDS = len(crash_points.POINTS) + 2


def test_without_a_crash_everything_sent_is_received_and_scored(tmp_path: Path) -> None:
    scenario = replace(Scenario.of(0), crashes=[])
    report = Run(scenario, embedded(tmp_path, scenario)).run()
    assert report.problems == []
    assert (report.received, report.sent) == (scenario.rows, scenario.rows)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_crashes_change_no_row_and_no_score(seed: int, tmp_path: Path) -> None:
    assert run_seed(seed, tmp_path).problems == []


@pytest.mark.parametrize("seed", [3, 5, 8, 11, 17, 19])
def test_services_that_die_one_by_one_change_no_row_and_no_score(
    seed: int, tmp_path: Path, rabbitmq: RabbitMQ, mariadb: MariaDB
) -> None:
    assert run_seed(seed, tmp_path, distributed(rabbitmq, mariadb)).problems == []
