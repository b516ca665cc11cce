# SPDX-License-Identifier: MIT
"""Target expressions to series: paths are fetched, functions run; what one request may cost is bounded.

In: expressions, a range of time, and what fetches a path's series.  Out: series.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any, Protocol

from htmengine.web.graphite.functions import function_named
from htmengine.web.graphite.series import Range, Series, consolidated
from htmengine.web.graphite.signatures import Context
from htmengine.web.graphite.targets import FunctionCall, Path
from htmengine.web.refused import Refused

#: Points that functions may make on the way to an answer, and the time that all of it may take.
MOST_COMPUTED = 10_000_000
MOST_SECONDS = 10.0
#: The function that names series by their labels.
BY_TAG = "seriesByTag"


class Source(Protocol):
    """Where series come from.  Both raise `Refused` for what is too much."""

    def by_path(self, path: str, wanted: Range) -> list[Series]:
        """Those whose names match a glob, in the order of their names."""

    def by_tags(self, conditions: list[str], wanted: Range) -> list[Series]:
        """Those whose labels meet all conditions: ``dc=fra``, ``host=~web.*``."""


class Budget:
    """What one request may still cost.  ``now``: seconds of a clock that only goes on."""

    def __init__(self, now: Callable[[], float] = monotonic) -> None:
        self._now = now
        self._end = now() + MOST_SECONDS
        self._computed = 0

    def spend(self, series: list[Series]) -> None:
        """Take off what was computed.  Raises `Refused` when there is nothing left."""
        self._computed += sum(len(each.values) for each in series)
        if self._computed > MOST_COMPUTED:
            raise Refused(422, f"target: functions make more than {MOST_COMPUTED} points; ask for less")
        if self._now() > self._end:
            raise Refused(
                503, f"target: takes more than {MOST_SECONDS:g} s; ask for less", headers={"Retry-After": "5"}
            )


class Evaluator:
    """Evaluates the expressions of one request; what stands in it twice is evaluated once."""

    def __init__(self, source: Source, wanted: Range, budget: Budget) -> None:
        self._source = source
        self._wanted = wanted
        self._budget = budget
        self._known: dict[tuple[Path | FunctionCall, Range], list[Series]] = {}

    def evaluate(self, expression: Path | FunctionCall) -> list[Series]:
        """The series of an expression, with as many points as are wanted."""
        return [consolidated(each, self._wanted.points) for each in self._series(expression, self._wanted)]

    def forget(self) -> None:
        """Free what was made, a little at a time: millions of numbers at once would hold every other thread."""
        while self._known:
            self._known.popitem()

    def _series(self, expression: Path | FunctionCall, wanted: Range) -> list[Series]:
        found = self._known.get((expression, wanted))
        if found is None:
            found = self._made(expression, wanted)
            self._budget.spend(found)
            self._known[expression, wanted] = found
        return list(found)

    def _made(self, expression: Path | FunctionCall, wanted: Range) -> list[Series]:
        if isinstance(expression, Path):
            return self._source.by_path(expression.text, wanted)
        if expression.function == BY_TAG:
            return self._source.by_tags(_texts(expression), wanted)
        function = function_named(expression.function)
        if function.of_rows:
            wanted = wanted.of_rows
        arguments = [self._argument(each, wanted) for each in expression.arguments]
        keywords = {name: self._argument(each, wanted) for name, each in expression.keywords}

        def again(other: Range) -> list[Series]:
            found: list[Series] = self._argument(expression.arguments[0], other)
            return found

        return function(Context(wanted, expression.text, again), arguments, keywords)

    def _argument(self, given: Any, wanted: Range) -> Any:
        return self._series(given, wanted) if isinstance(given, Path | FunctionCall) else given


def _texts(call: FunctionCall) -> list[str]:
    texts = [each for each in call.arguments if isinstance(each, str)]
    if not texts or len(texts) != len(call.arguments) or call.keywords:
        raise Refused(400, f"target: {BY_TAG} takes conditions in quotes, such as 'dc=fra', and nothing else")
    return texts
