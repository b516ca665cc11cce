# SPDX-License-Identifier: MIT
"""Our functions beside graphite-web's: the same targets over the same series (tests/support/graphite_oracle.py)."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any
from unittest import TestCase

from htmengine.web.graphite.evaluator import Budget, Evaluator
from htmengine.web.graphite.paths import Pattern
from htmengine.web.graphite.series import Range, Series
from htmengine.web.graphite.targets import parse_target
from tests.support.graphite_series import START, STEPS, UNTIL, points

RESULTS: dict[str, list[Any]] = json.loads((Path(__file__).parent / "graphite_results.json").read_text())


class MadeUp:
    """The made-up series as a source."""

    def by_path(self, path: str, wanted: Range) -> list[Series]:
        pattern = Pattern.parse(path)
        return [self._one(name, path, wanted) for name in sorted(STEPS) if pattern.matches(name)]

    def by_tags(self, conditions: list[str], wanted: Range) -> list[Series]:
        return []

    def _one(self, name: str, path: str, wanted: Range) -> Series:
        start, step, values = points(name, wanted.start, wanted.end)
        return Series(name, name, start, step, values, path)


def same(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-9)


class OracleTest(TestCase):
    def test_every_target_gives_what_graphite_web_gives(self) -> None:
        wrong = {target: told for target in RESULTS if (told := self.difference(target))}
        self.assertEqual(wrong, {})

    def difference(self, target: str) -> str:
        wanted = Range(START, UNTIL, 10_000)
        made = Evaluator(MadeUp(), wanted, Budget(lambda: 0.0)).evaluate(parse_target(target))
        expected = RESULTS[target]
        heads = [[each.name, each.start, each.step, len(each.values)] for each in made]
        wanted_heads = [[name, start, step, len(values)] for name, start, step, values in expected]
        if heads != wanted_heads:
            return f"{heads} instead of {wanted_heads}"
        for series, (name, _, _, values) in zip(made, expected, strict=True):
            for place, (one, other) in enumerate(zip(series.values, values, strict=True)):
                if not same(one, other):
                    return f"{name}[{place}]: {one} instead of {other}"
        return ""
