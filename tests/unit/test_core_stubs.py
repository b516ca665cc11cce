# SPDX-License-Identifier: MIT
"""The type stubs say what the compiled modules have: the same names, and as many parameters."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from types import ModuleType
from unittest import TestCase

from htmengine.evidence import _evidence
from htmengine.htm import _core

_PACKAGE = Path(__file__).parents[2] / "htmengine"


def _stub_members(body: list[ast.stmt]) -> dict[str, ast.stmt]:
    """What a module or class of the stubs defines, private names left out."""
    found: dict[str, ast.stmt] = {}
    for statement in body:
        if isinstance(statement, ast.FunctionDef | ast.ClassDef):
            found[statement.name] = statement
        elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            found[statement.target.id] = statement
    return {name: statement for name, statement in found.items() if not name.startswith("_")}


def _members(owner: object) -> set[str]:
    return {name for name in vars(owner) if not name.startswith("_")}


def _parameters(function: object) -> int:
    """How many the compiled function takes, by the signature that its docstring begins with."""
    signature = str(inspect.getdoc(function)).partition(" ->")[0]
    return len(ast.parse(f"def {signature}: ...").body[0].args.args)  # type: ignore[attr-defined]


class CoreStubsTest(TestCase):
    module: ModuleType = _core
    path = _PACKAGE / "htm" / "_core.pyi"
    least_functions = 15

    def setUp(self) -> None:
        self.stubs = _stub_members(ast.parse(self.path.read_text()).body)

    def test_the_module_has_what_the_stubs_say_and_nothing_else(self) -> None:
        self.assertEqual(set(self.stubs), _members(self.module))

    def test_so_has_every_class(self) -> None:
        for name, stub in self.stubs.items():
            if isinstance(stub, ast.ClassDef):
                # "name" and "value" are the binding's own, of every enumeration.
                compiled = _members(getattr(self.module, name)) - {"name", "value"}
                self.assertEqual(set(_stub_members(stub.body)), compiled, name)

    def test_functions_take_as_many_parameters(self) -> None:
        checked = 0
        for name, stub in self.stubs.items():
            owner = getattr(self.module, name)
            functions = _stub_members(stub.body) if isinstance(stub, ast.ClassDef) else {name: stub}
            for function, declared in functions.items():
                compiled = getattr(owner, function) if isinstance(stub, ast.ClassDef) else owner
                if isinstance(declared, ast.FunctionDef) and callable(compiled):
                    given = len(declared.args.posonlyargs) + len(declared.args.args)
                    self.assertEqual(given, _parameters(compiled), f"{name}.{function}")
                    checked += 1
        self.assertGreater(checked, self.least_functions)


class EvidenceStubsTest(CoreStubsTest):
    module: ModuleType = _evidence
    path = _PACKAGE / "evidence" / "_evidence.pyi"
    least_functions = 5
