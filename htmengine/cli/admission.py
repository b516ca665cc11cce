# SPDX-License-Identifier: MIT
"""``htmengine admission``: what rules of admission make of the metrics that there are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import click
from sqlalchemy import Connection

from htmengine.cli.common import Engine, engine_options, example, failing_cleanly, printable
from htmengine.repository import counters, reading
from htmengine.selectors import rule_lines
from htmengine.wires.admission import Admission


@click.command(epilog=example("htmengine admission --rules new-rules.txt"))
@click.option(
    "--rules", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="A file of rules, one a line."
)
@engine_options
@failing_cleanly
def admission(engine: Engine, rules: Path | None) -> None:
    """Preview rules of admission on all stored metrics: which would be renamed or kept out.  Nothing is changed.

    The rules are those of the configuration, or of a file.  docs/admission.md has their forms.
    """
    section = engine.deployment.config.admission
    text = section.rules if rules is None else rules.read_text()
    judge = Admission(rule_lines(text), section.allow.split(), section.deny.split())
    with engine.database() as database:
        names = database.read_sync(_texts)
    for line in preview(judge, names):
        click.echo(printable(line))


def preview(rules: Admission, names: Iterable[str]) -> Iterator[str]:
    """A line for each metric that would not stay what it is, and the counts.

    >>> list(preview(Admission(["rename web.* to www.$1", "drop *.debug"]), ["web.a", "db.debug", "db.load"]))
    ['web.a -> www.a', 'db.debug: dropped_by_rule, rule 2', '1 stay, 1 renamed, 1 kept out']
    """
    counted: Counter[str] = Counter()
    for name in names:
        verdict = rules.judge(name)
        if verdict.name == name:
            counted["stay"] += 1
        elif verdict.name is not None:
            counted["renamed"] += 1
            yield f"{name} -> {verdict.name}"
        else:
            counted["kept out"] += 1
            yield f"{name}: {verdict.reason}" + (f", rule {verdict.rule}" if verdict.rule else "")
    yield ", ".join(f"{counted[what]} {what}" for what in ("stay", "renamed", "kept out"))


def _texts(conn: Connection) -> list[str]:
    texts = counters.long_texts(conn)
    return [texts.get(uid, name) for name, uid in reading.metrics_with_prefix(conn, "").items()]
