# SPDX-License-Identifier: MIT
"""Runs the model over a folder of labelled series, as a live engine would: one pass, no look-ahead.

In: a folder of ``<category>/<file>.csv`` (columns timestamp and value, UTC) and the labelled windows.  Out: the
anomaly scores of every row.  A model is told the minimum and maximum of its series and nothing else; every row is
scored, also one whose timestamp repeats or goes back.  Called by ``htmengine nab`` and the benchmarks.
"""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from htmengine.errors import BadSeries
from htmengine.evidence import AnomalyLikelihood, Detector
from htmengine.evidence.kinds import FUSED, KINDS
from htmengine.evidence.scale import display_value
from htmengine.evidence.scoring import detector_for
from htmengine.htm.model import Model
from htmengine.htm.params import NUPIC_MAX_INFERENCE, ModelParams, range_of
from htmengine.nab.scorer import Floats, ScoredWindows, Window


@dataclass(frozen=True, slots=True)
class LabelledSeries:
    """One metric: ``name`` is ``<category>/<file>.csv``, ``timestamps`` are epoch seconds."""

    name: str
    timestamps: NDArray[np.int64]
    values: Floats
    windows: tuple[Window, ...]

    @property
    def category(self) -> str:
        """The folder that the series is in."""
        return self.name.partition("/")[0]


@dataclass(frozen=True, slots=True)
class Setup:
    """How a model and its detector are set up.

    ``without``: names of kinds of evidence that do not count.  ``sequence_only``: the scores are HTM Engine's, on the
    log scale; else they are S.

    ``range_rows``: the model is made for the first rows, as by a live engine that is given no minimum and
    maximum; None: it is told the minimum and maximum of all.  ``seed`` is the model's.  ``backtracking``: inference
    goes back where it is lost, as NuPIC's does, instead of bursting.  ``restore_every``: model and detector are saved
    and restored each time after that many rows, which must change nothing.
    """

    without: tuple[str, ...] = ()
    sequence_only: bool = False
    range_rows: int | None = None
    seed: int = 0
    backtracking: bool = False
    restore_every: int | None = None

    def params_for(self, values: Floats) -> ModelParams:
        """The parameters of the model for a series of these values."""
        if self.range_rows is None:
            params = ModelParams.for_range(*range_of(values))
        else:
            params = ModelParams.for_sample(values[: self.range_rows].tolist())
        if self.backtracking:
            params = replace(params, temporal=replace(params.temporal, max_inference=NUPIC_MAX_INFERENCE))
        return params


@dataclass(frozen=True, slots=True)
class Run:
    """One series' scores with one seed: raw scores, detector scores, and the time it took."""

    name: str
    seed: int
    raw: Floats
    scores: Floats
    seconds: float


def load_folder(folder: Path, windows_file: Path) -> list[LabelledSeries]:
    """All series below ``folder`` in the order of their names.  Raises BadSeries."""
    try:
        windows = json.loads(windows_file.read_text())
    except (OSError, ValueError) as error:
        raise BadSeries(f"{windows_file}: {error}") from error
    paths = {f"{path.parent.name}/{path.name}": path for path in folder.rglob("*.csv")}
    if not paths:
        raise BadSeries(f"{folder}: no <category>/<file>.csv in it")
    unlabelled = sorted(paths.keys() - windows.keys())
    if unlabelled:
        raise BadSeries(f"{windows_file}: no entry for {unlabelled[0]} (an empty list is a series without windows)")
    return [load_series(name, paths[name], windows[name]) for name in sorted(paths)]


def load_series(name: str, path: Path, windows: Sequence[Sequence[str]]) -> LabelledSeries:
    """One series, its windows given as first and last timestamp.  Raises BadSeries."""
    try:
        with path.open(newline="") as file:
            rows = [(_epoch(row["timestamp"]), float(row["value"])) for row in csv.DictReader(file)]
        timestamps = np.array([timestamp for timestamp, _ in rows], dtype=np.int64)
        ranges = tuple(_rows_between(timestamps, _epoch(first), _epoch(last)) for first, last in windows)
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise BadSeries(f"{path}: {error!r}") from error
    return LabelledSeries(name, timestamps, np.array([value for _, value in rows]), ranges)


def run_series(series: LabelledSeries, setup: Setup) -> Run:
    """The scores of one series' rows, in order."""
    started = time.perf_counter()
    params = setup.params_for(series.values)
    model, detector = Model(params, seed=setup.seed), detector_for(params)
    raw, scores = [], []
    step = setup.restore_every or max(len(series.values), 1)
    for first in range(0, len(series.values), step):
        if first > 0:
            model, detector = Model.restore(model.save()), Detector.restore(detector.save())
        values = series.values[first : first + step]
        raw.append(model.learn_many(series.timestamps[first : first + step], values))
        scores.append(_scores(detector, setup, series.timestamps[first : first + step], values, raw[-1]))
    seconds = time.perf_counter() - started
    return Run(series.name, setup.seed, np.concatenate(raw), np.concatenate(scores), seconds)


def _scores(detector: Detector, setup: Setup, timestamps: NDArray[np.int64], values: Floats, raw: Floats) -> Floats:
    found = detector.update_many(timestamps, values, raw)
    if setup.sequence_only:
        return np.array([display_value(likelihood) for likelihood in found.likelihoods.tolist()])
    if not setup.without:
        return found.scores
    counting = [n for n, kind in enumerate(KINDS[:FUSED]) if kind.name not in setup.without]
    squares = detector.paced(found.evidence[:, counting]) ** 2
    scores: Floats = np.sqrt(squares.sum(axis=1) / len(counting))
    return scores


def likelihood_scores(likelihood: AnomalyLikelihood, values: Iterable[float], raw: Iterable[float]) -> Floats:
    """The likelihoods of rows in order, on the log scale."""
    return np.array([display_value(likelihood.score(*row)) for row in zip(values, raw, strict=True)])


def run_all(series: Sequence[LabelledSeries], setups: Sequence[Setup], jobs: int) -> Iterator[Run]:
    """Every series with every setup, in ``jobs`` processes; runs come in the order in which they end."""
    tasks = [(one, setup) for setup in setups for one in sorted(series, key=lambda one: -len(one.values))]
    if jobs == 1:
        yield from (run_series(*task) for task in tasks)
        return
    # spawn: a fork of a process that has threads may hang, and Python 3.12 warns of it
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        for future in as_completed([pool.submit(run_series, *task) for task in tasks]):
            yield future.result()


def scored(series: Sequence[LabelledSeries], runs: Iterable[Run]) -> list[ScoredWindows]:
    """The runs of one seed as the scorer takes them, in the order of ``series``."""
    scores = {run.name: run.scores for run in runs}
    return [ScoredWindows(scores[one.name], one.windows) for one in series]


def _epoch(timestamp: str) -> int:
    return int(datetime.fromisoformat(timestamp).replace(tzinfo=UTC).timestamp())


def _rows_between(timestamps: NDArray[np.int64], first: int, last: int) -> Window:
    """First and last row of a window; timestamps may repeat or go back."""
    inside = np.flatnonzero((timestamps >= first) & (timestamps <= last))
    if not len(inside):
        raise ValueError(f"no row in the window from {first} to {last}")
    return int(inside[0]), int(inside[-1])
