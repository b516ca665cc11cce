# SPDX-License-Identifier: MIT
"""Words mean something: the glossary's terms are the code's, and docstrings name what exists."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from unittest import TestCase

import pytest

ROOT = Path(__file__).parents[2]
CODE = ROOT / "htmengine"
SWAPPER = sorted((CODE / "model_swapper").glob("*.py"))


def terms() -> Iterator[str]:
    """The glossary's terms; a cell may have several."""
    cells = re.findall(r"^\| ([^|]+?) \|", (ROOT / "docs" / "glossary.md").read_text(), re.MULTILINE)
    yield from (term for cell in cells if cell != "term" for term in cell.split(", "))


def words(text: str) -> str:
    """A text as words in small letters; names fall into their words, too."""
    return f" {re.sub(r'[^a-z0-9]+', ' ', text.lower())} "


def uses(text: str, term: str) -> bool:
    """Whether words have the term, in singular or plural."""
    return any(f" {words(term).strip()}{ending} " in text for ending in ("", "s", "es"))


def names(tree: ast.AST) -> Iterator[str]:
    """All names that code defines or uses."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name) | ast.alias(name=name):
                yield name
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.Constant(value=bytes() as value):
                yield value.decode(errors="replace")


def is_module(name: str) -> bool:
    """Whether a full name is that of one of our modules."""
    return name.startswith("htmengine.") and (ROOT / name.replace(".", "/")).with_suffix(".py").exists()


@pytest.mark.long
class GlossaryTest(TestCase):
    def test_the_code_uses_every_term(self) -> None:
        text = words("\n".join(path.read_text() for path in CODE.rglob("*") if path.suffix in {".py", ".hpp"}))
        self.assertEqual([term for term in terms() if not uses(text, term)], [])

    def test_terms_stand_in_the_glossary_once(self) -> None:
        found = list(terms())
        self.assertGreater(len(found), 40)
        self.assertEqual(sorted(found), sorted(set(found)))

    def test_a_term_is_found_in_words_and_names_only(self) -> None:
        for text in ("a hold-off.", "HOLD_OFF_ROWS", "hold offs"):
            self.assertTrue(uses(words(text), "hold-off"), text)
        self.assertFalse(uses(words("withhold offers"), "hold-off"))

    def test_the_model_swapper_has_what_its_docstrings_name(self) -> None:
        trees = {path.stem: ast.parse(path.read_text()) for path in SWAPPER}
        known = {*trees, *(name for tree in trees.values() for name in names(tree))}
        for module, tree in trees.items():
            named = re.findall(r"`([A-Za-z_][\w.]*)`", ast.get_docstring(tree) or "")
            unknown = [name for name in named if not (known.issuperset(name.split(".")) or is_module(name))]
            self.assertEqual(unknown, [], module)
