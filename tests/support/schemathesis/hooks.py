# SPDX-License-Identifier: MIT
"""What schemathesis cannot know: the texts that have a format of their own."""

from __future__ import annotations

import schemathesis
from hypothesis import strategies

from htmengine.web.views import encode_key

_NAMES = strategies.text("abc.", min_size=1, max_size=5)
_NUMBERS = strategies.integers(0, 10**9)
_VALUES = strategies.floats(allow_nan=False, allow_infinity=False)

_METRIC_LINES = strategies.lists(
    strategies.builds(lambda value, time: f"{value!r} {time}\n", _VALUES, _NUMBERS), min_size=1, max_size=5
)
_LINES = strategies.builds(lambda name, lines: [f"{name} {line}" for line in lines], _NAMES, _METRIC_LINES)

for name, texts in {
    "metric-name": strategies.text(strategies.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=20),
    "metric-page-key": strategies.builds(lambda name: encode_key([name, 0.5]), _NAMES),
    "anomaly-page-key": strategies.builds(lambda name, time: encode_key([time, name, 1]), _NAMES, _NUMBERS),
    "metric-sample-lines": strategies.builds("".join, _METRIC_LINES),
    "sample-lines": strategies.builds("".join, _LINES),
}.items():
    schemathesis.openapi.format(name, texts)
