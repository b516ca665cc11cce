# SPDX-License-Identifier: MIT
"""What ``htmengine --help`` says of each command, made from the commands, so that it need not import them.

``python -m tools.command_summaries`` writes htmengine/cli/summaries.json into the checkout that it is started in; a
test holds it and the commands together.
"""

from __future__ import annotations

import json
from pathlib import Path

from htmengine.cli.main import SUMMARIES, main


def summaries() -> dict[str, str]:
    """The first paragraph of each command's help, by the command's name.

    >>> summaries()["nab"].startswith("Score the model on the labelled series")
    True
    """
    return {
        name: " ".join((command.help or "").partition("\n\n")[0].split())
        for name, command in sorted(main.commands.items())
    }


def text() -> str:
    """The file's."""
    return json.dumps(summaries(), indent=2) + "\n"


if __name__ == "__main__":
    (Path.cwd() / "htmengine" / "cli" / SUMMARIES.name).write_text(text())
