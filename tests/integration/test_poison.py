# SPDX-License-Identifier: MIT
"""A model whose data kill or hang its worker: it is put aside after a few tries, and no other model is harmed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from htmengine.process import crash_points
from tests.support.crashes import SETTINGS
from tests.support.engine import Engine, htmengine, wait_for

POISON = 666.0
ROWS = 60


def lines(name: str, *, poisoned: bool = False) -> list[str]:
    """A metric's rows; a poisoned one has the value that kills in the middle."""
    values = [float(n * 7 % 23) for n in range(ROWS)]
    if poisoned:
        values[ROWS // 2] = POISON
    return [f"{name} {value!r} {1_400_000_000 + 60 * n}" for n, value in enumerate(values)]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = Engine(tmp_path / "data", "--workers", "1")
    engine.environment = SETTINGS | {"HTMENGINE__MODEL_SWAPPER__MODEL_SCHEDULER__WORKER_TIMEOUT_S": "1"}
    yield engine
    if engine.process is not None and engine.process.poll() is None:
        engine.kill()


def monitor(engine: Engine, name: str) -> None:
    htmengine(engine, "monitor", name)


def status(engine: Engine, name: str) -> tuple[int, str | None]:
    [found] = engine.query("SELECT status, message FROM metric WHERE name = ?", name)
    return found[0], found[1]


@pytest.mark.parametrize(
    ("order", "logged"), [(f"worker.running={POISON}", "died at model"), (f"worker.running={POISON}:hang", "hangs")]
)
def test_a_model_that_kills_or_hangs_its_worker_is_put_aside_and_revived_by_monitor(
    engine: Engine, order: str, logged: str
) -> None:
    engine.environment |= {crash_points.VARIABLE: order}
    engine.start()
    engine.send([*lines("bad", poisoned=True), *lines("good")])
    engine.wait_until_scored("good", ROWS)
    wait_for(lambda: status(engine, "bad")[0] == 4, "ERROR")
    assert status(engine, "bad") == (4, "3 worker processes died while they ran this model")
    assert engine.log_path.read_text().count(logged) == 3
    engine.send([f"{name} 1.5 1500000000" for name in ("bad", "good")])
    engine.wait_until_scored("good", ROWS + 1)
    assert status(engine, "good") == (1, None)

    # As after an upgrade that can run such data.
    engine.stop()
    del engine.environment[crash_points.VARIABLE]
    engine.start()
    monitor(engine, "bad")
    scores = engine.wait_until_scored("bad", ROWS + 1)
    assert [rowid for rowid, _, _ in scores] == list(range(1, ROWS + 2))
    wait_for(lambda: status(engine, "bad") == (1, None), "ACTIVE")


def test_a_revived_model_that_still_kills_is_put_aside_again(engine: Engine) -> None:
    engine.environment |= {crash_points.VARIABLE: f"worker.running={POISON}"}
    engine.start()
    engine.send(lines("bad", poisoned=True))
    wait_for(lambda: engine.query("SELECT 1 FROM metric") and status(engine, "bad")[0] == 4, "ERROR")
    monitor(engine, "bad")
    wait_for(lambda: engine.log_path.read_text().count("died at model") == 6, "three more deaths")
    wait_for(lambda: status(engine, "bad")[0] == 4, "ERROR")
