# SPDX-License-Identifier: MIT
"""Crash points: off by default, obeyed exactly when they are ordered."""

from __future__ import annotations

import os
import signal
from collections.abc import Container
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from htmengine.errors import ConfigError
from htmengine.process import crash_points


class CrashPointsTest(SynchronousTestCase):
    def setUp(self) -> None:
        self.killed: list[int] = []
        self.patch(os, "kill", lambda pid, signal: self.killed.append(signal))
        self.addCleanup(crash_points.arm, {})

    def arm(self, orders: str, once: Path | None = None) -> None:
        crash_points.arm({crash_points.VARIABLE: orders} | ({crash_points.ONCE_VARIABLE: str(once)} if once else {}))

    def reach(self, point: str, *values: Container[float]) -> int:
        crash_points.reached(point, *values)
        return len(self.killed)

    def test_nothing_happens_without_orders(self) -> None:
        crash_points.arm({})
        self.assertEqual([self.reach(point) for point in crash_points.POINTS], [0] * len(crash_points.POINTS))

    def test_a_process_dies_when_the_point_is_reached_the_last_of_the_times(self) -> None:
        self.arm("storer.committed:3")
        self.assertEqual([self.reach("storer.committed") for _ in range(4)], [0, 0, 1, 1])
        self.assertEqual(self.killed, [signal.SIGKILL])
        self.assertEqual(self.reach("storer.published"), 1)

    def test_an_order_may_wait_for_a_value_and_hang(self) -> None:
        self.arm("worker.running=666:hang, storer.storing")
        self.assertEqual(self.reach("worker.running", [1.0, 2.0]), 0)
        self.assertEqual(self.reach("worker.running", [1.0, 666.0]), 1)
        self.assertEqual(self.killed, [signal.SIGSTOP])
        self.assertEqual(self.reach("storer.storing"), 2)

    def test_with_a_file_only_the_first_one_dies(self) -> None:
        once = Path(self.mktemp())
        self.arm("storer.committed", once)
        self.assertEqual(self.reach("storer.committed"), 1)
        self.arm("storer.committed", once)
        self.assertEqual(self.reach("storer.committed"), 1)
        once.unlink()
        self.arm("storer.committed", once)
        self.assertEqual(self.reach("storer.committed"), 2)

    def test_a_bad_order_is_refused_with_what_is_allowed(self) -> None:
        for orders in ("storer.comitted", "storer.committed:soon", "worker.running=much"):
            error = self.assertRaises(ConfigError, self.arm, orders)
            self.assertIn(crash_points.VARIABLE, str(error))
