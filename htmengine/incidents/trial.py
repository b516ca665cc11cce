# SPDX-License-Identifier: MIT
"""A rule tried on the stored past: what it would have told, each with its time and reason, beside the usual threshold.

In: a rule, and since when.  Out: a `Trial`.  For the command line, the HTTP API and the page.  Metrics that fell silent
are left out, as rows alone do not tell them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from htmengine.alerts.configuration import AlertConfig, Rule
from htmengine.alerts.evaluation import counts, matches
from htmengine.alerts.maintenance_queries import in_force
from htmengine.incidents import queries
from htmengine.incidents.candidates import height_for
from htmengine.incidents.fleet import Newest
from htmengine.incidents.grouping import Outcome
from htmengine.incidents.past_quiet import NOBODY_QUIET, PastQuiet, past_quiet
from htmengine.incidents.preview import NONE_YOUNG, USUAL, Look, PastRow, alerts_by_threshold, fires, led, preview
from htmengine.incidents.replay import Story
from htmengine.incidents.roots import ranked, title
from htmengine.messages import ScoredRow
from htmengine.process.course import Course
from htmengine.repository.queries import young_rows

#: Rows that are looked at, at most; the newest.
MOST_ROWS = 200_000
#: The share of the work that is done when the rows are read, and when they are judged.
READ, JUDGED = 0.6, 0.95


@dataclass(frozen=True, slots=True)
class Moved:
    """A metric with its first alarm."""

    uid: str
    metric: str
    timestamp: int


@dataclass(frozen=True, slots=True)
class Tried:
    """What a rule would have told, or held back.  ``until``: when the last alarm joined."""

    timestamp: int
    until: int
    paged: bool
    verdict: str  #: paged, or why not
    height: float | None  #: None: by a threshold
    title: str
    reason: str
    metrics: tuple[Moved, ...]
    labels: tuple[tuple[str, str], ...]  #: the rule's, with the severity


@dataclass(frozen=True, slots=True)
class Trial:
    """All of it, in the order of time.  ``usual``: alerts of single metrics by the usual threshold."""

    found: tuple[Tried, ...]
    pages: int
    usual: int
    metrics: int  #: that the rule is for
    complete: bool  #: whether all rows were looked at

    @property
    def summary(self) -> str:
        """In one line.

        >>> Trial((), 3, 41, 2, True).summary
        '3 pages instead of 41 by the threshold 0.99999'
        """
        return f"{self.pages} pages instead of {self.usual} by the threshold {USUAL.threshold:g}"


def trial(conn: Connection, rule: Rule, since: int, config: AlertConfig, course: Course | None = None) -> Trial:
    """What a rule would have done with the rows since an epoch second.

    ``config``: for the maintenance in force.  ``course`` is told how far it is.  Raises `WorkStopped`.
    """
    course = course or Course()
    newest = queries.newest_rows(conn)
    uids = {each.uid: each.name for each in newest if matches(rule, each.name)}
    start = queries.newest_since(conn, since, MOST_ROWS)
    past = course.along(led(queries.past_rows(conn, start)), 0.0, READ, _place(start, newest))
    rows = listed = [each for each in past if each.uid in uids and _matters(rule, each.row)]
    if rule.valid_range is not None:
        outside = queries.rows_outside(conn, uids, rule.valid_range, start, MOST_ROWS)
        rows = in_order([*rows, *outside])
    of_rows = sorted({each.uid for each in rows})
    quiet = past_quiet(conn, since, of_rows, in_force(conn, config), config.general.name_labels)
    judged = course.along(rows, READ, JUDGED, _place(start, newest))
    young = young_rows(conn, of_rows)
    found = told(rule, judged, queries.learnt_since(conn, of_rows), len(uids), quiet, young=young)
    usual = alerts_by_threshold(quiet.outside_maintenance(listed), young)
    pages = sum(each.paged for each in found)
    course.reaches(1.0)
    return Trial(tuple(found), pages, usual, len(uids), start == since)


def _place(start: int, newest: Iterable[Newest]) -> Callable[[PastRow], float]:
    """How far a row is between a time and the newest row of all."""
    length = max((each.timestamp for each in newest), default=start) - start + 1
    return lambda row: (row.row.timestamp - start) / length


def _matters(rule: Rule, row: ScoredRow) -> bool:
    """Whether the rule, or the usual threshold, may do something because of a row."""
    return counts(USUAL, row) or (height_for(rule, row) is not None if rule.has_budget else counts(rule, row))


def told(
    rule: Rule,
    rows: Iterable[PastRow],
    learnt_since: Mapping[str, float],
    metrics: int,
    quiet: PastQuiet = NOBODY_QUIET,
    looks: Sequence[Look] = (),
    young: Mapping[str, int] = NONE_YOUNG,
) -> list[Tried]:
    """What a rule would have told of rows, which are in the order of time; arguments as of `preview` and `fires`."""
    if not rule.has_budget:
        return [_alert(rule, each) for each in fires(rule, quiet.outside_maintenance(rows), young)]
    found = preview(rule, rows, learnt_since, metrics, quiet.reason, looks)
    verdicts = {each.incident_id: each.outcome for each in reversed(found.judgements)}
    return [_tried(rule, story, verdicts[story.incident.id]) for story in found.stories.values()]


def in_order(rows: Sequence[PastRow]) -> list[PastRow]:
    """Each row once; one that has its evidence before the same without."""
    once = {(each.uid, each.row.rowid): each for each in reversed(rows)}
    return sorted(once.values(), key=lambda each: (each.row.timestamp, each.uid, each.row.rowid))


def _tried(rule: Rule, story: Story, verdict: Outcome) -> Tried:
    incident, first = story.incident, story.alarms[0]
    names = list(dict.fromkeys(each.metric for each in ranked(story.alarms)))
    moved = {each.uid: Moved(each.uid, each.metric, each.timestamp) for each in reversed(story.alarms)}
    return Tried(
        timestamp=incident.timestamp,
        until=incident.joined_at,
        paged=incident.paged,
        verdict="paged" if incident.paged else verdict.reason,
        height=incident.height,
        title=title(names),
        reason=first.text or first.kind,
        metrics=tuple(sorted(moved.values(), key=lambda each: each.timestamp)),
        labels=rule.labels_at(incident.height),
    )


def _alert(rule: Rule, each: PastRow) -> Tried:
    at = each.row.timestamp
    reason = f"value {each.row.value:g}, anomaly score {each.row.anomaly:.6f}"
    return Tried(at, at, True, "paged", None, each.metric, reason, (Moved(each.uid, each.metric, at),), rule.labels)
