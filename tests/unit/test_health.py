# SPDX-License-Identifier: MIT
"""Checks pass, fail and hang by name, and none hides another."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from htmengine.process.probes import Probe, condition
from htmengine.telemetry.health import PROBE_S, TROUBLES_S, Health, Report, bus_answers
from htmengine.testing import MemoryBus


async def hangs() -> None:
    await Deferred[None]()


async def breaks() -> None:
    raise OSError("no route to host")


PASSES = condition(lambda: True, lambda: "")
FAILS = condition(lambda: False, lambda: "1 of 2 are ready")


class HealthTest(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()

    def readiness(self, **ready: Probe) -> Report:
        report = Deferred.fromCoroutine(Health(self.clock, {"process": PASSES}, ready).readiness())
        self.clock.advance(PROBE_S)
        result: Any = self.successResultOf(report)
        assert isinstance(result, Report)
        return result

    def test_it_is_ready_when_all_checks_pass(self) -> None:
        report = self.readiness(bus=PASSES)
        self.assertTrue(report.ok)
        self.assertEqual(report.to_json()["status"], "ok")

    def test_each_check_tells_by_name_what_is_wrong(self) -> None:
        report = self.readiness(bus=hangs, database=breaks, workers=FAILS)
        self.assertEqual(
            report.checks,
            {
                "process": "",
                "bus": "no answer within 3 s",
                "database": "no route to host",
                "workers": "1 of 2 are ready",
            },
        )
        self.assertEqual(report.to_json()["checks"]["workers"], {"ok": False, "detail": "1 of 2 are ready"})

    def test_a_process_that_is_not_ready_is_alive_all_the_same(self) -> None:
        health = Health(self.clock, {"process": PASSES}, {"bus": FAILS})
        report = self.successResultOf(Deferred.fromCoroutine(health.aliveness()))
        self.assertEqual(report, Report({"process": ""}))

    def test_a_bus_answers_whether_the_queue_exists_or_not(self) -> None:
        bus = MemoryBus(self.clock)
        bus.startService()
        self.assertTrue(self.readiness(bus=bus_answers(bus, "missing")).ok)
        self.successResultOf(bus.stopService())
        self.assertFalse(self.readiness(bus=bus_answers(bus, "missing")).ok)

    def test_troubles_are_counted_beside_the_checks_and_change_no_status(self) -> None:
        async def two() -> int:
            return 2

        health = Health(self.clock, {"process": PASSES}, {}, two)
        report: Any = self.successResultOf(Deferred.fromCoroutine(health.aliveness()))
        self.assertEqual(report, Report({"process": ""}, troubles=2))
        self.assertTrue(report.ok)
        self.assertEqual(report.to_json()["troubles"], 2)

    def test_a_database_that_hangs_or_fails_keeps_nobody_from_hearing_that_the_process_lives(self) -> None:
        async def hang() -> int:
            await Deferred[None]()
            return 1

        async def fail() -> int:
            raise OSError("gone")

        for count in (hang, fail):
            asked = Deferred.fromCoroutine(Health(self.clock, {"process": PASSES}, {}, count).aliveness())
            self.clock.advance(TROUBLES_S)
            report: Any = self.successResultOf(asked)
            self.assertEqual(report, Report({"process": ""}))
            self.assertNotIn("troubles", report.to_json())
