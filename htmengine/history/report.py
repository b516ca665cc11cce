# SPDX-License-Identifier: MIT
"""A backtest as one HTML file: its summary, and a picture of each incident.

In: a `Backtest`, its summary as lines, and the values around an incident.  Out: HTML without scripts.  Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from htmengine.history.backtest import Backtest
from htmengine.history.comparison import Entry, Pair
from htmengine.history.rescoring import Floats, Wholes
from htmengine.pictures import document, figure, svg
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
    pictures = [_figure(pair, *values(pair.either.uid, *around(pair))) for pair in pairs if pair in chosen]
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


def _figure(pair: Pair, times: Wholes, values: Floats) -> str:
    entry, mark = pair.either, pair.mark
    said = f"happened: {outcome(pair.happened)}; backtest: {outcome(pair.replayed)}"
    about = said + (f"; marked {mark.value}" if mark else "")
    entries = _entries(pair)
    shaded = min(each.timestamp for each in entries), max(each.until for each in entries)
    kinds = zip(("happened", "alarm"), pair, strict=True)
    picture = svg(times, values, shaded, [(kind, each.timestamp) for kind, each in kinds if each is not None])
    return figure(f"{to_datetime(entry.timestamp)} {entry.rule}: {entry.title}", (about, entry.reason), picture)


def outcome(entry: Entry | None) -> str:
    """In words.

    >>> outcome(None)
    'nothing'
    """
    if entry is None:
        return "nothing"
    return "paged" if entry.paged else f"no page ({entry.verdict})"
