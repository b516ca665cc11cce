# SPDX-License-Identifier: MIT
"""``htmengine run``: the embedded engine in the foreground."""

from __future__ import annotations

import sys
from typing import Any

import click

from htmengine.cli.common import example, failing_cleanly, place_options
from htmengine.deployment import engine_deployment
from htmengine.process.lifecycle import run_in_foreground
from htmengine.process.twisted_types import installed_reactor
from htmengine.services import make_engine


@click.command(epilog=example("htmengine run --data-dir /var/lib/htmengine --graphite-port 2003"))
@place_options
@click.option("--graphite-port", type=click.IntRange(0, 65_535), help="TCP and UDP; 0: any free one.  [default: 2003]")
@click.option("--http-port", type=click.IntRange(0, 65_535), help="0: any free one.  [default: 8080]")
@click.option("--workers", type=click.IntRange(0), help="Worker processes.  [default: one for each CPU]")
@click.option("--auto-monitor/--no-auto-monitor", default=None, help="Give new metrics a model.  [default: yes]")
@failing_cleanly
def run(**given: Any) -> None:
    """Run an engine in the foreground: everything in one process and its workers.  Ctrl-C stops it."""
    reactor = installed_reactor()
    deployment = engine_deployment(**given)
    service, end = make_engine(deployment, reactor)
    assert deployment.folder is not None
    reactor.callWhenRunning(click.echo, f"HTM Engine runs on {deployment.folder.path}; Ctrl-C stops it", err=True)
    run_in_foreground(service, reactor)
    sys.exit(end.status)
