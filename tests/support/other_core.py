# SPDX-License-Identifier: MIT
"""Runs pytest with compiled parts from elsewhere: ``python -m tests.support.other_core FOLDER TESTS ...``.

So the tests of what is compiled run on what another compiler, or one with sanitizers, has made in FOLDER.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

#: Our extension modules.
COMPILED = ("htmengine.htm._core", "htmengine.evidence._evidence")


def load(folder: Path, name: str) -> None:
    """Make the library of this module in ``folder`` the module, before anything imports that."""
    [library] = folder.glob(name.replace(".", "/") + ".*.so")
    spec = importlib.util.spec_from_file_location(name, library)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)


if __name__ == "__main__":
    for module in COMPILED:
        load(Path(sys.argv[1]), module)
    sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", *sys.argv[2:]]))
