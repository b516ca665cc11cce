# SPDX-License-Identifier: MIT
"""docs/commands.md, made from the commands themselves: ``python -m tools.commands_page > docs/commands.md``.

A test holds the page and the commands together.
"""

from __future__ import annotations

from collections.abc import Iterator

import click

from htmengine.cli.main import main

HEAD = """# Commands

All commands of `htmengine`, made from their own `--help` with `make pages`. Most work on an embedded engine,
running or not, in the folder that `--data-dir` names, or on the distributed one whose configuration `--config` or
`APPLICATION_CONFIG_PATH` names. Exit statuses: 0 done, 1 failed with one line on standard error that says why, 2 wrong
use.
"""


def commands(group: click.Group = main, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """All commands that do something, with their words, in alphabetical order.

    >>> ("model", "snapshot") in [words for words, _ in commands()]
    True
    """
    for name, command in sorted(group.commands.items()):
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


def reference() -> str:
    """The page, in Markdown."""
    return "\n".join([HEAD, *(_section(words, command) for words, command in commands())])


def _section(words: tuple[str, ...], command: click.Command) -> str:
    name = " ".join(("htmengine", *words))
    context = click.Context(command, info_name=name)
    usage = " ".join([name, *command.collect_usage_pieces(context)])
    rows = [
        record
        for option in command.params
        if isinstance(option, click.Option) and (record := option.get_help_record(context)) is not None
    ]
    options = [f"- `{names}`: {_one_line(help)}" if help else f"- `{names}`" for names, help in rows]
    example = (command.epilog or "").rpartition("Example:")[2].strip()
    parts = [
        f"## {name}",
        f"`{usage}`",
        _paragraphs(command.help or ""),
        "\n".join(options),
        f"```console\n$ {example}\n```" if example else "",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _paragraphs(text: str) -> str:
    return "\n\n".join(_one_line(paragraph) for paragraph in text.split("\n\n"))


def _one_line(text: str) -> str:
    return " ".join(text.replace("\b", "").split())


if __name__ == "__main__":
    click.echo(reference(), nl=False)
