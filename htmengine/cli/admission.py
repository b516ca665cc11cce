# SPDX-License-Identifier: MIT
"""``htmengine admission``: what rules of admission make of the metrics that there are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO

import click
from sqlalchemy import Connection

from htmengine.cli.common import Engine, engine_options, example, failing_cleanly, printable
from htmengine.errors import InvalidSample
from htmengine.labels import sample_name
from htmengine.messages.samples import parse_sample
from htmengine.repository import counters, reading
from htmengine.selectors import of_option, rule_lines, separated
from htmengine.wires.admission import Admission
from htmengine.wires.counters import SaidCounters


@click.command(epilog=example("htmengine admission --rules new-rules.txt"))
@click.option(
    "--rules", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="A file of rules, one a line."
)
@click.option(
    "--sample",
    type=click.File(errors="replace"),
    help="Graphite lines or names instead of the stored metrics; -: standard input.",
)
@engine_options
@failing_cleanly
def admission(engine: Engine, rules: Path | None, sample: IO[str] | None) -> None:
    """Preview rules of admission: which metrics would be renamed or kept out, or are counters.  Nothing is changed.

    The metrics are those that are stored, or those of a sample of what arrives.  The rules are those of the
    configuration, or of a file.  docs/admission.md has their forms.
    """
    section = engine.deployment.config.admission
    text, source = (section.rules, "[admission] rules") if rules is None else (rules.read_text(), str(rules))
    with of_option(source):
        judge = Admission(rule_lines(text), section.allow.split(), section.deny.split())
    with of_option("[admission] counters"):
        said = SaidCounters(separated(section.counters))
    unread = _Unread()
    if sample is None:
        with engine.database() as database:
            names: Iterable[str] = database.read_sync(_texts)
    else:
        names = names_of(sample, unread.add)
    for line in (*preview(judge, names, said), *unread.lines()):
        click.echo(printable(line))


def names_of(lines: Iterable[str], refused: Callable[[InvalidSample], object]) -> Iterator[str]:
    """The metrics of Graphite lines, or of names alone, each once; ``refused`` is told of lines that are neither.

    >>> lines = ["web.a 1 1400000000", "disk;host=b;dc=a", "web.a 2 1400000060", "", "web.b 1"]
    >>> list(names_of(lines, lambda error: print(error.reason)))
    field_count
    ['web.a', 'disk;dc=a;host=b']
    """
    known = set()
    for line in filter(str.strip, lines):
        try:
            name = _name_of(line.strip())
        except InvalidSample as error:
            refused(error)
            continue
        if name not in known:
            known.add(name)
            yield name


def _name_of(line: str) -> str:
    return parse_sample(line, now=0.0).text if len(line.split()) > 1 else sample_name(line)


class _Unread:
    """How many lines of each reason, with the first of them."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._firsts: dict[str, str] = {}

    def add(self, error: InvalidSample) -> None:
        self._counts[error.reason] += 1
        self._firsts.setdefault(error.reason, error.detail)

    def lines(self) -> Iterator[str]:
        for reason, count in self._counts.items():
            yield f"{count} not read: {reason}, the first: {self._firsts[reason]}"


def preview(rules: Admission, names: Iterable[str], counters: SaidCounters) -> Iterator[str]:
    """A line for each metric that would not stay what it is, and the counts.

    >>> rules = Admission(["rename web.* to www.$1", "drop *.debug"])
    >>> list(preview(rules, ["web.a", "db.debug", "db.load"], SaidCounters()))
    ['web.a -> www.a', 'db.debug: dropped_by_rule, rule 2', '1 stay, 1 renamed, 1 kept out']
    """
    counted: Counter[str] = Counter()
    for name in names:
        verdict = rules.judge(name)
        if verdict.name is not None and counters.says(verdict.name):
            yield f"{verdict.name}: a counter, whose rates are stored"
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
