# SPDX-License-Identifier: MIT
"""What a glob is: ``*`` is any text, ``?`` one character, ``[a-f]`` one of these, ``[!a-f]`` one of the others."""

from __future__ import annotations

import re

_CLASS = re.compile(r"\[!?+\]?+[^\]]*+\]")

#: What to do about a text that is none.
ALLOWED = "each [ needs a ] ([[] stands for [ itself), and a ! stands only once, before what is excluded"


def is_glob(text: str) -> bool:
    """Whether each bracket is closed and no ``!`` is left before the text.

    >>> [is_glob(text) for text in ("web.*", "web.[ab]?", "[[]0]", "a.[b", "a.[]", "!a.b")]
    [True, True, True, False, False, False]
    """
    return not text.startswith("!") and "[" not in _CLASS.sub("", text)
