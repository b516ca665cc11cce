# SPDX-License-Identifier: MIT
"""A metric whose rows have another cadence is told, with since when, as long as nothing is found in it."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from htmengine.adapters.datasource import custom
from htmengine.adapters.datasource.custom import ModelSpec
from htmengine.repository import counts, queries
from htmengine.repository.counts import ChangedCadence, MetricScore
from htmengine.repository.queries import MetricStatus
from htmengine.runtime.cadence_changes import LOOK_S, NAMED, SETTLING_S, CadenceChanges, told
from tests.support.database import InlineDatabase, new_database

START = 1_400_000_000


class CadenceChangesTest(SynchronousTestCase):
    def setUp(self) -> None:
        self.database = new_database(self)
        self.clock = Clock()
        self.clock.advance(START)
        inline: Any = InlineDatabase(self.database)
        self.changes = CadenceChanges(database=inline, clock=self.clock)

    def store(self, name: str, interval_s: float | None, since: int | None) -> None:
        uid = self.database.run_sync(custom.create_metric, ModelSpec.for_name(name)).uid
        self.database.run_sync(queries.set_status, uid, MetricStatus.ACTIVE, None)
        score = MetricScore(uid, 1, timestamp=START, interval_s=interval_s, interval_since=since)
        self.database.run_sync(counts.start_scores, score)

    def names(self) -> list[str]:
        return [each.partition(" ")[0] for each in self.successResultOf(self.changes.look())]

    def test_a_change_is_told_for_two_days_and_for_100_values(self) -> None:
        self.store("new", None, None)
        self.store("steady", 60.0, None)
        self.store("minute", 60.0, START - 60)
        self.store("hour", 3600.0, START - 60)
        self.store("long.ago", 60.0, START - SETTLING_S - 60)
        self.assertEqual(self.names(), ["hour", "minute"])
        self.clock.advance(SETTLING_S)
        self.assertEqual(self.names(), ["hour"])
        self.clock.advance(2 * SETTLING_S)
        self.assertEqual(self.names(), [])

    def test_it_looks_once_a_minute(self) -> None:
        self.assertEqual(self.names(), [])
        self.store("minute", 60.0, START)
        self.assertEqual(self.names(), [])
        self.clock.advance(LOOK_S)
        self.assertEqual(self.names(), ["minute"])

    def test_of_many_some_are_named(self) -> None:
        sentences = told([ChangedCadence(f"m{number}", START) for number in range(NAMED + 5)])
        self.assertEqual((len(sentences), sentences[-1]), (NAMED + 1, "5 metrics more have another cadence"))
