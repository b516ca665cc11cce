# SPDX-License-Identifier: MIT
"""For all tests under pytest: what trial's ``mktemp`` makes lies in pytest's temporary folder."""

from __future__ import annotations

import functools
import gc
import importlib.metadata
from pathlib import Path

import pytest

# pytest asks before each test which Twisted this is, and the answer is read from a file.
importlib.metadata.version = functools.cache(importlib.metadata.version)
# What is imported stays: the garbage collector need not look through it again and again.
gc.disable()


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
