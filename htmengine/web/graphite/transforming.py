# SPDX-License-Identifier: MIT
"""Functions that make of each series another one, point by point or along its points."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

from htmengine.web.graphite.aggregations import finite, there
from htmengine.web.graphite.series import Series, Value
from htmengine.web.graphite.signatures import SERIES, Context, Function, Parameter

#: Digits to which Graphite rounds rates.
_DIGITS = 6


def _each(series: list[Series], name: str, change: Callable[[float], Value]) -> list[Series]:
    """Each value changed by itself; ``name`` has a place for the series' own."""
    return [
        one.made(name.format(one.name), [None if value is None else change(value) for value in one.values])
        for one in series
    ]


def _along(series: list[Series], name: str, change: Callable[[Series], Sequence[Value]]) -> list[Series]:
    """Each series' values changed in their order."""
    return [one.made(name.format(one.name), change(one)) for one in series]


def _scale(_context: Context, series: list[Series], factor: float) -> list[Series]:
    return _each(series, f"scale({{}},{factor:g})", lambda value: finite(value * factor))


def _scale_to_seconds(_context: Context, series: list[Series], seconds: float) -> list[Series]:
    name = f"scaleToSeconds({{}},{int(seconds)})"
    return _along(
        series,
        name,
        lambda one: [_rounded(None if value is None else value * (seconds / one.step)) for value in one.values],
    )


def _rounded(value: Value) -> Value:
    return None if value is None else round(value, _DIGITS)


def _offset(_context: Context, series: list[Series], factor: float) -> list[Series]:
    return _each(series, f"offset({{}},{factor:g})", lambda value: finite(value + factor))


def _offset_to_zero(_context: Context, series: list[Series]) -> list[Series]:
    def change(one: Series) -> list[Value]:
        least = min(there(one.values), default=0.0)
        return [None if value is None else value - least for value in one.values]

    return _along(series, "offsetToZero({})", change)


def _absolute(_context: Context, series: list[Series]) -> list[Series]:
    return _each(series, "absolute({})", abs)


def _power(value: float, exponent: float) -> Value:
    try:
        return math.pow(value, exponent)
    except (ValueError, OverflowError):
        return None


def _invert(_context: Context, series: list[Series]) -> list[Series]:
    return _each(series, "invert({})", lambda value: _power(value, -1))


def _pow(_context: Context, series: list[Series], exponent: float) -> list[Series]:
    return _each(series, f"pow({{}},{exponent:g})", lambda value: _power(value, exponent))


def _square_root(_context: Context, series: list[Series]) -> list[Series]:
    return _each(series, "squareRoot({})", lambda value: _power(value, 0.5))


def _logarithm(_context: Context, series: list[Series], base: float) -> list[Series]:
    def change(value: float) -> Value:
        return math.log(value, base) if value > 0 and base > 0 and base != 1 else None

    return _each(series, f"log({{}}, {base})", change)


def _round(_context: Context, series: list[Series], digits: int | None) -> list[Series]:
    name = "round({})" if digits is None else f"round({{}},{digits})"
    return _each(series, name, lambda value: float(round(value, digits)) if digits else float(round(value)))


def _min_max(_context: Context, series: list[Series]) -> list[Series]:
    def change(one: Series) -> list[Value]:
        known = there(one.values) or [0.0]
        least, span = min(known), max(known) - min(known)
        return [None if value is None else (value - least) / span if span else 0.0 for value in one.values]

    return _along(series, "minMax({})", change)


def _delay(_context: Context, series: list[Series], steps: int) -> list[Series]:
    def change(one: Series) -> list[Value]:
        gone: list[Value] = [None] * min(abs(steps), len(one.values))
        kept = list(one.values)
        return [*kept[-steps:], *gone] if steps < 0 else [*gone, *kept[: max(0, len(kept) - steps)]]

    return _along(series, f"delay({{}},{steps})", change)


# --- differences and sums -------------------------------------------------------------------------------


def _differences(values: Sequence[Value], change: Callable[[float, float], Value]) -> Iterator[Value]:
    """What ``change`` makes of each value and the one right before it; None where one is missing."""
    before: Value = None
    for value in values:
        yield None if before is None or value is None else change(before, value)
        before = value


def _derivative(_context: Context, series: list[Series]) -> list[Series]:
    def change(one: Series) -> list[Value]:
        return list(_differences(one.values, lambda before, value: finite(value - before)))

    return _along(series, "derivative({})", change)


def _growth(one: Series, most: float | None, least: float | None) -> list[Value]:
    """What a counter has grown by; ``most`` is where it begins again, at ``least``."""

    def grown(before: float, value: float) -> Value:
        if value >= before:
            return finite(value - before)
        if most is not None:
            return most + 1 + value - before - (least or 0)
        return None if least is None else value - least

    def known(value: Value) -> Value:
        outside = value is not None and ((most is not None and value > most) or (least is not None and value < least))
        return None if outside else value

    return list(_differences([known(value) for value in one.values], grown))


def _non_negative_derivative(
    _context: Context, series: list[Series], most: float | None, least: float | None
) -> list[Series]:
    return _along(series, "nonNegativeDerivative({})", lambda one: _growth(one, most, least))


def _per_second(_context: Context, series: list[Series], most: float | None, least: float | None) -> list[Series]:
    def change(one: Series) -> list[Value]:
        return [_rounded(None if value is None else value / one.step) for value in _growth(one, most, least)]

    return _along(series, "perSecond({})", change)


