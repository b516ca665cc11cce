# SPDX-License-Identifier: MIT
"""How far our raw anomaly scores agree with those of NuPIC 1.0.5 on the same series.

In: a folder of labelled series and NuPIC's scores for them, ``<category>/<file>.csv.gz`` with the columns
timestamp, value and raw_anomaly_score.  Out: distribution, correlation and detected windows of both, as a table.
The two draw different random numbers, so row-by-row equality is impossible; how far two seeds of our own model
agree is the yardstick.  Results: docs/agreement.md.

    python benchmarks/nupic_agreement.py NAB/data NAB/labels/combined_windows.json nupic_scores --seeds 5
"""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from htmengine.evidence.likelihood import AVERAGE, AnomalyLikelihood
from htmengine.nab.runner import LabelledSeries, Setup, likelihood_scores, load_folder, run_all
from htmengine.nab.scorer import PROFILES, ScoredWindows, best_threshold, counts_at, row_values

Floats = NDArray[np.float64]
#: Rows before this one are left out: a new model is surprised by everything.
_FIRST_ROW = 288
_ACTIVE_COLUMNS = 40
_STANDARD = PROFILES["standard"]


@click.command()
@click.argument("data_dir", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("windows_file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("nupic_dir", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--seeds", default=5, show_default=True, type=click.IntRange(2), help="Seeds of our model.")
@click.option("--jobs", default=1, show_default=True, type=click.IntRange(1), help="Processes to run models in.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def main(data_dir: Path, windows_file: Path, nupic_dir: Path, seeds: int, jobs: int, as_json: bool) -> None:
    """Compare raw scores of our backtracking with NuPIC's in NUPIC_DIR, on the series in DATA_DIR."""
    series = load_folder(data_dir, windows_file)
    theirs = {one.name: read_raw_scores(nupic_dir / f"{one.name}.gz") for one in series}
    ours: list[dict[str, Floats]] = [{} for _ in range(seeds)]
    for run in run_all(series, [Setup(seed=seed, backtracking=True) for seed in range(seeds)], jobs):
        ours[run.seed][run.name] = run.raw
    report = compare(series, theirs, ours)
    click.echo(json.dumps(report) if as_json else as_text(report))


def read_raw_scores(path: Path) -> Floats:
    """NuPIC's raw scores of one series; they are 4-byte floats, so they are rounded to whole columns."""
    with gzip.open(path, "rt", newline="") as file:
        raw = np.array([float(row["raw_anomaly_score"]) for row in csv.DictReader(file)])
    return np.round(raw * _ACTIVE_COLUMNS) / _ACTIVE_COLUMNS


def compare(
    series: Sequence[LabelledSeries], theirs: dict[str, Floats], ours: list[dict[str, Floats]]
) -> dict[str, Any]:
    """Figures of NuPIC's run, of each of our seeds, and of pairs of them."""
    found = [_windows_found(series, scores) for scores in (theirs, *ours)]
    others = list(zip(ours, ours[1:] + ours[:1], strict=True))
    return {
        "nupic": _describe(series, theirs),
        "ours": [_describe(series, scores) for scores in ours],
        "ours_with_nupic": [_correlations(theirs, scores) for scores in ours],
        "ours_with_ours": [_correlations(one, other) for one, other in others],
        "mean_raw": {
            one.name: {
                "nupic": float(theirs[one.name][_FIRST_ROW:].mean()),
                "ours": [float(scores[one.name][_FIRST_ROW:].mean()) for scores in ours],
            }
            for one in series
        },
        "windows": {
            "labelled": sum(len(one.windows) for one in series),
            "nupic": len(found[0]),
            "ours": [len(one) for one in found[1:]],
            "both": [len(found[0] & one) for one in found[1:]],
        },
    }


def _describe(series: Sequence[LabelledSeries], raw: dict[str, Floats]) -> dict[str, float]:
    """The distribution of the raw scores of all rows, and what they are worth in the benchmark."""
    rows = np.concatenate([raw[one.name][_FIRST_ROW:] for one in series])
    results = _results(series, raw)
    best = best_threshold(results, _STANDARD)
    return {
        "mean": float(rows.mean()),
        "none_unexpected": float((rows == 0).mean()),
        "half_unexpected": float((rows >= 0.5).mean()),
        "all_unexpected": float((rows == 1).mean()),
        "nab_standard": best.score,
        "false_positives": counts_at(results, best.threshold).false_positives,
    }


def _results(series: Sequence[LabelledSeries], raw: dict[str, Floats]) -> list[ScoredWindows]:
    return [
        ScoredWindows(likelihood_scores(AnomalyLikelihood(), one.values, raw[one.name]), one.windows) for one in series
    ]


def _windows_found(series: Sequence[LabelledSeries], raw: dict[str, Floats]) -> set[tuple[str, int]]:
    """The windows that are found at the best threshold of the standard profile."""
    results = _results(series, raw)
    threshold = best_threshold(results, _STANDARD).threshold
    if threshold is None:
        return set()
    found = set()
    for one, result in zip(series, results, strict=True):
        window_of, _ = row_values(len(result.scores), one.windows)
        detected = window_of[result.scores >= threshold]
        found |= {(one.name, int(window)) for window in detected[detected >= 0]}
    return found


def _correlations(one: dict[str, Floats], other: dict[str, Floats]) -> dict[str, float]:
    """Pearson's correlation, mean over the series: of raw scores, of their averages, of the averages' ranks."""
    pairs = [(one[name][_FIRST_ROW:], other[name][_FIRST_ROW:]) for name in one]
    averages = [(_averages(left), _averages(right)) for left, right in pairs]
    return {
        "raw": _mean_correlation(pairs),
        "average": _mean_correlation(averages),
        "rank": _mean_correlation([(_ranks(left), _ranks(right)) for left, right in averages]),
    }


def _averages(raw: Floats) -> Floats:
    return np.convolve(raw, np.full(AVERAGE, 1 / AVERAGE), mode="valid")


def _ranks(values: Floats) -> Floats:
    """Ranks from 0; equal values share the mean of theirs."""
    # Sums in another order differ in the last digits: rounded, equal averages are equal.
    _, place, counts = np.unique(values.round(9), return_inverse=True, return_counts=True)
    ranks: Floats = (np.cumsum(counts) - (counts + 1) / 2)[place]
    return ranks


def _mean_correlation(pairs: Sequence[tuple[Floats, Floats]]) -> float:
    """Series on which one of the two never varies have no correlation and are left out."""
    vary = [(left, right) for left, right in pairs if left.std() > 0 and right.std() > 0]
    return float(np.mean([np.corrcoef(left, right)[0, 1] for left, right in vary]))


def as_text(report: dict[str, Any]) -> str:
    """The report as Markdown tables."""
    lines = ["| raw scores | NuPIC | ours, mean | lowest | highest |", "|---|---|---|---|---|"]
    for key, title, form in (
        ("mean", "mean", ".4f"),
        ("none_unexpected", "rows with 0", ".3f"),
        ("half_unexpected", "rows with 0.5 or more", ".3f"),
        ("all_unexpected", "rows with 1", ".4f"),
        ("nab_standard", "NAB, standard profile", ".1f"),
        ("false_positives", "false positives there", ".0f"),
    ):
        figures = [report["nupic"][key], *_summary([one[key] for one in report["ours"]])]
        lines.append(f"| {title} | " + " | ".join(format(figure, form) for figure in figures) + " |")
    lines += ["", "| correlation, mean over the series | NuPIC and ours | two seeds of ours |", "|---|---|---|"]
    for key in ("raw", "average", "rank"):
        cells = [np.mean([one[key] for one in report[pair]]) for pair in ("ours_with_nupic", "ours_with_ours")]
        lines.append(f"| {key} | {cells[0]:.3f} | {cells[1]:.3f} |")
    windows = report["windows"]
    lines += [
        "",
        "| windows | of " + str(windows["labelled"]) + " |",
        "|---|---|",
        f"| NuPIC | {windows['nupic']} |",
    ]
    lines += [f"| {name}, mean | {np.mean(windows[name]):.1f} |" for name in ("ours", "both")]
    lines += ["", "| mean raw score | NuPIC | ours, mean | lowest | highest |", "|---|---|---|---|---|"]
    for name, one in report["mean_raw"].items():
        cells = [one["nupic"], *_summary(one["ours"])]
        lines.append(f"| {name} | " + " | ".join(f"{cell:.4f}" for cell in cells) + " |")
    return "\n".join(lines)


def _summary(figures: Sequence[float]) -> tuple[float, float, float]:
    return float(np.mean(figures)), min(figures), max(figures)


if __name__ == "__main__":
    main()
