# SPDX-License-Identifier: MIT
"""``htmengine``: all commands."""

from __future__ import annotations

import click

from htmengine.cli.admin import check_config, db, gc
from htmengine.cli.alert import alert
from htmengine.cli.benchmark import benchmark
from htmengine.cli.benchmark_swap import swap
from htmengine.cli.demo import demo
from htmengine.cli.engine import run
from htmengine.cli.files import replay, score
from htmengine.cli.ledger import ledger
from htmengine.cli.metrics import delete, export, follow, import_, metrics, monitor, results, unmonitor
from htmengine.cli.model import model
from htmengine.cli.nab import nab


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="htmengine")
def main() -> None:
    """Streaming anomaly detection for metrics: one HTM model a metric, learning online, no thresholds."""


for command in (
    run,
    demo,
    metrics,
    monitor,
    unmonitor,
    delete,
    results,
    follow,
    ledger,
    model,
    export,
    import_,
    score,
    replay,
    alert,
    db,
    gc,
    check_config,
    nab,
    benchmark,
):
    main.add_command(command)
benchmark.add_command(swap)


if __name__ == "__main__":
    main()
