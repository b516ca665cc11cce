# SPDX-License-Identifier: MIT
"""How well the engine finds the labelled events of monitoring series by the minute or hour.

In: a folder with ``data/<series>.csv`` (timestamp in epoch seconds, value; empty: missing) and ``windows.json`` (for
each series [first, last] timestamps).  Out: event average precision and best F1.  The model is set up from the first
288 rows.

    python benchmarks/monitoring.py FOLDER [--jobs 2]
"""

from __future__ import annotations

import csv
import json
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

import click
import numpy as np
from tqdm import tqdm

from htmengine.evidence.scoring import detector_for
from htmengine.htm.model import Model
from htmengine.htm.params import ModelParams
from htmengine.measure.average_precision import measure
from htmengine.measure.fleet import FleetSeries
from htmengine.nab.scorer import ScoredWindows

RANGE_ROWS = 288


def load(path: Path) -> FleetSeries:
    """One series; a missing value is NaN."""
    with path.open(newline="") as file:
        rows = [(int(row["timestamp"]), float(row["value"] or "nan")) for row in csv.DictReader(file)]
    return FleetSeries(path.stem, np.array([t for t, _ in rows], dtype=np.int64), np.array([v for _, v in rows]))


def scored(series: FleetSeries, windows: list[tuple[int, int]]) -> ScoredWindows:
    """A series' scores S and its windows as rows."""
    firsts = np.searchsorted(series.timestamps, [first for first, _ in windows]).tolist()
    lasts = np.searchsorted(series.timestamps, [last for _, last in windows], side="right").tolist()
    rows = tuple((first, last - 1) for first, last in zip(firsts, lasts, strict=True))
    params = ModelParams.for_sample(series.values[:RANGE_ROWS].tolist())
    raw = Model(params).learn_many(series.timestamps, series.values)
    return ScoredWindows(detector_for(params).update_many(series.timestamps, series.values, raw).scores, rows)


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--jobs", default=2, show_default=True, type=click.IntRange(1), help="Processes to run models in.")
def main(folder: Path, jobs: int) -> None:
    """Event average precision on the series in FOLDER."""
    windows = json.loads((folder / "windows.json").read_text())
    series = [load(path) for path in sorted((folder / "data").glob("*.csv"))]
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        waiting = [pool.submit(scored, each, windows[each.name]) for each in series]
        found = [each.result() for each in tqdm(as_completed(waiting), total=len(waiting), unit="series", leave=False)]
    result = measure(found)
    click.echo(f"{len(series)} series, {sum(len(each.windows) for each in found)} events")
    click.echo(f"event average precision {result.average_precision:.3f}, best F1 {result.best_f1:.3f}")


if __name__ == "__main__":
    main()
