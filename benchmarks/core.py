# SPDX-License-Identifier: MIT
"""What a row costs the compiled core, on five kinds of series, beside another build of it.

    python -m benchmarks.core --base build/base --cpu-metric cpu_utilization_asg_misconfiguration.csv
    python -m benchmarks.core --in-turn 300
    make bench CPU_METRIC=cpu_utilization_asg_misconfiguration.csv BASE=main~1

CPU time a row by the model's age, for one model row after row, or for so many in turn.  Each build runs in a process of
its own; the processes take turns of a few hundred rows, so that what else the machine does meets both alike.  ``same``
says whether their scores and checkpoints are equal to the bit.  ``--cpu-metric`` is a series of the Numenta Anomaly
Benchmark; without it the made series "load" stands for ordinary metrics.  ``--page`` writes a table into a document.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.page import table, write
from tests.support.other_core import load

if TYPE_CHECKING:  # nothing here imports a core before load() does
    from htmengine.nab.runner import LabelledSeries

_AGES = (1000, 5000, 12_000)
_SLICE = 250
#: Rows of each model in turn: the first two only warm up.
_ROUNDS = 12
_WARM_UP = 2


def _serve(build: Path | None, timestamps: NDArray[np.int64], values: NDArray[np.float64], pipe: Connection) -> None:
    """A process of one build: answers (what, argument) until None comes."""
    if build is not None:
        load(build, "htmengine.htm._core")
    from htmengine.htm import Model, ModelParams
    from htmengine.htm.params import range_of

    models = [Model(ModelParams.for_range(*range_of(values)))]
    digest, row = hashlib.sha256(), 0
    while (request := pipe.recv()) is not None:
        what, number = request
        answer: Any = None
        if what == "learn":
            started = time.thread_time()
            scores = models[0].learn_many(timestamps[row : row + number], values[row : row + number])
            answer = time.thread_time() - started
            digest.update(scores.tobytes())
            row += number
        elif what == "copy":
            saved = models[0].save()
            models += [Model.restore(saved) for _ in range(number - 1)]
        elif what == "turn":
            timestamp, value = int(timestamps[row]), float(values[row])
            started = time.thread_time()
            for model in models:
                model.learn(timestamp, value)
            answer = time.thread_time() - started
            row += 1
        elif what == "size":
            saved = models[0].save()
            answer = hashlib.sha256(digest.digest() + saved).hexdigest(), models[0].memory_bytes, len(saved)
        pipe.send(answer)


class _Build:
    """One build at work on one series."""

    def __init__(self, library: Path | None, series: LabelledSeries) -> None:
        spawning = multiprocessing.get_context("spawn")
        self._pipe, theirs = spawning.Pipe()
        self._process = spawning.Process(
            target=_serve, args=(library, series.timestamps, series.values, theirs), daemon=True
        )
        self._process.start()

    def __call__(self, what: str, number: int = 0) -> Any:
        self._pipe.send((what, number))
        return self._pipe.recv()

    def close(self) -> None:
        self._pipe.send(None)
        self._process.join()


@contextmanager
def _at_work(libraries: list[Path | None], series: LabelledSeries) -> Iterator[list[_Build]]:
    builds = [_Build(library, series) for library in libraries]
    try:
        yield builds
    finally:
        for build in builds:
            build.close()


def _alternately(builds: list[_Build], turn: int, what: str, number: int = 0) -> list[float]:
    """The builds' CPU seconds, another one first each time."""
    order = range(len(builds)) if turn % 2 else reversed(range(len(builds)))
    seconds = {place: float(builds[place](what, number)) for place in order}
    return [seconds[place] for place in range(len(builds))]


