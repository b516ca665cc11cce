# SPDX-License-Identifier: MIT
"""What happens when a metric outgrows the range that its model was made for.

In: a folder of labelled series.  From its middle row on, each series is ten times as large; the model was told the
range that it had before.  Out: the benchmark's standard score of what the engine does, whose buckets widen outside
the range, of buckets of one width (NuPIC's encoder: its table ends four ranges away), and of a model that was told
the new range.  Then the middle third alone is ten times as large: the mean raw anomaly score of the 288 rows after
the metric has come back tells what was forgotten, beside that of a model that never saw the shift and of one that
begins there.  Results: docs/decisions/0007-range-of-a-sample.md.

    python benchmarks/level_shift.py NAB/data NAB/labels/combined_windows.json --seeds 5 --jobs 2
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean

import click
import numpy as np
from tqdm import tqdm

from htmengine.evidence import AnomalyLikelihood
from htmengine.htm.model import Model
from htmengine.htm.params import ModelParams, RandomDistributedScalarParams, range_of
from htmengine.nab.runner import LabelledSeries, likelihood_scores, load_folder
from htmengine.nab.scorer import PROFILES, Floats, ScoredWindows, best_threshold

_FACTOR = 10.0
_DAY = 288
_STANDARD = PROFILES["standard"]


@dataclass(frozen=True, slots=True)
class Arm:
    """One line of the result: ``params`` makes the model from the values as they were and as they come."""

    title: str
    params: Callable[[Floats, Floats], ModelParams]


def as_the_engine_does(before: Floats, _after: Floats) -> ModelParams:
    """Told the range before the shift; buckets widen outside."""
    return ModelParams.for_range(*range_of(before))


def one_width(before: Floats, _after: Floats) -> ModelParams:
    """Told the range before the shift; all buckets have one width."""
    params = ModelParams.for_range(*range_of(before))
    assert isinstance(params.value, RandomDistributedScalarParams)
    return replace(params, value=replace(params.value, minval=None, maxval=None))


def told_the_new_range(_before: Floats, after: Floats) -> ModelParams:
    """Told the range of all rows, those after the shift too."""
    return ModelParams.for_range(*range_of(after))


ARMS = [
    Arm("buckets that widen: what the engine does", as_the_engine_does),
    Arm("buckets of one width", one_width),
    Arm("told the new range", told_the_new_range),
]


@click.command()
@click.argument("data_dir", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("windows_file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--seeds", default=5, show_default=True, type=click.IntRange(1), help="Seeds of the model.")
@click.option("--jobs", default=1, show_default=True, type=click.IntRange(1), help="Processes to run models in.")
def main(data_dir: Path, windows_file: Path, seeds: int, jobs: int) -> None:
    """Measure what a shift to ten times the level does to the models of the series in DATA_DIR."""
    series = load_folder(data_dir, windows_file)
    shifted = [replace(one, values=shift(one.values, len(one.values) // 2, len(one.values))) for one in series]
    click.echo(f"{'standard score after a shift to ten times the level':56}{'range rule':>12}{'without':>10}")
    # spawn: a fork of a process that has threads may hang
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        for arm in ARMS:
            scores = [
                fmean(standard_scores(pool, arm, series, shifted, seeds, range_rule)) for range_rule in (True, False)
            ]
            click.echo(f"{arm.title:56}{scores[0]:12.1f}{scores[1]:10.1f}")
        click.echo(f"\n{'mean raw score of the 288 rows after it came back':56}")
        for title, surprise in (
            ("never shifted", _surprise_without_shift),
            (ARMS[0].title, _surprise_after_shift),
            ("a model that begins there", _surprise_of_a_new_model),
        ):
            tasks = [(one, seed) for seed in range(seeds) for one in series]
            raw = tqdm(pool.map(surprise, *zip(*tasks, strict=True)), total=len(tasks), leave=False)
            click.echo(f"{title:56}{fmean(raw):12.3f}")


def shift(values: Floats, first: int, end: int) -> Floats:
    """The values, those of rows ``first`` to ``end`` ten times as large."""
    shifted = values.copy()
    shifted[first:end] *= _FACTOR
    return shifted


def standard_scores(
    pool: ProcessPoolExecutor,
    arm: Arm,
    series: Sequence[LabelledSeries],
    shifted: Sequence[LabelledSeries],
    seeds: int,
    range_rule: bool,
) -> Iterator[float]:
    """The benchmark's standard score of each seed."""
    tasks = [
        (arm.params(before.values, after.values), after, seed, range_rule)
        for seed in range(seeds)
        for before, after in zip(series, shifted, strict=True)
    ]
    found = list(tqdm(pool.map(detect, *zip(*tasks, strict=True)), total=len(tasks), leave=False))
    for first in range(0, len(found), len(series)):
        yield best_threshold(found[first : first + len(series)], _STANDARD).score


def detect(params: ModelParams, series: LabelledSeries, seed: int, range_rule: bool) -> ScoredWindows:
    """The detector's scores of one series."""
    raw = Model(params, seed=seed).learn_many(series.timestamps, series.values)
    return ScoredWindows(
        likelihood_scores(AnomalyLikelihood(range_rule=range_rule), series.values, raw), series.windows
    )


def _surprise_without_shift(series: LabelledSeries, seed: int) -> float:
    return _surprise(series, series.values, 0, seed)


def _surprise_after_shift(series: LabelledSeries, seed: int) -> float:
    rows = len(series.values)
    return _surprise(series, shift(series.values, rows // 3, 2 * rows // 3), 0, seed)


def _surprise_of_a_new_model(series: LabelledSeries, seed: int) -> float:
    return _surprise(series, series.values, 2 * len(series.values) // 3, seed)


def _surprise(series: LabelledSeries, values: Floats, first: int, seed: int) -> float:
    """The mean raw score of the day that begins with the last third, of a model that learns from row ``first`` on."""
    back = 2 * len(values) // 3
    model = Model(ModelParams.for_range(*range_of(series.values)), seed=seed)
    raw = model.learn_many(series.timestamps[first : back + _DAY], values[first : back + _DAY])
    return float(np.mean(raw[back - first :]))


if __name__ == "__main__":
    main()
