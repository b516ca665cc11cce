# SPDX-License-Identifier: MIT
"""Fakes for the tests of applications; each passes the same contract tests as the real part."""

from __future__ import annotations

from pathlib import Path

from htmengine.bus.embedded import EmbeddedBus
from htmengine.twisted_types import Reactor


class MemoryBus(EmbeddedBus):
    """A bus that keeps nothing: everything is gone when it stops."""

    def __init__(self, *, reactor: Reactor) -> None:
        super().__init__(Path(":memory:"), reactor=reactor)
