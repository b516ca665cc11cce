# SPDX-License-Identifier: MIT
"""Regular expressions that requests bring: RE2's, which take time in proportion to the text, never more.

In: a pattern and a replacement from a client.  Out: what finds and replaces, or `Refused` that tells what is wrong.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from htmengine.errors import InvalidRule
from htmengine.selectors import linear_expression
from htmengine.web.refused import Refused

LONGEST_PATTERN = 1000
#: What a replacement may make of a name.
LONGEST_NAME = 8000

_REFERENCE = re.compile(r"\\(?:([0-9]{1,2})|g<([0-9]{1,2})>|(\\))")


def expression(where: str, pattern: str) -> Any:
    """RE2's compiled expression, whose ``search`` takes a text.  Raises `Refused`; ``where`` begins its text."""
    if len(pattern) > LONGEST_PATTERN:
        raise Refused(400, f"{where}: a regular expression has at most {LONGEST_PATTERN} characters")
    try:
        return linear_expression(pattern)
    except InvalidRule as error:
        raise Refused(400, f"{where}: {error}; those of RE2 are allowed") from None


@dataclass(frozen=True, slots=True)
class Substitution:
    """Replaces an expression's matches; ``\\1`` and ``\\g<1>`` stand for its groups, ``\\\\`` for a backslash.

    >>> Substitution.parse("target", "(^.*$)", r"\\1 A")("web.cpu")
    'web.cpu A'
    """

    where: str
    pattern: Any
    parts: tuple[str | int, ...]  #: of the replacement: texts and numbers of groups

    @classmethod
    def parse(cls, where: str, search: str, replacement: str) -> Substitution:
        """Raises `Refused`."""
        found = cls(where, expression(where, search), tuple(_parts(replacement)))
        if any(isinstance(part, int) and part > found.pattern.groups for part in found.parts):
            raise Refused(400, f"{where}: {replacement[:60]!r} names a group that {search[:60]!r} does not have")
        return found

    def __call__(self, text: str) -> str:
        """Raises `Refused` for a name that becomes too long."""
        length = 0

        def replaced(match: Any) -> str:
            nonlocal length
            new = "".join(part if isinstance(part, str) else match.group(part) or "" for part in self.parts)
            length += len(new)
            if length > LONGEST_NAME:
                raise Refused(400, f"{self.where}: makes a name of more than {LONGEST_NAME} characters")
            return new

        return str(self.pattern.sub(replaced, text))


def _parts(replacement: str) -> list[str | int]:
    parts: list[str | int] = []
    at = 0
    for found in _REFERENCE.finditer(replacement):
        group = found[1] or found[2]
        parts += [replacement[at : found.start()], "\\" if group is None else int(group)]
        at = found.end()
    return [*parts, replacement[at:]]
