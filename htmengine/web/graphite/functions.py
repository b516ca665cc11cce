# SPDX-License-Identifier: MIT
"""The functions of target expressions: what each is given, and what it does.

In: arguments as the expression has them, series already fetched.  Out: series.  An unknown function, and an argument of
a wrong kind, is refused by name.  `describe` is what /functions tells Grafana's query editor.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from htmengine.web.graphite.expressions import Substitution
from htmengine.web.graphite.series import Range, Series, Value, aligned
from htmengine.web.refused import Refused


@dataclass(frozen=True, slots=True)
class Parameter:
    """``type`` is Graphite's word; ``several``: it takes the rest of the arguments."""

    name: str
    type: str
    required: bool = True
    default: Any = None
    several: bool = False

    def check(self, function: str, value: Any) -> Any:
        """Raises `Refused` unless it is of our type."""
        allowed: tuple[type, ...] = _TYPES[self.type]
        if not isinstance(value, allowed) or isinstance(value, bool):
            raise Refused(400, f"target: {function}: {self.name} must be {_WORDS[self.type]}")
        if isinstance(value, float) and not math.isfinite(value):
            raise Refused(400, f"target: {function}: {self.name} must be finite")
        return value


_TYPES: dict[str, tuple[type, ...]] = {
    "seriesList": (list,),
    "string": (str,),
    "float": (int, float),
    "integer": (int,),
    "node": (int,),
}
_WORDS = {
    "seriesList": "a series",
    "string": "a text in quotes",
    "float": "a number",
    "integer": "a whole number",
    "node": "a whole number",
}


@dataclass(frozen=True, slots=True)
class Function:
    """A function and what it is given; ``run`` takes the range, the expression's text and the arguments."""

    name: str
    description: str
    group: str
    parameters: tuple[Parameter, ...]
    run: Callable[..., list[Series]]

    def __call__(self, wanted: Range, text: str, arguments: Sequence[Any], keywords: dict[str, Any]) -> list[Series]:
        return self.run(wanted, text, *self._bind(arguments, keywords))

    def _bind(self, arguments: Sequence[Any], keywords: dict[str, Any]) -> list[Any]:
        """The arguments in the order of the parameters, checked."""
        rest = list(arguments)
        bound: list[Any] = []
        for parameter in self.parameters:
            if parameter.several:
                given, rest = rest, []
                if not given and parameter.required:
                    raise Refused(400, f"target: {self.name}: {parameter.name} is missing")
                bound += [parameter.check(self.name, value) for value in given]
            elif rest or parameter.name in keywords:
                value = rest.pop(0) if rest else keywords.pop(parameter.name)
                bound.append(parameter.check(self.name, value))
            elif parameter.required:
                raise Refused(400, f"target: {self.name}: {parameter.name} is missing")
            else:
                bound.append(parameter.default)
        if rest or keywords:
            names = ", ".join(parameter.name for parameter in self.parameters)
            raise Refused(400, f"target: {self.name} takes {names} and nothing else")
        return bound

    def describe(self, called: str) -> dict[str, Any]:
        """As Graphite's /functions has it."""
        shown = ", ".join(f"*{each.name}" if each.several else each.name for each in self.parameters)
        return {
            "name": called,
            "function": f"{called}({shown})",
            "description": self.description,
            "module": "htmengine",
            "group": self.group,
            "params": [_describe(each) for each in self.parameters],
        }


def _describe(parameter: Parameter) -> dict[str, Any]:
    found: dict[str, Any] = {"name": parameter.name, "type": parameter.type, "required": parameter.required}
    if parameter.default is not None:
        found["default"] = parameter.default
    if parameter.several:
        found["multiple"] = True
    return found


# --- the functions --------------------------------------------------------------------------------------


def _alias(_wanted: Range, _text: str, series: list[Series], name: str) -> list[Series]:
    return [each.named(name) for each in series]


def _alias_by_node(_wanted: Range, _text: str, series: list[Series], *nodes: int) -> list[Series]:
    def name(path: str) -> str:
        parts = path.split(".")
        return ".".join(parts[node] for node in nodes if -len(parts) <= node < len(parts))

    return [each.named(name(each.path)) for each in series]


