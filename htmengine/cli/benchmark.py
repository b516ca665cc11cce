# SPDX-License-Identifier: MIT
"""``htmengine benchmark``: how fast and how large a model is, against NuPIC where one is installed."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import click

from htmengine.cli.benchmark_swap import swap
from htmengine.cli.common import example, failing_cleanly
from htmengine.errors import BenchmarkFailed
from htmengine.htm.model import Model
from htmengine.htm.params import ModelParams, range_of
from htmengine.nab.runner import LabelledSeries, load_series

#: Rows after which the figures are taken; "all" is every row of the series.
_POINTS = {"1000": 1000, "5000": 5000}
#: The best of this many runs counts: what else the machine does can only slow a run down.
_RUNS = 3

#: Run by a Python 2.7 that has NuPIC 1.0.5: prints the CPU seconds that it took up to each point.
_NUPIC = """
import csv, datetime, json, sys, time
from nupic.frameworks.opf.common_models.cluster_params import getScalarMetricWithTimeOfDayAnomalyParams
from nupic.frameworks.opf.model_factory import ModelFactory
path, low, high, points = sys.argv[1], float(sys.argv[2]), float(sys.argv[3]), json.loads(sys.argv[4])
with open(path) as rows:
    rows = [(datetime.datetime.strptime(row["timestamp"], "%Y-%m-%d %H:%M:%S"), float(row["value"]))
            for row in csv.DictReader(rows)]
params = getScalarMetricWithTimeOfDayAnomalyParams([0], minVal=low, maxVal=high, minResolution=0.001,
                                                   tmImplementation="cpp")
model = ModelFactory.create(params["modelConfig"])
model.enableLearning()
model.enableInference(params["inferenceArgs"])
seconds, started = {}, time.clock()
for count, (timestamp, value) in enumerate(rows, 1):
    model.run({"c0": timestamp, "c1": value})
    if count in points:
        seconds[count] = time.clock() - started
sys.stdout.write("\\n" + json.dumps(seconds) + "\\n")
"""


@click.group()
def benchmark() -> None:
    """Measure this machine."""


benchmark.add_command(swap)


@benchmark.command(epilog=example("htmengine benchmark model --nupic-python ~/nupic/bin/python"))
@click.option(
    "--nupic-python",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A Python 2.7 with nupic 1.0.5, to be measured on the same rows; takes minutes.",
)
@click.option(
    "--data",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="CSV file with the columns timestamp and value; by default 22,695 temperatures of a machine.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@failing_cleanly
def model(nupic_python: Path | None, data: Path | None, as_json: bool) -> None:
    """Measure rows a second of CPU time, memory and checkpoint of one model that learns on every row.

    Figures are taken after the first 1000 and 5000 rows and after all of them.
    """
    with resources.as_file(resources.files("htmengine") / "data" / "machine_temperature_system_failure.csv") as own:
        path = data or own
        series = load_series(path.name, path, [])
        report = measure(series)
        if nupic_python is not None:
            click.echo("running NuPIC ...", err=True)
            report["nupic"] = measure_nupic(nupic_python, path, series)
            report["ratio"] = report["rows_per_s"]["all"] / report["nupic"]["all"]
    click.echo(json.dumps(report) if as_json else _as_text(report))


def points_of(series: LabelledSeries) -> dict[str, int]:
    """The row counts to measure at, by name."""
    rows = len(series.values)
    return {**{name: point for name, point in _POINTS.items() if point < rows}, "all": rows}


def measure(series: LabelledSeries) -> dict[str, Any]:
    """Speed, memory and checkpoint of our model; milliseconds for saving and restoring."""
    points = points_of(series)
    runs = [_run(series, points) for _ in range(_RUNS)]
    return {
        "rows": len(series.values),
        "rows_per_s": {name: max(run[name]["rows_per_s"] for run in runs) for name in points},
        "memory_bytes": {name: runs[0][name]["memory_bytes"] for name in points},
        "checkpoint_bytes": {name: runs[0][name]["checkpoint_bytes"] for name in points},
        "save_ms": {name: min(run[name]["save_ms"] for run in runs) for name in points},
        "restore_ms": {name: min(run[name]["restore_ms"] for run in runs) for name in points},
        "segments": {name: runs[0][name]["segments"] for name in points},
        "synapses": {name: runs[0][name]["synapses"] for name in points},
        "nupic": None,
        "ratio": None,
    }


def _run(series: LabelledSeries, points: dict[str, int]) -> dict[str, dict[str, float]]:
    model = Model(ModelParams.for_range(*range_of(series.values)))
    figures: dict[str, dict[str, float]] = {}
    seconds, done = 0.0, 0
    for name, rows in points.items():
        started = time.thread_time()
        model.learn_many(series.timestamps[done:rows], series.values[done:rows])
        seconds, done = seconds + time.thread_time() - started, rows
        figures[name] = {"rows_per_s": rows / seconds, **_size(model)}
    return figures


def _size(model: Model) -> dict[str, float]:
    saved = model.save()
    return {
        "memory_bytes": model.memory_bytes,
        "checkpoint_bytes": len(saved),
        "save_ms": _best_ms(model.save),
        "restore_ms": _best_ms(lambda: Model.restore(saved)),
        "segments": model.segments,
        "synapses": model.synapses,
    }


def _best_ms(action: Callable[[], object]) -> float:
    def once() -> float:
        started = time.thread_time()
        action()
        return 1000 * (time.thread_time() - started)

    return min(once() for _ in range(_RUNS))


def measure_nupic(python: Path, path: Path, series: LabelledSeries) -> dict[str, float]:
    """Rows a second of CPU time of NuPIC's model on the same rows.  Raises BenchmarkFailed if it does not run."""
    points = points_of(series)
    low, high = range_of(series.values)
    command = [str(python), "-", str(path), repr(low), repr(high), json.dumps(sorted(points.values()))]
    run = subprocess.run(command, input=_NUPIC, capture_output=True, text=True, check=False)
    try:
        seconds = json.loads(run.stdout.strip().splitlines()[-1])
        return {name: rows / float(seconds[str(rows)]) for name, rows in points.items()}
    except (IndexError, KeyError, ValueError, TypeError) as error:
        last_words = (run.stderr.strip().splitlines() or ["no output"])[-1]
        raise BenchmarkFailed(f"{python} could not run NuPIC: {last_words}") from error


def _as_text(report: dict[str, Any]) -> str:
    names = list(report["rows_per_s"])
    lines = [f"{'rows':24}" + "".join(f"{report['rows'] if name == 'all' else name:>12}" for name in names)]

    def add(title: str, figures: dict[str, float], form: str) -> None:
        lines.append(f"{title:24}" + "".join(f"{figures[name]:>12{form}}" for name in names))

    add("rows/s", report["rows_per_s"], ",.0f")
    add("memory, bytes", report["memory_bytes"], ",")
    add("checkpoint, bytes", report["checkpoint_bytes"], ",")
    add("save, ms", report["save_ms"], ".2f")
    add("restore, ms", report["restore_ms"], ".2f")
    add("segments", report["segments"], ",")
    add("synapses", report["synapses"], ",")
    if report["nupic"] is not None:
        add("NuPIC, rows/s", report["nupic"], ",.0f")
        lines.append(f"{report['ratio']:.0f} times as fast as NuPIC over all rows")
    return "\n".join(lines)
