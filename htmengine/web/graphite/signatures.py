# SPDX-License-Identifier: MIT
"""What a function of target expressions is given: its parameters, checked, and what it may ask for besides.

In: arguments as the expression has them, series already fetched.  Out: the function's series.  An argument of a wrong
kind is refused by name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from htmengine.web.graphite.series import Range, Series
from htmengine.web.refused import Refused


@dataclass(frozen=True, slots=True)
class Context:
    """What a function knows besides its arguments."""

    wanted: Range
    text: str  #: the call as it was written
    again: Callable[[Range], list[Series]]  #: the first argument's series in another range


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
        if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
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
    "nodeOrTag": (int, str),
    "boolean": (bool,),
    "aggFunc": (str,),
    "interval": (str,),
    "intOrInterval": (int, str),
    "any": (list, int, float),
}
_WORDS = {
    "seriesList": "a series",
    "string": "a text in quotes",
    "float": "a number",
    "integer": "a whole number",
    "node": "a whole number",
    "nodeOrTag": "a whole number or the name of a tag in quotes",
    "boolean": "true or false",
    "aggFunc": "the name of a function in quotes",
    "interval": 'a length of time in quotes, such as "10min"',
    "intOrInterval": "a number of points, or a length of time in quotes",
    "any": "a series or a number",
}


@dataclass(frozen=True, slots=True)
class Function:
    """A function and what it is given; ``run`` takes the context and the arguments.

    One that is ``of_rows`` is given series of all rows: what it makes of means would be wrong.
    """

    name: str
    description: str
    group: str
    parameters: tuple[Parameter, ...]
    run: Callable[..., list[Series]]
    of_rows: bool = False

    def __call__(self, context: Context, arguments: Sequence[Any], keywords: dict[str, Any]) -> list[Series]:
        return self.run(context, *self._bind(arguments, keywords))

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


SERIES = Parameter("seriesList", "seriesList")
SERIES_LISTS = Parameter("seriesLists", "seriesList", several=True)
