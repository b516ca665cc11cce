# SPDX-License-Identifier: MIT
"""The errors are one tree, and it is drawn as it is."""

from __future__ import annotations

import inspect
import re
from unittest import TestCase

from htmengine import errors
from htmengine.errors import HtmEngineError


def drawn() -> dict[str, str]:
    """The drawing: each error's parent."""
    parents: dict[str, str] = {}
    path = ["HtmEngineError"]
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"((?:│   |    )*)[├└]── (\w+)", line)
        if found:
            depth = len(found[1]) // 4 + 1
            path[depth:] = [found[2]]
            parents[found[2]] = path[depth - 1]
    return parents


class TreeTest(TestCase):
    def test_the_drawing_has_every_error_under_its_parent(self) -> None:
        ours = [each for _, each in inspect.getmembers(errors, inspect.isclass) if issubclass(each, HtmEngineError)]
        parents = {each.__name__: each.__bases__[0].__name__ for each in ours if each is not HtmEngineError}
        self.assertEqual(drawn(), parents)

    def test_every_error_that_is_raised_says_its_remedy(self) -> None:
        silent = [name for name in drawn() if "emedy" not in (getattr(errors, name).__doc__ or "")]
        self.assertEqual(silent, ["RepositoryError"])  # raised as one of its kinds alone