def _one_model(builds: list[_Build], first: int, last: int) -> list[float]:
    """CPU seconds a row of each build, from one age to the next."""
    turns = [
        _alternately(builds, start // _SLICE, "learn", min(_SLICE, last - start))
        for start in range(first, last, _SLICE)
    ]
    return [sum(seconds) / (last - first) for seconds in zip(*turns, strict=True)]


def _in_turn(builds: list[_Build], age: int, models: int) -> list[float]:
    """CPU seconds a row of each build, with so many models of an age."""
    for build in builds:
        build("learn", age)
        build("copy", models)
    turns = [_alternately(builds, turn, "turn") for turn in range(_WARM_UP + _ROUNDS)][_WARM_UP:]
    return [sum(seconds) / (_ROUNDS * models) for seconds in zip(*turns, strict=True)]


def _line(name: str, age: int, seconds: list[float], sizes: list[tuple[str, int, int]]) -> str:
    ratio = f"{seconds[0] / seconds[-1]:6.2f}" if len(seconds) > 1 else ""
    same = ("same" if len({digest for digest, _, _ in sizes}) == 1 else "DIFFERENT") if len(sizes) > 1 else ""
    memory = "".join(f"{held / 1e6:7.2f} MB" for _, held, _ in sizes)
    checkpoint = "".join(f"{size / 1e3:7.0f} KB" for _, _, size in sizes)
    return (
        f"{name:14}{age:>8,}" + "".join(f"{1e6 * s:9.1f} us" for s in seconds) + f"{ratio}{memory}{checkpoint} {same}"
    )


class _Figures(NamedTuple):
    """One model of each build at one age."""

    age: int
    seconds: list[float]  #: of CPU, a row
    sizes: list[tuple[str, int, int]]  #: digest, bytes in memory, bytes of the checkpoint

    def cells(self) -> list[list[str]]:
        """Of each column."""
        ratio = [[f"{self.seconds[0] / self.seconds[-1]:.2f}"]] if len(self.seconds) > 1 else []
        return [
            [f"{1e6 * each:.0f}" for each in self.seconds],
            *ratio,
            [f"{held / 1e6:.2f}" for _, held, _ in self.sizes],
            [f"{size / 1e3:.0f}" for _, _, size in self.sizes],
        ]


def _table(found: dict[str, list[_Figures]], builds: int) -> str:
    """In Markdown: a line a series, the ages beside each other."""
    ages = " / ".join(f"{each.age:,}" for each in next(iter(found.values())))
    names = ["base", "now"] if builds > 1 else ["now"]
    heads = [*(f"us a row up to {ages}, {name}" for name in names), *(["ratio"] if builds > 1 else [])]
    heads += [f"{what}, {name}" for what in ("MB", "checkpoint, KB") for name in names]
    lines = []
    for name, figures in found.items():
        columns = zip(*([cell for cells in each.cells() for cell in cells] for each in figures), strict=True)
        lines.append([name, *(" / ".join(column) for column in columns)])
    return table(["", *heads], lines)


@click.command()
@click.option("--base", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Folder of another build.")
@click.option("--cpu-metric", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="A CSV file.")
@click.option("--in-turn", type=click.IntRange(0), default=0, help="So many models, a row each in turn.")
@click.option("--page", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Has a place for a table.")
@click.option("--age", "all_ages", type=click.IntRange(1), multiple=True, default=_AGES, help="Rows; may be repeated.")
def main(
    base: Path | None, cpu_metric: Path | None, in_turn: int, page: Path | None, all_ages: tuple[int, ...]
) -> None:
    """CPU time a row, memory and checkpoint by age."""
    from htmengine.measure.series import SERIES, named
    from htmengine.nab.runner import load_series

    libraries: list[Path | None] = [base, None] if base else [None]
    all_series = {name: named(name) for name in SERIES}
    if cpu_metric is not None:
        all_series["cpu metric"] = load_series(cpu_metric.name, cpu_metric, [])
    found: dict[str, list[_Figures]] = {name: [] for name in all_series}
    for name, series in tqdm(all_series.items(), unit="series"):
        ages = [age for age in all_ages if age + _WARM_UP + _ROUNDS <= len(series.values)]
        if in_turn:
            for age in ages:
                with _at_work(libraries, series) as builds:
                    tqdm.write(_line(name, age, _in_turn(builds, age, in_turn), []))
        else:
            with _at_work(libraries, series) as builds:
                for first, last in pairwise([0, *ages]):
                    seconds = _one_model(builds, first, last)
                    found[name].append(_Figures(last, seconds, [build("size") for build in builds]))
                    tqdm.write(_line(name, *found[name][-1]))
    if page is not None and not in_turn:
        write(page, "core", _table(found, len(libraries)))


if __name__ == "__main__":
    main()
