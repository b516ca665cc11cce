# SPDX-License-Identifier: MIT
"""Graphite lines that are taken as they are: the same as those that a closer look finds right."""

from __future__ import annotations

import pytest

from htmengine.errors import InvalidSample
from htmengine.messages import MAX_LINE_LENGTH, MAX_NAME_LENGTH, line_at, parse_sample

NOW, AHEAD_S = 1e9, 600.0
NAMES = [
    "cpu",
    "a_b",
    "a..b",
    ".",
    "m;k=v",
    "m;k",
    "ä",
    "a\x00",
    "n" * MAX_NAME_LENGTH,
    "n" * (MAX_NAME_LENGTH + 1),
    "n" * 4097,
    "",
]
NUMBERS = [
    *("60", "6e1", "-1", "-0", "+60", "1_000", "nan", "inf", "-inf", "1e400", "", "x", "\u0661"),
    *("1000000600", "1000000601", "4102444801", "-2.5", "60.9"),
]
ENDS = ["", "\r", " ", " 1", "\u3000", " " * MAX_LINE_LENGTH]
LINES = [
    *(f"{name} 1.5 60" for name in NAMES),
    *(f"cpu {number} 60" for number in NUMBERS),
    *(f"cpu 1.5 {number}" for number in NUMBERS),
    *(f"cpu 1.5 60{end}" for end in ENDS),
]


def looked_at_closely(line: str) -> str:
    try:
        sample = parse_sample(line, NOW, AHEAD_S)
    except InvalidSample as refused:
        return f"refused: {refused.reason}"
    return sample.line if line.split()[2].startswith("-") else line


def taken(line: str) -> str:
    try:
        return line_at(line, NOW, AHEAD_S)
    except InvalidSample as refused:
        return f"refused: {refused.reason}"


@pytest.mark.parametrize("line", LINES)
def test_a_line_is_taken_as_a_closer_look_says(line: str) -> None:
    assert taken(line) == looked_at_closely(line)
