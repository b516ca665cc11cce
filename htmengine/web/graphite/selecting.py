# SPDX-License-Identifier: MIT
"""Functions that choose among series, or put them in order."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable

from htmengine.web.graphite.aggregations import aggregation, there
from htmengine.web.graphite.expressions import expression
from htmengine.web.graphite.series import Series
from htmengine.web.graphite.signatures import SERIES, Context, Function, Parameter


def _figure(function: str) -> Callable[[Series], float]:
    """A figure of a whole series, less than all others when it has no value."""
    run = aggregation(function)

    def figure(each: Series) -> float:
        found = run(each.values)
        return -math.inf if found is None else found

    return figure


def _filter(name: str, function: str, word: str, keeps: Callable[[float, float], bool]) -> Function:
    def run(_context: Context, series: list[Series], limit: float) -> list[Series]:
        figure = _figure(function)
        return [each for each in series if keeps(figure(each), limit)]

    return Function(
        name, f"Series whose {function} is {word} n.", "Filter Series", (SERIES, Parameter("n", "float")), run
    )


def _first(series: list[Series], most: int, function: str, greatest: bool) -> list[Series]:
    return sorted(series, key=_figure(function), reverse=greatest)[: max(0, most)]


def _ranked(name: str, function: str, greatest: bool) -> Function:
    def run(_context: Context, series: list[Series], most: int) -> list[Series]:
        return _first(series, most, function, greatest)

    word = "greatest" if greatest else "least"
    return Function(name, f"The series with the {word} {function}.", "Filter Series", (SERIES, _MOST), run)


def _highest(_context: Context, series: list[Series], most: int, function: str) -> list[Series]:
    return _first(series, most, function, True)


def _lowest(_context: Context, series: list[Series], most: int, function: str) -> list[Series]:
    return _first(series, most, function, False)


def _limit(_context: Context, series: list[Series], most: int) -> list[Series]:
    return series[: max(0, most)]


def _grep(_context: Context, series: list[Series], pattern: str) -> list[Series]:
    found = expression("target: grep", pattern)
    return [each for each in series if found.search(each.name)]


def _exclude(_context: Context, series: list[Series], pattern: str) -> list[Series]:
    found = expression("target: exclude", pattern)
    return [each for each in series if not found.search(each.name)]


def _natural(name: str) -> str:
    return re.sub(r"\d+", lambda found: found[0].zfill(10), name)


def _sort_by_name(_context: Context, series: list[Series], natural: bool, reverse: bool) -> list[Series]:
    return sorted(series, key=lambda each: _natural(each.name) if natural else each.name, reverse=reverse)


def _sort_by(_context: Context, series: list[Series], function: str, reverse: bool) -> list[Series]:
    return sorted(series, key=_figure(function), reverse=reverse)


def _sort_by_maxima(_context: Context, series: list[Series]) -> list[Series]:
    return sorted(series, key=_figure("max"), reverse=True)


def _sort_by_minima(_context: Context, series: list[Series]) -> list[Series]:
    greatest = _figure("max")
    return sorted((each for each in series if greatest(each) > 0), key=_figure("min"))


def _sort_by_total(_context: Context, series: list[Series]) -> list[Series]:
    return sorted(series, key=_figure("sum"), reverse=True)


def _remove_empty(_context: Context, series: list[Series], share: float) -> list[Series]:
    return [each for each in series if (known := len(there(each.values))) and known >= share * len(each.values)]


def _fallback(_context: Context, series: list[Series], fallback: list[Series]) -> list[Series]:
    return series or fallback


def _most_deviant(_context: Context, series: list[Series], most: int) -> list[Series]:
    return _first([each for each in series if there(each.values)], most, "stddev", True)


_MOST = Parameter("n", "integer", required=False, default=1)
_BY = Parameter("func", "aggFunc", required=False, default="average")
_PATTERN = Parameter("pattern", "string")
_REVERSE = Parameter("reverse", "boolean", required=False, default=False)
FUNCTIONS = (
    _filter("averageAbove", "average", "above", operator.gt),
    _filter("averageBelow", "average", "at most", operator.le),
    _filter("currentAbove", "last", "above", operator.gt),
    _filter("currentBelow", "last", "at most", operator.le),
    _filter("maximumAbove", "max", "above", operator.gt),
    _filter("maximumBelow", "max", "at most", operator.le),
    _filter("minimumAbove", "min", "above", operator.gt),
    _filter("minimumBelow", "min", "at most", operator.le),
    _ranked("highestAverage", "average", greatest=True),
    _ranked("highestCurrent", "last", greatest=True),
    _ranked("highestMax", "max", greatest=True),
    _ranked("lowestAverage", "average", greatest=False),
    _ranked("lowestCurrent", "last", greatest=False),
    Function("highest", "The series with the greatest figure.", "Filter Series", (SERIES, _MOST, _BY), _highest),
    Function("lowest", "The series with the least figure.", "Filter Series", (SERIES, _MOST, _BY), _lowest),
    Function("limit", "The first series.", "Filter Series", (SERIES, Parameter("n", "integer")), _limit),
    Function("grep", "Series whose name an expression finds.", "Filter Series", (SERIES, _PATTERN), _grep),
    Function(
        "exclude", "Series whose name an expression does not find.", "Filter Series", (SERIES, _PATTERN), _exclude
    ),
    Function(
        "sortByName",
        "In the order of their names.",
        "Sorting",
        (SERIES, Parameter("natural", "boolean", required=False, default=False), _REVERSE),
        _sort_by_name,
    ),
    Function("sortBy", "In the order of a figure.", "Sorting", (SERIES, _BY, _REVERSE), _sort_by),
    Function("sortByMaxima", "The greatest maximum first.", "Sorting", (SERIES,), _sort_by_maxima),
    Function("sortByMinima", "The least minimum first, of those that exceed 0.", "Sorting", (SERIES,), _sort_by_minima),
    Function("sortByTotal", "The greatest sum first.", "Sorting", (SERIES,), _sort_by_total),
    Function(
        "removeEmptySeries",
        "Only series with values.",
        "Filter Series",
        (SERIES, Parameter("xFilesFactor", "float", required=False, default=0)),
        _remove_empty,
    ),
    Function(
        "fallbackSeries",
        "Other series if there are none.",
        "Special",
        (SERIES, Parameter("fallback", "seriesList")),
        _fallback,
    ),
    Function(
        "mostDeviant",
        "The series that vary most.",
        "Filter Series",
        (SERIES, Parameter("n", "integer")),
        _most_deviant,
    ),
)
