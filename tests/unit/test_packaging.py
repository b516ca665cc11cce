# SPDX-License-Identifier: MIT
"""The Debian package fits the units and the configuration; ``make install-paths`` installs it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from unittest import TestCase

from tests.support.install_paths import WAYS, Way, pipx

ROOT = Path(__file__).parents[2]
PACKAGING = ROOT / "packaging"
BUILD = (PACKAGING / "build_deb.sh").read_text()


class PackageTest(TestCase):
    def test_the_scripts_are_shell(self) -> None:
        for script in [PACKAGING / "build_deb.sh", *PACKAGING.glob("debian/p*")]:
            subprocess.run(["sh", "-n", script], check=True)

    def test_the_environment_is_where_the_units_start_it(self) -> None:
        for unit in (ROOT / "conf" / "systemd").glob("*.service"):
            self.assertRegex(unit.read_text(), r"\nExecStart=/opt/htmengine/bin/")
        self.assertIn("venv=$work/root/opt/htmengine\n", BUILD)

    def test_all_that_it_fills_in_is_in_control(self) -> None:
        filled = re.findall(r"s/(@[A-Z]+@)/", BUILD)
        self.assertEqual(sorted(filled), sorted(re.findall(r"@[A-Z]+@", (PACKAGING / "debian/control").read_text())))

    def test_no_configuration_of_the_package_makes_commands_look_for_rabbitmq(self) -> None:
        copied = re.findall(r"^cp (.*) \"\$root/etc/htmengine\"$", BUILD, re.MULTILINE)
        self.assertEqual(copied, ['"$conf/application.conf" "$conf/model-checkpoint.conf" "$conf/model-swapper.conf"'])


class InstallPathsTest(TestCase):
    def test_a_way_that_cannot_be_gone_says_why(self) -> None:
        self.assertEqual(Way("any", pipx, ["no-such-program"]).lacks(), "needs no-such-program")
        self.assertEqual(Way("any", pipx, ["env"]).lacks(), "")

    def test_names_tell_the_ways_apart(self) -> None:
        self.assertEqual(len({way.name for way in WAYS}), len(WAYS))
