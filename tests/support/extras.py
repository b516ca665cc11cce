# SPDX-License-Identifier: MIT
"""Packages of extras: a test that needs one that is missing is skipped, or fails under HTMENGINE_CI=1."""

from __future__ import annotations

import importlib
import os
from typing import Any

import pytest


def needed(module: str) -> Any:
    """The module."""
    if os.environ.get("HTMENGINE_CI") == "1":
        return importlib.import_module(module)
    return pytest.importorskip(module)
