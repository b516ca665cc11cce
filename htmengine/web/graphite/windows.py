# SPDX-License-Identifier: MIT
"""Functions of time: moving windows, sums over intervals, the same series at another time, lines.

The work of a window is bounded: its points times the series'.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from htmengine.web.graphite.aggregations import AGGREGATIONS, AVERAGE, aggregation, percentile, there
from htmengine.web.graphite.series import Series, Value
from htmengine.web.graphite.signatures import SERIES, Context, Function, Parameter
from htmengine.web.graphite.times import parse_length
from htmengine.web.refused import Refused

#: Values that one call may look at.
MOST_STEPS = 50_000_000
#: Points that one interval after the other may make.
MOST_INTERVALS = 1_000_000


def _bound(function: str, steps: int, most: int = MOST_STEPS) -> None:
    if steps > most:
        raise Refused(422, f"target: {function}: more than {most} steps; ask for a shorter time or window")


def _moving(
    context: Context,
    series: list[Series],
    size: int | str,
    function: str,
    window: Callable[[Sequence[Value], int], list[Value]],
) -> list[Series]:
    """A window over each series, which begins so much earlier that the first window is full."""
    name = f'"{size}"' if isinstance(size, str) else f"{size}"
    seconds = abs(parse_length(size, function)) if isinstance(size, str) else _seconds(series, size)
    earlier = context.again(context.wanted.moved(-seconds))
    points = [size if isinstance(size, int) else seconds // each.step for each in earlier]
    if min(points, default=1) < 1:
        raise Refused(400, f"target: {function}: windowSize {name} is less than a point")
    _bound(function, sum(len(each.values) * most for each, most in zip(earlier, points, strict=True)))
    return [
        replace(each.made(f"{function}({each.name},{name})", window(each.values, most)), start=each.start + seconds)
        for each, most in zip(earlier, points, strict=True)
    ]


def _seconds(series: list[Series], points: int) -> int:
    return max((each.step for each in series), default=1) * max(0, points)


def _window(
    context: Context, series: list[Series], size: int | str, function: str, share: float | None
) -> list[Series]:
    run = aggregation(function)

    def window(values: Sequence[Value], points: int) -> list[Value]:
        found: list[Value] = []
        for end in range(points + 1, len(values) + 1):
            known = there(values[end - points : end])
            found.append(run(known) if known and len(known) >= (share or 0.0) * points else None)
        return found

    return _moving(context, series, size, f"moving{function[:1].upper()}{function[1:]}", window)


def _named_window(name: str, function: str) -> Function:
    def run(context: Context, series: list[Series], size: int | str, share: float | None) -> list[Series]:
        return _window(context, series, size, function, share)

    description = f"The {function} of the points in a window before each point."
    return Function(name, description, "Calculate", (SERIES, _SIZE, _SHARE), run, of_rows=True)


def _exponential(context: Context, series: list[Series], size: int | str) -> list[Series]:
    seconds = abs(parse_length(size, "exponentialMovingAverage")) if isinstance(size, str) else size

    def window(values: Sequence[Value], points: int) -> list[Value]:
        weight = 2.0 / (seconds + 1)
        mean = AVERAGE(values[:points]) or 0.0
        found: list[Value] = [round(mean, 6)]
        for value in values[points:]:
            if value is not None:
                mean = weight * value + (1 - weight) * mean
            found.append(None if value is None else round(mean, 6))
        return found

    return _moving(context, series, size, "exponentialMovingAverage", window)


def _deviation(_context: Context, series: list[Series], points: int, share: float) -> list[Series]:
    run = aggregation("stddev")
    if points < 1:
        raise Refused(400, "target: stdev: points must be above 0")
    _bound("stdev", sum(len(each.values) for each in series) * points)

    def window(values: Sequence[Value]) -> list[Value]:
        found: list[Value] = []
        for end in range(1, len(values) + 1):
            known = there(values[max(0, end - points) : end])
            found.append(run(known) if known and len(known) / points >= share else None)
        return found

    return [each.made(f"stdev({each.name},{points})", window(each.values)) for each in series]


# --- intervals ------------------------------------------------------------------------------------------


def _interval(text: str, function: str) -> int:
    seconds = parse_length(text, function)
    if seconds <= 0:
        raise Refused(400, f"target: {function}: {text[:60]!r} must be longer than nothing")
    return seconds


def _intervals(series: Series, start: int, end: int, seconds: int, function: str) -> list[Value]:
    """One value an interval, of the points that begin in it."""
    run = aggregation(function)
    _bound("summarize", (end - start) // seconds, MOST_INTERVALS)
    places: list[list[Value]] = [[] for _ in range(-(-(end - start) // seconds))]
    for value, timestamp in series.datapoints:
        places[(timestamp - start) // seconds].append(value)
    return [run(place) if there(place) else None for place in places]


def _summarize(_context: Context, series: list[Series], text: str, function: str, to_from: bool) -> list[Series]:
    seconds = _interval(text, "summarize")
    more = ", true" if to_from else ""
    made = []
    for each in series:
        start = each.start if to_from else each.start - each.start % seconds
        end = each.end if to_from else each.end - each.end % seconds + seconds
        values = _intervals(each, start, end, seconds, function)
        name = f'summarize({each.name}, "{text}", "{function}"{more})'
        made.append(replace(each.made(name, values), start=start, step=seconds))
    return made


def _smart_summarize(_context: Context, series: list[Series], text: str, function: str) -> list[Series]:
    seconds = _interval(text, "smartSummarize")
    return [
        replace(
            each.made(
                f'smartSummarize({each.name}, "{text}", "{function}")',
                _intervals(each, each.start, each.end, seconds, function),
            ),
            step=seconds,
        )
        for each in series
    ]


def _hitcount(_context: Context, series: list[Series], text: str) -> list[Series]:
    seconds = _interval(text, "hitcount")
    return [_hits(each, seconds, f'hitcount({each.name}, "{text}")') for each in series]


def _hits(series: Series, seconds: int, name: str) -> Series:
    """Rates a second times the seconds that they hold, over intervals that end where the series ends."""
    count = -(-(series.end - series.start) // seconds)
    _bound("hitcount", count + len(series.values) * (1 + series.step // seconds), MOST_INTERVALS)
    start = series.end - count * seconds
    hits: list[Value] = [None] * count
    for value, timestamp in series.datapoints:
        at = timestamp
        while value is not None and at < timestamp + series.step:
            place = (at - start) // seconds
            until = min(timestamp + series.step, start + (place + 1) * seconds)
            hits[place] = (hits[place] or 0.0) + value * (until - at)
            at = until
    return replace(series.made(name, hits), start=start, step=seconds)


def _integral_by_interval(context: Context, series: list[Series], text: str) -> list[Series]:
    seconds = _interval(text, "integralByInterval")
    first = context.wanted.start

    def change(one: Series) -> list[Value]:
        total, found = 0.0, []
        for value, timestamp in one.datapoints:
            if (timestamp - first) // seconds != (timestamp - first - one.step) // seconds:
                total = 0.0
            total += value or 0.0
            found.append(total)
        return list(found)

    return [each.made(f"integralByInterval({each.name},'{text}')", change(each)) for each in series]


# --- another time ---------------------------------------------------------------------------------------


def _time_shift(context: Context, series: list[Series], text: str) -> list[Series]:
    text = f"-{text}" if text[:1].isdigit() else text
    seconds = parse_length(text, "timeShift")
    if not series:
        return []
    shifted = context.again(context.wanted.moved(seconds, seconds))
    return [replace(each.named(f'timeShift({each.name}, "{text}")'), start=series[0].start) for each in shifted]


def _line(context: Context, name: str, value: float) -> list[Series]:
    wanted = context.wanted
    step = max(1, (wanted.end - wanted.start) // 2)
    return [Series(name, name, wanted.start, step, [float(value)] * 3, f"constantLine({float(value)})")]


def _constant_line(context: Context, value: float) -> list[Series]:
    return _line(context, str(float(value)), value)


def _threshold(context: Context, value: float, label: str | None, _color: str | None) -> list[Series]:
    return _line(context, label or str(float(value)), value)


# --- a figure of a whole series -------------------------------------------------------------------------


def _percentile(_context: Context, series: list[Series], percent: float) -> list[Series]:
    found = [(each, percentile(each.values, percent)) for each in series]
    return [
        each.made(f"nPercentile({each.name}, {percent:g})", [value] * len(each.values))
        for each, value in found
        if value is not None
    ]


def _beyond_percentile(name: str, keeps: Callable[[float, float], bool]) -> Function:
    def run(_context: Context, series: list[Series], percent: float) -> list[Series]:
        made = []
        for each in series:
            limit = percentile(each.values, percent) or 0.0
            values = [value if value is not None and keeps(value, limit) else None for value in each.values]
            made.append(each.made(f"{name}({each.name}, {percent:g})", values))
        return made

    return Function(name, "No values beyond a percentile.", "Filter Data", (SERIES, _PERCENT), run, of_rows=True)


_SIZE = Parameter("windowSize", "intOrInterval")
_SHARE = Parameter("xFilesFactor", "float", required=False)
_PERCENT = Parameter("n", "float")
_INTERVAL = Parameter("intervalString", "interval")
_SUM = Parameter("func", "aggFunc", required=False, default="sum")
FUNCTIONS = (
    Function(
        "movingWindow",
        f"A function of the points in a window before each point: {', '.join(AGGREGATIONS)}.",
        "Calculate",
        (SERIES, _SIZE, Parameter("func", "aggFunc", required=False, default="average"), _SHARE),
        _window,
        of_rows=True,
    ),
    _named_window("movingAverage", "average"),
    _named_window("movingMedian", "median"),
    _named_window("movingSum", "sum"),
    _named_window("movingMin", "min"),
    _named_window("movingMax", "max"),
    Function(
        "exponentialMovingAverage",
        "A mean in which older points weigh less and less.",
        "Calculate",
        (SERIES, _SIZE),
        _exponential,
        of_rows=True,
    ),
    Function(
        "stdev",
        "The standard deviation of the points up to each point.",
        "Calculate",
        (SERIES, Parameter("points", "integer"), Parameter("windowTolerance", "float", False, 0.1)),
        _deviation,
        of_rows=True,
    ),
    Function(
        "summarize",
        "One value an interval.",
        "Transform",
        (SERIES, _INTERVAL, _SUM, Parameter("alignToFrom", "boolean", False, False)),
        _summarize,
        of_rows=True,
    ),
    Function(
        "smartSummarize",
        "One value an interval, from the range's start on.",
        "Transform",
        (SERIES, _INTERVAL, _SUM),
        _smart_summarize,
        of_rows=True,
    ),
    Function(
        "hitcount", "Rates a second as numbers an interval.", "Transform", (SERIES, _INTERVAL), _hitcount, of_rows=True
    ),
    Function(
        "integralByInterval",
        "The sum of all values so far in each interval.",
        "Transform",
        (SERIES, Parameter("intervalUnit", "interval")),
        _integral_by_interval,
        of_rows=True,
    ),
    Function(
        "timeShift",
        "The same series at another time: 1h is an hour ago.",
        "Transform",
        (SERIES, Parameter("timeShift", "interval")),
        _time_shift,
    ),
    Function("constantLine", "A line at a value.", "Special", (Parameter("value", "float"),), _constant_line),
    Function(
        "threshold",
        "A line at a value, with a name.",
        "Special",
        (
            Parameter("value", "float"),
            Parameter("label", "string", required=False),
            Parameter("color", "string", required=False),
        ),
        _threshold,
    ),
    Function("nPercentile", "A line at a percentile.", "Calculate", (SERIES, _PERCENT), _percentile, of_rows=True),
    _beyond_percentile("removeAbovePercentile", lambda value, limit: value <= limit),
    _beyond_percentile("removeBelowPercentile", lambda value, limit: value >= limit),
)
