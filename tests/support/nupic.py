# SPDX-License-Identifier: MIT
"""NuPIC for tests: the companion on a stand-in, with this Python; and on real NuPIC, with the user's Python 2.7.

Python 2.7 with NuPIC 1.0.5 cannot be installed by this project: HTMENGINE_NUPIC_PYTHON names one, such as
/opt/nupic/bin/python.  Without it the tests that need it are skipped, in CI too.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

COMPANION = Path(__file__).parents[2] / "companions" / "htmengine-nupic"
WORKER = "-c 'from htmengine_nupic.worker import main; main()'"


def stand_in() -> tuple[str, dict[str, str]]:
    """The command of a worker on the stand-in, and its environment."""
    return f"{sys.executable} {WORKER}", {"PYTHONPATH": f"{COMPANION}:{COMPANION / 'tests' / 'stand_in'}"}


def real() -> tuple[str, dict[str, str]]:
    """The same with real NuPIC; skips the test if there is none."""
    python = os.environ.get("HTMENGINE_NUPIC_PYTHON")
    if python is None:
        pytest.skip("HTMENGINE_NUPIC_PYTHON names no Python 2.7 with NuPIC")
    return f"{python} {WORKER}", {"PYTHONPATH": str(COMPANION)}
