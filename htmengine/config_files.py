# SPDX-License-Identifier: MIT
"""The text of a configuration's files: every option with its help, at its default or at another value.

In: the options of `htmengine.config`.  Out: conf/*.conf of the source tree, and what ``htmengine init`` writes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any

from htmengine.config import options

#: By (section, option): values that are not the defaults.
Values = Mapping[tuple[str, str], Any]

_HEADS = {
    "application": "The services and the database.",
    "model-swapper": "The Model Scheduler and its queues.",
    "model-checkpoint": "Where models are kept.",
    "rabbitmq": "The broker of the distributed deployment.",
}


def conf(file: str, values: Values | None = None) -> str:
    """The text of ``<file>.conf``: every option with its help, at its default unless ``values`` has another.

    >>> print(conf("model-checkpoint").splitlines()[1])
    # Where models are kept.  docs/configuration.md tells what is allowed.
    >>> "port = 5673" in conf("rabbitmq", {("connection", "port"): 5673})
    True
    """
    lines = ["# SPDX-License-Identifier: MIT", f"# {_HEADS[file]}  docs/configuration.md tells what is allowed."]
    for section, fields in sections(file):
        lines += ["", f"[{section}]"]
        for each in fields:
            value = (values or {}).get((section, each.name), each.default)
            lines += [f"# {each.metadata['help']}", f"{each.name} = {option_text(value)}".rstrip()]
    return "\n".join(lines) + "\n"


def sections(file: str) -> Iterator[tuple[str, list[dataclasses.Field[Any]]]]:
    """The sections of a file, each with its options."""
    of_file = [(section, each) for each_file, section, each in options() if each_file == file]
    for section, group in groupby(of_file, key=lambda pair: pair[0]):
        yield section, [each for _, each in group]


def option_text(value: Any) -> str:
    """A value as it stands in a file.

    >>> option_text(True), option_text(16)
    ('yes', '16')
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)
