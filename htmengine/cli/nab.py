# SPDX-License-Identifier: MIT
"""``htmengine nab``: the model scored on a folder of the Numenta Anomaly Benchmark."""

from __future__ import annotations

import csv
import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

from htmengine.cli.common import example, failing_cleanly
from htmengine.csv_files import format_timestamp
from htmengine.evidence.kinds import FUSED, KINDS
from htmengine.evidence.scale import ALARM_SCORE
from htmengine.nab.alarms import Swept, alarms_of, sweep
from htmengine.nab.bootstrap import Worth, interval, worth_by_profile
from htmengine.nab.runner import LabelledSeries, Run, Setup, load_folder, run_all, scored
from htmengine.nab.scorer import PROFILES, ScoredWindows, best_threshold, counts_at, score_at


@click.command(epilog=example("htmengine nab NAB/data --windows NAB/labels/combined_windows.json --jobs 2"))
@click.argument("data_dir", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--windows",
    "windows_file",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="JSON file: for each <category>/<file>.csv the first and last timestamp of its labelled windows.",
)
@click.option("--jobs", default=1, show_default=True, type=click.IntRange(1), help="Processes to run models in.")
@click.option("--seeds", default=1, show_default=True, type=click.IntRange(1), help="Runs with different model seeds.")
@click.option(
    "--evidence", type=click.Choice(["all", "sequence"]), default="all", help="sequence: HTM Engine's scores."
)
@click.option(
    "--without",
    multiple=True,
    type=click.Choice([kind.name for kind in KINDS[:FUSED]]),
    help="Leave out a kind of evidence; may be repeated.",
)
@click.option(
    "--range-rows",
    type=click.IntRange(1),
    help="Take each series' minimum and maximum from its first rows only; 288 is what a live engine does.",
)
@click.option(
    "--backtracking",
    is_flag=True,
    help="Go back some rows where inference is lost, as NuPIC does, instead of bursting.",
)
@click.option(
    "--restore-every",
    type=click.IntRange(1),
    metavar="ROWS",
    help="Save and restore model and evidence each time after this many rows: the scores stay the same.",
)
@click.option(
    "--bootstrap",
    is_flag=True,
    help="Draw files and seeds again; show the interval of nine in ten draws and of the difference to the usual setup.",
)
@click.option(
    "--scores", type=click.Path(file_okay=False, path_type=Path), help="Write the scores of every row to this folder."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@failing_cleanly
def nab(
    *,
    data_dir: Path,
    windows_file: Path,
    jobs: int,
    seeds: int,
    evidence: str,
    without: tuple[str, ...],
    range_rows: int | None,
    backtracking: bool,
    restore_every: int | None,
    bootstrap: bool,
    scores: Path | None,
    as_json: bool,
) -> None:
    """Score the model on the labelled series in DATA_DIR: one pass, no look-ahead, one threshold for all.

    A series is a file <category>/<file>.csv with the columns timestamp (UTC) and value.  The model knows its
    minimum and maximum and nothing else.
    """
    series = load_folder(data_dir, windows_file)
    setup = Setup(without, evidence == "sequence", range_rows, 0, backtracking, restore_every)
    runs = _run_with_progress(series, setup, seeds, jobs)
    report = summarise(series, runs, policy=not setup.sequence_only)
    if bootstrap:
        usual = Setup(range_rows=range_rows, restore_every=restore_every)
        against = None if setup == usual else _run_with_progress(series, usual, seeds, jobs)
        report["bootstrap"] = intervals(series, runs, against, policy=not setup.sequence_only)
    if scores is not None:
        write_scores(scores, series, [run for run in runs if run.seed == 0])
    click.echo(json.dumps(report) if as_json else _as_text(report))


def _run_with_progress(series: Sequence[LabelledSeries], setup: Setup, seeds: int, jobs: int) -> list[Run]:
    setups = [replace(setup, seed=seed) for seed in range(seeds)]
    rows = sum(len(one.values) for one in series) * len(setups)
    runs = []
    with tqdm(total=rows, unit=" rows", unit_scale=True) as progress:
        for run in run_all(series, setups, jobs):
            runs.append(run)
            progress.update(len(run.scores))
    return runs


def intervals(
    series: Sequence[LabelledSeries], runs: Sequence[Run], against: Sequence[Run] | None, *, policy: bool
) -> dict[str, dict[str, Any]]:
    """For each profile the interval of the score, and of the difference to ``against``: the engine's own setup."""
    ours = _worths(series, runs, policy=policy)
    usual = None if against is None else _worths(series, against, policy=True)
    found: dict[str, dict[str, Any]] = {}
    for name, profile in PROFILES.items():
        found[name] = {"score": interval(ours[name], profile)._asdict()}
        if usual is not None:
            found[name]["difference"] = interval(ours[name], profile, against=usual[name])._asdict()
    return found


def _worths(series: Sequence[LabelledSeries], runs: Sequence[Run], *, policy: bool) -> dict[str, list[Worth]]:
    """By profile: what the files are worth, a seed each."""
    seeds = sorted({run.seed for run in runs})
    of = [scored(series, [run for run in runs if run.seed == seed]) for seed in seeds]
    worths = [worth_by_profile(each, PROFILES, policy=policy) for each in of]
    return {name: [each[name] for each in worths] for name in PROFILES}


def write_scores(folder: Path, series: Sequence[LabelledSeries], runs: Sequence[Run]) -> None:
    """Write <category>/<file>.csv of each series: timestamp, value, raw_anomaly_score, score."""
    of = {run.name: run for run in runs}
    for one in series:
        path, run = folder / one.name, of[one.name]
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["timestamp", "value", "raw_anomaly_score", "score"])
            columns = (one.values.tolist(), run.raw.tolist(), run.scores.tolist())
            for timestamp, *numbers in zip(one.timestamps.tolist(), *columns, strict=True):
                writer.writerow([format_timestamp(timestamp), *map(repr, numbers)])


