# SPDX-License-Identifier: MIT
"""What a package installs under ``share/``: the manual page and the completion of bash, zsh and fish.

All are made from the commands: ``python -m tools.shared_files`` writes them into the checkout that it is started in; a
test holds files and commands together.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
from click.shell_completion import BashComplete, FishComplete, ShellComplete, ZshComplete

from htmengine.cli.main import main
from tools.commands_page import commands

MANUAL_PAGE = "share/man/man1/htmengine.1"
COMPLETIONS: dict[str, type[ShellComplete]] = {
    "share/bash-completion/completions/htmengine": BashComplete,
    "share/zsh/site-functions/_htmengine": ZshComplete,
    "share/fish/vendor_completions.d/htmengine.fish": FishComplete,
}

_HEAD = r""".\" SPDX-License-Identifier: MIT
.TH HTMENGINE 1 "" "HTM Engine" "User Commands"
.SH NAME
htmengine \- streaming anomaly detection for metrics
.SH SYNOPSIS
.B htmengine
.I COMMAND
.RI [ OPTIONS ]
.RI [ ARGUMENTS ]
.SH DESCRIPTION
Each metric gets its own HTM model and learns online: no thresholds, no labels, no training run.
Most commands work on an embedded engine, running or not, in the folder that
.B \-\-data\-dir
names, or on the distributed one whose configuration
.B \-\-config
names.
.SH COMMANDS
"""
_TAIL = r""".SH ENVIRONMENT
.TP
.B APPLICATION_CONFIG_PATH
The folder of the configuration, if
.B \-\-config
is not given.
.TP
.BI HTMENGINE__ FILE __ SECTION __ OPTION
Overrides one option of the configuration.
.SH EXIT STATUS
0: done. 1: failed; one line on standard error says why. 2: wrong use.
.SH SEE ALSO
.BR supervisord (1),
.BR twistd (1)
"""


def manual_page() -> str:
    """htmengine(1), in the macros of man(7)."""
    return _HEAD + "".join(line + "\n" for words, command in commands() for line in _command(words, command)) + _TAIL


def completion(shell: type[ShellComplete]) -> str:
    """The script by which a shell asks ``htmengine`` itself how a word goes on."""
    complete = shell(main, {}, "htmengine", "_HTMENGINE_COMPLETE")
    script = complete.source_template % complete.source_vars()
    return "\n".join(line.rstrip() for line in script.strip().splitlines()) + "\n"


def files() -> dict[str, str]:
    """The text of each file, by its path in the checkout."""
    return {MANUAL_PAGE: manual_page(), **{path: completion(shell) for path, shell in COMPLETIONS.items()}}


def write(checkout: Path) -> None:
    """Write the files into a checkout."""
    for path, text in files().items():
        (checkout / path).parent.mkdir(parents=True, exist_ok=True)
        (checkout / path).write_text(text)


def _command(words: tuple[str, ...], command: click.Command) -> Iterator[str]:
    context = click.Context(command, info_name=" ".join(("htmengine", *words)))
    yield f".SS {_roff(' '.join((*words, *command.collect_usage_pieces(context))))}"
    for paragraph in (command.help or "").split("\n\n"):
        yield _roff(paragraph)
        yield ".PP"
    for parameter in command.params:
        if isinstance(parameter, click.Option) and (record := parameter.get_help_record(context)):
            yield from (".TP", f".B {_roff(record[0])}", _roff(record[1]) or r"\&")


def _roff(text: str) -> str:
    r"""A text on one line, as troff reads it.

    >>> print(_roff("'-x' is\n\\b"))
    \&'\-x' is \eb
    """
    line = " ".join(text.replace("\b", "").split()).replace("\\", r"\e").replace("-", r"\-")
    return re.sub(r"^(?=[.'])", r"\\&", line)


if __name__ == "__main__":
    write(Path.cwd())
