# SPDX-License-Identifier: MIT
"""Made-up series for Graphite's functions: the same numbers for our functions and for graphite-web's."""

from __future__ import annotations

START, UNTIL = 1_400_000_400, 1_400_003_400  #: a range of 50 minutes that begins with a whole hour
#: Name: seconds between its points.
STEPS = {
    "web.a.load": 60,
    "web.b.load": 60,
    "web.c.load": 120,
    "web.a.hits": 60,
    "db.x.free": 60,
    "db.x.empty": 60,
}


def value_at(name: str, timestamp: int) -> float | None:
    """A value of a series; None where it has a gap."""
    number = timestamp // STEPS[name]
    seed = sum(map(ord, name))
    if name.endswith("empty") or (number + seed) % 11 in (3, 4):
        return None
    if name.endswith("hits"):  # a counter that starts again now and then
        return float(number % 40 * 3 + number % 3)
    return float((number * 7 + seed * 13) % 50 - 20) / 4


def points(name: str, start: int, until: int) -> tuple[int, int, list[float | None]]:
    """First timestamp, step and values of a series, both ends of the range included."""
    step = STEPS[name]
    first, last = -(-start // step) * step, until // step * step
    return first, step, [value_at(name, at) for at in range(first, last + 1, step)]
