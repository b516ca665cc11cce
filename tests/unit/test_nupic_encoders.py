# SPDX-License-Identifier: MIT
"""Encoders of a NuPIC model description set the bits that NuPIC 1.0.5 sets.

``tests/data/nupic_encoders.json`` holds descriptions of encoders, how many bits they have, and for values (seconds
since 1970 for the date encoder) which bits NuPIC set, as ranges.  The random distributed scalar encoder is not there:
its bits are drawn by chance.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any
from unittest import TestCase

from htmengine.htm import _core, opf
from htmengine.htm.model import core_params

_CASES = json.loads((Path(__file__).parents[1] / "data/nupic_encoders.json").read_text())
_VALUE = {"type": "RandomDistributedScalarEncoder", "resolution": 1.0}
_VALUE_BITS = 400


def _encoders(*encoders: dict[str, Any]) -> _core.Encoders:
    by_name = {f"c{number}": encoder for number, encoder in enumerate(encoders)}
    description = {"modelParams": {"inferenceType": "TemporalAnomaly", "sensorParams": {"encoders": by_name}}}
    return _core.Encoders(core_params(opf.model_params(description)).encoder)


def _numbers(ranges: str) -> list[int]:
    """The numbers of "0-10,44-53"."""
    numbers: list[int] = []
    for part in ranges.split(","):
        first, _, last = part.partition("-")
        numbers.extend(range(int(first), int(last or first) + 1))
    return numbers


class NupicEncodersTest(TestCase):
    def test_value_encoders(self) -> None:
        for case in _CASES:
            if case["encoder"]["type"] == "DateEncoder":
                continue
            encoders = _encoders(case["encoder"])
            self.assertEqual(encoders.bits, case["width"], case["encoder"])
            for value, ranges in case["rows"]:
                bits = sorted(encoders.encode(0, value)[1])
                self.assertEqual(bits, _numbers(ranges), (case["encoder"], value))

    def test_date_encoders(self) -> None:
        for case in _CASES:
            if case["encoder"]["type"] != "DateEncoder":
                continue
            encoders = _encoders(case["encoder"], _VALUE)
            self.assertEqual(encoders.bits - _VALUE_BITS, case["width"], case["encoder"])
            for timestamp, ranges in case["rows"]:
                bits = sorted(encoders.encode(timestamp, math.nan)[1])
                self.assertEqual(bits, _numbers(ranges), (case["encoder"], timestamp))

    def test_every_encoder_is_there(self) -> None:
        kinds = {case["encoder"]["type"] for case in _CASES}
        self.assertEqual(kinds, {"ScalarEncoder", "LogEncoder", "DeltaEncoder", "DateEncoder"})
        aspects = {name for case in _CASES for name in case["encoder"]}
        self.assertTrue({"timeOfDay", "weekend", "dayOfWeek", "season", "holiday", "holidays"} <= aspects)
