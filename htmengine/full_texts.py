# SPDX-License-Identifier: MIT
"""The whole texts of long names that this process has met: how a short identity gets its labels.

In: whole texts, from those who read names out of the database (`htmengine.repository.counters.learn_texts`).  Out: the
text of an identity.  An identity is a digest of its text, so what is known is never wrong, and which part of the
process has learnt it does not matter.  Memory is bounded: the texts that nobody has asked for longest are forgotten.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from threading import Lock
from typing import TypeVar, TypeVarTuple

from htmengine.labels import identity, is_short

T = TypeVar("T")
More = TypeVarTuple("More")

#: Characters of all texts that are kept; 100,000 names of 1300.
MOST_CHARACTERS = 128 << 20


class FullTexts:
    """Texts by their identities.  Threads may share it."""

    def __init__(self, most_characters: int = MOST_CHARACTERS) -> None:
        self._most = most_characters
        self._texts: dict[str, str] = {}  # the one that was asked for last is the last
        self._characters = 0
        self._lock = Lock()

    def remember(self, texts: Iterable[str]) -> None:
        """Keep the texts that are too long to be identities themselves."""
        long = [(name, text) for text in texts if (name := identity(text)) != text]
        with self._lock:
            for name, text in long:
                self._characters += 0 if name in self._texts else len(text)
                self._texts[name] = text
            while self._characters > self._most:
                self._characters -= len(self._texts.pop(next(iter(self._texts))))

    def lacking(self, names: Iterable[str]) -> list[str]:
        """The identities among some names whose texts are to be read; the others' texts are kept for longer."""
        short = {name for name in names if is_short(name)}
        with self._lock:
            for name in short & self._texts.keys():
                self._texts[name] = self._texts.pop(name)
            return sorted(short - self._texts.keys())

    def has(self, name: str) -> bool:
        """Whether all labels of a metric of that name are known."""
        return not is_short(name) or name in self._texts

    def of(self, name: str) -> str:
        """A metric's whole text by its name; the name itself if that is all that is known."""
        return self._texts.get(name, name) if is_short(name) else name


#: What this process knows.
FULL_TEXTS = FullTexts()


def remembered(find: Callable[[str, *More], T], most: int) -> Callable[[str, *More], T]:
    """``find``, which remembers its last ``most`` answers of metrics' names of which all labels are known."""
    of_known = lru_cache(most)(find)

    def found(name: str, *more: *More) -> T:
        return of_known(name, *more) if FULL_TEXTS.has(name) else find(name, *more)

    return found
