# SPDX-License-Identifier: MIT
"""``htmengine capacity``: how many metrics this machine carries."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click
from tqdm import tqdm

from htmengine.cli.common import example, failing_cleanly, run_reactor
from htmengine.deployment import engine_deployment
from htmengine.measure.capacity import Carried, Machine, ModelCost, RowCost, most_metrics
from htmengine.measure.live_engine import cpu_ms_per_row
from htmengine.measure.models import MATURE_ROWS, Template
from htmengine.measure.swap import Feeder, SwapPlan, SwapReport, make_checkpoints
from htmengine.model_swapper.model_cache import RunnerOptions
from htmengine.process.twisted_types import Reactor

CADENCES_S = (10, 60, 300, 900)

#: Models that are fed, and how many of them fit into memory while they are swapped.
_MODELS = 200
_MODELS_THAT_FIT = 20


@dataclass(frozen=True, slots=True)
class CapacityReport:
    """What was measured, and what follows from it."""

    machine: Machine
    load: float  #: what else kept it busy: its load average before the measurement
    model: ModelCost
    row: RowCost
    cadences: Sequence[Carried]


@click.command(epilog=example("htmengine capacity --seconds 30 --data-dir /var/lib/htmengine"))
@click.option("--seconds", type=click.FloatRange(3, 3600), default=20.0, show_default=True, help="Seconds to measure.")
@click.option(
    "--data-dir", type=click.Path(file_okay=False, path_type=Path), help="The engine's data folder: its disk."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@failing_cleanly
def capacity(seconds: float, data_dir: Path | None, as_json: bool) -> None:
    """Measure how many metrics this machine can carry at which cadence, and what the limit is.

    Mature models are run in memory and from disk, and a whole engine is fed, in a temporary folder beside the
    engine's data.  An engine that is running meanwhile takes its part of the machine.
    """
    folder = engine_deployment(data_dir=data_dir, config_dir=None).folder
    assert folder is not None
    folder.make()
    with tempfile.TemporaryDirectory(prefix="capacity-", dir=folder.path) as temporary:
        report = run_reactor(lambda reactor: _measure(reactor, Path(temporary), seconds))
    click.echo(json.dumps(asdict(report)) if as_json else as_text(report))


async def _measure(reactor: Reactor, folder: Path, seconds: float) -> CapacityReport:
    with tqdm(total=5, desc="measuring", unit="step") as bar:
        template = Template.trained(MATURE_ROWS)
        machine, load = Machine.here(folder), os.getloadavg()[0]
        model = ModelCost.measured(template, folder / "disk")
        bar.update()
        make_checkpoints(_plan(folder, _MODELS, template, 1.0), template, lambda _: None)
        bar.update()
        in_memory = await Feeder(
            reactor=reactor,
            plan=_plan(folder, 2 * _MODELS, template, 0.3 * seconds),
            template=template,
            progress=lambda _: None,
        ).run()
        bar.update()
        swapped = await Feeder(
            reactor=reactor,
            plan=_plan(folder, _MODELS_THAT_FIT, template, 0.3 * seconds),
            template=template,
            progress=lambda _: None,
        ).run()
        bar.update()
        engine_ms = await cpu_ms_per_row(reactor, folder / "engine", 0.4 * seconds)
        bar.update()
    row = _row_cost(model, in_memory, swapped, engine_ms)
    cadences = [most_metrics(cadence, machine, model, row) for cadence in CADENCES_S]
    return CapacityReport(machine, load, model, row, cadences)


def _plan(folder: Path, models_that_fit: int, template: Template, seconds: float) -> SwapPlan:
    megabytes = max(1, models_that_fit * template.memory_bytes >> 20)
    return SwapPlan(_MODELS, 1_000_000, os.cpu_count() or 1, megabytes, folder / "models", most_s=seconds)


def _row_cost(model: ModelCost, in_memory: SwapReport, swapped: SwapReport, engine_ms: float) -> RowCost:
    """Both runs read models from disk, one of them seldom: what a row and what a swap costs explains both."""
    seldom = in_memory.swaps_per_s / in_memory.rows_per_s
    often = swapped.swaps_per_s / swapped.rows_per_s
    swap_ms = max(0.0, swapped.worker_ms_per_row - in_memory.worker_ms_per_row) / max(often - seldom, 0.01)
    worker_ms = max(model.learn_ms, in_memory.worker_ms_per_row - seldom * swap_ms)
    written = swapped.bytes_written / (swapped.swaps_per_s * swapped.seconds)
    return RowCost(engine_ms, worker_ms, worker_ms + swap_ms, swapped.checkpoint_bytes, written)


def as_text(report: CapacityReport) -> str:
    """The metrics for each cadence, then what a model and a row cost."""
    machine, model, row = report.machine, report.model, report.row
    lines = [
        f"{machine.cpus} CPUs, {machine.memory_bytes / 2**30:.0f} GiB of memory, "
        f"{machine.disk_free_bytes / 1e9:.0f} GB free on disk",
        "",
        f"{'a row every':>12}{'metrics':>12}{'rows/s':>10}{'in memory':>12}  bound by",
    ]
    for each in report.cadences:
        lines.append(
            f"{each.cadence_s:>10} s{each.metrics:>12,}{each.rows_per_s:>10,.0f}{each.in_memory:>12.0%}  {each.bound}"
        )
    lines += [
        "",
        f"a model after {MATURE_ROWS:,} rows: {model.memory_bytes:,} bytes of memory, "
        f"2 x {model.checkpoint_bytes:,} bytes on disk,",
        f"  {model.write_ms:.1f} ms to write, {model.read_ms:.1f} ms to read; "
        f"{model.written_bytes_per_s / 1e6:,.0f} MB/s with a sync each, {model.read_bytes_per_s / 1e6:,.0f} MB/s back",
        f"a row: {row.engine_ms:.3f} ms in the engine's process, {row.worker_ms:.3f} ms in a worker,",
        f"  {row.swapped_worker_ms:.3f} ms with its model on disk, "
        f"{row.swapped_read_bytes:,.0f} bytes read and {row.swapped_written_bytes:,.0f} written",
    ]
    wanted_mb = int(0.6 * machine.memory_bytes / machine.cpus) >> 20
    if wanted_mb << 20 > RunnerOptions("").memory_bytes:
        lines += ["", f"for these figures set [model_scheduler] worker_memory_mb = {wanted_mb} in model-swapper.conf"]
    if report.load > machine.cpus / 2:
        lines += ["", f"the machine was busy (load {report.load:.1f}): measured again when idle, it can carry more"]
    return "\n".join(lines)
