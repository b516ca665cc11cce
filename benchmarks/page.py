# SPDX-License-Identifier: MIT
"""Tables of benchmarks in a document, between the lines <!-- make bench NAME --> and <!-- end -->."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path


def table(heads: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """In Markdown.

    >>> print(table(["", "us"], [["a", "1"]]))
    |  | us |
    | --- | --- |
    | a | 1 |
    """
    return "\n".join(f"| {' | '.join(line)} |" for line in [heads, ["---"] * len(heads), *lines])


def write(page: Path, name: str, text: str) -> None:
    """Put a table into its place.  Raises `ValueError` if the document has none of that name."""
    begin, end = f"<!-- make bench {name} -->", "<!-- end -->"
    before, rest = page.read_text().split(begin, 1)
    page.write_text(f"{before}{begin}\n{text}\n{end}{rest.split(end, 1)[1]}")
