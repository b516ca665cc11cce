# SPDX-License-Identifier: MIT
"""Imports run one way: who may import whom, read from the sources."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import htmengine

PACKAGE = Path(htmengine.__file__).parent
#: The services, and what starts with one of these is one of them.
SERVICES = (
    "htmengine.runtime.metric_listener",
    "htmengine.runtime.metric_storer",
    "htmengine.runtime.anomaly_service",
    "htmengine.alerts.service",
    "htmengine.runtime.metric_garbage_collector",
    "htmengine.model_swapper.model_scheduler_service",
    "htmengine.web",
)
#: They bring the parts together; everything else is given its parts.
WIRING = (
    "htmengine.services",
    "htmengine.taps",
    "htmengine.deployment",
    "htmengine.cli",
    "htmengine.client",
    "htmengine.measure",
)


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        yield ".".join(part for part in parts if part != "__init__"), path


def imported(path: Path) -> set[str]:
    """Our modules that a source imports when it is imported itself."""
    found: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name for name in found if name.split(".")[0] == "htmengine"}


def within(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == package or module.startswith(package + ".") for package in packages)


class ImportsTest(SynchronousTestCase):
    def violations(self, who: tuple[str, ...], allowed: tuple[str, ...]) -> list[str]:
        return [
            f"{module} imports {name}"
            for module, path in modules()
            if within(module, who)
            for name in sorted(imported(path))
            if name != "htmengine" and not within(name, allowed)
        ]

    def test_errors_and_config_import_none_of_ours_but_errors(self) -> None:
        self.assertEqual(self.violations(("htmengine.errors",), ()), [])
        self.assertEqual(self.violations(("htmengine.config",), ("htmengine.errors",)), [])
        self.assertEqual(self.violations(("htmengine.messages",), ("htmengine.messages", "htmengine.errors")), [])

    def test_what_a_service_is_built_of_imports_only_errors(self) -> None:
        self.assertEqual(self.violations(("htmengine.process",), ("htmengine.process", "htmengine.errors")), [])

    def test_the_parameters_know_no_description_of_nupics(self) -> None:
        allowed = ("htmengine.htm.checks", "htmengine.errors")
        self.assertEqual(self.violations(("htmengine.htm.params",), allowed), [])

    def test_the_repository_knows_nobody_above_it(self) -> None:
        above = ("htmengine.adapters", "htmengine.alerts", "htmengine.bus", "htmengine.runtime", "htmengine.web")
        found = [
            f"{module} imports {name}"
            for module, path in modules()
            if within(module, ("htmengine.repository",))
            for name in sorted(imported(path))
            if within(name, above)
        ]
        self.assertEqual(found, [])

    def test_the_model_imports_only_errors(self) -> None:
        self.assertEqual(self.violations(("htmengine.htm",), ("htmengine.htm", "htmengine.errors")), [])

    def test_no_service_imports_another(self) -> None:
        found = [
            f"{module} imports {name}"
            for module, path in modules()
            for service in SERVICES
            if within(module, (service,))
            for name in sorted(imported(path))
            if within(name, tuple(other for other in SERVICES if other != service))
        ]
        self.assertEqual(found, [])

    def test_only_the_wiring_picks_a_bus(self) -> None:
        buses = ("htmengine.bus.embedded", "htmengine.bus.amqp")
        found = [
            f"{module} imports {name}"
            for module, path in modules()
            if not within(module, (*WIRING, "htmengine.testing", "htmengine.bus"))
            for name in sorted(imported(path))
            if within(name, buses)
        ]
        self.assertEqual(found, [])

    def test_only_the_command_line_imports_the_wiring(self) -> None:
        found = [
            f"{module} imports {name}"
            for module, path in modules()
            if not within(module, WIRING)
            for name in sorted(imported(path))
            if within(name, ("htmengine.services", "htmengine.taps", "htmengine.deployment", "htmengine.cli"))
        ]
        self.assertEqual(found, [])

    def test_the_client_loads_no_service(self) -> None:
        program = "import sys, htmengine.client; print(*sys.modules)"
        loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
        self.assertIn("htmengine.client", loaded.split())
        services = ("htmengine.services", *SERVICES)
        self.assertEqual([module for module in loaded.split() if within(module, services)], [])

    def test_every_module_says_its_licence_and_what_it_is(self) -> None:
        for module, path in modules():
            source = path.read_text()
            self.assertTrue(source.startswith("# SPDX-License-Identifier: MIT\n"), module)
            if ast.parse(source).body:
                self.assertTrue(ast.get_docstring(ast.parse(source)), module)
