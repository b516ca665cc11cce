# SPDX-License-Identifier: MIT
"""A backtest as one HTML file: its summary, and a picture of each incident.

In: a `Backtest`, its summary as lines, and the values around an incident.  Out: HTML without scripts.  Pure.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Sequence

from htmengine.history.backtest import Backtest
from htmengine.history.comparison import Entry, Pair
from htmengine.history.rescoring import Floats, Wholes
from htmengine.pictures import VALUES, WIDTH, Scale, document, points
from htmengine.repository.times import to_datetime

#: Incidents that are drawn, at most: those that page first.
MOST_PICTURES = 100
#: Seconds that are drawn before and after an incident.
AROUND_S = 43_200
_LEGEND = "Shaded: the incident. Blue: the metric that moved first. Black: what happened. Red: the backtest."


def report(found: Backtest, lines: Iterable[str], values: Callable[[str, int, int], tuple[Wholes, Floats]]) -> str:
    """The page.  ``values``: a metric's timestamps and values from one time to another."""
    pairs = found.comparison.pairs
    chosen = sorted(pairs, key=_pages, reverse=True)[:MOST_PICTURES]
    pictures = [figure(pair, *values(pair.either.uid, *around(pair))) for pair in pairs if pair in chosen]
    more = len(pairs) - len(chosen)
    text = "\n".join([*lines, f"{more} more incidents have no picture"] if more else lines)
    return document("Backtest", text, _LEGEND, "\n".join(pictures))


def _pages(pair: Pair) -> bool:
    return any(entry is not None and entry.paged for entry in pair)


def around(pair: Pair) -> tuple[int, int]:
    """The time that its picture shows."""
    entries = _entries(pair)
    return min(each.timestamp for each in entries) - AROUND_S, max(each.until for each in entries) + AROUND_S


def _entries(pair: Pair) -> Sequence[Entry]:
    return [entry for entry in pair if entry is not None]


def figure(pair: Pair, times: Wholes, values: Floats) -> str:
    """A picture with its heading."""
    entry, mark = pair.either, pair.mark
    said = f"happened: {outcome(pair.happened)}; backtest: {outcome(pair.replayed)}"
    about = said + (f"; marked {mark.value}" if mark else "")
    heading = html.escape(f"{to_datetime(entry.timestamp)} {entry.rule}: {entry.title}")
    return f"<h2>{heading}</h2>\n<p>{html.escape(about)}<br>{html.escape(entry.reason)}</p>\n{svg(pair, times, values)}"


def outcome(entry: Entry | None) -> str:
    """In words.

    >>> outcome(None)
    'nothing'
    """
    if entry is None:
        return "nothing"
    return "paged" if entry.paged else f"no page ({entry.verdict})"


def svg(pair: Pair, times: Wholes, values: Floats) -> str:
    """The values around an incident as an SVG element; nothing without values."""
    if not len(times):
        return ""
    across = Scale(float(times[0]), float(times[-1]), 0.0, WIDTH)
    up = Scale(float(values.min()), float(values.max()), VALUES - 5.0, 5.0)
    entries = _entries(pair)
    left, right = across(min(each.timestamp for each in entries)), across(max(each.until for each in entries))
    return "\n".join(
        [
            f'<svg width="{WIDTH}" height="{VALUES}" role="img">',
            f'<rect x="{left:.1f}" y="0" width="{max(right - left, 1.0):.1f}" height="{VALUES}"/>',
            f'<polyline points="{points(times, values, across, up)}"/>',
            *_lines(pair, across),
            "</svg>",
        ]
    )


def _lines(pair: Pair, across: Scale) -> Iterable[str]:
    """Where each side begins."""
    for kind, entry in zip(("happened", "alarm"), pair, strict=True):
        if entry is not None:
            at = f"{across(entry.timestamp):.1f}"
            yield f'<line class="{kind}" x1="{at}" y1="0" x2="{at}" y2="{VALUES}"/>'