def _alias_sub(_wanted: Range, _text: str, series: list[Series], search: str, replacement: str) -> list[Series]:
    substitute = Substitution.parse("target: aliasSub", search, replacement)
    return [each.named(substitute(each.name)) for each in series]


def _scale(_wanted: Range, _text: str, series: list[Series], factor: float) -> list[Series]:
    return [
        Series(
            f"scale({each.name},{factor:g})",
            each.path,
            each.start,
            each.step,
            [None if value is None else _finite(value * factor) for value in each.values],
        )
        for each in series
    ]


def _highest_max(_wanted: Range, _text: str, series: list[Series], most: int) -> list[Series]:
    def greatest(each: Series) -> float:
        return max((value for value in each.values if value is not None), default=-math.inf)

    return sorted(series, key=greatest, reverse=True)[: max(0, most)]


def _constant_line(wanted: Range, _text: str, value: float) -> list[Series]:
    step = max(1, (wanted.end - wanted.start) // 2)
    return [Series(f"{value:g}", f"{value:g}", wanted.start, step, [float(value)] * 3)]


def _combined(combine: Callable[[list[float]], float]) -> Callable[..., list[Series]]:
    """All series as one: at each time what is made of the values that there are."""

    def run(_wanted: Range, text: str, *lists: list[Series]) -> list[Series]:
        series = aligned([each for some in lists for each in some])
        if not series:
            return []
        values: list[Value] = []
        for column in zip(*(each.values for each in series), strict=True):
            there = [value for value in column if value is not None]
            values.append(_finite(combine(there)) if there else None)
        first = series[0]
        return [Series(text, first.path, first.start, first.step, values)]

    return run


def _finite(value: float) -> Value:
    return value if math.isfinite(value) else None


_SERIES = Parameter("seriesList", "seriesList")
_SERIES_LISTS = Parameter("seriesLists", "seriesList", several=True)

_ALL = (
    Function("alias", "Another name.", "Alias", (_SERIES, Parameter("newName", "string")), _alias),
    Function(
        "aliasByNode",
        "The nodes of its path as the name; the first has number 0, the last -1.",
        "Alias",
        (_SERIES, Parameter("nodes", "node", several=True)),
        _alias_by_node,
    ),
    Function(
        "aliasSub",
        "A regular expression's matches in the name replaced.",
        "Alias",
        (_SERIES, Parameter("search", "string"), Parameter("replace", "string")),
        _alias_sub,
    ),
    Function("sumSeries", "The sum of all series.", "Combine", (_SERIES_LISTS,), _combined(math.fsum)),
    Function(
        "averageSeries",
        "The mean of all series.",
        "Combine",
        (_SERIES_LISTS,),
        _combined(lambda values: math.fsum(values) / len(values)),
    ),
    Function("maxSeries", "The greatest value of all series.", "Combine", (_SERIES_LISTS,), _combined(max)),
    Function("scale", "Each value times a factor.", "Transform", (_SERIES, Parameter("factor", "float")), _scale),
    Function(
        "highestMax",
        "The series with the greatest maxima.",
        "Filter Series",
        (_SERIES, Parameter("n", "integer", required=False, default=1)),
        _highest_max,
    ),
    Function("constantLine", "A line at a value.", "Special", (Parameter("value", "float"),), _constant_line),
)
FUNCTIONS = {function.name: function for function in _ALL}
#: Graphite's own short names.
FUNCTIONS |= {"sum": FUNCTIONS["sumSeries"], "avg": FUNCTIONS["averageSeries"], "max": FUNCTIONS["maxSeries"]}


def function_named(name: str) -> Function:
    """Raises `Refused` for one that there is not."""
    if name not in FUNCTIONS:
        raise Refused(400, f"target: no function {name[:60]}; there are {', '.join(sorted(FUNCTIONS))}")
    return FUNCTIONS[name]


def describe(group: str | None = None) -> dict[str, Any]:
    """All functions, or those of a group, as /functions answers."""
    return {name: each.describe(name) for name, each in FUNCTIONS.items() if group is None or each.group == group}
