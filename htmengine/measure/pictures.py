# SPDX-License-Identifier: MIT
"""Pictures of labelled events: a metric's values, and the heights of its rows below, around a fault.

In: a fleet, its rows' heights P, alarms and how good they are.  Out: one HTML page without scripts: what is given as
text, then for each kind of fault an example that was found and one that was missed.  Called by benchmarks/fleet.py.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from htmengine.measure.fleet import TAIL_S, Alarmed, Event, Fleet, FleetScore, FleetSeries
from htmengine.pictures import VALUES, WIDTH, Floats, Scale, document, points

#: Seconds that are drawn before and after an event.
AROUND_S = 86_400
#: Of a picture, in pixels: the height of the lane of heights P.
HEIGHTS = 40
#: The greatest height P that is drawn.
HIGHEST = 7.0

_LEGEND = (
    "Shaded: the fault. Blue: the metric. Grey: the height of its rows, with the least height of a page. Red: alarms."
)


class Example(NamedTuple):
    """An event and the metric that shows it: the root of an incident.  Times are epoch seconds."""

    kind: str
    found: bool
    series: FleetSeries
    heights: Floats
    first: int
    last: int
    alarms: list[int]


def examples(fleet: Fleet, heights: Sequence[Floats], score: FleetScore, alarms: Iterable[Alarmed]) -> list[Example]:
    """For each kind of fault the first event that was found and the first that was missed; ``heights`` by series."""
    chosen: dict[tuple[str, bool], Event] = {}
    for key, event in score.events.items():
        chosen.setdefault((event.kind, key not in score.hits), event)
    alarms = list(alarms)
    return [_example(fleet, heights, alarms, event, found=not missed) for (_, missed), event in sorted(chosen.items())]


def _example(
    fleet: Fleet, heights: Sequence[Floats], alarms: Iterable[Alarmed], event: Event, *, found: bool
) -> Example:
    kind, name, first, last = event
    place = next(place for place, each in enumerate(fleet.series) if each.name == name)
    ours = [each.timestamp for each in alarms if each.metric == name and first <= each.timestamp <= last + TAIL_S]
    return Example(kind, found, fleet.series[place], heights[place], first, last, ours)


def page(title: str, text: str, chosen: Iterable[Example], floor: float) -> str:
    """The page as HTML; ``floor``: the least height of a page."""
    pictures = "\n".join(figure(each, floor) for each in chosen)
    return document(title, text, _LEGEND, pictures)


def figure(example: Example, floor: float) -> str:
    """An example with its heading."""
    outcome = "found" if example.found else "missed"
    return f"<h2>{html.escape(f'{example.kind}, {outcome}: {example.series.name}')}</h2>\n{svg(example, floor)}"


def svg(example: Example, floor: float) -> str:
    """An example as an SVG element.

    >>> import numpy as np
    >>> series = FleetSeries("cpu", np.array([0, 300, 600]), np.array([1.0, 5.0, 1.0]))
    >>> print(svg(Example("spike", True, series, np.array([0.0, 7.0, 0.0]), 300, 300, [300]), 4.0))
    <svg width="720" height="150" role="img">
    <rect x="360.0" y="0" width="1.0" height="150"/>
    <polyline points="0.0,105.0 360.0,5.0 720.0,105.0"/>
    <line class="floor" x1="0" y1="127.1" x2="720" y2="127.1"/>
    <polyline class="height" points="0.0,150.0 360.0,110.0 720.0,150.0"/>
    <line class="alarm" x1="360.0" y1="0" x2="360.0" y2="110"/>
    </svg>
    """
    first, last = example.first - AROUND_S, example.last + AROUND_S
    inside = (example.series.timestamps >= first) & (example.series.timestamps <= last)
    times, values = example.series.timestamps[inside], example.series.values[inside]
    heights = example.heights[inside]
    if not len(times):
        return ""
    across = Scale(float(times[0]), float(times[-1]), 0.0, WIDTH)
    up = Scale(float(values.min()), float(values.max()), VALUES - 5.0, 5.0)
    below = Scale(0.0, HIGHEST, VALUES + HEIGHTS, VALUES)
    left, width = across(example.first), max(across(example.last) - across(example.first), 1.0)
    places = [f"{across(timestamp):.1f}" for timestamp in example.alarms]
    marks = [f'<line class="alarm" x1="{at}" y1="0" x2="{at}" y2="{VALUES}"/>' for at in places]
    return "\n".join(
        [
            f'<svg width="{WIDTH}" height="{VALUES + HEIGHTS}" role="img">',
            f'<rect x="{left:.1f}" y="0" width="{width:.1f}" height="{VALUES + HEIGHTS}"/>',
            f'<polyline points="{points(times, values, across, up)}"/>',
            f'<line class="floor" x1="0" y1="{below(floor):.1f}" x2="{WIDTH}" y2="{below(floor):.1f}"/>',
            f'<polyline class="height" points="{points(times, heights, across, below)}"/>',
            *marks,
            "</svg>",
        ]
    )
