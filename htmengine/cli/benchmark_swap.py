# SPDX-License-Identifier: MIT
"""``htmengine benchmark swap``: many models in little memory."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import click
from tqdm import tqdm

from htmengine.cli.common import example, failing_cleanly, run_reactor
from htmengine.measure.models import MATURE_ROWS, YOUNG_ROWS, Template
from htmengine.measure.swap import Feeder, SwapPlan, SwapReport, make_checkpoints
from htmengine.process.twisted_types import Reactor


@click.command(epilog=example("htmengine benchmark swap --models 1000 --models 10000 --rows 5 --memory-mb 256"))
@click.option(
    "--models",
    type=click.IntRange(1, 10_000_000),
    multiple=True,
    default=(1000,),
    show_default=True,
    help="Models; may be repeated to show how the cost grows.",
)
@click.option("--rows", type=click.IntRange(1, 100_000), default=5, show_default=True, help="Rows of each model.")
@click.option("--mature", is_flag=True, help=f"Models that have learnt {MATURE_ROWS} rows, not {YOUNG_ROWS}.")
@click.option("--memory-mb", type=click.IntRange(1), default=1024, show_default=True, help="For all models together.")
@click.option("--workers", type=click.IntRange(1, 1024), help="Worker processes; by default one for each CPU.")
@click.option("--seconds", type=click.FloatRange(0, min_open=True), help="Feed for at most this long.")
@click.option("--rows-per-s", type=click.FloatRange(0, min_open=True), help="Feed no faster than this.")
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the checkpoints during the run; by default a temporary one.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object a line.")
@failing_cleanly
def swap(
    models: Sequence[int],
    rows: int,
    mature: bool,
    memory_mb: int,
    workers: int | None,
    seconds: float | None,
    rows_per_s: float | None,
    folder: Path | None,
    as_json: bool,
) -> None:
    """Measure rows a second of many models that do not all fit into memory; each gets a row in turn.

    All have a checkpoint at the start and are written as in the engine.  Bus and database are left out.
    """
    template = Template.trained(MATURE_ROWS if mature else YOUNG_ROWS)

    def plan_of(count: int, temporary: Path) -> SwapPlan:
        return SwapPlan(count, rows, workers or os.cpu_count() or 1, memory_mb, temporary, rows_per_s, seconds)

    reports = run_reactor(lambda reactor: _measure_all(reactor, template, models, plan_of, folder))
    if as_json:
        for report in reports:
            click.echo(json.dumps({**asdict(report), "mature": mature}))
    else:
        click.echo(as_text(reports))


async def _measure_all(
    reactor: Reactor,
    template: Template,
    models: Sequence[int],
    plan_of: Callable[[int, Path], SwapPlan],
    folder: Path | None,
) -> list[SwapReport]:
    reports = []
    for count in models:
        with tempfile.TemporaryDirectory(prefix="htmengine-swap-", dir=folder) as temporary:
            plan = plan_of(count, Path(temporary))
            with tqdm(total=count, desc=f"making {count} models", unit="model") as bar:
                make_checkpoints(plan, template, bar.update)
            with tqdm(total=count * plan.rows, desc=f"feeding {count} models", unit="row") as bar:
                reports.append(await Feeder(reactor=reactor, plan=plan, template=template, progress=bar.update).run())
    return reports


def as_text(reports: Sequence[SwapReport]) -> str:
    """A table, a line for each figure."""
    lines = [
        ("models", "models", ",d"),
        ("rows/s", "rows_per_s", ",.0f"),
        ("swaps/s", "swaps_per_s", ",.0f"),
        ("writes/s", "writes_per_s", ",.1f"),
        ("written, bytes", "bytes_written", ",d"),
        ("workers' memory, bytes", "rss_bytes", ",d"),
        ("latency, median, ms", "p50_ms", ",.1f"),
        ("latency, p99, ms", "p99_ms", ",.1f"),
        ("CPU time a row, ms", "cpu_ms_per_row", ",.3f"),
        ("a model in memory, bytes", "model_bytes", ",d"),
        ("a checkpoint, bytes", "checkpoint_bytes", ",d"),
        ("files/s of the disk alone", "disk_files_per_s", ",.0f"),
    ]
    return "\n".join(
        f"{title:26}" + "".join(f"{format(getattr(report, key), form):>18}" for report in reports)
        for title, key, form in lines
    )
