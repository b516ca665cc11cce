# SPDX-License-Identifier: MIT
"""Metrics that moved beside an incident without an alarm."""

from __future__ import annotations

from htmengine.incidents.grouping import Alarm
from htmengine.incidents.replay import Row
from htmengine.incidents.roots import AROUND_S, beside, lasting

AT = 100_000


def rows(*rowids: int) -> list[Row]:
    """A row a minute; row 100 is of the incident's first alarm."""
    return [Row(0, rowid, AT + 60 * (rowid - 100), 2.5) for rowid in rowids]


def begun(*rowids: int) -> int | None:
    run = lasting(rows(*rowids), AT)
    return run[0].rowid if run else None


def alarm(metric: str, since: int = AT, height: float = 2.5) -> Alarm:
    return Alarm(metric, metric, 1, since + 600, height, "", "", since=since)


def test_four_unusual_rows_without_a_gap_are_a_move() -> None:
    assert begun(98, 99, 100, 101) == 98
    assert begun(98, 99, 101, 102, 103) is None
    assert begun(90, 98, 99, 100, 101, 102) == 98


def test_a_metric_moved_with_an_incident_if_its_rows_became_unusual_near_its_beginning() -> None:
    first, last = 100 - AROUND_S // 60, 100 + AROUND_S // 60
    assert begun(*range(first, first + 9)) == first
    assert begun(*range(first - 1, first + 9)) is None  # it was unusual before
    assert begun(*range(last, last + 4)) == last
    assert begun(*range(last + 1, last + 9)) is None


def test_those_of_a_members_host_that_moved_first_are_beside_it_and_at_most_two() -> None:
    others = [alarm("web.c", AT + 2), alarm("db.x", AT), alarm("web.b", AT + 1), alarm("web.d", AT + 3)]
    assert [each.metric for each in beside([alarm("web.a")], others)] == ["web.b", "web.c"]
