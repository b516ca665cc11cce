# SPDX-License-Identifier: MIT
"""The picture of a model's states in docs/states.md, made from `progress.TRANSITIONS`.

``python -m tools.states_page`` renews it in the checkout that it is started in; a test compares picture and table.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from htmengine.model_swapper.progress import TRANSITIONS

_State = TypeVar("_State", bound=enum.Enum)

PAGE = Path("docs", "states.md")
#: What is between these lines of the page is the picture.
BEGIN, END = "<!-- made by tools/states_page.py -->\n", "<!-- end -->\n"


def picture(transitions: Mapping[tuple[_State, _State], str]) -> str:
    """A Mermaid diagram of a table of transitions; the first state is where it begins.

    What leads to a state from all others, for the same reason, is one arrow from the box of these others.
    """
    states = [*type(next(iter(transitions))[0])]
    leaving = {after: _shared_reason(transitions, states, after) for after in states}
    inside = [state for state in states if leaving[state] is None]
    lines = ["stateDiagram-v2", *_box(transitions, inside)]
    for after, reason in leaving.items():
        if reason is not None:
            lines += [f"    live --> {after.name}: {reason}", f"    {after.name} --> [*]"]
    return "\n".join(["```mermaid", *lines, "```", ""])


def renewed(page: str) -> str:
    """The page with the picture of today's table."""
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    return before + BEGIN + picture(TRANSITIONS) + END + after


def _shared_reason(
    transitions: Mapping[tuple[_State, _State], str], states: Sequence[_State], after: _State
) -> str | None:
    reasons = {transitions.get((before, after)) for before in states if before is not after}
    return reasons.pop() if len(reasons) == 1 else None


def _box(transitions: Mapping[tuple[_State, _State], str], inside: Sequence[_State]) -> Iterator[str]:
    yield "    state live {"
    yield f"        [*] --> {inside[0].name}"
    for (before, after), reason in transitions.items():
        if after in inside:
            yield f"        {before.name} --> {after.name}: {reason}"
    yield "    }"


if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text()))
