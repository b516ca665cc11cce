# SPDX-License-Identifier: MIT
"""``htmengine db``, ``gc`` and ``check-config``."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import click
from tqdm import tqdm

from htmengine.cli.common import Engine, engine_options, example, failing_cleanly
from htmengine.config import APPLICATION_CONFIG_PATH, Config
from htmengine.deployment import Deployment, is_distributed, load_all, unused
from htmengine.errors import ConfigError, InvalidRule, StartError
from htmengine.export.remote_writer import WriterOptions
from htmengine.gaps import GapRules
from htmengine.process.extras import TLS, required
from htmengine.repository import migrations
from htmengine.runtime.metric_garbage_collector import collect, kept_rows
from htmengine.runtime.metric_listener import require_protobuf
from htmengine.selectors import rule_lines, separated
from htmengine.web.access import load_tokens
from htmengine.web.service import tls_options
from htmengine.wires.admission import parse_rule
from htmengine.wires.counters import SaidCounters
from htmengine.wires.plugins import wires_at, wires_named


@click.group()
def db() -> None:
    """The database's schema."""


@db.command(epilog=example("htmengine db upgrade"))
@engine_options
@failing_cleanly
def upgrade(engine: Engine) -> None:
    """Upgrade the database's schema to this release, also that of Numenta's HTM Engine."""
    engine.deployment.make_folder()
    migrations.upgrade(engine.deployment.database_url)
    click.echo("the schema is up to date")


@db.command(epilog=example("htmengine db reset --yes"))
@engine_options
@click.option("--yes", is_flag=True, help="Do not ask.")
@failing_cleanly
def reset(engine: Engine, yes: bool) -> None:
    """Remove all metrics and rows and make empty tables."""
    if not yes:
        click.confirm("Remove all metrics with their rows and scores?", abort=True)
    engine.deployment.make_folder()
    migrations.reset(engine.deployment.database_url)
    click.echo("the database is empty")


@click.command(epilog=example("htmengine gc --threshold-days 90"))
@engine_options
@click.option("--threshold-days", type=click.IntRange(1, 36_500), required=True, help="Remove rows older than this.")
@failing_cleanly
def gc(engine: Engine, threshold_days: int) -> None:
    """Remove old rows, a bounded batch at a time.  The engine may run meanwhile.

    Keeps rows that a model may still need: those without a score, and the newest of each metric.
    """
    total = 0
    with engine.database() as database, tqdm(unit="row", disable=not sys.stderr.isatty()) as progress:
        keep = kept_rows(engine.deployment.config.storage.checkpoint_rows)
        for removed in collect(database, time.time(), threshold_days, keep):
            total += removed
            progress.update(removed)
    click.echo(f"{total} rows removed")


@click.command("check-config", epilog=example("htmengine check-config --config /etc/htmengine"))
@click.option(
    "--config",
    "config_dir",
    type=click.Path(path_type=Path),
    envvar=APPLICATION_CONFIG_PATH,
    help="The folder with application.conf and the other files.",
)
def check_config(config_dir: Path | None) -> None:
    """List all errors of a configuration at once."""
    try:
        config, _ = load_all(config_dir, os.environ, _echo_warning, calendars_needed=True)
        problems = [*_problems_at_start(config), *_problems_of_kind(config, distributed=is_distributed(config_dir))]
    except ConfigError as error:
        problems = error.problems
    for problem in problems:
        click.echo(problem, err=True)
    if problems:
        sys.exit(1)
    click.echo("the configuration is in order")


def _echo_warning(warning: str) -> None:
    click.echo(f"warning: {warning}", err=True)


def _problems_of_kind(config: Config, *, distributed: bool) -> list[str]:
    """What a distributed engine lacks; an embedded one is warned of what it does not use."""
    if not distributed:
        for warning in unused(config):
            _echo_warning(warning)
        return []
    try:
        Deployment(config, None).require_drivers()
    except ConfigError as error:
        return error.problems
    return []


def _problems_at_start(config: Config) -> Iterator[str]:
    """What the services find when they read what the options hold or name."""
    checks: list[Callable[[], object]] = [
        lambda: config.web.tokens_file and load_tokens(Path(config.web.tokens_file)),
        lambda: config.remote_write.url and WriterOptions.of(config.remote_write),
        lambda: config.web.tls_certificate and tls_options(Path(config.web.tls_certificate)),
        lambda: config.connection.tls and required("rabbitmq.conf [connection] tls", TLS, "tls"),
        lambda: config.metric_listener.protobuf_port and require_protobuf(),
        lambda: wires_at(config.metric_listener.wire_ports),
        lambda: wires_named(config.web.wires),
    ]
    for check in checks:
        try:
            check()
        except StartError as error:
            yield str(error)
    rules: list[tuple[str, Iterable[str], Callable[[str], object]]] = [
        ("[admission] counters", separated(config.admission.counters), lambda text: SaidCounters([text])),
        ("[admission] rules", rule_lines(config.admission.rules), parse_rule),
        ("[metric_storer] fill_gaps", rule_lines(config.metric_storer.fill_gaps), lambda text: GapRules([text])),
    ]
    for option, texts, parse in rules:
        for text in texts:
            try:
                parse(text)
            except InvalidRule as error:
                yield f"{option}: {error}"
