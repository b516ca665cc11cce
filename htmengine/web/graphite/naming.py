# SPDX-License-Identifier: MIT
"""Functions that give series other names, and those that only matter to a picture."""

from __future__ import annotations

import re

from htmengine.web.graphite.expressions import Substitution
from htmengine.web.graphite.series import Series
from htmengine.web.graphite.signatures import SERIES, Context, Function, Parameter

_FIRST_PATH = re.compile(r"(?:[A-Za-z_]\w*\()*((?:\{[^{}]*\}|\\.|[^(){},'\"\s])+)")


def node_key(series: Series, nodes: tuple[int | str, ...]) -> str:
    """Nodes of a name and values of tags, with dots between them: of a function, the nodes of its first path."""
    path = series.name
    if path.endswith(")"):
        found = _FIRST_PATH.match(path)
        path = found[1] if found else path
    parts = path.split(";")[0].split(".")
    return ".".join(_node(series, parts, node) for node in nodes)


def _node(series: Series, parts: list[str], node: int | str) -> str:
    if isinstance(node, int) and -len(parts) <= node < len(parts):
        return parts[node]
    return series.tags.get(str(node), "")


def _alias(_context: Context, series: list[Series], name: str) -> list[Series]:
    return [each.named(name) for each in series]


def _alias_by_node(_context: Context, series: list[Series], *nodes: int | str) -> list[Series]:
    return [each.named(node_key(each, nodes)) for each in series]


def _alias_sub(_context: Context, series: list[Series], search: str, replacement: str) -> list[Series]:
    substitute = Substitution.parse("target: aliasSub", search, replacement)
    return [each.named(substitute(each.name)) for each in series]


def _part(name: str, start: int, stop: int) -> str:
    """Nodes of what stands in the innermost parentheses."""
    inner = name[name.rfind("(") + 1 :].partition(")")[0]
    nodes = inner.split(".")
    return ".".join(nodes[start : stop or None]).partition(",")[0]


def _substr(_context: Context, series: list[Series], start: int, stop: int) -> list[Series]:
    return [each.named(_part(each.name, start, stop)) for each in series]


def _alias_by_metric(_context: Context, series: list[Series]) -> list[Series]:
    return [each.named(_part(each.name, -1, 0)) for each in series]


def _unchanged(_context: Context, series: list[Series], *_: object) -> list[Series]:
    return series


def _named_after(function: str) -> Function:
    def run(_context: Context, series: list[Series]) -> list[Series]:
        return [each.named(f"{function}({each.name})") for each in series]

    return Function(function, "Changes the picture alone.", "Graph", (SERIES,), run)


def _dashed(_context: Context, series: list[Series], length: float) -> list[Series]:
    return [each.named(f"dashed({each.name}, {length:g})") for each in series]


_NODES = Parameter("nodes", "nodeOrTag", several=True)
_PICTURE = "Changes the picture alone."
FUNCTIONS = (
    Function("alias", "Another name.", "Alias", (SERIES, Parameter("newName", "string")), _alias),
    Function(
        "aliasByNode",
        "Nodes of its path, or tags, as the name; the first node has number 0, the last -1.",
        "Alias",
        (SERIES, _NODES),
        _alias_by_node,
    ),
    Function("aliasByTags", "The same as aliasByNode.", "Alias", (SERIES, _NODES), _alias_by_node),
    Function("aliasByMetric", "The last node as the name.", "Alias", (SERIES,), _alias_by_metric),
    Function(
        "aliasSub",
        "A regular expression's matches in the name replaced.",
        "Alias",
        (SERIES, Parameter("search", "string"), Parameter("replace", "string")),
        _alias_sub,
    ),
    Function(
        "substr",
        "Some of its path's nodes as the name.",
        "Alias",
        (
            SERIES,
            Parameter("start", "node", required=False, default=0),
            Parameter("stop", "node", required=False, default=0),
        ),
        _substr,
    ),
    Function("color", _PICTURE, "Graph", (SERIES, Parameter("theColor", "string")), _unchanged),
    Function("alpha", _PICTURE, "Graph", (SERIES, Parameter("alpha", "float")), _unchanged),
    Function("lineWidth", _PICTURE, "Graph", (SERIES, Parameter("width", "float")), _unchanged),
    Function(
        "dashed", _PICTURE, "Graph", (SERIES, Parameter("dashLength", "float", required=False, default=5)), _dashed
    ),
    _named_after("secondYAxis"),
    _named_after("drawAsInfinite"),
)
