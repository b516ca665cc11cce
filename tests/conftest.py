# SPDX-License-Identifier: MIT
"""For all tests under pytest: what trial's ``mktemp`` makes lies in pytest's temporary folder."""

from __future__ import annotations

import functools
import gc
import importlib.metadata
import os
import signal

import pytest

# pytest asks before each test which Twisted this is, and the answer is read from a file.
importlib.metadata.version = functools.cache(importlib.metadata.version)
# A shell's job in the background ignores Ctrl-C, and so would the commands that tests start and stop in this way.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# What is imported stays: the garbage collector need not look through it again and again.
gc.disable()


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True, scope="session")
def _in_a_temporary_folder(tmp_path_factory: pytest.TempPathFactory) -> None:
    os.chdir(tmp_path_factory.mktemp("trial"))
