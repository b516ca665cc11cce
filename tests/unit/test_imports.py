# SPDX-License-Identifier: MIT
"""Imports run one way: who may import whom, read from the sources."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from graphlib import CycleError
from pathlib import Path
from unittest import TestCase

from tools import import_picture

ROOT = Path(__file__).parents[2]
MODULES = import_picture.sources(ROOT)
IMPORTS = import_picture.imports(MODULES)

#: What knows nothing of an engine.
GROUND = (
    "errors",
    "process",
    "config",
    "cadence",
    "globs",
    "labels",
    "full_texts",
    "selectors",
    "gaps",
    "messages",
    "htm",
    "evidence",
    "sharding",
)
STORED = (*GROUND, "bus", "repository")
#: The services: none imports another, and only what puts them together imports one.
SERVICES = (
    "runtime.metric_listener",
    "runtime.metric_storer",
    "runtime.anomaly_service",
    "runtime.metric_garbage_collector",
    "runtime.metric_expiry",
    "model_swapper.model_scheduler_service",
    "alerts.service",
    "web",
)
#: Where an engine is: no service knows it.
WIRING = ("deployment", "client", "services", "taps", "measure", "cli")

EVERYTHING = ("",)
#: Each room, and what it may import besides itself.  A room names only rooms above it in this table, so there is no
#: circle of rooms.  A module belongs to the longest name that its own begins with.
LAYERS: dict[str, tuple[str, ...]] = {
    "errors": (),
    "cadence": (),
    "globs": (),
    "config": ("errors", "globs"),
    "config_files": ("config",),
    "sharding": ("errors",),
    "labels": ("errors",),
    "full_texts": ("labels",),
    "selectors": ("errors", "globs", "labels", "full_texts"),
    "gaps": ("errors", "cadence", "labels", "full_texts", "selectors"),
    "csv_files": ("errors",),
    "pictures": (),
    "process": ("errors",),
    "backup": ("errors", "process"),
    "messages": ("errors", "labels"),
    "message_schemas": ("errors", "messages"),
    "htm.checks": ("errors",),
    "htm.params": ("errors", "htm.checks"),
    "htm": ("errors", "htm.checks", "htm.params"),
    "evidence": ("errors", "htm", "messages"),
    "nab": ("errors", "htm", "evidence"),
    "offline": ("errors", "process", "gaps", "htm", "evidence", "messages", "csv_files"),
    "bus": ("errors", "process"),
    "testing": ("process", "bus"),
    "repository.migrations.versions": ("errors",),  # they stay what they were when they were written
    "repository": (
        "errors",
        "process",
        "cadence",
        "labels",
        "full_texts",
        "selectors",
        "gaps",
        "messages",
        "htm",
        "evidence",
    ),
    "sources": ("errors", "labels", "csv_files", "repository"),
    "adapters": (*GROUND, "repository"),
    "ledger": (*GROUND, "repository"),
    "status": (*STORED, "ledger"),
    "operations": (*STORED, "adapters", "ledger"),
    "wires": (*GROUND, "bus"),
    "alerts": STORED,
    "incidents": (*STORED, "alerts"),
    "export": (*STORED, "wires", "incidents"),
    "history": (*STORED, "csv_files", "alerts", "incidents", "pictures"),
    "telemetry": (*STORED, "adapters", "operations"),
    "runtime": (*STORED, "adapters", "wires"),
    "runtime.metric_listener": (*STORED, "wires", "runtime"),
    "runtime.metric_storer": (*STORED, "adapters", "wires", "runtime"),
    "runtime.anomaly_service": (*STORED, "adapters", "runtime"),
    "runtime.metric_garbage_collector": (*STORED, "runtime"),
    "runtime.metric_expiry": (*STORED, "adapters", "runtime"),
    "model_swapper": STORED,
    "model_swapper.model_scheduler_service": (*STORED, "model_swapper"),
    "alerts.service": (*STORED, "alerts"),
    "alerts.__main__": (),
    "web": (
        *STORED,
        "csv_files",
        "adapters",
        "ledger",
        "status",
        "operations",
        "telemetry",
        "wires",
        "alerts",
        "incidents",
        "export",
    ),
    "deployment": (*STORED, "operations", "alerts"),
    "client": (*STORED, "adapters", "operations", "deployment"),
    "services": (
        *STORED,
        *SERVICES,
        "alerts",
        "incidents",
        "runtime",
        "model_swapper",
        "telemetry",
        "wires",
        "export",
        "deployment",
    ),
    "taps": (*GROUND, "deployment", "services"),
    "measure": (
        *STORED,
        "pictures",
        "nab",
        "wires",
        "adapters",
        "operations",
        "model_swapper",
        "deployment",
        "client",
        "services",
    ),
    "cli": EVERYTHING,
}


def within(module: str, rooms: Iterable[str]) -> bool:
    return any(not room or module == room or module.startswith(f"{room}.") for room in rooms)


def short(module: str) -> str:
    return module.removeprefix("htmengine.")


def layer(module: str) -> str:
    """The room of the table that a module belongs to; "" when it has none."""
    return max((room for room in LAYERS if within(module, [room])), key=len, default="")


def may_import(room: str, name: str) -> bool:
    """A room may be imported with all that is in it, except its service."""
    there = layer(name)
    return (
        LAYERS[room] == EVERYTHING
        or there in (room, *LAYERS[room])
        or (there not in SERVICES and within(name, LAYERS[room]))
    )


def found(who: Iterable[str], wrong: Iterable[str]) -> list[str]:
    """Imports by modules of the one of modules of the other."""
    return [
        f"{short(module)} imports {short(name)}"
        for module, names in IMPORTS.items()
        if within(short(module), who)
        for name in sorted(names)
        if within(short(name), wrong)
    ]


class LayersTest(TestCase):
    def test_every_module_has_a_layer(self) -> None:
        self.assertEqual([module for module in MODULES if module != "htmengine" and not layer(short(module))], [])

    def test_a_layer_names_only_layers_above_it_in_the_table(self) -> None:
        above: set[str] = set()
        for room, allowed in LAYERS.items():
            self.assertEqual([name for name in allowed if name and name not in above], [], room)
            above.add(room)

    def test_every_module_imports_only_what_its_layer_may(self) -> None:
        wrong = [
            f"{short(module)} imports {short(name)}"
            for module, names in IMPORTS.items()
            if module != "htmengine"  # which imports what it names when somebody asks for it
            for name in sorted(names)
            if name != "htmengine" and not may_import(layer(short(module)), short(name))
        ]
        self.assertEqual(wrong, [])

    def test_no_modules_import_each_other_in_a_circle(self) -> None:
        try:
            list(import_picture.levels(IMPORTS))
        except CycleError as error:
            self.fail(f"a circle: {' <- '.join(map(short, error.args[1]))}")

    def test_no_service_imports_another_or_where_the_engine_is(self) -> None:
        for service in SERVICES:
            others = [other for other in SERVICES if other != service]
            self.assertEqual(found([service], [*others, *WIRING]), [])

    def test_only_where_the_engine_is_a_bus_is_picked(self) -> None:
        others = [room for room in LAYERS if room not in {"deployment", "bus", "testing", "cli"}]
        self.assertEqual(found(others, ["bus.embedded", "bus.amqp"]), [])

    def test_only_the_wiring_starts_engines_and_services(self) -> None:
        others = [room for room in LAYERS if room not in {"taps", "measure", "cli"}]
        self.assertEqual(found(others, ["services", "taps", "cli"]), [])

    def test_a_service_is_launched_by_what_imports_the_taps_only_then(self) -> None:
        launched = [
            short(module) for module, path in MODULES.items() if "from htmengine.taps import" in path.read_text()
        ]
        self.assertEqual(
            set(launched),
            {
                "alerts.__main__",
                "model_swapper.model_scheduler_service",
                "runtime.anomaly_service",
                "runtime.metric_listener",
                "runtime.metric_storer",
                "web.__main__",
            },
        )

    def test_the_client_loads_no_service(self) -> None:
        loaded, new = set[str](), {"htmengine.client"}
        while new:
            loaded |= new
            new = {name for module in new for name in IMPORTS[module]} - loaded
        services = ["services", *SERVICES]
        self.assertEqual([module for module in sorted(loaded) if within(short(module), services)], [])


class PictureTest(TestCase):
    def test_the_picture_of_the_architecture_is_up_to_date(self) -> None:
        page = (ROOT / "docs" / "architecture.md").read_text()
        self.assertIn(import_picture.BEGIN, page)
        self.assertEqual(page, import_picture.current(ROOT), "make pages draws it")

    def test_a_circle_cannot_be_drawn(self) -> None:
        with self.assertRaises(CycleError):
            import_picture.picture({"a": {"b"}, "b": {"a"}})


class ModulesTest(TestCase):
    def test_every_module_says_its_licence_and_what_it_is(self) -> None:
        for module, path in MODULES.items():
            self.assertTrue(path.read_text().startswith("# SPDX-License-Identifier: MIT\n"), module)
            tree = import_picture.parsed(path)
            if tree.body:
                self.assertTrue(ast.get_docstring(tree), module)
