# SPDX-License-Identifier: MIT
"""One model over a long series: time, memory and checkpoint of each stretch, which must level off.

    python benchmarks/long_series.py temperatures --rows 1000000
    python benchmarks/long_series.py noise --rows 1000000

``temperatures`` are the 22,695 of a machine that the package has, over and over, each time by another machine in
other weather: scaled by a factor from 0.8 to 1.2, shifted by up to a tenth of their range, with Gaussian noise of 0.5 %
of it on every row.  ``noise`` is uniform: nothing can be learnt from it, every row asks for new segments.
"""

from __future__ import annotations

import time
from importlib import resources
from itertools import pairwise

import click
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from htmengine.htm import Model, ModelParams
from htmengine.htm.params import range_of
from htmengine.nab.runner import load_series

#: Seconds from one row to the next.
_STEP_S = 300
#: Rows between two updates of the progress bar.
_SLICE = 1000


def temperatures(rows: int, chance: np.random.Generator) -> NDArray[np.float64]:
    """The series of the package again and again, never quite the same."""
    with resources.as_file(resources.files("htmengine") / "data" / "machine_temperature_system_failure.csv") as path:
        values = load_series(path.name, path, []).values
    middle, spread = values.mean(), values.max() - values.min()
    passes = -(-rows // len(values))
    return np.concatenate(
        [
            middle
            + (values - middle) * chance.uniform(0.8, 1.2)
            + spread * chance.uniform(-0.1, 0.1)
            + spread * 0.005 * chance.standard_normal(len(values))
            for _ in range(passes)
        ]
    )[:rows]


def noise(rows: int, chance: np.random.Generator) -> NDArray[np.float64]:
    """Numbers that have nothing to do with each other."""
    return chance.uniform(0.0, 100.0, rows)


@click.command()
@click.argument("kind", type=click.Choice(["temperatures", "noise"]))
@click.option("--rows", type=click.IntRange(1000), default=1_000_000, show_default=True)
@click.option("--stretches", type=click.IntRange(1), default=10, show_default=True, help="Lines of the table.")
@click.option("--seed", default=1, show_default=True, help="Of the series.")
def main(kind: str, rows: int, stretches: int, seed: int) -> None:
    """Learn ROWS rows of a KIND of series."""
    chance = np.random.default_rng(seed)
    values = {"temperatures": temperatures, "noise": noise}[kind](rows, chance)
    timestamps = np.arange(rows, dtype=np.int64) * _STEP_S
    model = Model(ModelParams.for_range(*range_of(values)))
    click.echo(f"{'rows':>10}{'us a row':>10}{'MB':>8}{'segments':>10}{'synapses':>10}{'checkpoint, KB':>16}")
    edges = np.linspace(0, rows, stretches + 1).astype(int)
    with tqdm(total=rows, unit="row") as bar:
        for first, last in pairwise(edges):
            seconds = 0.0
            for start in range(first, last, _SLICE):
                end = min(start + _SLICE, last)
                before = time.thread_time()  # of this thread alone: other work on the machine counts less
                model.learn_many(timestamps[start:end], values[start:end])
                seconds += time.thread_time() - before
                bar.update(end - start)
            tqdm.write(
                f"{last:>10,}{1e6 * seconds / (last - first):>10.1f}{model.memory_bytes / 1e6:>8.2f}"
                f"{model.segments:>10,}{model.synapses:>10,}{len(model.save()) / 1e3:>16,.0f}"
            )


if __name__ == "__main__":
    main()
