# SPDX-License-Identifier: MIT
"""The functions of target expressions, by name.  `describe` is what /functions tells Grafana's query editor."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
from typing import Any

from htmengine.web.graphite import combining, naming, selecting, transforming, windows
from htmengine.web.graphite.aggregations import aggregation
from htmengine.web.graphite.series import Series
from htmengine.web.graphite.signatures import SERIES, Context, Function, Parameter
from htmengine.web.refused import Refused


def _consolidate(context: Context, series: list[Series], function: str) -> list[Series]:
    """The rows themselves, to be made fewer by a function."""
    aggregation(function)
    return [
        replace(each.made(f'consolidateBy({each.name},"{function}")', each.values), consolidation=function)
        for each in series
    ]


def _cumulative(context: Context, series: list[Series]) -> list[Series]:
    return _consolidate(context, series, "sum")


_HERE = (
    Function(
        "consolidateBy",
        "What becomes of points that are too many.",
        "Special",
        (SERIES, Parameter("consolidationFunc", "aggFunc")),
        _consolidate,
        of_rows=True,
    ),
    Function("cumulative", "Points that are too many are added up.", "Special", (SERIES,), _cumulative, of_rows=True),
)
_TABLES = (
    _HERE,
    combining.FUNCTIONS,
    transforming.FUNCTIONS,
    windows.FUNCTIONS,
    selecting.FUNCTIONS,
    naming.FUNCTIONS,
)
FUNCTIONS: dict[str, Function] = {each.name: each for each in chain(*_TABLES)}
#: Other names.
FUNCTIONS |= {
    short: FUNCTIONS[name]
    for short, name in (
        ("sum", "sumSeries"),
        ("avg", "averageSeries"),
        ("min", "minSeries"),
        ("max", "maxSeries"),
        ("pct", "asPercent"),
    )
}


def function_named(name: str) -> Function:
    """Raises `Refused` for one that there is not."""
    if name not in FUNCTIONS:
        raise Refused(400, f"target: no function {name[:60]}; there are {', '.join(sorted(FUNCTIONS))}")
    return FUNCTIONS[name]


def describe(group: str | None = None) -> dict[str, Any]:
    """All functions, or those of a group, as /functions answers."""
    return {name: each.describe(name) for name, each in FUNCTIONS.items() if group is None or each.group == group}
