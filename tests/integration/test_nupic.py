# SPDX-License-Identifier: MIT
"""An engine whose workers are the companion's: on a stand-in for NuPIC, and on NuPIC where there is one."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from statistics import fmean

import pytest

from htmengine.history.agreement import FIRST_ROW
from htmengine.htm.model import Model
from htmengine.htm.params import ModelParams
from tests.support import nupic
from tests.support.engine import Engine, htmengine, running_engine

COMMAND = "HTMENGINE__MODEL_SWAPPER__MODEL_SCHEDULER__WORKER_COMMAND"
ROWS = 120
HIGHEST = 67


def value(row: int) -> float:
    return float(row * row % HIGHEST)


def lines(first: int, last: int) -> list[str]:
    return [f"m {value(row)!r} {1_400_000_000 + 60 * row}" for row in range(first, last + 1)]


def stand_ins_scores(last: int) -> list[float]:
    seen: Counter[float] = Counter()
    scores = []
    for row in range(1, last + 1):
        seen[value(row)] += 1
        scores.append(40 // seen[value(row)] / 40)
    return scores


def raw_scores(engine: Engine, last: int) -> list[float]:
    return [raw for _, raw, _ in engine.wait_until_scored("m", last)]


def run(engine: Engine, first: int, last: int) -> list[float]:
    """The raw scores of all rows after these are sent."""
    engine.send(lines(first, last))
    return raw_scores(engine, last)


def test_an_engine_runs_on_the_companions_workers_and_goes_back_to_its_own(tmp_path: Path) -> None:
    command, environment = nupic.stand_in()
    with running_engine(tmp_path / "data", "--workers", "2", environment={COMMAND: command, **environment}) as engine:
        htmengine(engine, "monitor", "m", "--min", "0", "--max", str(HIGHEST))
        assert run(engine, 1, ROWS) == stand_ins_scores(ROWS)
        engine.stop()
        engine.start()
        assert run(engine, ROWS + 1, 2 * ROWS) == stand_ins_scores(2 * ROWS)
        engine.kill()
        engine.start()
        assert run(engine, 2 * ROWS + 1, 3 * ROWS) == stand_ins_scores(3 * ROWS)
        assert "refused" in htmengine(engine, "model", "snapshot", "m", status=1)
        compared = json.loads(htmengine(engine, "compare", "m", "--nupic-python", sys.executable, "--json"))
        assert compared["rows"] == 3 * ROWS
        assert compared["raw"]["other_mean"] == pytest.approx(fmean(stand_ins_scores(3 * ROWS)[FIRST_ROW:]))
        engine.stop()
        # Its own worker finds no checkpoint: it makes the model again from the rows, and scores what comes.
        del engine.environment[COMMAND]
        engine.start()
        scores = run(engine, 3 * ROWS + 1, 4 * ROWS)
        model = Model(ModelParams.for_range(0, HIGHEST))
        own = [model.learn(1_400_000_000 + 60 * row, value(row)) for row in range(1, 4 * ROWS + 1)]
        assert scores == stand_ins_scores(3 * ROWS) + own[3 * ROWS :]


def test_nupic_scores_as_nupic_does(tmp_path: Path) -> None:
    command, environment = nupic.real()
    with running_engine(tmp_path / "data", "--workers", "1", environment={COMMAND: command, **environment}) as engine:
        htmengine(engine, "monitor", "m", "--min", "0", "--max", str(HIGHEST))
        first = run(engine, 1, ROWS)
        assert first[0] == 1.0
        engine.stop()
        engine.start()
        assert run(engine, ROWS + 1, 2 * ROWS)[:ROWS] == first


def test_compare_says_what_keeps_it_from_running(tmp_path: Path) -> None:
    rows = "".join(f"{1_400_000_000 + 60 * row},{value(row)}\n" for row in range(1, 4 * ROWS))
    (tmp_path / "m.csv").write_text(f"timestamp,value\n{rows}")
    command = [
        sys.executable,
        "-m",
        "htmengine.cli.main",
        "compare",
        str(tmp_path / "m.csv"),
        "--min=0",
        f"--max={HIGHEST}",
    ]
    done = subprocess.run(
        [*command, "--nupic-python", sys.executable], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 1
    missing, ended = done.stderr.splitlines()
    assert missing.startswith(f"{sys.executable}: No module named 'htmengine_nupic'; it needs NuPIC")
    assert ended.startswith("Error: worker 0 ended before it was ready")
