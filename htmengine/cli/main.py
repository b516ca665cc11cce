# SPDX-License-Identifier: MIT
"""``htmengine``: all commands.  Each is imported when it is used, so that none waits for what it does not need.

``--help`` and the shells' completion list them without an import: `SUMMARIES` has a line of each.  ``make pages`` makes
that file from the commands.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Iterator, MutableMapping
from pathlib import Path

import click
from click.shell_completion import CompletionItem

#: What each command does, by its name.
SUMMARIES = Path(__file__).with_name("summaries.json")

#: The command's module in this package, and its name there.
_PLACES = {
    "init": ("init", "init"),
    "run": ("engine", "run"),
    "demo": ("demo", "demo"),
    "metrics": ("metrics", "metrics"),
    "monitor": ("metrics", "monitor"),
    "unmonitor": ("metrics", "unmonitor"),
    "delete": ("metrics", "delete"),
    "repair": ("metrics", "repair"),
    "results": ("metrics", "results"),
    "follow": ("metrics", "follow"),
    "why": ("why", "why"),
    "ledger": ("ledger", "ledger"),
    "status": ("status", "status"),
    "model": ("model", "model"),
    "doctor": ("doctor", "doctor"),
    "troubles": ("troubles", "troubles"),
    "rejects": ("rejects", "rejects"),
    "admission": ("admission", "admission"),
    "queues": ("queues", "queues"),
    "export": ("metrics", "export"),
    "import": ("metrics", "import_"),
    "score": ("score", "score"),
    "replay": ("files", "replay"),
    "backtest": ("backtest", "backtest"),
    "load": ("load", "load"),
    "rebuild": ("load", "rebuild"),
    "alert": ("alert", "alert"),
    "maintenance": ("maintenance", "maintenance"),
    "audit": ("audit", "audit"),
    "token": ("token", "token"),
    "backup": ("backup", "backup"),
    "incidents": ("incidents", "incidents"),
    "db": ("admin", "db"),
    "gc": ("admin", "gc"),
    "migrate-from-htmengine": ("migrate", "migrate_from_htmengine"),
    "check-config": ("admin", "check_config"),
    "nab": ("nab", "nab"),
    "benchmark": ("benchmark", "benchmark"),
    "compare": ("compare", "compare"),
    "capacity": ("capacity", "capacity"),
}


class _Commands(MutableMapping[str, click.Command]):
    """The commands by name, imported when they are asked for."""

    def __init__(self, places: dict[str, tuple[str, str]]) -> None:
        self._places = places
        self._added: dict[str, click.Command] = {}

    def __getitem__(self, name: str) -> click.Command:
        if name not in self._added:
            module, attribute = self._places[name]
            self._added[name] = getattr(importlib.import_module(f"htmengine.cli.{module}"), attribute)
        return self._added[name]

    def __setitem__(self, name: str, command: click.Command) -> None:
        self._added[name] = command

    def __delitem__(self, name: str) -> None:
        self._added.pop(name, None)
        del self._places[name]

    def __iter__(self) -> Iterator[str]:
        return iter({**self._places, **self._added})

    def __len__(self) -> int:
        return len({**self._places, **self._added})


class _Main(click.Group):
    """A group that lists its commands without having them."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Called for ``--help``."""
        listed = {name: click.Command(name, help=summary) for name, summary in _summaries(self).items()}
        click.Group(commands=listed).format_commands(ctx, formatter)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Called when a shell completes the command's name."""
        found = [
            CompletionItem(name, help=summary)
            for name, summary in _summaries(self).items()
            if name.startswith(incomplete)
        ]
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]


def _summaries(group: click.Group) -> dict[str, str]:
    known: dict[str, str] = json.loads(SUMMARIES.read_text(encoding="utf-8"))
    return {name: known.get(name, "") for name in sorted(group.commands)}


@click.group(cls=_Main, commands=_Commands(_PLACES), context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="htmengine")
def main() -> None:
    """Streaming anomaly detection for metrics: one HTM model a metric, learning online, no thresholds."""
    if sys.stdout is None:  # closed by who starts it: the next file that is opened would take its place
        sys.stdout = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")


if __name__ == "__main__":
    main()
