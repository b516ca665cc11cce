# SPDX-License-Identifier: MIT
"""Runs pytest with a compiled core from elsewhere: ``python -m tests.support.other_core CORE.so TESTS ...``.

So the tests of the core run on what another compiler, or one with sanitizers, has made.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest


def load_core(library: Path) -> None:
    """Make ``library`` the module ``htmengine.htm._core``, before anything imports that."""
    spec = importlib.util.spec_from_file_location("htmengine.htm._core", library)
    assert spec is not None
    assert spec.loader is not None
    core = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = core
    spec.loader.exec_module(core)


if __name__ == "__main__":
    load_core(Path(sys.argv[1]))
    sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", *sys.argv[2:]]))
