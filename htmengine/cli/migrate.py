# SPDX-License-Identifier: MIT
"""``htmengine migrate-from-htmengine``: a deployment of Numenta's HTM Engine taken over, and what becomes of it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

from htmengine.cli.common import Engine, engine_options, example, failing_cleanly, printable
from htmengine.config import FILES, LEGACY, options, parse_file
from htmengine.csv_files import format_timestamp
from htmengine.errors import InvalidModelSpec
from htmengine.history.agreement import ALARM, APART
from htmengine.history.migration import Moved, keep_scores, moved, without_model
from htmengine.repository import migrations, queries
from htmengine.repository.engine import Database
from htmengine.repository.htm_engine_copy import copy_tables


@click.command("migrate-from-htmengine", epilog=example("htmengine migrate-from-htmengine --config /opt/app/conf"))
@click.option("--days", type=click.IntRange(1, 3650), default=14, show_default=True, help="Days of alarms to compare.")
@click.option("--jobs", type=click.IntRange(1, 256), default=os.cpu_count, show_default="processors", help="Processes.")
@click.option("--from", "source", metavar="URL", help="HTM Engine's database, if the engine is to have another.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@engine_options
@failing_cleanly
def migrate_from_htmengine(engine: Engine, days: int, jobs: int, source: str | None, as_json: bool) -> None:
    """Take over the configuration and the database of Numenta's HTM Engine, and show old and new alarms.

    Upgrades the schema, keeps the old scores in the table htm_engine_score, says what becomes of each option and of
    each model that cannot be made, and scores the stored rows with the new models.  Run it before the engine starts,
    and again whenever you like: the old scores are kept once.

    The engine goes on with HTM Engine's database.  With --from it gets a copy in a database of its own, an embedded
    one or a server's, which must be empty.
    """
    engine.deployment.make_folder()
    if source is not None:
        with tqdm(unit="row", disable=not sys.stderr.isatty()) as progress:
            copy_tables(source, engine.deployment.database_url, progress.update)
    migrations.upgrade(engine.deployment.database_url)
    with engine.database() as database:
        found = _migrated(engine, database, days, jobs)
    for line in [json.dumps(found)] if as_json else lines(found):
        click.echo(printable(line))


def _migrated(engine: Engine, database: Database, days: int, jobs: int) -> dict[str, Any]:
    kept, scores, gone = keep_scores(database)
    metrics = database.read_sync(queries.list_metrics)
    sequence_only = engine.deployment.config.anomaly_likelihood.evidence == "sequence"
    alarms, failed = [], []
    with tqdm(total=len(kept), unit="metric", disable=not sys.stderr.isatty()) as progress:
        for each in moved(database, kept, days, jobs, sequence_only=sequence_only):
            if isinstance(each, InvalidModelSpec):
                failed.append(str(each))
            else:
                alarms.append(_document(each))
            progress.update()
    return {
        "options": [{"option": option, "becomes": becomes} for option, becomes in told_options(_config_dir())],
        "metrics": len(metrics),
        "metrics_kept": len(kept),
        "scores_kept": scores,
        "scores_gone": [each.name for each in gone],
        "without_model": {each.name: why for each, why in without_model(metrics)},
        "failed": failed,
        "days": days,
        "alarms": sorted(alarms, key=lambda each: str(each["metric"])),
    }


def _config_dir() -> Path | None:
    given = click.get_current_context().params.get("config_dir")
    return Path(given) if given else None


def told_options(directory: Path | None) -> Iterator[tuple[str, str]]:
    """Each option that HTM Engine's files set, and what becomes of it."""
    ours = {(file, section, each.name) for file, section, each in options()}
    for file in FILES if directory is not None else ():
        assert directory is not None
        parser = parse_file(directory / f"{file}.conf", [])
        for section in parser.sections():
            for name in parser[section]:
                place = (file, section, name)
                yield f"{file}.conf [{section}] {name}", _becomes(place, known=place in ours)


def _becomes(place: tuple[str, str, str], *, known: bool) -> str:
    if known:
        return "kept"
    legacy = LEGACY.get(place)
    if legacy is None:
        return "the application's"
    return legacy.why if legacy.place else f"without effect: {legacy.why}"


def _document(each: Moved) -> dict[str, Any]:
    def times(rows: Any) -> list[int]:
        return [each.times[row] for row in rows]

    found = each.alarms
    return {
        "metric": each.name,
        "both": times(found.both),
        "only_old": times(found.only),
        "only_new": times(found.only_other),
    }


# --- output ---------------------------------------------------------------------------------------------


def lines(found: dict[str, Any]) -> Iterator[str]:
    """All of it in words."""
    kept = [each for each in found["options"] if each["becomes"] == "kept"]
    yield f"configuration: {len(kept)} options are kept"
    yield from (f"  {each['option']}: {each['becomes']}" for each in found["options"] if each["becomes"] != "kept")
    scores = f"{found['scores_kept']} scores of {found['metrics_kept']} of {found['metrics']} metrics"
    yield f"database: the schema is up to date; {scores} are kept in the table htm_engine_score"
    yield from (f"  {name}: its old scores are gone: this engine has scored it" for name in found["scores_gone"])
    if found["without_model"]:
        yield "metrics without a model:"
        yield from (f"  {name}: {why}" for name, why in found["without_model"].items())
    yield from (f"  {each}" for each in found["failed"])
    yield from _alarm_lines(found)


def _alarm_lines(found: dict[str, Any]) -> Iterator[str]:
    which = f"the last {found['days']} days, {len(found['alarms'])} metrics with a model and old scores"
    yield f"alarms of {which} (from {ALARM} on; within {APART} rows they are one):"
    both, old, new = (sum(len(each[name]) for each in found["alarms"]) for name in ("both", "only_old", "only_new"))
    yield f"  {both + old} old, {both + new} new: {both} are the same, {old} are only old, {new} only new"
    listed = [
        (timestamp, each["metric"], who.replace("_", " "))
        for each in found["alarms"]
        for who in ("both", "only_old", "only_new")
        for timestamp in each[who]
    ]
    yield from (f"  {format_timestamp(at)}  {who:<8}  {name}" for at, name, who in sorted(listed))
