# SPDX-License-Identifier: MIT
"""Named series for benchmarks of the model: what a metric is like decides what a row costs.

Out: a ``LabelledSeries`` by its name in ``SERIES``.  The temperatures are packaged; the others are made, the same each
time.  A series from a file, such as NAB's cpu_utilization_asg_misconfiguration, is read with ``load_series``.
"""

from __future__ import annotations

from importlib import resources

import numpy as np
from numpy.typing import NDArray

from htmengine.nab.runner import LabelledSeries, load_series

#: The packaged series: 22,695 temperatures of a machine, five minutes apart.
TEMPERATURES = "machine_temperature_system_failure.csv"
_STEP_S = 300
_ROWS_A_DAY = 86_400 // _STEP_S
_START = 1_399_939_200  # midnight, UTC


def _temperatures(_rows: int, _chance: np.random.Generator) -> LabelledSeries:
    with resources.as_file(resources.files("htmengine") / "data" / TEMPERATURES) as path:
        return load_series(path.name, path, [])


def _made(name: str, values: NDArray[np.float64]) -> LabelledSeries:
    timestamps = _START + _STEP_S * np.arange(len(values), dtype=np.int64)
    return LabelledSeries(name, timestamps, values, ())


def _day(rows: int) -> NDArray[np.float64]:
    """A sine of one day, from -1 to 1."""
    return np.sin(2 * np.pi * np.arange(rows) / _ROWS_A_DAY)


def _sine(rows: int, chance: np.random.Generator) -> LabelledSeries:
    return _made("sine", 50 + 30 * _day(rows) + 3 * chance.standard_normal(rows))


def _noise(rows: int, chance: np.random.Generator) -> LabelledSeries:
    return _made("noise", chance.uniform(0, 100, rows))


def _counts(rows: int, chance: np.random.Generator) -> LabelledSeries:
    return _made("counts", chance.poisson(20 + 15 * _day(rows)).astype(np.float64))


def _load(rows: int, chance: np.random.Generator) -> LabelledSeries:
    """Like a CPU's: jobs of an hour or so over a base that follows the day, now and then at its limit."""
    jobs = np.repeat(chance.choice([0.0, 10.0, 25.0, 60.0], rows // 12 + 1, p=[0.5, 0.3, 0.15, 0.05]), 12)[:rows]
    return _made("load", np.clip(25 + 10 * _day(rows) + jobs + 2 * chance.standard_normal(rows), 0, 100))


_MAKERS = {"temperatures": _temperatures, "load": _load, "sine": _sine, "noise": _noise, "counts": _counts}
SERIES = tuple(_MAKERS)


def named(name: str, rows: int = 12_100) -> LabelledSeries:
    """The series of that name; those that are made have that many rows."""
    return _MAKERS[name](rows, np.random.default_rng(1))
