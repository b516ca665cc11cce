# SPDX-License-Identifier: MIT
"""Graphite's globs, and the tree of names in which every metric also has its scores and its band.

In: patterns such as ``web.{a,b}.*``.  Out: names that match, node by node: no wildcard reaches over a dot.
"""

from __future__ import annotations

import enum
import fnmatch
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from htmengine.web.refused import Refused

#: Alternatives that the braces of a pattern may make.
MOST_ALTERNATIVES = 1000
#: What a backslash may stand before in a path, so that it does not end it.
_ESCAPED = re.compile(r"""\\([()\]=,.'"\\;| ])""")
#: The same, of characters that mean something in a glob.
_ESCAPED_WILDCARDS = re.compile(r"\\([\[*?])")
_WILDCARDS = re.compile(r"[*?\[\]{}]")
#: Alternatives that hold no others, and what else may stand for several characters.
_BRACES = re.compile(r"\{[^{}]*\}")
_SEVERAL = re.compile(r"\[.*?\]|[*?\[\]{}]", re.DOTALL)


class SeriesKind(enum.Enum):
    """Which numbers of a metric a series shows; the value is the last node of its name."""

    VALUE = ""
    ANOMALY_SCORE = "anomaly_score"
    RAW_ANOMALY_SCORE = "raw_anomaly_score"
    EXPECTED = "expected"
    LOWER = "lower"
    UPPER = "upper"


#: What the engine makes of a metric.
DERIVED = tuple(kind for kind in SeriesKind if kind is not SeriesKind.VALUE)
#: What was expected of its values: found by replay.
BAND = (SeriesKind.EXPECTED, SeriesKind.LOWER, SeriesKind.UPPER)


@dataclass(frozen=True, slots=True)
class Pattern:
    """A glob, as one expression for each of its nodes."""

    text: str
    nodes: tuple[re.Pattern[str], ...]

    @classmethod
    def parse(cls, text: str) -> Pattern:
        """Raises `Refused` for braces that make too many alternatives.

        >>> [bool(Pattern.parse("web.{a,b}[0-9].*").matches(name)) for name in ("web.a1.x", "web.c1.x", "web.a1")]
        [True, False, False]
        """
        text = _ESCAPED.sub(r"\1", _ESCAPED_WILDCARDS.sub(r"[\1]", text))
        return cls(text, tuple(_node(part) for part in _split(text)))

    def matches(self, name: str) -> bool:
        """Whether a whole name matches."""
        parts = name.split(".")
        return len(parts) == len(self.nodes) and self._begins(parts)

    def _begins(self, parts: Sequence[str]) -> bool:
        return all(node.fullmatch(part) for node, part in zip(self.nodes, parts, strict=False))

    @property
    def prefix(self) -> str:
        """What every name that matches begins with.

        >>> Pattern.parse("web.a*.b").prefix
        'web.a'
        """
        found = _WILDCARDS.search(self.text)
        return self.text if found is None else self.text[: found.start()]

    @property
    def stem(self) -> str:
        """What the name of every metric that may have a series or a node that matches begins with.

        The last node of a score or a band is not part of its metric's name.
        """
        return self.prefix.rpartition(".")[0]

    @property
    def rough(self) -> tuple[str, ...]:
        """Globs of ``*`` alone, which takes dots, too: each metric with a series or a node that matches is like one.

        >>> Pattern.parse("web.{a,b}[0-9].*er").rough
        ('web.**.*er*', 'web.**')
        """
        text, shorter = self.text, ""
        while text != shorter:
            text, shorter = _BRACES.sub("*", text), text
        rough = _SEVERAL.sub("*", text)
        may_be_derived = any(self.nodes[-1].fullmatch(kind.value) for kind in DERIVED)
        return (f"{rough}*", rough.rpartition(".")[0]) if may_be_derived else (f"{rough}*",)


class Node(NamedTuple):
    """One place in the tree of names."""

    path: str
    is_leaf: bool

    @property
    def name(self) -> str:
        return self.path.rpartition(".")[2]


def find_nodes(pattern: Pattern, names: Iterable[str], most: int) -> list[Node]:
    """The nodes that match, in order: a metric is a leaf, and a branch with what the engine makes of it.

    ``names`` come in order; when ``most`` nodes are found, no more of them are read.
    """
    found: set[Node] = set()
    for node in _matching(pattern, names):
        found.add(node)
        if len(found) == most:
            break
    return sorted(found)


def _matching(pattern: Pattern, names: Iterable[str]) -> Iterator[Node]:
    """Some of them twice: what is a metric and the beginning of others, or what another is called."""
    depth = len(pattern.nodes)
    branch = "\n"  # many metrics begin with the same nodes: those are matched once
    for name in names:
        if name.startswith(branch):
            continue
        parts = name.split(".", depth)
        if len(parts) > depth:
            branch = name[: -len(parts[-1])]
            if pattern._begins(parts):
                yield Node(branch[:-1], is_leaf=False)
        elif len(parts) == depth and pattern._begins(parts):
            yield Node(name, is_leaf=False)
            yield Node(name, is_leaf=True)
        elif len(parts) == depth - 1 and pattern._begins(parts):
            yield from _derived(pattern, name)


def _derived(pattern: Pattern, name: str) -> Iterator[Node]:
    """What the engine makes of a metric, as far as its last node matches."""
    matching = (kind.value for kind in DERIVED if pattern.nodes[-1].fullmatch(kind.value))
    return (Node(f"{name}.{kind}", is_leaf=True) for kind in matching)


def find_series(pattern: Pattern, names: Iterable[str]) -> Iterator[tuple[str, SeriesKind]]:
    """(metric, kind) for each series that matches; a metric that is itself called like a score wins."""
    known = list(names)
    whole = {name for name in known if pattern.matches(name)}
    for name in known:
        if name in whole:
            yield name, SeriesKind.VALUE
        for kind in DERIVED:
            path = f"{name}.{kind.value}"
            if path not in whole and pattern.matches(path):
                yield name, kind


def _split(text: str) -> list[str]:
    """At the dots, except those within braces."""
    parts, depth, start = [], 0, 0
    for at, character in enumerate(text):
        depth += {"{": 1, "}": -1}.get(character, 0)
        if character == "." and depth <= 0:
            parts.append(text[start:at])
            start = at + 1
    return [*parts, text[start:]]


def _node(text: str) -> re.Pattern[str]:
    return re.compile("|".join(_translate(each) for each in _alternatives(text)), re.DOTALL)


def _translate(glob: str) -> str:
    """A glob without braces; [!a] is fnmatch's for a set's complement, and no wildcard is a dot."""
    return f"(?:{fnmatch.translate(glob)})"


def _alternatives(text: str) -> list[str]:
    """``a{b,c}d`` as ``abd`` and ``acd``; braces that are not closed are themselves."""
    done, waiting = [], [text]
    while waiting:
        each = waiting.pop(0)
        braces = re.search(r"\{([^{}]*)\}", each)
        if braces is None:
            done.append(each)
        else:
            waiting += [each[: braces.start()] + part + each[braces.end() :] for part in braces[1].split(",")]
        if len(done) + len(waiting) > MOST_ALTERNATIVES:
            raise Refused(400, f"target: {text[:60]!r} has more than {MOST_ALTERNATIVES} alternatives")
    return done
