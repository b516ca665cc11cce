# SPDX-License-Identifier: MIT
"""Pages with pictures of series: one HTML file each, without scripts, and what its SVG is drawn with."""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]

#: Of a picture, in pixels: its width, and the height of the lane of values.
WIDTH, VALUES = 720, 110

_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 14px sans-serif; max-width: 60em; margin: 2em auto }}
pre {{ overflow-x: auto }}
svg {{ display: block; background: #fafafa; margin-bottom: 1.5em }}
svg rect {{ fill: #f6c7b6 }} svg polyline {{ fill: none; stroke: #24598a }}
svg .height {{ stroke: #666 }} svg .alarm {{ stroke: #c00; stroke-width: 2 }} svg .floor {{ stroke: #bbb }}
svg .happened {{ stroke: #111; stroke-width: 2; stroke-dasharray: 4 3 }}
</style></head><body><h1>{title}</h1>
<pre>{text}</pre>
<p>{legend}</p>
{pictures}
</body></html>
"""


class Scale(NamedTuple):
    """A number's place, in pixels: ``low`` lies at ``begin`` and ``high`` at ``end``.

    >>> Scale(0.0, 10.0, 100.0, 0.0)(2.5)
    75.0
    """

    low: float
    high: float
    begin: float
    end: float

    def __call__(self, number: float) -> float:
        share = (min(max(number, self.low), self.high) - self.low) / ((self.high - self.low) or 1.0)
        return self.begin + share * (self.end - self.begin)


def points(times: NDArray[np.int64], numbers: Floats, across: Scale, up: Scale) -> str:
    """A course of numbers as the points of a line."""
    return " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in zip(times.tolist(), numbers.tolist(), strict=True))


def svg(times: NDArray[np.int64], values: Floats, shaded: tuple[int, int], lines: Iterable[tuple[str, int]]) -> str:
    """Values over time as an SVG element; nothing without values.  ``lines``: (class, time), from top to bottom.

    >>> print(svg(np.array([0, 300, 600]), np.array([1.0, 5.0, 1.0]), (300, 300), [("alarm", 300)]))
    <svg width="720" height="110" role="img">
    <rect x="360.0" y="0" width="1.0" height="110"/>
    <polyline points="0.0,105.0 360.0,5.0 720.0,105.0"/>
    <line class="alarm" x1="360.0" y1="0" x2="360.0" y2="110"/>
    </svg>
    """
    if not len(times):
        return ""
    across = Scale(float(times[0]), float(times[-1]), 0.0, WIDTH)
    up = Scale(float(values.min()), float(values.max()), VALUES - 5.0, 5.0)
    left, right = across(shaded[0]), across(shaded[1])
    places = [(kind, f"{across(at):.1f}") for kind, at in lines]
    return "\n".join(
        [
            f'<svg width="{WIDTH}" height="{VALUES}" role="img">',
            f'<rect x="{left:.1f}" y="0" width="{max(right - left, 1.0):.1f}" height="{VALUES}"/>',
            f'<polyline points="{points(times, values, across, up)}"/>',
            *(f'<line class="{kind}" x1="{at}" y1="0" x2="{at}" y2="{VALUES}"/>' for kind, at in places),
            "</svg>",
        ]
    )


def figure(heading: str, about: Iterable[str], picture: str) -> str:
    """A picture with its heading and lines of text."""
    said = "<br>".join(map(html.escape, about))
    return f"<h2>{html.escape(heading)}</h2>\n<p>{said}</p>\n{picture}"


def document(title: str, text: str, legend: str, pictures: str) -> str:
    """The page; ``pictures`` is HTML, all else is text."""
    about = (html.escape(each) for each in (title, text, legend))
    return _PAGE.format(**dict(zip(("title", "text", "legend"), about, strict=True)), pictures=pictures)
