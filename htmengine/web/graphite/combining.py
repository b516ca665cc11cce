# SPDX-License-Identifier: MIT
"""Functions that make one series of several: sums, means, shares, groups by nodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from htmengine.web.graphite.aggregations import AGGREGATIONS, SUM, aggregation, percentile
from htmengine.web.graphite.naming import node_key
from htmengine.web.graphite.series import Series, Value, aligned
from htmengine.web.graphite.signatures import SERIES, SERIES_LISTS, Context, Function, Parameter
from htmengine.web.refused import Refused


def _expressions(series: Sequence[Series]) -> str:
    """What a combined series is named after."""
    return ",".join(dict.fromkeys(each.expression or each.path for each in series))


def _combine(series: Sequence[Series], name: str, together: Callable[[Sequence[Value]], Value]) -> list[Series]:
    if not series:
        return []
    level = aligned(series)
    values = [together(column) for column in zip(*(each.values for each in level), strict=True)]
    first = level[0]
    return [Series(name, first.path, first.start, first.step, values, name)]


def aggregate(series: Sequence[Series], function: str, share: float = 0.0) -> list[Series]:
    """One series of all of them; None where fewer than a share of them have a value.  Raises `Refused`."""
    run = aggregation(function)

    def together(column: Sequence[Value]) -> Value:
        known = sum(value is not None for value in column)
        return run(column) if known and known >= share * len(column) else None

    return _combine(series, f"{function.removesuffix('Series')}Series({_expressions(series)})", together)


def _all(lists: Sequence[list[Series]]) -> list[Series]:
    return [each for some in lists for each in some]


def _combined(name: str, function: str, description: str) -> Function:
    def run(_context: Context, *lists: list[Series]) -> list[Series]:
        return aggregate(_all(lists), function)

    return Function(name, description, "Combine", (SERIES_LISTS,), run)


def _count(_context: Context, *lists: list[Series]) -> list[Series]:
    series = _all(lists)
    return _combine(series, f"countSeries({_expressions(series)})", lambda column: float(len(column)))


def _multiply(_context: Context, *lists: list[Series]) -> list[Series]:
    series = _all(lists)
    return series if len(series) == 1 else aggregate(series, "multiply")


def _aggregate(_context: Context, series: list[Series], function: str, share: float | None) -> list[Series]:
    return aggregate(series, function, share or 0.0)


def _percentile_of(_context: Context, series: list[Series], percent: float, between: bool) -> list[Series]:
    if percent <= 0:
        raise Refused(400, "target: percentileOfSeries: n must be above 0")
    name = f"percentileOfSeries({series[0].expression or series[0].path},{percent:g})" if series else ""
    return _combine(series, name, lambda column: percentile(column, percent, between))


def _grouped(series: list[Series], key_of: Callable[[Series], str], function: str) -> list[Series]:
    groups: dict[str, list[Series]] = {}
    for each in series:
        groups.setdefault(key_of(each), []).append(each)
    return [made.named(key) for key, some in groups.items() for made in aggregate(some, function)]


def _group_by_node(_context: Context, series: list[Series], node: int | str, function: str) -> list[Series]:
    return _grouped(series, lambda each: node_key(each, (node,)), function)


def _group_by_nodes(_context: Context, series: list[Series], function: str, *nodes: int | str) -> list[Series]:
    return _grouped(series, lambda each: node_key(each, nodes), function)


def _group_by_tags(_context: Context, series: list[Series], function: str, *tags: str) -> list[Series]:
    names = {each.tags["name"] for each in series}
    name = names.pop() if len(names) == 1 else function
    labels = sorted({str(tag) for tag in tags} - {"name"})

    def key(each: Series) -> str:
        own = each.tags
        first = own["name"] if "name" in tags else name
        return ";".join([first, *(f"{label}={own.get(label, '')}" for label in labels)])

    return _grouped(series, key, function)


def _without(name: str, positions: tuple[int, ...]) -> str:
    return ".".join(part for number, part in enumerate(name.split(".")) if number not in positions)


def _with_wildcards(_context: Context, series: list[Series], function: str, *positions: int) -> list[Series]:
    return _grouped(series, lambda each: _without(each.name, positions), function)


def _named_with_wildcards(name: str, function: str) -> Function:
    def run(context: Context, series: list[Series], *positions: int) -> list[Series]:
        return _with_wildcards(context, series, function, *positions)

    description = "Series that differ in some nodes alone as one; without these nodes it is named."
    return Function(name, description, "Combine", (SERIES, _POSITIONS), run)


def _group(_context: Context, *lists: list[Series]) -> list[Series]:
    return _all(lists)


def _ratio(value: Value, other: Value, factor: float) -> Value:
    return None if value is None or not other else value / other * factor


def _quotient(function: str, one: Series, other: Series, factor: float = 1.0) -> Series:
    name = f"{function}({one.name},{other.name})"
    upper, lower = aligned([one, other])
    pairs = zip(upper.values, lower.values, strict=True)
    return upper.made(name, [_ratio(value, total, factor) for value, total in pairs])


def _divide(_context: Context, series: list[Series], divisor: list[Series]) -> list[Series]:
    if len(divisor) > 1:
        raise Refused(400, f"target: divideSeries: divisorSeries must be one series, not {len(divisor)}")
    if not divisor:
        return [each.made(f"divideSeries({each.name},MISSING)", [None] * len(each.values)) for each in series]
    return [_quotient("divideSeries", each, divisor[0]) for each in series]


def _as_percent(_context: Context, series: list[Series], total: Any) -> list[Series]:
    if isinstance(total, int | float):
        return [_percent_of(each, total) for each in series]
    series = aligned(series)
    if total is None:
        total = [made.named(made.name) for made in _combine(series, f"sumSeries({_expressions(series)})", SUM)]
    if len(total) == len(series) > 1:
        pairs = zip(_by_name(series), _by_name(total), strict=True)
        return [_quotient("asPercent", one, other, 100.0) for one, other in pairs]
    if len(total) != 1:
        raise Refused(400, f"target: asPercent: total must be one series, or one for each, not {len(total)}")
    return [_quotient("asPercent", each, total[0], 100.0) for each in series]


def _by_name(series: list[Series]) -> list[Series]:
    return sorted(series, key=lambda each: each.name)


def _percent_of(series: Series, total: float) -> Series:
    return series.made(f"asPercent({series.name},{total})", [_ratio(value, total, 100.0) for value in series.values])


_POSITIONS = Parameter("positions", "node", several=True)
_FUNCTION = Parameter("func", "aggFunc")
_CALLBACK = Parameter("callback", "aggFunc")
_NODES = Parameter("nodes", "nodeOrTag", several=True)
_SHARE = Parameter("xFilesFactor", "float", required=False)
_GROUPED = "Series with the same nodes as one."
FUNCTIONS = (
    _combined("sumSeries", "sum", "The sum of all series."),
    _combined("averageSeries", "average", "The mean of all series."),
    _combined("minSeries", "min", "The least value of all series."),
    _combined("maxSeries", "max", "The greatest value of all series."),
    _combined("diffSeries", "diff", "The first series less all others."),
    _combined("rangeOfSeries", "rangeOf", "The greatest less the least value of all series."),
    Function("countSeries", "How many series there are.", "Combine", (SERIES_LISTS,), _count),
    _combined("stddevSeries", "stddev", "The standard deviation over all series."),
    Function("multiplySeries", "The product of all series.", "Combine", (SERIES_LISTS,), _multiply),
    Function(
        "aggregate",
        f"All series as one by a function: {', '.join(AGGREGATIONS)}.",
        "Combine",
        (SERIES, _FUNCTION, _SHARE),
        _aggregate,
    ),
    Function(
        "percentileOfSeries",
        "A percentile over all series.",
        "Combine",
        (SERIES, Parameter("n", "float"), Parameter("interpolate", "boolean", required=False, default=False)),
        _percentile_of,
    ),
    Function(
        "groupByNode",
        _GROUPED,
        "Combine",
        (
            SERIES,
            Parameter("nodeNum", "nodeOrTag"),
            Parameter("callback", "aggFunc", required=False, default="average"),
        ),
        _group_by_node,
    ),
    Function("groupByNodes", _GROUPED, "Combine", (SERIES, _CALLBACK, _NODES), _group_by_nodes),
    Function(
        "groupByTags",
        "Series with the same values of tags as one.",
        "Combine",
        (SERIES, _CALLBACK, Parameter("tags", "string", several=True)),
        _group_by_tags,
    ),
    Function(
        "aggregateWithWildcards",
        "Series that differ in some nodes alone as one, by a function.",
        "Combine",
        (SERIES, _FUNCTION, _POSITIONS),
        _with_wildcards,
    ),
    _named_with_wildcards("sumSeriesWithWildcards", "sum"),
    _named_with_wildcards("averageSeriesWithWildcards", "average"),
    Function("group", "Several lists of series as one list.", "Combine", (SERIES_LISTS,), _group),
    Function(
        "divideSeries",
        "Each series by another.",
        "Combine",
        (SERIES, Parameter("divisorSeries", "seriesList")),
        _divide,
    ),
    Function(
        "asPercent",
        "Each series in percent of a number, of another series, or of the sum of all.",
        "Combine",
        (SERIES, Parameter("total", "any", required=False)),
        _as_percent,
    ),
)
