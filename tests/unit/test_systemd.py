# SPDX-License-Identifier: MIT
"""What systemd is told, and its units: hardened, all the same way."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
from pathlib import Path
from unittest import SkipTest, TestCase

from twisted.internet.task import Clock

from htmengine.process.systemd import SystemdNotifier

UNITS = Path(__file__).parents[2] / "conf" / "systemd"
HARDENING = re.compile(r"^# Hardening\n(.*?)\n\n", re.DOTALL | re.MULTILINE)


class NotifierTest(TestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(self.manager.close)
        self.manager.bind("")  # a name in the abstract namespace
        self.manager.setblocking(False)
        name = self.manager.getsockname()
        self.environ = {"NOTIFY_SOCKET": f"@{name[1:].decode()}", "WATCHDOG_USEC": "20000000"}

    def told(self) -> list[str]:
        found = []
        try:
            while True:
                found.append(self.manager.recv(100).decode())
        except BlockingIOError:
            return found

    def test_it_is_told_of_start_life_and_stop(self) -> None:
        notifier = SystemdNotifier(self.clock, self.environ)
        notifier.startService()
        self.assertEqual(self.told(), ["READY=1", "WATCHDOG=1"])
        self.clock.pump([5.0] * 4)
        self.assertEqual(self.told(), ["WATCHDOG=1"] * 2)
        notifier.stopService()
        self.clock.advance(60.0)
        self.assertEqual(self.told(), ["STOPPING=1"])

    def test_without_a_watchdog_it_is_not_told_of_life(self) -> None:
        del self.environ["WATCHDOG_USEC"]
        notifier = SystemdNotifier(self.clock, self.environ)
        notifier.startService()
        self.clock.advance(60.0)
        notifier.stopService()
        self.assertEqual(self.told(), ["READY=1", "STOPPING=1"])

    def test_a_manager_that_has_gone_stops_nothing(self) -> None:
        notifier = SystemdNotifier(self.clock, {"NOTIFY_SOCKET": "/nowhere/notify"})
        notifier.startService()
        notifier.stopService()


class UnitsTest(TestCase):
    def test_all_units_have_the_same_hardening_and_are_watched(self) -> None:
        units = [path.read_text() for path in sorted(UNITS.glob("*.service"))]
        self.assertEqual(len({match.group(1) for unit in units for match in [HARDENING.search(unit)] if match}), 1)
        for unit in units:
            self.assertIn("\nType=notify\n", unit)
            self.assertIn("\nWatchdogSec=", unit)

    def test_a_stop_leaves_the_workers_to_their_scheduler(self) -> None:
        for unit in sorted(UNITS.glob("*.service")):
            self.assertIn("\nKillMode=mixed\n", unit.read_text())

    def test_systemd_finds_little_exposure(self) -> None:
        if not shutil.which("systemd-analyze"):
            raise SkipTest("needs systemd-analyze")
        for unit in sorted(UNITS.glob("*.service")):
            command = ["systemd-analyze", "security", "--offline=yes", "--no-pager", "--threshold=29", str(unit)]
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
            self.assertEqual(done.returncode, 0, done.stdout[-200:] + done.stderr)
