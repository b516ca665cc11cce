# SPDX-License-Identifier: MIT
"""The index of the decisions, docs/decisions/README.md: number, title and first sentence of each page.

``python -m tools.decisions_index`` writes it into the checkout that it is started in; a test
holds it to the pages.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

FOLDER = Path("docs", "decisions")
INDEX = FOLDER / "README.md"

#: From this number on, numbers follow one another without gaps.
CONSECUTIVE_FROM = 80

_HEAD = """\
# Decisions

Why things are as they are. Each page is one decision with what was measured and what was rejected. A new page takes the
next number, begins with its decision in one sentence, and `make pages` lists it here.

| | decision | in one sentence |
|---|---|---|
"""
_PAGE = re.compile(r"# (?P<number>\d+)\. (?P<title>.+)\n\n(?:\*\*Decision\.\*\* )?(?P<first>(?s:.+?[.:])(?=\s))")


class Decision(NamedTuple):
    """A page: its number, title and first sentence."""

    file: str
    number: int
    title: str
    first: str


def read(file: str, text: str) -> Decision:
    """The decision that a page holds.

    Raises ValueError for a page that has no ``# NUMBER. Title`` with the number of its file's name.

    >>> read("0005-outbox.md", "# 5. The outbox\\n\\nOne transaction has\\nboth. It costs little.\\n")
    Decision(file='0005-outbox.md', number=5, title='The outbox', first='One transaction has both.')
    """
    found = _PAGE.match(text)
    if found is None or not file.startswith(f"{int(found['number']):04}-"):
        raise ValueError(f"{file}: begins with no '# NUMBER. Title' of its own number and a sentence")
    return Decision(file, int(found["number"]), found["title"], " ".join(found["first"].split()))


def pages(checkout: Path) -> list[Decision]:
    """All decisions of a checkout, in order."""
    return [read(path.name, path.read_text()) for path in sorted((checkout / FOLDER).glob("[0-9]*.md"))]


def misnumbered(numbers: list[int]) -> Iterator[str]:
    """What is wrong with the numbers: duplicates, and gaps from `CONSECUTIVE_FROM` on.

    >>> list(misnumbered([5, 5, 79, 80, 82]))
    ['5 is taken twice', '81 is missing']
    """
    yield from (f"{number} is taken twice" for number in sorted(set(numbers)) if numbers.count(number) > 1)
    expected = range(CONSECUTIVE_FROM, max(numbers) + 1)
    yield from (f"{number} is missing" for number in expected if number not in numbers)


def index(decisions: list[Decision]) -> str:
    """The index as a page."""
    return _HEAD + "".join(
        f"| {each.number} | [{each.title}]({each.file}) | {_plain(each.first)} |\n" for each in decisions
    )


def _plain(sentence: str) -> str:
    """A sentence without links, which fits in a cell."""
    return re.sub(r"\[([^]]+)\]\([^)]+\)", r"\1", sentence).replace("|", "\\|")


if __name__ == "__main__":
    INDEX.write_text(index(pages(Path.cwd())))
