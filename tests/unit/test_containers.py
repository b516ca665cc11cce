# SPDX-License-Identifier: MIT
"""Image and compose file: every option and service exists, no root, no secret."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from unittest import TestCase

import yaml

from htmengine.config import FILES, load
from htmengine.process.lifecycle import END_S

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
IMAGE = (ROOT / "Containerfile").read_text()
OURS = {name: service for name, service in COMPOSE["services"].items() if service["image"] == "htmengine"}
TAPS = set(re.findall(r'"(htmengine-\w+)"', (ROOT / "twisted" / "plugins" / "htmengine_plugins.py").read_text()))


class ComposeTest(TestCase):
    def test_every_service_of_the_engine_is_there(self) -> None:
        started = {service["command"][-1] for name, service in OURS.items() if name != "schema"}
        self.assertEqual(started, TAPS)

    def test_all_options_exist_and_reach_the_servers(self) -> None:
        for name, service in OURS.items():
            environ = {
                option: re.sub(r"^\$\{(\w+):.*", r"\1", value) for option, value in service["environment"].items()
            }
            config = load(None, environ)
            self.assertIn(config.repository.host, COMPOSE["services"], name)
            self.assertIn(config.connection.host, COMPOSE["services"], name)
        self.assertEqual(config.repository.db, COMPOSE["services"]["mariadb"]["environment"]["MARIADB_DATABASE"])

    def test_secrets_come_from_outside(self) -> None:
        for name, service in COMPOSE["services"].items():
            for option, value in service["environment"].items():
                if re.search(r"PASS(WD|WORD)?$|TOKEN$", option) and "RANDOM" not in option:
                    self.assertRegex(value, r"^\$\{HTMENGINE_\w+:\?", f"{name}: {option}")
        self.assertNotRegex(IMAGE, r"(?i)password|token|secret")

    def test_ports_are_the_hosts_own_by_default(self) -> None:
        published = [port for service in COMPOSE["services"].values() for port in service.get("ports", [])]
        self.assertTrue(all(port.startswith("${HTMENGINE_BIND:-127.0.0.1}:") for port in published), published)

    def test_services_may_do_little_and_have_time_to_stop(self) -> None:
        for name, service in OURS.items():
            self.assertEqual((service["read_only"], service["cap_drop"]), (True, ["ALL"]), name)
            self.assertGreater(int(service["stop_grace_period"].removesuffix("s")), END_S)

    def test_each_volume_is_declared(self) -> None:
        used = {
            volume.split(":")[0] for service in COMPOSE["services"].values() for volume in service.get("volumes", [])
        }
        self.assertEqual(used, set(COMPOSE["volumes"]))


class ImageTest(TestCase):
    def test_it_does_not_run_as_root_and_is_asked_for_its_health(self) -> None:
        self.assertRegex(IMAGE, r"\nUSER 10001:10001\n")
        self.assertIn("/readyz", IMAGE.partition("HEALTHCHECK")[2])

    def test_its_options_and_files_exist(self) -> None:
        options = dict(re.findall(r"^ +(HTMENGINE__\w+)=(\S+)", IMAGE, re.MULTILINE))
        self.assertEqual(load(None, options).metric_listener.host, "0.0.0.0")  # noqa: S104
        self.assertTrue(all((ROOT / "conf" / f"{file}.conf").exists() for file in FILES))
