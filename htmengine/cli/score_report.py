# SPDX-License-Identifier: MIT
"""The report of ``htmengine score``: the summary, and pictures of incidents and of the days with the highest scores.

In: a summary that has kept its series, and its lines.  Out: one HTML file without scripts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from htmengine.cli.score_output import ScoredRow
from htmengine.cli.score_summary import Summary, incident_line, row_line
from htmengine.incidents.replay import Story
from htmengine.incidents.roots import ranked
from htmengine.pictures import document, figure, svg

#: Incidents that are drawn, at most.
MOST_PICTURES = 100
#: Seconds that are drawn before and after.
AROUND_S = 43_200
#: Rows of a picture: of many rows about so many are drawn.
MOST_POINTS = 2000
_LEGEND = "Blue: the metric. Shaded: the incident. Red: its first alarm, or the row with the day's highest score."


def report(summary: Summary, lines: Sequence[str]) -> str:
    """The page."""
    return document("Scores", "\n".join(lines), _LEGEND, "\n".join(_figures(summary)))


def _figures(summary: Summary) -> Iterator[str]:
    stories = summary.incidents()[:MOST_PICTURES]
    drawn = set()
    for story in stories:
        first = ranked(story.alarms)[0]
        drawn.add((first.metric, first.timestamp))
        yield _of_story(summary, story, first.metric)
    yield from (_of_day(summary, row) for row in summary.days() if (row.metric, row.timestamp) not in drawn)


def _of_story(summary: Summary, story: Story, metric: str) -> str:
    incident = story.incident
    picture = _picture(summary, metric, incident.timestamp, incident.joined_at)
    return figure("Incident" if not incident.paged else "Page", [incident_line(story).strip()], picture)


def _of_day(summary: Summary, row: ScoredRow) -> str:
    return figure("High score", [row_line(row).strip()], _picture(summary, row.metric, row.timestamp, row.timestamp))


def _picture(summary: Summary, metric: str, first: int, last: int) -> str:
    times, values = (summary.series or {})[metric]
    begin, end = times.searchsorted([first - AROUND_S, last + AROUND_S])
    step = 1 + int(end - begin) // MOST_POINTS
    return svg(times[begin:end:step], values[begin:end:step], (first, last), [("alarm", first)])
