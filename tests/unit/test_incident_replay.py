# SPDX-License-Identifier: MIT
"""A rule's past decided once more: the same rows give pages, silences and incidents as they would have live."""

from __future__ import annotations

from collections.abc import Mapping
from unittest import TestCase

from htmengine.incidents.budget import Budget
from htmengine.incidents.grouping import Outcome
from htmengine.incidents.replay import Replay, Replayed, Row

HOUR, DAY = 3600, 86_400


def replayed(
    heights: Mapping[tuple[str, int], float],
    *,
    metrics: str = "abcd",
    hours: int = 30,
    gone: Mapping[str, range] | None = None,
    learning_s: float = 0.0,
) -> Replayed:
    """Rows of some metrics every five minutes; ``heights`` of some, by metric and timestamp."""
    replay = Replay("all", Budget(20.0), list(metrics), 300.0, learning_s)
    for place in range(hours * 12):
        for number, metric in enumerate(metrics):
            timestamp = 300 * place
            if timestamp not in (gone or {}).get(metric, range(0)):
                replay.take(Row(number, place + 1, timestamp, heights.get((metric, timestamp), 1.0)))
    return replay.finish()


class ReplayTest(TestCase):
    def test_a_page_with_its_members_and_its_end(self) -> None:
        found = replayed({("a", 6 * HOUR): 5.0, ("b", 6 * HOUR + 600): 4.5, ("b", 7 * HOUR): 4.5, ("c", DAY): 4.2})
        first, second = found.pages
        self.assertEqual([each.metric for each in first.alarms], ["a", "b"])
        self.assertEqual((first.paged_at, first.incident.active_at), (6 * HOUR, 7 * HOUR))
        self.assertIn("as usual again", first.over or "")
        self.assertEqual((second.paged_at, len(found.judgements)), (DAY, 4))

    def test_nothing_pages_while_a_metric_is_learnt(self) -> None:
        found = replayed({("a", HOUR): 9.0, ("a", 12 * HOUR): 5.0}, learning_s=12 * HOUR)
        self.assertEqual([story.paged_at for story in found.pages], [12 * HOUR])

    def test_a_host_that_falls_silent_is_one_page_and_open_until_it_is_back(self) -> None:
        away = range(10 * HOUR, 20 * HOUR)
        found = replayed({}, metrics="abcde", gone={"a": away, "b": away})
        (story,) = found.pages
        self.assertEqual({each.metric for each in story.alarms}, {"a", "b"})
        self.assertEqual(story.paged_at, 10 * HOUR + 600)  # three steps after the newest row
        self.assertEqual(story.over, "nothing has joined for an hour, and its metrics are as usual again")

    def test_an_outage_of_all_is_no_silence(self) -> None:
        away = range(10 * HOUR, 20 * HOUR)
        self.assertEqual(replayed({}, gone=dict.fromkeys("abcd", away)).judgements, [])

    def test_what_is_held_back_is_listed(self) -> None:
        burst = {("abcd"[n % 4], (2 + 2 * n) * HOUR): 4.0 + n / 10 for n in range(4)}
        found = replayed(burst)
        self.assertEqual([each.outcome for each in found.judgements], [Outcome.PAGED, *[Outcome.PAGED] * 3])
        held = replayed(dict.fromkeys(burst, 4.0))
        self.assertEqual({each.outcome for each in held.judgements[1:]}, {Outcome.HELD_BACK})
        self.assertEqual((len(held.pages), len(held.stories)), (1, 4))
