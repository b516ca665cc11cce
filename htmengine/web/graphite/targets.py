# SPDX-License-Identifier: MIT
"""Target expressions: paths, numbers, texts, true and false, and functions of them.

In: ``alias(scale(web.{a,b}.*, 60), "a minute")``.  Out: a tree of `Path`, `FunctionCall` and plain values, or
`Refused` that tells where it is wrong.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from typing import TypeAlias

from htmengine.web.refused import Refused

DEEPEST = 20
LONGEST = 8000

_CALL = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)\s*\(")
_KEYWORD = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(?=[^=])")
_NUMBER = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?(?=\s*[,)]|\s*$)")
#: Digits and signs of a number: int() refuses to read thousands of them, float() makes infinity of hundreds.
_LONGEST_NUMBER = 30
_TEXT = re.compile(r"""'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)\"""", re.DOTALL)
_WORD = re.compile(r"(true|false|none)(?=\s*[,)]|\s*$)", re.IGNORECASE)
#: What may stand after a backslash in a path.
_ESCAPED = tuple("(){}[],.='\"\\;|* ?")
_SPACE = re.compile(r"\s*")

_WORDS = {"true": True, "false": False, "none": None}


@dataclass(frozen=True, slots=True)
class Path:
    """A glob of series."""

    text: str


@dataclass(frozen=True, slots=True)
class FunctionCall:
    """A function with what it is given."""

    function: str
    arguments: tuple[Expression, ...]
    keywords: tuple[tuple[str, Expression], ...]
    text: str  #: as it was written


Expression: TypeAlias = "Path | FunctionCall | float | int | str | bool | None"


def parse_target(text: str) -> Path | FunctionCall:
    """Raises `Refused`.

    >>> parse_target("scale(a.*, 2)")
    FunctionCall(function='scale', arguments=(Path(text='a.*'), 2), keywords=(), text='scale(a.*, 2)')
    """
    if len(text) > LONGEST:
        raise Refused(400, f"target: more than {LONGEST} characters")
    parser = _Parser(text)
    found = parser.expression(0)
    parser.space()
    if parser.at != len(text):
        raise parser.bad("end of the expression")
    if not isinstance(found, Path | FunctionCall):
        raise Refused(400, f"target: {text[:60]!r} is neither a path nor a function")
    return found


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def expression(self, depth: int) -> Expression:
        if depth > DEEPEST:
            raise Refused(400, f"target: functions nest deeper than {DEEPEST}")
        self.space()
        start = self.at
        if (quoted := self.take(_TEXT)) is not None:
            return re.sub(r"\\(['\"\\])", r"\1", quoted[1] if quoted[1] is not None else quoted[2])
        if (number := self.take(_NUMBER)) is not None:
            return self.number(number[0])
        if (word := self.take(_WORD)) is not None:
            return _WORDS[word[1].lower()]
        call = self.take(_CALL)
        found: Path | FunctionCall = self.path() if call is None else self.call(call[1], start, depth)
        return self.piped(found, start, depth)

    def piped(self, found: Path | FunctionCall, start: int, depth: int) -> Path | FunctionCall:
        """``a|scale(2)`` is ``scale(a,2)``."""
        self.space()
        while self.skip("|"):
            depth += 1
            self.space()
            call = self.take(_CALL)
            if call is None:
                raise self.bad("a function after '|'")
            if depth > DEEPEST:
                raise Refused(400, f"target: functions nest deeper than {DEEPEST}")
            made = self.call(call[1], start, depth)
            found = replace(made, arguments=(found, *made.arguments))
            self.space()
        return found

    def number(self, text: str) -> float | int:
        if len(text) > _LONGEST_NUMBER:
            raise Refused(400, f"target: {text[:20]}... is a number of more than {_LONGEST_NUMBER} characters")
        found = float(text) if re.search(r"[.eE]", text) else int(text)
        if not math.isfinite(found):
            raise Refused(400, f"target: {text} is too large a number")
        return found

    def call(self, function: str, start: int, depth: int) -> FunctionCall:
        arguments: list[Expression] = []
        keywords: list[tuple[str, Expression]] = []
        self.space()
        while not self.skip(")"):
            if (arguments or keywords) and not self.skip(","):
                raise self.bad("',' or ')'")
            self.space()
            keyword = self.take(_KEYWORD)
            if keyword is not None:
                keywords.append((keyword[1], self.expression(depth + 1)))
            elif keywords:
                raise self.bad("name=value")
            else:
                arguments.append(self.expression(depth + 1))
            self.space()
        return FunctionCall(function, tuple(arguments), tuple(keywords), self.text[start : self.at])

    def path(self) -> Path:
        """Up to a comma, a parenthesis or white space that does not stand within braces or after a backslash."""
        start, braces = self.at, 0
        while self.at < len(self.text):
            character = self.text[self.at]
            if character == "\\" and self.text[self.at + 1 : self.at + 2] in _ESCAPED:
                self.at += 2
                continue
            braces += {"{": 1, "}": -1}.get(character, 0)
            if character in "()'\"|" or character.isspace() or (character == "," and braces <= 0):
                break
            self.at += 1
        if start == self.at:
            raise self.bad("a path, a function, a number or a text")
        return Path(self.text[start : self.at])

    def take(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        found = pattern.match(self.text, self.at)
        if found is not None:
            self.at = found.end()
        return found

    def skip(self, character: str) -> bool:
        if self.text.startswith(character, self.at):
            self.at += 1
            return True
        return False

    def space(self) -> None:
        self.take(_SPACE)

    def bad(self, wanted: str) -> Refused:
        return Refused(400, f"target: {wanted} expected at character {self.at + 1} of {self.text[:100]!r}")
