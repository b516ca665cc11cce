# SPDX-License-Identifier: MIT
"""Many values as one: the functions that Graphite knows by name, such as "average", "max" and "last".

In: values, None where there is none.  Out: one value, or None when nothing can be told.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from typing import TypeAlias

from htmengine.web.refused import Refused

Values: TypeAlias = "Sequence[float | None]"
Aggregation: TypeAlias = Callable[[Values], "float | None"]


def there(values: Values) -> list[float]:
    """Those that are not None."""
    return [value for value in values if value is not None]


def finite(value: float) -> float | None:
    """No number that JSON does not have."""
    return value if math.isfinite(value) else None


def _of_there(together: Callable[[list[float]], float]) -> Aggregation:
    def run(values: Values) -> float | None:
        found = there(values)
        return finite(together(found)) if found else None

    return run


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _deviation(values: list[float]) -> float:
    """
    >>> _deviation([1.0, 3.0]), _deviation([1e200, -1e200])  # a power would raise OverflowError
    (1.0, inf)
    """
    mean = _mean(values)
    return math.sqrt(sum((value - mean) * (value - mean) for value in values) / len(values))


def _product(values: Values) -> float | None:
    found = there(values)
    return finite(math.prod(found)) if len(found) == len(values) else None


def _mean_with_zeros(values: Values) -> float | None:
    return finite(sum(there(values)) / len(values)) if values else None


AVERAGE = _of_there(_mean)
SUM = _of_there(sum)
AGGREGATIONS: dict[str, Aggregation] = {
    "average": AVERAGE,
    "avg": AVERAGE,
    "avg_zero": _mean_with_zeros,
    "median": _of_there(statistics.median),
    "sum": SUM,
    "total": SUM,
    "min": _of_there(min),
    "max": _of_there(max),
    "diff": _of_there(lambda values: values[0] - sum(values[1:])),
    "stddev": _of_there(_deviation),
    "count": _of_there(len),
    "range": _of_there(lambda values: max(values) - min(values)),
    "rangeOf": _of_there(lambda values: max(values) - min(values)),
    "multiply": _product,
    "first": _of_there(lambda values: values[0]),
    "last": _of_there(lambda values: values[-1]),
    "current": _of_there(lambda values: values[-1]),
}


def aggregation(name: str) -> Aggregation:
    """Raises `Refused`; a name may end in "Series".

    >>> aggregation("maxSeries")([1.0, None, 3.0])
    3.0
    """
    found = AGGREGATIONS.get(name.removesuffix("Series"))
    if found is None:
        raise Refused(400, f"target: no aggregation {name[:60]!r}; there are {', '.join(AGGREGATIONS)}")
    return found


def percentile(values: Values, percent: float, between: bool = False) -> float | None:
    """The value at a rank, as Graphite counts ranks; ``between``: of the two beside it when it falls between them."""
    found = sorted(there(values))
    if not found:
        return None
    exact = percent / 100 * (len(found) + 1)
    rank = int(exact) if between else math.ceil(exact)
    value = found[min(max(rank, 1), len(found)) - 1]
    if between and rank < len(found):
        return value + (exact - rank) * (found[max(rank, 0)] - value)
    return value
