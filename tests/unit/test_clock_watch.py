# SPDX-License-Identifier: MIT
"""The clock: what is told when it jumps, or is behind the newest sample."""

from __future__ import annotations

from typing import Any
from unittest import TestCase

from twisted.internet.task import Clock

from htmengine.adapters.datasource import custom
from htmengine.adapters.datasource.custom import ModelSpec
from htmengine.repository import queries, troubles
from htmengine.telemetry.clock_watch import TOLD_S, WATCH_S, ClockWatch
from tests.support.database import InlineDatabase, new_database


class ClockWatchTest(TestCase):
    def setUp(self) -> None:
        self.database = new_database(self)
        inline: Any = InlineDatabase(self.database)
        self.clock = Clock()
        self.clock.advance(1_000_000)
        self.steady_ahead = 0.0  #: of the clock
        self.watch = ClockWatch(
            clock=self.clock,
            database=inline,
            allowed_s=600.0,
            on_failure=lambda failure: failure.raiseException(),
            steady=lambda: self.clock.seconds() + self.steady_ahead,
        )
        self.watch.startService()
        self.addCleanup(self.watch.stopService)

    def troubles(self, after: float = WATCH_S) -> list[str]:
        self.clock.advance(after)
        return [each.message for each in self.database.read_sync(troubles.list_of)]

    def test_a_clock_that_goes_right_is_no_trouble(self) -> None:
        self.steady_ahead = 600.0  # slowly, over weeks
        self.assertEqual(self.troubles(), [])

    def test_a_jump_is_told_with_its_size_for_an_hour(self) -> None:
        self.steady_ahead = 7200.0
        self.assertIn("jumped back by 7200 s", self.troubles()[0])
        self.assertEqual(self.troubles(TOLD_S), [])

    def test_a_jump_forward_is_told_until_the_clock_is_right_again(self) -> None:
        self.steady_ahead = -7200.0
        self.assertIn("jumped forward by 7200 s", self.troubles()[0])
        self.steady_ahead = 0.0
        self.assertEqual(self.troubles(), [])

    def test_a_metric_that_is_ahead_is_named_until_it_is_repaired(self) -> None:
        metric = self.database.run_sync(custom.create_metric, ModelSpec.for_name("f.a"))
        self.database.run_sync(queries.insert_samples, [(metric.uid, 1, 4_070_908_800, 1.0)])
        self.database.run_sync(queries.update_tails, [(metric.uid, 1, 4_070_908_800)])
        self.assertIn("newest sample of f.a (2099-01-01 00:00:00 UTC)", self.troubles()[0])
        self.database.run_sync(custom.repair_metric, metric, int(self.clock.seconds()) + 600)
        self.assertEqual(self.troubles(), [])
