# SPDX-License-Identifier: MIT
"""A model in its steady state allocates nothing, whichever way its temporal memory infers."""

from __future__ import annotations

import subprocess
from importlib import resources
from pathlib import Path

import pytest

from htmengine.nab.runner import load_series
from tests.support.servers import program

_ROOT = Path(__file__).parents[2]
#: Few, so that all of them are in use early on.
_SEGMENTS = 1000


@pytest.fixture(scope="module")
def counting_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program that counts the allocations of a model."""
    built = tmp_path_factory.mktemp("allocations") / "allocations"
    source = _ROOT / "tests/support/allocations.cpp"
    # -w: g++ takes replaced operators, once inlined, for a mismatch of new and free.
    command = [program("c++"), "-std=c++17", "-O2", "-w", f"-I{_ROOT / 'htmengine/htm/core'}", source, "-o", built]
    subprocess.run(command, check=True, timeout=300)
    return built


@pytest.fixture(scope="module")
def rows() -> str:
    """Temperatures of a machine, as the program reads them."""
    with resources.as_file(resources.files("htmengine") / "data" / "machine_temperature_system_failure.csv") as path:
        series = load_series(path.name, path, [])
    return "".join(
        f"{timestamp} {value!r}\n"
        for timestamp, value in zip(series.timestamps.tolist(), series.values.tolist(), strict=True)
    )


#: Allocations in the last 15,000 rows.  Segments of the plain memory lose all their synapses and come again, so that
#: the room for them and their palettes grows a little now and then.
@pytest.mark.parametrize(("kind", "most"), [("backtracking", 0), ("bursting", 0), ("plain", 50)])
def test_once_all_segments_are_in_use_rows_allocate_nothing(
    counting_model: Path, rows: str, kind: str, most: int
) -> None:
    command = [counting_model, kind, str(_SEGMENTS), "2"]
    run = subprocess.run(command, input=rows, capture_output=True, text=True, check=True, timeout=300)
    by_thousand_rows = [int(line) for line in run.stdout.split()]
    assert by_thousand_rows[0] > 100  # tables of columns and segments, arrays of synapses
    assert len(by_thousand_rows) == 45
    assert sum(by_thousand_rows[-15:]) <= most