def _integral(_context: Context, series: list[Series]) -> list[Series]:
    def change(one: Series) -> Iterator[Value]:
        total = 0.0
        for value in one.values:
            total += value or 0.0
            yield None if value is None else finite(total)

    return _along(series, "integral({})", lambda one: list(change(one)))


# --- gaps -----------------------------------------------------------------------------------------------


def _transform_null(_context: Context, series: list[Series], default: float) -> list[Series]:
    name = f"transformNull({{}},{default:g})"
    return _along(series, name, lambda one: [default if value is None else value for value in one.values])


def _is_non_null(_context: Context, series: list[Series]) -> list[Series]:
    return _along(series, "isNonNull({})", lambda one: [float(value is not None) for value in one.values])


def _changed(_context: Context, series: list[Series]) -> list[Series]:
    def change(one: Series) -> Iterator[Value]:
        before: Value = None
        for value in one.values:
            yield float(before is not None and value is not None and value != before)
            before = before if value is None else value

    return _along(series, "changed({})", lambda one: list(change(one)))


def _fill(
    values: Sequence[Value], most: float | None, fill: Callable[[float, Value, int], Sequence[Value]]
) -> list[Value]:
    """Gaps of at most ``most`` points (None: of any length), filled by ``fill`` from the values beside them."""
    filled: list[Value] = []
    limit = math.inf if most is None else most
    gap = 0
    before: Value = None
    for value in [*values, None]:
        ended = value is not None or len(filled) + gap == len(values)
        if ended:
            filled += fill(before, value, gap) if before is not None and gap <= limit else [None] * gap
            gap = 0
        if value is None:
            gap += 1
        else:
            filled.append(value)
            before = value
    return filled


def _keep_last_value(_context: Context, series: list[Series], most: float | None) -> list[Series]:
    def keep(before: float, _after: Value, gap: int) -> list[Value]:
        return [before] * gap

    return _along(series, "keepLastValue({})", lambda one: _fill(one.values, most, keep))


def _interpolate(_context: Context, series: list[Series], most: float | None) -> list[Series]:
    def between(before: float, after: Value, gap: int) -> list[Value]:
        if after is None:
            return [None] * gap
        return [before + number * (after - before) / (gap + 1) for number in range(1, gap + 1)]

    return _along(series, "interpolate({})", lambda one: _fill(one.values, most, between))


# --- values that are left out ---------------------------------------------------------------------------


def _remove_above(_context: Context, series: list[Series], limit: float) -> list[Series]:
    return _each(series, f"removeAboveValue({{}}, {limit:g})", lambda value: value if value <= limit else None)


def _remove_below(_context: Context, series: list[Series], limit: float) -> list[Series]:
    return _each(series, f"removeBelowValue({{}}, {limit:g})", lambda value: value if value >= limit else None)


_FACTOR = Parameter("factor", "float")
_LIMIT = Parameter("limit", "float", required=False)
_VALUE = Parameter("n", "float")
_ENDS = (Parameter("maxValue", "float", required=False), Parameter("minValue", "float", required=False))


def _transform(name: str, description: str, run: Callable[..., list[Series]], *more: Parameter) -> Function:
    return Function(name, description, "Transform", (SERIES, *more), run)


FUNCTIONS = (
    _transform("scale", "Each value times a factor.", _scale, _FACTOR),
    _transform("scaleToSeconds", "Values per a number of seconds.", _scale_to_seconds, Parameter("seconds", "float")),
    _transform("offset", "A number added to each value.", _offset, _FACTOR),
    _transform("offsetToZero", "Each value less the series' least.", _offset_to_zero),
    _transform("absolute", "Values without their signs.", _absolute),
    _transform("invert", "1 divided by each value.", _invert),
    _transform("pow", "Each value raised to a power.", _pow, _FACTOR),
    _transform("squareRoot", "The square root of each value.", _square_root),
    _transform("log", "The logarithm of each value.", _logarithm, Parameter("base", "float", False, 10)),
    _transform("round", "Each value rounded.", _round, Parameter("precision", "integer", False)),
    _transform("minMax", "Values between the series' least (0) and greatest (1).", _min_max),
    _transform("delay", "Values later by a number of points.", _delay, Parameter("steps", "integer")),
    Function("derivative", "Each value less the one before.", "Transform", (SERIES,), _derivative, of_rows=True),
    Function(
        "nonNegativeDerivative",
        "What a counter has grown by between two points.",
        "Transform",
        (SERIES, *_ENDS),
        _non_negative_derivative,
        of_rows=True,
    ),
    Function(
        "perSecond", "What a counter has grown by a second.", "Transform", (SERIES, *_ENDS), _per_second, of_rows=True
    ),
    Function("integral", "The sum of all values so far.", "Transform", (SERIES,), _integral, of_rows=True),
    _transform(
        "transformNull", "A number where there is no value.", _transform_null, Parameter("default", "float", False, 0)
    ),
    _transform("isNonNull", "1 where there is a value, 0 where there is none.", _is_non_null),
    Function("changed", "1 where the value has changed.", "Special", (SERIES,), _changed, of_rows=True),
    _transform("keepLastValue", "The last value in gaps of at most limit points.", _keep_last_value, _LIMIT),
    _transform("interpolate", "A straight line in gaps of at most limit points.", _interpolate, _LIMIT),
    Function("removeAboveValue", "No values above n.", "Filter Data", (SERIES, _VALUE), _remove_above),
    Function("removeBelowValue", "No values below n.", "Filter Data", (SERIES, _VALUE), _remove_below),
)
