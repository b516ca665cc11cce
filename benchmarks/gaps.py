# SPDX-License-Identifier: MIT
"""Does a metric that comes back after a gap alarm for the gap's sake, and is a fault right after it still found?

In: nothing; synthetic metrics with a row each 5 minutes, which a model and its evidence learn for 4 weeks.  Out: for
each kind of metric and each gap, how many metrics reach the score 2.6 and the height of a page in the first day after
the gap, beside the same metrics without a gap on the same day; and how many of them do in the first hour if all values
are higher by the whole range of the 4 weeks from the first row on.  Results: docs/accuracy.md.

    python benchmarks/gaps.py --seeds 20 --jobs 2
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from typing import NamedTuple, TypeAlias

import click
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from tqdm import tqdm

from htmengine.evidence import Detector
from htmengine.evidence.scale import ALARM_SCORE
from htmengine.evidence.scoring import detector_for
from htmengine.htm.model import Model
from htmengine.htm.params import ModelParams
from htmengine.incidents.budget import FLOOR

Floats: TypeAlias = NDArray[np.float64]

STEP_S, DAY, HOUR = 300, 288, 12
LEARNT = 28 * DAY
FIRST = 1_704_067_200
GAPS = {"1 hour": HOUR, "1 day": DAY, "3 days": 3 * DAY, "2 weeks": 14 * DAY}
ROWS = LEARNT + 15 * DAY


def daily(rng: Generator) -> Floats:
    """A sine of a day and noise."""
    return 50 + 20 * np.sin(2 * np.pi * np.arange(ROWS) / DAY + rng.uniform(0, 6)) + rng.normal(0, 1.5, ROWS)


def scheduled(rng: Generator) -> Floats:
    """A job of half an hour each night."""
    runs = np.where(np.arange(ROWS) % DAY // 6 == 5, 40.0, 0.0)
    return 5 + rng.normal(0, 0.3, ROWS) + runs


def noise(rng: Generator) -> Floats:
    """Noise that is slow and fast: with memories of minutes, an hour, half a day and days."""
    parts = [_remembering(rng, math.exp(-1 / rows)) for rows in (1, 12, 144, 1000)]
    values: Floats = np.sum(parts, axis=0) + 100.0
    return values


def _remembering(rng: Generator, share: float) -> Floats:
    steps = rng.normal(0, 4 * math.sqrt(1 - share * share), ROWS)
    values = np.empty(ROWS)
    value = rng.normal(0, 4)
    for row, step in enumerate(steps):
        values[row] = value = share * value + step
    return values


def flat(rng: Generator) -> Floats:
    """One value, and now and then another."""
    return np.where(rng.random(ROWS) < 0.01, 5 + 0.1 * rng.integers(1, 4, ROWS), 5.0)


def spiky(rng: Generator) -> Floats:
    """Skewed noise with spikes."""
    return rng.gamma(2, 1, ROWS) + (rng.random(ROWS) < 0.01) * rng.gamma(3, 10, ROWS)


def walk(rng: Generator) -> Floats:
    """A random walk: it has really moved meanwhile."""
    steps: Floats = rng.normal(0, 1, ROWS)
    return 1000 + steps.cumsum()


KINDS: dict[str, Callable[[Generator], Floats]] = {
    each.__name__: each for each in (daily, scheduled, noise, flat, spiky, walk)
}


class Learnt(NamedTuple):
    """A model and its evidence, saved after 4 weeks, and all rows of the metric."""

    model: bytes
    detector: bytes
    times: NDArray[np.int64]
    values: Floats

    def found(self, rows: slice, ahead: slice, fault: float = 0.0) -> tuple[bool, bool]:
        """Whether one of ``rows`` reaches the score, and the height, if those of ``ahead`` come before."""
        model, detector = Model.restore(self.model), Detector.restore(self.detector)
        _scores(model, detector, self.times[ahead], self.values[ahead])
        scores, heights = _scores(model, detector, self.times[rows], self.values[rows] + fault)
        return bool((scores >= ALARM_SCORE).any()), bool((heights >= FLOOR).any())


def _scores(model: Model, detector: Detector, times: NDArray[np.int64], values: Floats) -> tuple[Floats, Floats]:
    scored = detector.update_many(times, values, model.learn_many(times, values))
    return scored.scores, scored.heights


def learnt(kind: str, seed: int) -> Learnt:
    """A metric of 4 weeks."""
    rng = np.random.default_rng([seed, *kind.encode()])
    times, values = FIRST + STEP_S * np.arange(ROWS), np.round(KINDS[kind](rng), 4)
    params = ModelParams.for_sample(values[:DAY].tolist())
    model, detector = Model(params), detector_for(params)
    _scores(model, detector, times[:LEARNT], values[:LEARNT])
    return Learnt(model.save(), detector.save(), times, values)


def counted(kind: str, seed: int) -> Counter[tuple[str, str]]:
    """One metric's marks: (gap, what)."""
    metric, found = learnt(kind, seed), Counter[tuple[str, str]]()
    fault = float(np.ptp(metric.values[:LEARNT]))
    for gap, rows in GAPS.items():
        back = LEARNT + rows
        day, hour, meanwhile = slice(back, back + DAY), slice(back, back + HOUR), slice(LEARNT, back)
        nothing = slice(0, 0)
        for what, marks in (
            ("gap", metric.found(day, nothing)),
            ("none", metric.found(day, meanwhile)),
            ("fault", metric.found(hour, nothing, fault)),
        ):
            found[gap, what] += marks[0]
            found[gap, what + " height"] += marks[1]
    return found


def lines(kind: str, seeds: int, found: Counter[tuple[str, str]]) -> Iterator[str]:
    """The table's lines of a kind of metric."""
    for gap in GAPS:
        counts = [found[gap, what + height] for height in ("", " height") for what in ("gap", "none", "fault")]
        yield f"{kind:10}{gap:10}" + "".join(f"{count:>12}" for count in counts) + f"   of {seeds}"


@click.command()
@click.option("--seeds", default=20, show_default=True, type=click.IntRange(1), help="Metrics of each kind.")
@click.option("--jobs", default=1, show_default=True, type=click.IntRange(1), help="Processes.")
def main(seeds: int, jobs: int) -> None:
    """Metrics that reach the score 2.6, and the height of a page, in the day after a gap."""
    heads = (f"{height}{what}" for height in ("score, ", "page, ") for what in ("gap", "none", "fault"))
    click.echo(f"{'metric':10}{'gap':10}" + "".join(f"{head:>12}" for head in heads))
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        for kind in tqdm(KINDS, leave=False):
            found = sum(pool.map(partial(counted, kind), range(seeds)), Counter())
            for line in lines(kind, seeds, found):
                tqdm.write(line)


if __name__ == "__main__":
    main()
