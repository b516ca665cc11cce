# SPDX-License-Identifier: MIT
"""How far two models agree, as lines and as one HTML file with pictures.

In: an `Agreement`, the rows and the scores of both.  Out: text, or HTML without scripts.  Pure.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from htmengine.csv_files import format_timestamp
from htmengine.history.agreement import ALARM, Agreement, Alarms, Compared, Floats, Scores, Wholes
from htmengine.pictures import VALUES, WIDTH, Scale, document, points

#: Rows that are drawn before and after an alarm.
AROUND = 150
#: Alarms that are drawn, at most: those that only one has come first.
MOST_PICTURES = 60
#: The height of the lane of scores, in pixels, below that of the values.
LANE = 60
_LEGEND = (
    "Upper lane: the values. Lower lane: HTM Engine's likelihood, blue: the engine's model, grey: {other}."
    " Dashed black: an alarm of the engine's model. Red: one of {other}'s."
)


@dataclass(frozen=True, slots=True)
class Series:
    """What was compared."""

    name: str
    other: str  #: the other model's name
    timestamps: Wholes
    values: Floats
    ours: Scores
    theirs: Scores


def lines(series: Series, found: Agreement) -> Iterator[str]:
    """The agreement as a table."""
    yield f"{series.name}: {found.rows} rows, compared from row {found.first_row + 1} on"
    yield ""
    yield f"{'':<12}{'ours':>10}{series.other:>10}{'difference':>12}{'equal':>8}{'correlation':>13}"
    yield _row("raw score", found.raw)
    yield _row("likelihood", found.likelihood)
    yield ""
    yield f"{f'alarms (from {ALARM})':<26}{'both':>8}{'only ours':>11}{f'only {series.other}':>12}{'agreement':>11}"
    yield _alarms("by the likelihood", found.likelihood_alarms)
    yield _alarms("by all evidence", found.alarms)


def _row(name: str, each: Compared) -> str:
    correlation = "-" if each.correlation is None else f"{each.correlation:.3f}"
    means = f"{each.mean:>10.4f}{each.other_mean:>10.4f}{each.mean_difference:>12.4f}"
    return f"{name:<12}{means}{each.equal:>8.1%}{correlation:>13}"


def _alarms(name: str, each: Alarms) -> str:
    share = "-" if each.agreement is None else f"{each.agreement:.0%}"
    return f"{name:<26}{len(each.both):>8}{len(each.only):>11}{len(each.only_other):>12}{share:>11}"


def alarm_lines(series: Series, alarms: Alarms) -> Iterator[str]:
    """Each alarm with its time, value and who has it."""
    for row, who in sorted(_whose(series, alarms)):
        yield f"{format_timestamp(int(series.timestamps[row]))}  {series.values[row]:<12g}  {who}"


def report(series: Series, found: Agreement) -> str:
    """The page: the whole series, then each alarm by the likelihood."""
    alarms = found.likelihood_alarms
    chosen = sorted(_whose(series, alarms), key=lambda each: (each[1] == "both", each[0]))[:MOST_PICTURES]
    pictures = [_picture(series, alarms, slice(0, found.rows), "The whole series")]
    for row, who in sorted(chosen):
        around = slice(max(0, row - AROUND), row + AROUND)
        heading = f"{format_timestamp(int(series.timestamps[row]))}: {who}"
        pictures.append(_picture(series, alarms, around, heading))
    more = len([*_whose(series, alarms)]) - len(chosen)
    told = [*lines(series, found), *([f"{more} more alarms have no picture"] if more else [])]
    title = f"{series.name}: the engine's model and {series.other}"
    return document(title, "\n".join(told), _LEGEND.format(other=series.other), "\n".join(pictures))


def _whose(series: Series, alarms: Alarms) -> Iterator[tuple[int, str]]:
    yield from ((row, "both") for row in alarms.both)
    yield from ((row, "only ours") for row in alarms.only)
    yield from ((row, f"only {series.other}") for row in alarms.only_other)


def _picture(series: Series, alarms: Alarms, part: slice, heading: str) -> str:
    times, values = series.timestamps[part], series.values[part]
    across = Scale(float(times[0]), float(times[-1]), 0.0, WIDTH)
    up = Scale(float(values.min()), float(values.max()), VALUES - 5.0, 5.0)
    lane = Scale(0.0, 1.0, VALUES + LANE - 5.0, VALUES + 5.0)
    thin = slice(None, None, 1 + len(times) // (4 * WIDTH))
    drawn = [
        f'<polyline points="{points(times[thin], values[thin], across, up)}"/>',
        f'<polyline points="{points(times[thin], series.ours.likelihoods[part][thin], across, lane)}"/>',
        f'<polyline class="height" points="'
        f'{points(times[thin], series.theirs.likelihoods[part][thin], across, lane)}"/>',
        *_bars("happened", [*alarms.both, *alarms.only], series.timestamps, across),
        *_bars("alarm", [*alarms.both, *alarms.only_other], series.timestamps, across),
    ]
    svg = "\n".join([f'<svg width="{WIDTH}" height="{VALUES + LANE}" role="img">', *drawn, "</svg>"])
    return f"<h2>{html.escape(heading)}</h2>\n{svg}"


def _bars(kind: str, rows: Iterable[int], timestamps: Wholes, across: Scale) -> Iterator[str]:
    times = timestamps[np.array([*rows], dtype=np.int64)]
    for time in times[(times >= across.low) & (times <= across.high)].tolist():
        yield f'<line class="{kind}" x1="{across(time):.1f}" y1="0" x2="{across(time):.1f}" y2="{VALUES + LANE}"/>'
