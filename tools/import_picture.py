# SPDX-License-Identifier: MIT
"""Who imports whom, read from the sources, and the picture of it in docs/architecture.md.

``python -m tools.import_picture`` draws it into the checkout that it is started in; a test tells when that was
forgotten.  What runs only when a module is started (``if __name__ == "__main__"``) is no import of the module.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator, Mapping
from graphlib import TopologicalSorter
from pathlib import Path

PACKAGE = "htmengine"
BEGIN = "<!-- imports: drawn by make pages -->\n"
END = "<!-- end of imports -->\n"

#: What statements are made of.
_OF_STATEMENTS = (ast.stmt, ast.excepthandler, ast.match_case)

#: Each module's imports, or each room's.
Graph = Mapping[str, set[str]]


def sources(checkout: Path) -> dict[str, Path]:
    """All modules of the package, by their full names; the stub stands for a compiled one."""
    found = {}
    for path in sorted(each for each in (checkout / PACKAGE).rglob("*") if each.suffix in {".py", ".pyi"}):
        parts = path.relative_to(checkout).with_suffix("").parts
        found[".".join(part for part in parts if part != "__init__")] = path
    return found


@functools.cache
def parsed(path: Path) -> ast.Module:
    """A module's source; each is read once."""
    return ast.parse(path.read_text())


def imports(modules: Mapping[str, Path]) -> Graph:
    """The modules that each module imports: when it is imported itself, when it is used, and for its types."""
    graph: dict[str, set[str]] = {}
    for module, path in modules.items():
        named = {name for node in parsed(path).body if not _launches(node) for name in _named(node)}
        graph[module] = {name if name in modules else name.rpartition(".")[0] for name in named} & modules.keys()
        graph[module].discard(module)
    return graph


def _launches(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'"


def _named(node: ast.AST) -> Iterator[str]:
    """What the import statements in a statement name: modules, or what is in them."""
    if isinstance(node, ast.ImportFrom) and node.module:
        yield from (f"{node.module}.{alias.name}" for alias in node.names)
    elif isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    else:
        for each in ast.iter_child_nodes(node):
            if isinstance(each, _OF_STATEMENTS):
                yield from _named(each)


def rooms(graph: Graph) -> Graph:
    """The same for rooms: the folders and the single modules in the package's root."""
    found: dict[str, set[str]] = {}
    for module, imported in graph.items():
        found.setdefault(_room(module), set()).update(map(_room, imported))
    return {room: imported - {room, PACKAGE} for room, imported in found.items() if room != PACKAGE}


def _room(module: str) -> str:
    return ".".join(module.split(".")[:2]).removeprefix(f"{PACKAGE}.")


def levels(graph: Graph) -> Iterator[list[str]]:
    """From those that import nothing to those that import most; each imports only from the levels before its own.

    Raises `graphlib.CycleError` with a circle, if there is one.
    """
    sorter = TopologicalSorter(graph)
    sorter.prepare()
    while sorter.is_active():
        level = sorted(sorter.get_ready())
        yield level
        sorter.done(*level)


def picture(graph: Graph) -> str:
    """A square of all rooms, from top to bottom: a row's marks stand in the columns of the rooms that it imports.

    >>> print(picture({"errors": set(), "bus": {"errors"}, "cli": {"bus", "errors"}}))
                1  2  3
     1  cli     \\  •  •
     2  bus        \\  •
     3  errors        \\
    """
    order = [room for level in reversed(list(levels(graph))) for room in level]
    width = max(map(len, order))
    lines = [" " * (width + 4) + "".join(f"{number:>3}" for number in range(1, len(order) + 1))]
    for row, room in enumerate(order):
        marks = ["\\" if column == row else "•" if each in graph[room] else "" for column, each in enumerate(order)]
        lines.append(f"{row + 1:>2}  {room:<{width}}{''.join(f'{mark:>3}' for mark in marks)}".rstrip())
    return "\n".join(lines)


def drawn(page: str, graph: Graph) -> str:
    """The page with the picture between its marks."""
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}\n```text\n{picture(graph)}\n```\n\n{END}{rest.partition(END)[2]}"


def current(checkout: Path) -> str:
    """The page as the sources want it."""
    page = (checkout / "docs" / "architecture.md").read_text()
    return drawn(page, rooms(imports(sources(checkout))))


def write(checkout: Path) -> None:
    """Draw the picture into a checkout."""
    (checkout / "docs" / "architecture.md").write_text(current(checkout))


if __name__ == "__main__":
    write(Path.cwd())