def summarise(series: Sequence[LabelledSeries], runs: Sequence[Run], *, policy: bool = True) -> dict[str, Any]:
    """The benchmark's result: means over the seeds, and each seed's own under ``seeds``.

    ``policy``: the scores are S; the hold-off is run again at every threshold, and ``fixed`` is the result where it is
    run at 2.6.  Else all rows count.

    ``rows_per_s`` is that of one process, likelihood included.
    """
    seeds = sorted({run.seed for run in runs})
    each = [{"seed": seed, **_one_seed(series, [run for run in runs if run.seed == seed], policy)} for seed in seeds]
    seconds = sum(run.seconds for run in runs)
    return {
        **{name: _mean([result[name] for result in each]) for name in PROFILES},
        "fixed": {name: _mean([result["fixed"][name] for result in each]) for name in PROFILES} if policy else None,
        "thresholds": {name: _mean([result["thresholds"][name] for result in each]) for name in PROFILES},
        "spread": {name: _spread([result[name] for result in each]) for name in PROFILES},
        "categories": {
            category: {key: _mean([result["categories"][category][key] for result in each]) for key in counts}
            for category, counts in each[0]["categories"].items()
        },
        "rows_per_s": sum(len(run.scores) for run in runs) / seconds,
        "files": len(series),
        "rows": sum(len(one.values) for one in series),
        "seeds": each,
    }


def _one_seed(series: Sequence[LabelledSeries], runs: Sequence[Run], policy: bool) -> dict[str, Any]:
    results = scored(series, runs)
    fixed = None
    if policy:
        held = alarms_of(results, ALARM_SCORE)
        fixed = {name: best_threshold(held, profile).score for name, profile in PROFILES.items()}
        swept = sweep(results, PROFILES)
    else:
        swept = {name: Swept(best_threshold(results, profile), results) for name, profile in PROFILES.items()}
    best = {name: one.best for name, one in swept.items()}
    thresholds = {name: one.threshold for name, one in best.items()}
    categories = {
        category: _category(
            {
                name: [one for one, of in zip(at.alarms, series, strict=True) if of.category == category]
                for name, at in swept.items()
            },
            thresholds,
        )
        for category in sorted({one.category for one in series})
    }
    return {
        **{name: one.score for name, one in best.items()},
        "fixed": fixed,
        "thresholds": thresholds,
        "categories": categories,
    }


def _category(
    results: dict[str, Sequence[ScoredWindows]], thresholds: dict[str, float | None]
) -> dict[str, float | None]:
    """The scores of one category at the thresholds of all, and what the standard profile's finds."""
    scores = {name: score_at(results[name], profile, thresholds[name]) for name, profile in PROFILES.items()}
    counts = counts_at(results["standard"], thresholds["standard"])
    return {
        **{name: None if math.isnan(score) else score for name, score in scores.items()},
        "windows": counts.windows,
        "found": counts.found,
        "false_positives": counts.false_positives,
    }


def _mean(numbers: Sequence[float | None]) -> float | None:
    """The mean; None where a seed has none."""
    known = [number for number in numbers if number is not None]
    return statistics.fmean(known) if len(known) == len(numbers) else None


def _spread(numbers: Sequence[float]) -> dict[str, float]:
    deviation = statistics.stdev(numbers) if len(numbers) > 1 else 0.0
    return {"min": min(numbers), "max": max(numbers), "deviation": deviation}


def _as_text(report: dict[str, Any]) -> str:
    lines = [f"{report['files']} series, {report['rows']} rows, {report['rows_per_s']:.0f} rows/s a process", ""]
    lines.append(f"{'':24}{'standard':>10}{'low FP':>10}{'low FN':>10}{'windows':>10}{'found':>8}{'false':>8}")
    lines.append(f"{'all':24}" + "".join(f"{report[name]:10.1f}" for name in PROFILES))
    if report["fixed"]:
        lines.append(f"{'alarms at 2.6':24}" + "".join(f"{report['fixed'][name]:10.1f}" for name in PROFILES))
    lines.append(f"{'threshold':24}" + "".join(_cell(report["thresholds"][name], "10.4f") for name in PROFILES))
    if len(report["seeds"]) > 1:
        spread = [report["spread"][name] for name in PROFILES]
        lines.append(f"{'lowest seed':24}" + "".join(f"{one['min']:10.1f}" for one in spread))
        lines.append(f"{'highest seed':24}" + "".join(f"{one['max']:10.1f}" for one in spread))
    lines += _intervals_as_text(report.get("bootstrap", {}))
    for category, one in report["categories"].items():
        scores = "".join(_cell(one[name], "10.1f") for name in PROFILES)
        counts = f"{one['windows']:10.0f}{one['found']:8.1f}{one['false_positives']:8.1f}"
        lines.append(f"{category:24}{scores}{counts}")
    return "\n".join(lines)


def _intervals_as_text(found: dict[str, dict[str, Any]]) -> list[str]:
    """The ends of the intervals, and how often the difference was a gain."""
    lines = []
    for key, title in (("score", "nine in ten draws"), ("difference", "difference")):
        each = [found[name][key] for name in PROFILES if key in found.get(name, {})]
        if each:
            lines.append(f"{title + ', from':24}" + "".join(f"{one['low']:10.1f}" for one in each))
            lines.append(f"{title + ', to':24}" + "".join(f"{one['high']:10.1f}" for one in each))
    gains = [one["difference"]["above_0"] for one in found.values() if "difference" in one]
    return [*lines, f"{'share of gains':24}" + "".join(f"{share:10.2f}" for share in gains)] if gains else lines


def _cell(number: float | None, form: str) -> str:
    return f"{'-':>10}" if number is None else format(number, form)
